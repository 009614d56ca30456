import itertools

import numpy as np
import pytest
import torch
from common import slow_but

from supernet.estimation.costs import macs, parameters, stored_bytes
from supernet.estimation.forms import Form, Term, form_of
from supernet.estimation.memory import peak_memory
from supernet.estimation.parts import record
from supernet.estimation.space_costs import COUNTED, CostScore, SpaceCosts
from supernet.genotypes.literature import published
from supernet.runtime.errors import InputError
from supernet.space import spaces
from supernet.space.architecture import Architecture, Decision, one_hot, random_architecture
from supernet.space.darts import Darts
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.nasbench201 import NasBench201

NESTED = Mobile(
    (
        Stage((16, 24), depths=(1, 2), expansions=(2, 4)),
        Stage((24, 32), depths=(1, 2, 3), stride=2, kernels=(3, 5), expansions=(3,), squeeze=(False, True)),
        Stage((40,), depths=(2, 3), kernels=(3, 7), expansions=(2, 3), activations=("relu", "hardswish")),
    ),
    stem=8,
    head=32,
    hidden=16,
    resolutions=(32, 48),
)
SEPARATE = Mobile(
    (
        Stage((16,), depths=(2,), kernels=(3, 5), expansions=(1, 2), squeeze=(False, True)),
        Stage((24,), depths=(3,), stride=2, kernels=(3, 5), expansions=(2, 3), skip=True, grouped=True),
    ),
    stem=8,
    head=32,
    sharing="separate",
)
SPACES = {
    "darts": Darts(4, 4, nodes=3, auxiliary=True),
    "imagenet": Darts(4, 4, nodes=2, stem="imagenet"),
    "nasbench201": NasBench201(channels=4, cells=1),
    "nested": NESTED,
    "separate": SEPARATE,
}
SHAPE = (3, 40, 40)


def compared(space, number):
    """The costs of random architectures by the forms, beside those of the networks that are built."""
    costs, stream = SpaceCosts(space, SHAPE, 10), torch.Generator().manual_seed(7)
    image = torch.zeros(1, *SHAPE, device="meta")
    for _ in range(number):
        architecture = random_architecture(space.name, costs.decisions, stream)
        network = costs.network(architecture)
        counted = {
            "parameters": parameters(network),
            "macs": macs(network, SHAPE),
            "memory": peak_memory(network, image),
            "bytes": stored_bytes(network),
        }
        yield {name: costs.of(name, architecture) for name in COUNTED}, counted


@pytest.mark.parametrize("name", slow_but([name for name in SPACES if name != "imagenet"], list(SPACES)))
def test_forms_are_the_costs_of_the_networks(name):
    seen = [(form, counted) for form, counted in compared(SPACES[name], 8)]
    assert [form for form, _ in seen] == [counted for _, counted in seen]
    assert len({form["macs"] for form, _ in seen}) > 3


