"""Compiled poolings against PyTorch's own: values and gradients, ties and borders included."""

import pytest
import torch
from torch import nn

from supernet.execution.fused.poolings import pool
from supernet.execution.fused.sharing import serves_sharing

pytestmark = pytest.mark.skipif(not serves_sharing(torch.zeros(1, 4, 2, 2)), reason="nothing is compiled")


@pytest.mark.parametrize(
    "kind", [lambda s: nn.MaxPool2d(3, s, 1), lambda s: nn.AvgPool2d(3, s, 1, count_include_pad=False)]
)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 6), (8, 8)])
@pytest.mark.parametrize("channels", [4, 6, 16, 37])
def test_equals_that_of_pytorch(kind, stride, size, channels):
    torch.manual_seed(0)
    module = kind(stride)
    x = torch.randint(-3, 3, (3, channels, *size)).float().requires_grad_()  # many maxima are there more than once
    expected = module(x)
    gradient = torch.randn_like(expected)
    (slope,) = torch.autograd.grad(expected, x, gradient)
    given = pool(module, x)
    assert given.grad_fn.name() == "_PoolBackward"
    torch.testing.assert_close(given, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(given, x, gradient)[0], slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "module",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(5, 1, 1),
        nn.MaxPool2d(3, 1, 0),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.MaxPool2d(3, 1, 1, dilation=2),
        nn.MaxPool2d(3, 1, 1, return_indices=True),
        nn.AvgPool2d(3, 1, 1),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False, divisor_override=4),
        nn.AvgPool2d(3, (1, 2), 1, count_include_pad=False),
    ],
)
def test_others_run_as_they_are(module):
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(pool(module, x), module(x), rtol=0, atol=0)


def test_nan_and_infinity_stay():
    x = torch.randn(1, 4, 6, 6)
    x[0, 0, 2, 2], x[0, 1, 2, 2], x[0, 2] = float("nan"), float("inf"), -float("inf")
    module = nn.MaxPool2d(3, 1, 1)
    torch.testing.assert_close(pool(module, x), module(x), equal_nan=True, rtol=0, atol=0)
