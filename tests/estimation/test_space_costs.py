"""Costs of a space by their names, a person's own among them."""

import pytest

from supernet.estimation.forms import Form
from supernet.estimation.latency.reading import read_latencies
from supernet.estimation.parts import record
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.space.nasbench201 import NasBench201, from_string

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
