import math

import pytest
import torch

from supernet.search.diagnostics import entropy, kinds, skip_count, table
from supernet.space.architecture import Architecture, Decision

DECISIONS = {
    d.name: d
    for d in (
        Decision("normal/2", ("0", "1"), 2, inputs=True),
        Decision("normal/2/0", ("a", "b")),
        Decision("normal/2/1", ("a", "c")),
        Decision("reduce/2/0", ("a", "b")),
    )
}
WEIGHTS = {
    "normal/2/0": torch.tensor([0.5, 0.5]),
    "normal/2/1": torch.tensor([0.25, 0.75]),
    "reduce/2/0": torch.tensor([1.0, 0.0]),
}


def test_kinds():
    assert kinds(DECISIONS) == ["normal", "reduce"]


def test_entropy_is_relative_to_the_uniform():
    mixed = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(2)
    assert entropy(DECISIONS, WEIGHTS, "normal") == pytest.approx((1 + mixed) / 2)
    assert entropy(DECISIONS, WEIGHTS, "reduce") == pytest.approx(0, abs=1e-9)
    assert entropy(DECISIONS, {}, "normal") == 0.0


def test_skip_count():
    kept = {
        "normal/2": ("0", "1"),
        "normal/2/0": ("skip_connect",),
        "normal/2/1": ("a",),
        "reduce/2/0": ("skip_connect",),
    }
    assert skip_count(Architecture("toy", kept), "normal") == 1


def test_table_leaves_gaps_where_an_edge_lacks_an_operation():
    edges, options, values = table(DECISIONS, WEIGHTS, "normal")
    assert edges == ["c(k-2) → 0", "c(k-1) → 0"]
    assert options == ["a", "b", "c"]
    assert values.nan_to_num(-1).tolist() == [[0.5, 0.5, -1], [0.25, -1, 0.75]]