PUBLISHED = ["darts", "s1", "s2", "s3", "s4", "nasbench201", "micro"]
PUBLISHED += [
    "mobilenet_v2",
    "mobilenet_v3",
    "mnasnet",
    "single_path_nas",
    "proxyless",
    "fbnet",
    "ofa_mbv3",
    "efficientnet",
    "micro_mobile",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_forms_are_the_costs_of_200_networks_of_every_space(name):
    for form, counted in compared(getattr(spaces, name)(), 200):
        assert form == counted


def test_memory_is_a_form_of_chains_alone():
    assert isinstance(SpaceCosts(NESTED, SHAPE, 10)["memory"], Form)
    with pytest.raises(InputError, match="memory: is known of whole networks alone, and has no gradient"):
        SpaceCosts(SPACES["nasbench201"], SHAPE, 10).form("memory")


@pytest.mark.parametrize("name", ["darts", "nested", "separate"])
def test_one_hot_weights_give_the_cost_of_the_architecture(name):
    costs, stream = SpaceCosts(SPACES[name], SHAPE, 10), torch.Generator().manual_seed(3)
    for kind in ("macs", "parameters"):
        form = costs.form(kind)
        for _ in range(5):
            architecture = random_architecture(SPACES[name].name, costs.decisions, stream)
            weights = one_hot(architecture, costs.decisions, dtype=torch.float64)
            assert float(form(weights)) == pytest.approx(form.of(architecture), rel=1e-12)


def test_the_expected_cost_is_the_mean_over_independent_answers():
    """Of all architectures of a nested space, each with its probability; decisions that do not matter are left out."""
    space = Mobile((Stage((8, 16), depths=(1, 2), kernels=(3, 5), expansions=(2,)),), stem=8, head=16)
    costs = SpaceCosts(space, SHAPE, 10)
    form, decisions = costs.form("macs"), costs.decisions
    stream = torch.Generator().manual_seed(5)
    weights = {n: torch.rand(len(d.options), generator=stream, dtype=torch.float64) for n, d in decisions.items()}
    weights = {name: (weight / weight.sum()).requires_grad_() for name, weight in weights.items()}
    mean = torch.zeros((), dtype=torch.float64)
    for answers in itertools.product(*(d.options for d in decisions.values())):
        chosen = dict(zip(decisions, answers, strict=True))
        shallow = chosen["stage1/depth"] == "1"
        kept = {n: (o,) for n, o in chosen.items() if not (shallow and n.startswith("stage1/2"))}
        share = torch.stack([weights[n][decisions[n].options.index(o)] for n, o in chosen.items()]).prod()
        mean = mean + share * form.of(kept)
    expected = form(weights)
    assert expected.item() == pytest.approx(mean.item(), rel=1e-12)
    both = [torch.autograd.grad(value, list(weights.values())) for value in (expected, mean)]
    for name, own, other in zip(weights, *both, strict=True):
        # Along the simplex, where probabilities go on adding up to one, both have the same slopes.
        assert torch.allclose(own - own.mean(), other - other.mean(), rtol=1e-9), name


def test_inputs_without_weights_are_kept_evenly():
    costs = SpaceCosts(SPACES["darts"], SHAPE, 10)
    form, stream = costs.form("macs"), torch.Generator().manual_seed(1)
    operations = {n: d for n, d in costs.decisions.items() if d.role == "operation"}
    weights = {n: torch.rand(len(d.options), generator=stream).softmax(0) for n, d in operations.items()}
    even = {n: torch.full((len(d.options),), d.keep / len(d.options)) for n, d in costs.decisions.items()}
    assert torch.equal(form(weights), form({**even, **weights}))


def test_decisions_with_fewer_options_are_placed_by_name():
    costs = SpaceCosts(SPACES["nasbench201"], SHAPE, 10)
    form, fewer = costs.form("macs"), {}
    for name, decision in costs.decisions.items():
        options = decision.options if decision.role == "inputs" else ("nor_conv_3x3", "none")
        fewer[name] = Decision(name, options, decision.keep, decision.role, optional=True)
    whole = {n: torch.zeros(len(d.options)) for n, d in costs.decisions.items() if d.role == "operation"}
    small = {name: torch.tensor([0.75, 0.25]) for name in whole}
    for name, weight in whole.items():
        options = costs.decisions[name].options
        weight[options.index("nor_conv_3x3")], weight[options.index("none")] = 0.75, 0.25
    assert torch.equal(form(small, fewer), form(whole))


def test_a_probe_is_asked_once_for_each_key():
    recorded, asked = record(SPACES["nested"], SHAPE, 10), []
    form_of(recorded, lambda variant: float(asked.append(variant.key) is None))
    assert sorted(asked) == sorted(recorded.variants)


def test_the_largest_counts_and_not_the_sum():
    edges = {name: Decision(name, ("a", "b")) for name in ("x", "y")}
    tables = tuple(Term((n,), (), np.array(v), (("a", "b"),)) for n, v in (("x", [1.0, 5.0]), ("y", [4.0, 2.0])))
    form = Form(edges, 3.0, tables, "max")
    assert form.of({"x": ("a",), "y": ("a",)}) == 4.0
    assert form.of({"x": ("a",), "y": ("b",)}) == 3.0
    assert float(form({"x": torch.tensor([0.5, 0.5]), "y": torch.tensor([0.0, 1.0])})) == 3.0


def test_published_cells_with_other_outputs_are_counted_whole():
    space = Darts(4, 3, nodes=5)
    cell = published("amoebanet_a")
    assert any(name.endswith("/output") for name in cell)
    score = CostScore(space, (3, 16, 16), 10, names=COUNTED)
    network = score.costs.network(cell)
    assert score(cell).values["macs"] == macs(network, (3, 16, 16))
    with pytest.raises(InputError, match="is no decision of this cost's space"):
        score.costs.form("macs").of(cell)


def test_bad_input():
    costs = SpaceCosts(SPACES["nasbench201"], SHAPE, 10, own={"joules": lambda architecture: 2.0})
    architecture = Architecture("nasbench201", {"cell/1": ("0",)})
    assert costs.of("joules", architecture) == 2.0
    with pytest.raises(InputError, match="watts: no cost has this name; known: bytes, joules, macs, memory, param"):
        costs["watts"]
    with pytest.raises(InputError, match="latency: needs a table of measured times"):
        costs["latency"]
    with pytest.raises(InputError, match="architecture: keeps conv at cell/1/0; known: none, skip_connect"):
        costs.form("macs").of({"cell/1": ("0",), "cell/1/0": ("conv",)})
    with pytest.raises(InputError, match="weights: none for cell/1/0"):
        costs.form("macs")({"cell/2/0": torch.ones(5)})
    assert costs.named("params") == "parameters"
