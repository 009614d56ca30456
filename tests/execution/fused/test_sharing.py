"""Gradients that are collected in place, against those of plain autograd."""

import pytest
import torch
from torch.nn import functional as F

from supernet.execution.fused.bindings import Window
from supernet.execution.fused.compiled_kernels import Convolutions
from supernet.execution.fused.functions import relu_separables
from supernet.execution.fused.sharing import Shared, serves_sharing
from supernet.execution.fused.sums import sum_of_norms

pytestmark = pytest.mark.skipif(not serves_sharing(torch.zeros(1, 4, 2, 2)), reason="nothing is compiled")

SIZES = [(4, (8, 8)), (6, (5, 7)), (16, (8, 8)), (36, (6, 6))]


def window(side, stride, dilation):
    return Window((stride, stride), (dilation * (side - 1) // 2,) * 2, (dilation, dilation))


def drawn(channels, size, wants=True):
    torch.manual_seed(0)
    x = torch.randn(3, channels, *size, requires_grad=wants)
    kinds = [(3, 1, 1), (5, 1, 1), (3, 1, 2), (5, 1, 2)]
    weights = [[torch.randn(channels, 1, k, k), torch.randn(channels, channels, 1, 1) / channels] for k, _, _ in kinds]
    for pair in weights:
        for weight in pair:
            weight.requires_grad_()
    return x, weights, [window(*kind) for kind in kinds]


def plain(x, weights, windows):
    outs = []
    for (depthwise, across), w in zip(weights, windows, strict=True):
        between = F.conv2d(F.relu(x), depthwise, None, w.stride, w.padding, w.dilation, len(depthwise))
        outs.append(F.conv2d(between, across))
    return outs


@pytest.mark.parametrize(("channels", "size"), SIZES)
def test_several_convolutions_of_a_state(channels, size):
    x, weights, windows = drawn(channels, size)
    shared, alphas = Shared(x, None), torch.randn(5, requires_grad=True)
    given, statistics = relu_separables(
        shared, [Convolutions(*pair, w, 1e-5) for pair, w in zip(weights, windows, strict=True)]
    )
    expected = plain(x, weights, windows)
    for out, wanted, found in zip(given, expected, statistics, strict=True):
        torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[0], wanted.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[1], wanted.var((0, 2, 3), correction=0), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[2], 1 / (found[1] + 1e-5).sqrt())
    total = sum_of_norms(given, alphas.unbind(), [1e-5] * 4, [shared], list(statistics))[0]
    norms = [F.batch_norm(out, None, None, training=True) for out in expected]
    summed = sum(alpha * term for alpha, term in zip(alphas, [x, *norms], strict=True))
    torch.testing.assert_close(total, summed, rtol=1e-4, atol=1e-4)
    wanted = [x, alphas, *(weight for pair in weights for weight in pair)]
    gradient = torch.randn_like(summed)
    for ours, theirs in zip(
        torch.autograd.grad(total, wanted, gradient), torch.autograd.grad(summed, wanted, gradient), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())


def test_the_norm_of_a_shared_tensor():
    x = torch.randn(4, 8, 5, 5, requires_grad=True)
    weights, shared = torch.randn(2, requires_grad=True), Shared(x, 1e-5)
    total = sum(sum_of_norms([], [weight], [], [shared])[0] for weight in weights)
    summed = sum(weight * F.batch_norm(x, None, None, training=True) for weight in weights)
    gradient = torch.randn_like(summed)
    ours, theirs = (torch.autograd.grad(y, [x, weights], gradient) for y in (total, summed))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_what_an_earlier_pass_has_left_does_not_count():
    """A pass that stops before the shared tensor leaves what was collected; the next one must begin anew."""
    x, weights, windows = drawn(4, (6, 6))
    alpha = torch.ones((), requires_grad=True)
    shared = Shared(x, None)
    outs, _ = relu_separables(shared, [Convolutions(*weights[0], windows[0], 1e-5)])
    total = sum_of_norms(outs, [alpha, None], [1e-5], [shared])[0].square().sum()
    (expected,) = torch.autograd.grad(total, x, retain_graph=True)
    for _ in range(2):
        torch.autograd.grad(total, [alpha, weights[0][0]], retain_graph=True)
        torch.testing.assert_close(torch.autograd.grad(total, x, retain_graph=True)[0], expected, rtol=0, atol=0)


def test_an_output_that_nobody_reads():
    x, weights, windows = drawn(4, (6, 6))
    outs, _ = relu_separables(
        Shared(x, None), [Convolutions(*pair, w, 0.0) for pair, w in zip(weights, windows, strict=True)]
    )
    given = torch.autograd.grad(outs[2].sum(), [x, *weights[2], weights[0][0]], allow_unused=True)
    expected = torch.autograd.grad(plain(x, weights, windows)[2].sum(), [x, *weights[2]])
    assert given[3] is None
    for a, b in zip(given[:3], expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
