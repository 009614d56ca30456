"""A cell is a graph of states: what it asks, and what it computes, by hand."""

import pytest
import torch
from torch import nn

from supernet.space.cells import Cell, one_by_one, reference
from supernet.space.choices import Total
from supernet.space.choosers import Decided
from supernet.space.operations import Site

SITE = Site(2, 2)


class Scaled(nn.Module):
    """Multiplies by a number."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


FACTORIES = {"double": lambda site: Scaled(2.0), "triple": lambda site: Scaled(3.0), "skip": lambda site: nn.Identity()}


class Asked:
    """A chooser that keeps everything and writes down what it is asked."""

    searching = True

    def __init__(self):
        self.edges, self.nodes = {}, {}

    def operation(self, decision, site):
        self.edges[decision.name] = (decision, site)
        return Scaled(2.0)

    def inputs(self, decision):
        self.nodes[decision.name] = decision
        return decision.options, Total()


def place(edge, source):
    return ("double", "triple"), Site(2, 2, 2 if source < 2 else 1)


def asked_by(**settings) -> tuple[Cell, Asked]:
    chooser = Asked()
    cell = Cell("reduce", chooser, [nn.Identity(), nn.Identity()], 2, place, **{"keep": 2, **settings})
    return cell, chooser


def test_a_cell_asks_for_nodes_edges_and_its_output():
    _, chooser = asked_by()
    assert list(chooser.nodes) == ["reduce/2", "reduce/3", "reduce/output"]
    assert [d.options for d in chooser.nodes.values()] == [("0", "1"), ("0", "1", "2"), ("2", "3")]
    assert [d.keep for d in chooser.nodes.values()] == [2, 2, 2]
    assert list(chooser.edges) == [f"reduce/{node}/{source}" for node in (2, 3) for source in range(node)]
    decision, site = chooser.edges["reduce/3/2"]
    assert decision.when == (("reduce/3", ("2",)),)
    assert (decision.options, decision.group, decision.optional) == (("double", "triple"), "reduce", False)
    assert (site, chooser.edges["reduce/3/1"][1]) == (Site(2, 2, 1), Site(2, 2, 2))


def test_what_a_cell_asks_follows_its_settings():
    cell, chooser = asked_by(keep=None, output=[3], reduction=True, optional=True)
    assert [chooser.nodes[name].keep for name in ("reduce/2", "reduce/3")] == [2, 3]
    assert all(decision.optional for decision, _ in chooser.edges.values())
    assert (cell.output, cell.reduction, cell.kind) == ([3], True, "reduce")
    assert asked_by()[0].output == [2, 3]
    assert cell.keeps_width
    narrow = Cell("a", Asked(), [nn.Identity()], 1, lambda *_: (("double",), Site(2, 3)), keep=None)
    assert not narrow.keeps_width


@pytest.fixture
def cell():
    """2 = 2 a + b, 3 = 3 (2) + 2 a, out of inputs of which the first is tripled before."""
    genotype = {
        "normal/2": ("0", "1"),
        "normal/3": ("0", "2"),
        "normal/2/0": ("double",),
        "normal/2/1": ("skip",),
        "normal/3/0": ("double",),
        "normal/3/2": ("triple",),
        "normal/output": ("2", "3"),
    }
    return Cell(
        "normal",
        Decided(genotype, FACTORIES),
        [Scaled(3.0), nn.Identity()],
        2,
        lambda *_: (tuple(FACTORIES), SITE),
        keep=2,
    )


def test_states_by_hand(cell):
    a, b = torch.full((1, 2, 1, 1), 1.0), torch.full((1, 2, 1, 1), 5.0)
    states = reference(cell, [a, b])
    assert [state.flatten().tolist() for state in states] == [[3.0] * 2, [5.0] * 2, [11.0] * 2, [39.0] * 2]
    assert cell(a, b).flatten().tolist() == [11.0, 11.0, 39.0, 39.0]
    assert [s.flatten()[0].item() for s in one_by_one(cell, [a, b])] == [1.0, 5.0, 7.0, 23.0]  # without preprocessing


def test_a_plain_cell_builds_only_the_edges_that_are_kept(cell):
    assert list(cell.edges) == ["0-2", "1-2", "0-3", "2-3"]
    assert cell.incoming == [[(0, "0-2"), (1, "1-2")], [(0, "0-3"), (2, "2-3")]]


def test_the_output_is_what_the_genotype_keeps(cell):
    only = Decided({"a/2": ("1",), "a/2/1": ("double",), "a/output": ("2",)}, FACTORIES)
    small = Cell("a", only, [nn.Identity()] * 2, 1, lambda *_: (tuple(FACTORIES), SITE), keep=1)
    assert small.output == [2]
    assert small(torch.ones(1, 2, 1, 1), torch.full((1, 2, 1, 1), 4.0)).flatten().tolist() == [8.0, 8.0]


def test_all_edges_but_identities_can_be_dropped(cell):
    """Only the skip connection into node 2 is left where every other edge of every image is dropped."""
    cell.drop_path = Scaled(0.0)
    states = reference(cell, [torch.ones(3, 2, 1, 1), torch.full((3, 2, 1, 1), 5.0)])
    assert [state.unique().tolist() for state in states] == [[3.0], [5.0], [5.0], [0.0]]


def test_a_cell_runs_on_the_executor_that_is_put_there(cell):
    cell.execute = lambda own, inputs: [*inputs, inputs[0] + 10, inputs[1] + 20] if own is cell else []
    assert cell(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)).flatten().tolist() == [10.0, 20.0]
