"""Limits from the command line: every kind of strategy ends within them, and mistakes are one line."""

import json

import pytest
from common import slow_but, tiny
from supernet.experiments.limits import limits_of

from supernet.estimation.forms import form_of
from supernet.estimation.parts import Recorded
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import NasBench201
from supernet.space.spaces import micro

SHAPE = (1, 6, 6)  # of the toy images, of 3 classes
COSTS = SpaceCosts(micro(), SHAPE, 3)
SIZES = sorted(COSTS.of("parameters", cell) for cell in micro().architectures())
LIMIT = SIZES[len(SIZES) // 4]
METHODS = [
    "darts",
    "p_darts",
    "fair_darts",
    "darts_pt",
    "oles",
    "gdas",
    "drnas_progressive",
    "proxyless",
    "random_search",
]
METHODS += ["spos", "fairnas", "enas", "tunas"]


def searching(images, *more: str) -> list[str]:
    words = [word for word in tiny(images) if not word.startswith("retrain.")]
    return [*words, "retrain=none", "hydra.run.dir=run", "space=micro", *more]


@pytest.mark.parametrize("method", slow_but(("darts", "p_darts", "darts_pt", "proxyless", "spos", "enas"), METHODS))
def test_every_strategy_ends_within_the_limits(supernet, images, tmp_path, method):
    few = ["search.epochs=2", f"limits.parameters={LIMIT}", f"limits.macs={1e9}", "baseline.random=3"]
    few += ["strategy.candidates=3"] if method in ("random_search", "spos", "fairnas", "enas") else []
    code, printed = supernet(*searching(images, f"method={method}", *few))
    assert code == 0, printed
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert all(cell["parameters"] <= LIMIT for cell in summary["finalists"])
    assert len(summary["finalists"]) == 4
    found = Architecture.load(tmp_path / "run" / "genotype.json")
    assert COSTS.of("parameters", found) <= LIMIT


def test_limits_are_those_of_the_final_network(supernet, images, tmp_path):
    """The search has 8 channels, the network that is trained 16."""
    final = SpaceCosts(NasBench201(channels=16, cells=1, stages=1, nodes=2), SHAPE, 3)
    sizes = sorted(final.of("parameters", cell) for cell in micro().architectures())
    limit = sizes[len(sizes) // 5]
    words = [*tiny(images), "hydra.run.dir=run", "space=micro", "baseline.random=0", "search.epochs=2"]
    code, printed = supernet(*words, "+retrain.network.nasbench201.channels=16", f"limits.parameters={limit}")
    assert code == 0, printed
    (cell,) = json.loads((tmp_path / "run" / "summary.json").read_text())["finalists"]
    assert cell["parameters"] <= limit
    assert cell["parameters"] == final.of("parameters", Architecture.load(tmp_path / "run" / "genotype.json"))


def test_a_soft_term_by_its_group(supernet, images):
    words = searching(images, "objective=cost", "objective.cost.target=5000", "search.epochs=2", "baseline.random=0")
    code, printed = supernet(*words)
    assert code == 0, printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["limits.parameters=1"], "limits.parameters=1: no architecture keeps it; the cheapest has 1"),
        (["limits.macs=-5"], "limits.macs=-5: needs a number above 0"),
        (["limits.macs=many"], "limits.macs=many: needs a number above 0"),
        (["limits=3"], "limits"),
        (["limits.latency=3"], "limits.latency=3: needs a table of measured times, costs.latency=FILE"),
        (["limits.latency=3", "costs.latency=nowhere.csv"], "nowhere.csv"),
        (["+limits.watts=3"], "limits.watts: no cost has this name; known: bytes, macs, memory, parameters"),
        (["limits.watts=3"], "limits.watts"),
        (["objective=cost"], "objective.cost.target=None: needs a number, or a limit on this cost"),
        (["objective=cost", "objective.cost.cost=watts"], "objective.cost.cost=watts: no cost has this name"),
        (["objective=cost", "objective.cost.kind=sum"], "objective.cost.kind"),
    ],
)
def test_mistakes_are_one_line(supernet, images, tmp_path, words, says):
    code, printed = supernet(*searching(images, *words))
    assert code != 0
    assert says in printed
    assert len(printed.strip().splitlines()) == 1, printed
    assert not (tmp_path / "run" / "genotype.json").exists()
    assert not (tmp_path / "run" / "metrics").exists()


def test_a_genotype_that_is_given_keeps_them_too(supernet, images):
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    words = [*tiny(images), "hydra.run.dir=run", "space=micro", f"genotype='{cell}'", f"limits.parameters={LIMIT}"]
    code, printed = supernet(*words)
    assert code == 2
    assert f"limits.parameters={LIMIT:,g}: genotype={cell} has" in printed


def letters(recorded: Recorded, factor: float = 1.0):
    return form_of(recorded, lambda variant: factor * len(variant.key))


def number(recorded: Recorded):
    return float(len(recorded.parts))


def test_costs_of_ones_own():
    node = {"_target_": f"{__name__}.letters", "_partial_": True, "factor": 2.0}
    limits = limits_of({"limits": {"ink": 5000.0}, "costs": {"ink": node}}, micro(), SHAPE, 3)
    cell = next(micro().architectures())
    assert limits.of(cell) == {"ink": 2.0 * letters(limits.costs.recorded).of(cell)}
    with pytest.raises(InputError, match=r"costs.ink: gives a float; needs a Form, or a function of architectures"):
        limits_of(
            {"limits": {"ink": 5.0}, "costs": {"ink": {"_target_": f"{__name__}.number", "_partial_": True}}},
            micro(),
            SHAPE,
            3,
        )
    with pytest.raises(InputError, match=r"costs.ink=3.0: needs a file of measured times, or a function"):
        limits_of({"limits": {}, "costs": {"ink": 3.0}}, micro(), SHAPE, 3)
