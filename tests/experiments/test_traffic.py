"""Bytes of operations, counted by hand beside it."""

import pytest
import torch
from torch import nn

from experiments.benchmarks.traffic import Traffic, bytes_of


def moved(compute) -> dict[str, int]:
    with Traffic() as traffic:
        compute()
    return dict(traffic.by_name)


ONE, TWO = torch.ones(6), torch.ones(2, 3)


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda: ONE + ONE, {"add": 72}),
        (lambda: ONE.clone().add_(1.0), {"clone": 48, "add_": 48}),
        (lambda: TWO.clone().zero_(), {"clone": 48, "zero_": 24}),
        (lambda: torch.empty(6).copy_(ONE), {"copy_": 48}),
        (lambda: torch.zeros(6, dtype=torch.float64), {"zeros": 48}),
        (lambda: TWO.t()[1:].detach(), {}),
        (lambda: torch.cat([ONE, ONE]), {"cat": 96}),
        (lambda: torch.ones(1).expand(1000).sum(), {"ones": 4, "sum": 8}),
        (lambda: torch._foreach_add_([ONE.clone(), ONE.clone()], 1.0), {"clone": 96, "_foreach_add_": 96}),
        (lambda: torch.add(ONE, ONE, out=torch.empty(6)), {"add": 72}),
    ],
)
def test_bytes_in_and_out(compute, expected):
    assert moved(compute) == expected


def test_what_is_expanded_lies_in_memory_once():
    assert bytes_of(torch.ones(1, 3).expand(1000, 3)) == 12
    assert bytes_of(torch.empty(0, 3)) == 0


def test_a_backward_pass_counts():
    """A linear layer without bias, 4 x 3 inputs and 2 x 3 weights; the sum's gradient is one number, expanded."""
    layer, images = nn.Linear(3, 2, bias=False), torch.ones(4, 3)
    with Traffic() as traffic:
        layer(images).sum().backward()
    assert traffic.by_name["mm"] == 4 * (4 * 3 + 2 * 3 + 4 * 2) + 4 * (1 + 4 * 3 + 2 * 3)
    assert traffic.operations["mm"] == 2
