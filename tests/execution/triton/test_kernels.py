"""Triton's kernels against PyTorch's own operations in float64; `test_interpreted.py` runs this file, interpreted."""

import copy
import os

import pytest
import torch
import torch.nn.functional as F

from supernet.execution import triton
from supernet.execution.modes import frozen_statistics, running
from supernet.execution.stacked.depthwise import Frame, depthwise, shares
from supernet.execution.stacked.executor import Stacked
from supernet.space.cells import reference
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="run by test_interpreted.py")

S3, S5, D3, D5 = (3, 1), (5, 1), (3, 2), (5, 2)
CASES = {  # batch, channels, height, width, stride, counts, kinds, frame, ReLU
    "two sources, unequal counts": (2, 3, 7, 9, 1, (4, 3), (S3, S3, S5, D3, S3, S3, S5), (5, 1), True),
    "more than four alike, stride 2": (1, 2, 8, 8, 2, (5, 1), (S3,) * 5 + (S5,), (5, 1), True),
    "dilated frame, odd sizes, stride 2": (3, 2, 9, 7, 2, (2,), (D5, D5), (5, 2), True),
    "3x3 alone, without ReLU": (2, 2, 6, 6, 1, (3,), (S3,) * 3, (3, 1), False),
    "5x5 alone, more pixels than a program": (2, 1, 20, 20, 1, (2, 1), (S5,) * 3, (5, 1), True),
    "one pixel": (1, 4, 1, 1, 1, (1,), (D3,), (5, 1), True),
}


def distance(ours, exact):
    return float(((ours.double() - exact).norm() / exact.norm().clamp_min(1e-30)).detach())


