"""Compiled passes in float32 against PyTorch's operations in float64."""

import copy
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F

from supernet.execution import native
from supernet.execution.fused import bindings as compiled
from supernet.execution.fused import compiled_kernels as passes
from supernet.execution.fused import norms, sums
from supernet.execution.fused.bindings import Norm, Window
from supernet.execution.fused.executor import fused
from supernet.execution.fused.functions import norm_relu_separable, pointwise, separable
from supernet.execution.modes import running
from supernet.space.cells import reference
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet

pytestmark = pytest.mark.skipif(native.library() is None, reason="not compiled here")


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


@contextmanager
def running_on(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def assert_close(given, wanted):
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-4, atol=2e-5 * max(b.abs().max().item(), 1e-3))


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 9), (8, 16), (5, 33)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("channels", [4, 8, 16, 6, 21, 36])
def test_norm_relu_separable(channels, kernel, dilation, stride, size, affine):
    w = Window((stride,) * 2, (dilation * (kernel - 1) // 2,) * 2, (dilation,) * 2)
    exact = [drawn(3, channels, *size), drawn(channels, 1, kernel, kernel, seed=1), drawn(channels, channels, 1, 1)]
    exact += [drawn(channels, seed=2).abs() + 0.5, drawn(channels, seed=3)] if affine else []

    def outcome(dtype):
        x, first, second, *slopes = at = [t.to(dtype).requires_grad_() for t in exact]
        mean, variance = torch.zeros(channels, dtype=dtype), torch.ones(channels, dtype=dtype)
        if dtype == torch.float:
            assert passes.serves(x, first, second, w)
            norm = Norm(mean, variance, 0.1, 1e-5)
            out = norm_relu_separable(x, *(slopes or (None, None)), first, second, norm, w)
        else:
            h = F.batch_norm(x, mean, variance, *slopes, training=True, momentum=0.1, eps=1e-5).relu()
            out = F.conv2d(F.conv2d(h, first, None, w.stride, w.padding, w.dilation, channels), second)
        return [out, mean, variance, *torch.autograd.grad(out, at, drawn(*out.shape, seed=4).to(dtype))]

    assert_close(outcome(torch.float), outcome(torch.double))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("channels", [4, 8, 16, 6, 36, 72])
@pytest.mark.parametrize("size", [(3, 5), (16, 32)])
def test_sum_of_norms(size, channels, threads):
    """A mean far from zero must not cost digits; threads share pixels, not sums of them."""
    exact = [drawn(3, channels, *size, seed=seed) * 2 + 30 for seed in range(3)]
    weights = [drawn(seed=7), None, drawn(seed=8)]

    def outcome(dtype):
        xs = [x.to(dtype).requires_grad_() for x in exact]
        ws = [None if w is None else w.to(dtype).requires_grad_() for w in weights]
        if dtype == torch.float:
            assert norms.serves_norm(xs[0])
            out, means, variances = sums.sum_of_norms(xs, ws, [1e-5] * 3)
        else:
            terms = [F.batch_norm(x, None, None, training=True, eps=1e-5) for x in xs]
            out = sum(term if w is None else term * w for term, w in zip(terms, ws, strict=True))
            means, variances = (torch.stack([of(x, (0, 2, 3)) for x in xs]) for of in (torch.mean, torch.var))
        at = [*xs, *(w for w in ws if w is not None)]
        return [out, means, variances, *torch.autograd.grad(out, at, drawn(*out.shape, seed=9).to(dtype))]

    with running_on(threads):
        given = outcome(torch.float)
    assert_close(given, outcome(torch.double))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 8)])
@pytest.mark.parametrize(("channels", "out"), [(4, 4), (8, 20), (36, 16), (13, 37), (144, 36)])
def test_pointwise(channels, out, size, threads, relu):
    exact = [drawn(3, channels, *size), drawn(out, channels, 1, 1, seed=1)]

    def outcome(dtype):
        x, weight = at = [t.to(dtype).requires_grad_() for t in exact]
        if dtype == torch.float:
            assert passes.serves_pointwise(x, weight)
            y = pointwise(x, weight, relu=relu)
        else:
            y = F.conv2d(x.relu() if relu else x, weight)
        return [y, *torch.autograd.grad(y, at, drawn(*y.shape, seed=4).to(dtype))]

    with running_on(threads):
        given = outcome(torch.float)
    assert_close(given, outcome(torch.double))


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("channels", [4, 16, 36, 21])
def test_norm(channels, affine):
    exact = [drawn(3, channels, 6, 7) * 3 + 20]
    exact += [drawn(channels, seed=2).abs() + 0.5, drawn(channels, seed=3)] if affine else []

    def outcome(dtype):
        x, *slopes = at = [t.to(dtype).requires_grad_() for t in exact]
        if dtype == torch.float:
            assert norms.serves_norm(x)
            out, mean, variance = norms.norm(x, *(slopes or (None, None)), 1e-5)
        else:
            out = F.batch_norm(x, None, None, *slopes, training=True, eps=1e-5)
            mean, variance = (of(x, (0, 2, 3)) for of in (torch.mean, torch.var))
        return [out, mean, variance, *torch.autograd.grad(out, at, drawn(*out.shape, seed=9).to(dtype))]

    assert_close(outcome(torch.float), outcome(torch.double))


