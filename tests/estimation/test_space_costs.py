"""Costs of a space by their names, a person's own among them."""

import math

import pytest
import torch

from supernet.estimation.costs import multiply_adds, stored_bytes
from supernet.estimation.forms import Form
from supernet.estimation.latency.reading import read_latencies
from supernet.estimation.limits import Limits
from supernet.estimation.memory import peak_memory
from supernet.estimation.parts import record
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.space import spaces
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.nasbench201 import NasBench201, from_string
from supernet.space.survey import candidates_of

SPACE, SHAPE = NasBench201(channels=4, cells=1, stages=1, nodes=1), (3, 8, 8)


@pytest.fixture
def table(tmp_path):
    keys = record(SPACE, SHAPE, 10).variants
    rows = [f'"{key}",{number}' for number, key in enumerate(keys, start=1)]
    (tmp_path / "mine.csv").write_text("\n".join(["key,milliseconds", *rows]) + "\n")
    return read_latencies(tmp_path / "mine.csv"), {key: number for number, key in enumerate(keys, start=1)}


def test_a_table_of_measured_times_is_a_cost_by_its_name(table):
    measured, milliseconds = table
    costs = SpaceCosts(SPACE, SHAPE, 10, own={"latency": measured})
    cell = from_string("|nor_conv_3x3~0|")
    others = sum(value for key, value in milliseconds.items() if key.endswith(("@ 3x8x8", "@ 4")))
    last = next(value for key, value in milliseconds.items() if key.startswith("Sequential(BatchNorm2d(4), ReLU)"))
    edge = next(value for key, value in milliseconds.items() if "Conv2d(4>4 3x3" in key)
    assert costs.of("latency", cell) == others + last + edge
    assert isinstance(costs["latency"], Form)
    assert costs["latency"] is costs["latency"]  # made once


def test_a_cost_that_is_not_known_is_one_line():
    with pytest.raises(InputError, match="watts: no cost has this name"):
        SpaceCosts(SPACE, SHAPE, 10)["watts"]


FIXED = {
    "depth alone": ((Stage((8,), depths=(1, 2, 3)),), ()),
    "depth and resolution": ((Stage((8,), depths=(1, 2)),), (8, 12)),
    "nothing beside an open stage": ((Stage((8,)), Stage((8, 16), depths=(1, 2), kernels=(3, 5))), ()),
    "nothing, and resolution": ((Stage((8,)), Stage((8,), kernels=(3, 5))), (8, 12)),
    "width alone": ((Stage((8, 16)), Stage((8,))), ()),
}


@pytest.mark.parametrize(("stages", "sides"), FIXED.values(), ids=FIXED)
def test_blocks_of_one_form_count_as_they_are_built(stages, sides):
    """A block whose only question is whether it is there has no decision of its own, and may still be absent."""
    space = Mobile(stages, stem=8, stem_stride=1, head=8, resolutions=sides)
    costs, image = SpaceCosts(space, (1, 8, 8), 10), torch.zeros(1, 1, 8, 8, device="meta")
    every = list(candidates_of(space).all())
    assert len(every) > 1
    for cell in every:
        network = costs.network(cell)
        built = {
            "parameters": sum(weight.numel() for weight in network.parameters()),
            "macs": multiply_adds(network, image),
            "memory": peak_memory(network, image),
            "bytes": stored_bytes(network),
        }
        assert {name: costs.of(name, cell) for name in built} == built


def test_the_cheapest_is_found_behind_a_plateau():
    """The fewest multiply-adds have all cells of poolings and of nothing; their memory is another."""
    costs = SpaceCosts(spaces.micro(), (1, 8, 8), 10)
    least = min(costs.of("memory", cell) for cell in candidates_of(spaces.micro()).all())
    assert Limits(costs, {}).cheapest("memory")[1] == least
    Limits(costs, {"memory": least}).check()
    with pytest.raises(InputError, match="no architecture keeps it; the cheapest has"):
        Limits(costs, {"memory": least - 1}).check()


def test_what_is_not_proved_is_not_said():
    costs = SpaceCosts(NasBench201(channels=4, cells=1, stages=1), (1, 8, 8), 10)
    with pytest.raises(InputError, match="no architecture was found that keeps it; the best has"):
        Limits(costs, {"memory": 10}).check()


def test_a_persons_cost_may_be_called_as_one_that_is_counted():
    costs = SpaceCosts(spaces.micro(), (1, 8, 8), 10, own={"macs": lambda cell: float(len(cell))})
    with pytest.raises(InputError, match=r"limits\.macs=3: no architecture keeps it; the cheapest has 5"):
        Limits(costs, {"macs": 3}).check()
    Limits(costs, {"macs": 5}).check()


@pytest.mark.parametrize("answer", [math.nan, None, "many"])
def test_a_cost_that_is_no_number_is_one_line(answer):
    costs = SpaceCosts(spaces.micro(), (1, 8, 8), 10, own={"mine": lambda cell: answer})
    with pytest.raises(InputError, match=f"costs: 'mine' gives {answer} for an architecture; it has to give a number"):
        Limits(costs, {"mine": 3}).check()


@pytest.mark.parametrize("given", ["latency.csv", None, 3])
def test_a_cost_that_is_none_is_one_line(given):
    with pytest.raises(InputError, match=f"costs: 'latency' is {given}; needs a table"):
        SpaceCosts(SPACE, SHAPE, 10, own={"latency": given})