def framed(kinds, channels, bucket):
    """Kernels of several kinds in their frames, built pixel by pixel; and where the taps are."""
    frames = torch.zeros(len(kinds) * channels, 1, bucket[0], bucket[0])
    for branch, (side, dilation) in enumerate(kinds):
        step = dilation // bucket[1]
        centre = bucket[0] // 2
        taps = [centre + step * (number - side // 2) for number in range(side)]
        for row in taps:
            for column in taps:
                frames[branch * channels : (branch + 1) * channels, 0, row, column] = torch.randn(channels)
    return frames, frames != 0


def exactly(sources, counts, kernels, frame, relu):
    """The definition, in float64: each branch's own convolution."""
    read = [s.double().relu() if relu else s.double() for s, c in zip(sources, counts, strict=True) for _ in range(c)]
    x = torch.cat(read, 1)
    return F.conv2d(x, kernels.double(), None, frame.stride, frame.padding, frame.bucket[1], groups=x.shape[1])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_depthwise(name, dtype):
    batch, channels, height, width, stride, counts, kinds, bucket, relu = CASES[name]
    torch.manual_seed(0)
    frame = Frame(bucket, stride, kinds)
    sources = [torch.randn(batch, channels, height, width, dtype=dtype).requires_grad_() for _ in counts]
    kernels, taps = framed(kinds, channels, bucket)
    kernels.requires_grad_()
    assert shares(sources, kernels, frame)
    ours = depthwise(sources, counts, kernels, frame, relu=relu)
    exact = exactly(sources, counts, kernels, frame, relu)
    assert ours.dtype == dtype
    slope = torch.randn_like(ours)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    assert distance(ours, exact) < tolerance
    found = torch.autograd.grad(ours, [kernels, *sources], slope)
    wanted = torch.autograd.grad(exact, [kernels, *sources], slope.double())
    assert distance(found[0], wanted[0] * taps) < tolerance
    assert bool((found[0][~taps] == 0).all())
    for one, other in zip(found[1:], wanted[1:], strict=True):
        assert one.dtype == dtype
        assert distance(one, other) < tolerance


def test_depthwise_of_a_stack_reads_each_block_by_its_own_branch():
    frame = Frame((5, 1), 1, (S3, S3, S5, D3))
    x = torch.randn(2, 12, 6, 7).transpose(2, 3).requires_grad_()  # not contiguous either
    kernels, taps = framed(frame.kinds, 3, (5, 1))
    kernels.requires_grad_()
    ours, exact = depthwise([x], [1], kernels, frame, relu=True), exactly([x], [1], kernels, frame, True)
    slope = torch.randn_like(ours)
    found = torch.autograd.grad(ours, [kernels, x], slope)
    wanted = torch.autograd.grad(exact, [kernels, x], slope.double())
    assert distance(ours, exact) < 1e-6
    assert distance(found[0], wanted[0] * taps) < 1e-6
    assert distance(found[1], wanted[1]) < 1e-6


def test_relu_keeps_what_is_not_a_number():
    frame, kernels = Frame((3, 1), 1, (S3,)), torch.ones(1, 1, 3, 3)
    x = torch.tensor([[[[float("nan"), 1.0, 1.0, 1.0]]]])
    assert depthwise([x], [1], kernels, frame, relu=True).isnan().tolist() == [[[[True, True, False, False]]]]


def test_what_is_not_written_in_triton_is_left_to_pytorch(monkeypatch):
    frame, kernels = Frame((7, 1), 1, ((7, 1),)), torch.randn(1, 1, 7, 7)
    x = torch.randn(1, 1, 8, 8)
    assert not shares([x], kernels, frame)
    assert distance(depthwise([x], [1], kernels, frame, relu=True), exactly([x], [1], kernels, frame, True)) < 1e-6
    small = Frame((3, 1), 1, (S3,))
    assert shares([x], torch.randn(1, 1, 3, 3), small)
    assert not shares([x.double()], torch.randn(1, 1, 3, 3).double(), small)
    monkeypatch.setenv("SUPERNET_TRITON", "0")
    assert not shares([x], torch.randn(1, 1, 3, 3), small)
    assert not triton.switched_on()


def supernets(**chooser):
    torch.manual_seed(0)
    space = Darts(channels=4 if chooser else 2, cells=1, nodes=2)
    network = Supernet(space.network(Undecided(**chooser), (2, 6, 6), 3))
    weights = {n: torch.randn(len(d.options)).softmax(0).requires_grad_() for n, d in network.decisions.items()}
    if not chooser:
        weights = {n: w for n, w in weights.items() if network.decisions[n].role == "operation"}
    return network, weights, torch.randn(2, 2, 6, 6)


def passed(network, executor, images, weights, dtype):
    network = copy.deepcopy(network).to(dtype)
    weights = {n: w.detach().to(dtype).requires_grad_() for n, w in weights.items()}
    with running(network, executor):
        logits = network(images.to(dtype), weights)
    at = [*weights.values(), *network.parameters()]
    gradients = torch.autograd.grad(logits.pow(2).sum(), at, allow_unused=True, materialize_grads=True)
    return logits, torch.cat([g.flatten() for g in gradients]), dict(network.named_buffers())


@pytest.mark.parametrize("chooser", [{}, {"channel_divisor": 2}])
def test_a_search_network_is_the_same_function(chooser):
    network, weights, images = supernets(**chooser)
    logits, gradients, buffers = passed(network, reference, images, weights, torch.float64)
    ours, slopes, kept = passed(network, Stacked(), images, weights, torch.float32)
    assert distance(ours, logits) < 1e-5
    assert distance(slopes, gradients) < 1e-4
    assert all(torch.allclose(value.double(), buffers[n].double(), rtol=1e-4) for n, value in kept.items())


def test_second_derivatives_are_the_same():
    network, weights, images = supernets()
    products = []
    for executor, dtype in ((reference, torch.float64), (Stacked(), torch.float32)):
        twin = copy.deepcopy(network).to(dtype)
        logits = {n: w.detach().to(dtype).requires_grad_() for n, w in weights.items()}
        parameters = list(twin.parameters())
        with running(twin, executor), frozen_statistics(twin):
            loss = twin(images.to(dtype), logits).pow(2).sum()
        slope = torch.autograd.grad(loss, parameters, create_graph=True)
        product = sum(s.pow(2).sum() for s in slope)
        products.append(torch.cat(torch.autograd.grad(product, list(logits.values()))))
    assert distance(products[1], products[0]) < 1e-3