def test_only_what_is_asked_for():
    w = Window((1, 1), (1, 1), (1, 1))
    x, first, second = drawn(2, 4, 5, 5).float(), drawn(4, 1, 3, 3).float(), drawn(4, 4, 1, 1).float()
    for asked in (0, 1, 2):
        at = [t.clone().requires_grad_(i == asked) for i, t in enumerate((x, first, second))]
        exact = [t.detach().double().requires_grad_(i == asked) for i, t in enumerate(at)]
        wanted = F.conv2d(F.conv2d(exact[0], exact[1], padding=1, groups=4), exact[2]).square().sum()
        given = separable(*at, w).square().sum()
        assert_close(torch.autograd.grad(given, at[asked]), torch.autograd.grad(wanted, exact[asked]))
        if asked != 1:
            given, wanted = pointwise(at[0], at[2], relu=False), F.conv2d(exact[0], exact[2])
            slopes = (torch.autograd.grad(y.square().sum(), t[asked]) for y, t in ((given, at), (wanted, exact)))
            assert_close(*slopes)


def test_what_is_not_served():
    w = Window((1, 1), (1, 1), (1, 1))
    x, first, second = torch.zeros(1, 4, 5, 5), torch.zeros(4, 1, 3, 3), torch.zeros(4, 4, 1, 1)
    assert passes.serves(x, first, second, w)
    assert not passes.serves(x.double(), first.double(), second.double(), w)
    assert not passes.serves(x, first, torch.zeros(6, 4, 1, 1), w)
    assert not passes.serves(x, first, second, Window((1, 1), (0, 0), (1, 1)))
    assert not passes.serves(x, first, second, Window((3, 3), (1, 1), (1, 1)))
    assert not passes.serves(torch.zeros(1, 3, 5, 5), torch.zeros(3, 1, 3, 3), torch.zeros(3, 3, 1, 1), w)
    assert not norms.serves_norm(torch.zeros(1, 3, 5, 5))
    assert passes.serves_pointwise(x, torch.zeros(6, 4, 1, 1))
    assert not passes.serves_pointwise(x, torch.zeros(3, 4, 1, 1))
    assert not passes.serves_pointwise(x.double(), torch.zeros(6, 4, 1, 1).double())
    with torch.autocast("cpu"):
        assert not passes.serves_pointwise(x, torch.zeros(6, 4, 1, 1))


def test_cannot_be_differentiated_twice_and_says_so():
    x = drawn(2, 4, 5, 5).float().requires_grad_()
    w = Window((1, 1), (1, 1), (1, 1))
    first, second = drawn(4, 1, 3, 3).float(), drawn(4, 4, 1, 1).float()
    for out in (
        separable(x, first, second, w),
        norm_relu_separable(x, None, None, first, second, Norm(None, None, 0.1, 1e-5), w),
        sums.sum_of_norms([x], [None], [1e-5])[0],
        pointwise(x, second, relu=True),
        norms.norm(x, None, None, 1e-5)[0],
    ):
        with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
            torch.autograd.grad(out.square().sum(), x, create_graph=True)


def test_what_is_not_a_number_is_not_hidden():
    x = drawn(2, 4, 5, 5).float()
    x[1, 2, 3, 4] = float("nan")
    x.requires_grad_()
    w, norm = Window((1, 1), (1, 1), (1, 1)), Norm(None, None, 0.1, 1e-5)
    out = norm_relu_separable(x, None, None, drawn(4, 1, 3, 3).float(), drawn(4, 4, 1, 1).float(), norm, w)
    assert out.isnan().any()
    assert torch.autograd.grad(out.sum(), x)[0][:, 2].isnan().all()
    assert pointwise(x, drawn(4, 4, 1, 1).float(), relu=True)[1, :, 3, 4].isnan().all()


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_a_supernet_of_partial_channels(size, single, monkeypatch):
    """Both kinds of cells, 4, 8 and 16 operated channels, edges of other operations: as the reference in float64."""
    torch.manual_seed(0)
    table = {"normal/2/0": ("sep_conv_3x3", "none"), "reduce/3/1": ("dil_conv_5x5", "skip_connect", "avg_pool_3x3")}
    space = Darts(channels=16, cells=3, nodes=2, table=table)
    exact = Supernet(space.network(Undecided(channel_divisor=4, single=single), (3, *size), 5)).double()
    images, stream = drawn(4, 3, *size), torch.Generator().manual_seed(1)
    weights = {}
    for name, decision in exact.decisions.items():
        draw = torch.randn(len(decision.options), dtype=torch.double, generator=stream)
        weights[name] = (draw == draw.max()).double() if single and decision.role == "operation" else draw.softmax(0)
    used = []
    monkeypatch.setattr(passes, "loaded", lambda own=compiled.loaded: used.append(1) or own())

    def outcome(executor, dtype):
        network = copy.deepcopy(exact).to(dtype)
        given = {name: w.to(dtype).requires_grad_() for name, w in weights.items()}
        with running(network, executor):
            logits = network(images.to(dtype), given)
            at = [*given.values(), *network.parameters()]
            slopes = torch.autograd.grad(logits.square().sum(), at, allow_unused=True, materialize_grads=True)
            network.eval()
            with torch.no_grad():
                evaluated = network(images.to(dtype), given)
        moved = torch.cat([b.double().flatten() for b in network.buffers()])
        return logits.detach(), evaluated, torch.cat([s.double().flatten() for s in slopes]), moved

    given = outcome(fused, torch.float)
    assert used
    for a, b in zip(given, outcome(reference, torch.double), strict=True):
        assert (a.double() - b).norm() < 2e-3 * b.norm()  # a last digit can turn a ReLU
