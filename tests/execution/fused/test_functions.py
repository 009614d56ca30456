"""Kernels against PyTorch's own operations in float64, with the compiled part and without."""

import pytest
import torch
import torch.nn.functional as F

from supernet.execution import native
from supernet.execution.fused.bindings import Norm, Window
from supernet.execution.fused.functions import combine, norm_relu_separable, quarters, separable

compiled_or_not = pytest.mark.parametrize(
    "compiled",
    [pytest.param(True, marks=pytest.mark.skipif(native.library() is None, reason="not compiled here")), False],
)


@pytest.fixture
def without(monkeypatch):
    return lambda compiled: None if compiled else monkeypatch.setenv("SUPERNET_COMPILED", "0")


def window(kernel, stride, dilation):
    return Window((stride, stride), (dilation * (kernel - 1) // 2,) * 2, (dilation, dilation))


def expected(x, first, second, w):
    between = F.conv2d(x, first, None, w.stride, w.padding, w.dilation, len(first))
    return F.conv2d(between, second)


def tensors(channels, kernel, dtype, size=(7, 9)):
    stream = torch.Generator().manual_seed(channels * 10 + kernel)
    x = torch.randn(2, channels, *size, generator=stream, dtype=torch.double)
    first = torch.randn(channels, 1, kernel, kernel, generator=stream, dtype=torch.double)
    second = torch.randn(channels, channels, 1, 1, generator=stream, dtype=torch.double)
    return [t.to(dtype).requires_grad_() for t in (x, first, second)]


@compiled_or_not
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("channels", [1, 3, 4, 6, 8, 16, 20, 36])
def test_separable_and_its_gradients(channels, kernel, stride, dilation, compiled, without):
    without(compiled)
    w = window(kernel, stride, dilation)
    exact = tensors(channels, kernel, torch.double)
    out = expected(*exact, w)
    gradient = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    wanted = torch.autograd.grad(out, exact, gradient)
    single = tensors(channels, kernel, torch.float)
    given = separable(*single, w)
    slopes = torch.autograd.grad(given, single, gradient.float())
    for a, b in zip((out, *wanted), (given, *slopes), strict=True):
        torch.testing.assert_close(b.double(), a, rtol=1e-4, atol=1e-5 * a.abs().max().item())


@compiled_or_not
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("size", "padding"), [((2, 3), 4), ((8, 6), 4), ((9, 12), 2), ((9, 10), 0), ((8, 9), 3), ((6, 5), 10)]
)
def test_dilated_kernels_on_odd_and_even_images(size, padding, stride, compiled, without):
    """Images narrower than the kernel and paddings that do not keep its centre among them."""
    without(compiled)
    w = Window((stride, stride), (padding, padding), (2, 2))
    x, first, second = tensors(4, 5, torch.float, size=size)
    slopes = torch.autograd.grad(separable(x, first, second, w).square().sum(), (x, first, second))
    exact = tensors(4, 5, torch.double, size=size)
    wanted = torch.autograd.grad(expected(*exact, w).square().sum(), exact)
    for a, b in zip(wanted, slopes, strict=True):
        torch.testing.assert_close(b.double(), a, rtol=1e-4, atol=1e-5 * a.abs().max().item())


@pytest.mark.parametrize("affine", [False, True])
def test_norm_relu_separable(affine):
    x, first, second = tensors(6, 3, torch.double)
    scale, shift = ((torch.rand(6, dtype=torch.double) + 0.5).requires_grad_() for _ in range(2))
    affine_parts = (scale, shift) if affine else (None, None)
    mean, variance = torch.zeros(6, dtype=torch.double), torch.ones(6, dtype=torch.double)
    own_mean, own_variance = mean.clone(), variance.clone()
    w = window(3, 1, 1)
    given = norm_relu_separable(x, *affine_parts, first, second, Norm(own_mean, own_variance, 0.1, 1e-5), w)
    h = F.batch_norm(x, mean, variance, *affine_parts, True, 0.1, 1e-5).relu()
    wanted = expected(h, first, second, w)
    at = [x, first, second, *(affine_parts if affine else ())]
    gradient = torch.randn(wanted.shape, dtype=torch.double)
    pairs = zip(torch.autograd.grad(wanted, at, gradient), torch.autograd.grad(given, at, gradient), strict=True)
    for a, b in [(wanted, given), (mean, own_mean), (variance, own_variance), *pairs]:
        torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-10)


def test_combine():
    stream = torch.Generator().manual_seed(0)
    xs = [torch.randn(2, 3, 4, 5, dtype=torch.double, generator=stream, requires_grad=True) for _ in range(4)]
    factors = [torch.randn((), dtype=torch.double, generator=stream, requires_grad=True) for _ in range(2)]
    given = combine([factors[0], None, factors[1]], xs[:3], xs[3:])
    wanted = factors[0] * xs[0] + xs[1] + factors[1] * xs[2] + xs[3]
    gradient = torch.randn(wanted.shape, dtype=torch.double, generator=stream)
    torch.testing.assert_close(given, wanted)
    at = [*factors, *xs]
    for a, b in zip(torch.autograd.grad(wanted, at, gradient), torch.autograd.grad(given, at, gradient), strict=True):
        torch.testing.assert_close(b, a)
    assert given.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(4, 6), (5, 4), (5, 7)])
def test_quarters(size):
    x = torch.randn(2, 3, *size, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(quarters, x)
    even, odd = quarters(x)
    assert torch.equal(even, x[:, :, ::2, ::2])
    assert torch.equal(odd[:, :, : size[0] // 2, : size[1] // 2], x[:, :, 1::2, 1::2])


def test_a_scale_of_stride_zero_is_never_handed_to_batch_norm():
    """PyTorch's CPU gradient is silently wrong for one, with channels-last tensors; a dense one is right."""
    x = torch.randn(4, 8, 5, 5, dtype=torch.double).to(memory_format=torch.channels_last).requires_grad_()
    weight = torch.tensor(0.3, dtype=torch.double, requires_grad=True)
    norm = torch.nn.BatchNorm2d(8, affine=False).double()
    gradient = torch.randn(4, 8, 5, 5, dtype=torch.double).to(memory_format=torch.channels_last)
    from supernet.execution.fused.states import Statistics, normalised

    given = torch.autograd.grad(normalised(norm, x, weight, Statistics()), (x, weight), gradient)
    normal = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + norm.eps).sqrt()
    wanted = torch.autograd.grad(weight * normal, (x, weight), gradient)
    for a, b in zip(wanted, given, strict=True):
        torch.testing.assert_close(b, a)


def test_the_compiled_part_can_be_left_unused(monkeypatch):
    monkeypatch.setenv("SUPERNET_COMPILED", "0")
    assert native.library() is None
