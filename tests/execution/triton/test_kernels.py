"""Triton's kernels against PyTorch's own operations in float64; `test_interpreted.py` runs this file, interpreted."""

import copy
import os

import pytest
import torch
import torch.nn.functional as F
from common import slow_but

from supernet.execution import triton as kernels_for
from supernet.execution.modes import frozen_statistics, running
from supernet.execution.stacked.depthwise import Frame, depthwise, shares
from supernet.execution.stacked.executor import Stacked
from supernet.execution.stacked.norms import Piece, add_up, norm_relu_depthwise
from supernet.execution.triton import Statistics
from supernet.space.cells import reference
from supernet.space.choosers import Undecided
from supernet.space.darts import DARTS_OPERATIONS, Darts
from supernet.space.supernet import Supernet

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="run by test_interpreted.py")

if os.environ.get("TRITON_INTERPRET") == "1":
    import triton.language as tl
    from triton import jit

    from supernet.execution.triton import depthwise as convolutions
    from supernet.execution.triton import norms
    from supernet.execution.triton.depthwise import _quotient

    @jit
    def divided(numbers, divisor, results, SIZE: tl.constexpr):
        places = tl.arange(0, SIZE)
        tl.store(results + places, _quotient(tl.load(numbers + places), divisor))


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


@pytest.mark.parametrize("name", slow_but([name for name in CASES if "than a program" not in name], list(CASES)))
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
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


def test_quotients_are_exact():
    ends = torch.arange(2**20 - 2**17, 2**20, dtype=torch.int32)
    for numbers in (torch.arange(2**17, dtype=torch.int32), ends):
        for divisor in (1, 2, 3, 7, 8, 9, 31, 41, 47, 49, 55, 61, 224, 1000, 1024, 4095, 50176, 2**19):
            found = torch.empty_like(numbers)
            divided[(1,)](numbers, divisor, found, SIZE=len(numbers))
            assert torch.equal(found, numbers // divisor)


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
    assert not kernels_for.switched_on()


def definition(x, kernels, frame, running, momentum):
    """Norm, ReLU and each block's own convolution, in float64."""
    normed = F.batch_norm(x.double(), *running, None, None, True, momentum, 1e-5).relu()
    made, channels = [], len(kernels) // len(frame.kinds)
    for block, (side, dilation) in enumerate(frame.kinds):
        edge, part = (frame.bucket[0] - side) // 2, slice(block * channels, (block + 1) * channels)
        own = kernels.double()[part, :, edge : edge + side, edge : edge + side]
        padding = dilation * (side // 2)
        made.append(F.conv2d(normed[:, part], own, None, frame.stride, padding, dilation, groups=channels))
    return torch.cat(made, 1)


@pytest.mark.parametrize("dtype", slow_but([torch.float32], [torch.float32, torch.bfloat16]))
def test_a_norm_is_read_as_the_convolution_loads_it(dtype):
    torch.manual_seed(0)
    frame, channels = Frame((5, 0), 1, (S3, S5, D3, D5)), 3
    x = (3 * torch.randn(2, 4 * channels, 5, 7) + 20).to(dtype).requires_grad_()  # means that are far from 0
    kernels, taps = framed([(side, 1) for side, _ in frame.kinds], channels, (5, 1))
    kernels.requires_grad_()
    before = torch.rand(2, 5 * channels)
    remembered = before.clone()
    ours = norm_relu_depthwise(x, kernels, frame, (4, 0, 1, 3), Statistics(1e-5, 0.3, remembered.view(-1)))
    rows = torch.tensor([4, 0, 1, 3])
    running = [part.view(5, channels)[rows].flatten().double() for part in before]
    exact = definition(x, kernels, frame, running, 0.3)
    slope = torch.randn_like(ours)
    found = torch.autograd.grad(ours, [kernels, x], slope)
    wanted = torch.autograd.grad(exact, [kernels, x], slope.double())
    tolerance = 2e-5 if dtype == torch.float32 else 2e-2
    assert distance(ours, exact) < tolerance
    assert distance(found[0], wanted[0] * taps) < tolerance
    assert distance(found[1], wanted[1]) < tolerance
    after = torch.stack([part.view(5, channels)[rows].flatten() for part in remembered])
    assert torch.allclose(after.double(), torch.stack(running), rtol=1e-5)
    assert torch.equal(remembered.view(2, 5, channels)[:, 2], before.view(2, 5, channels)[:, 2])  # no one's


def pieces_of(tensors):
    """Three blocks to two nodes, one block to both, and two blocks that are not normalised."""
    return [
        Piece(tensors[0], (0, 1, 2), (5, 6, 6), (0, 1, 2)),
        Piece(tensors[1], (0, 0), (5, 6), (3, 4)),
        Piece(tensors[2], (0, 1), (6, 6), None),
    ]


def added_up(tensors, scales, remembered):
    channels, totals = tensors[1].shape[1], {5: 0.0, 6: 0.0}
    for piece, vector in zip(pieces_of(tensors), scales, strict=True):
        rows = zip(piece.reads, piece.targets, piece.norms or piece.reads, vector.split(channels), strict=True)
        for block, target, norm, row in rows:
            x = piece.stack[:, block * channels : (block + 1) * channels]
            if piece.norms is not None:
                x = F.batch_norm(x, remembered[0][norm], remembered[1][norm], None, None, True, 0.1, 1e-5)
            totals[target] = totals[target] + x * row.view(1, -1, 1, 1)
    return list(totals.values())


@pytest.mark.parametrize(("batch", "height", "width"), [(3, 7, 5), (1, 40, 30), (2, 1, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_are_added_up_into_nodes(dtype, batch, height, width):
    torch.manual_seed(0)
    channels = 2
    tensors = [torch.randn(batch, n * channels, height, width).mul(2).add(4).to(dtype) for n in (3, 1, 2)]
    scales = [torch.randn(n * channels) for n in (3, 2, 2)]  # negative ones, too
    at = [x.requires_grad_() for x in (*tensors, *scales)]
    exactly_at = [x.detach().double().requires_grad_() for x in at]
    remembered = torch.rand(2, 5, channels)
    exact_memory = remembered.double()
    ours = add_up(pieces_of(at[:3]), at[3:], (5, 6), Statistics(1e-5, 0.1, remembered.view(-1)))
    exact = added_up(exactly_at[:3], exactly_at[3:], exact_memory)
    slopes = [torch.randn_like(x) for x in ours]
    found = torch.autograd.grad(ours, at, slopes)
    wanted = torch.autograd.grad(exact, exactly_at, [slope.double() for slope in slopes])
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for one, other in zip((*ours, *found), (*exact, *wanted), strict=True):
        assert distance(one, other) < tolerance * (1 if height > 1 else 100)  # norms of four numbers are steep
    assert torch.allclose(remembered.double(), exact_memory, rtol=1e-5)


def test_gradients_are_given_the_lines_that_were_computed(monkeypatch):
    def lines(*arguments):
        computed.append(compute(*arguments))
        return computed[-1]

    def gradients(slopes, stacks, line, terms):
        given.append(line)
        return differentiate(slopes, stacks, line, terms)

    compute, differentiate, computed, given = norms.lines, norms.gradients, [], []
    monkeypatch.setattr(norms, "lines", lines)
    monkeypatch.setattr(norms, "gradients", gradients)
    x, kernels = torch.randn(2, 2, 3, 3).requires_grad_(), torch.randn(2, 1, 3, 3)
    y = norm_relu_depthwise(x, kernels, Frame((3, 1), 1, (S3, S3)), (0, 1), Statistics(1e-5, 0.1, None))
    (z,) = add_up([Piece(y, (0, 1), (0, 0), (2, 3))], [torch.tensor([0.5, -2.0])], (0,), Statistics(1e-5, 0.1, None))
    z.pow(2).sum().backward()
    for ours, wanted in zip(given, reversed(computed), strict=True):
        assert all(torch.equal(*pair) for pair in zip(vars(ours).values(), vars(wanted).values(), strict=True))


def test_a_node_that_the_first_stacks_do_not_reach_has_second_derivatives():
    torch.manual_seed(0)
    tensors, scales = torch.randn(9, 2, 2, 3, 4).unbind(), torch.randn(9, 2).unbind()  # one more than fit in a call
    nodes, products = [5] * 8 + [6], []
    for dtype in (torch.float32, torch.float64):
        at = [x.to(dtype).requires_grad_() for x in (*tensors, *scales)]
        if dtype == torch.float32:
            pieces = [Piece(x, (0,), (node,), None) for x, node in zip(at[:9], nodes, strict=True)]
            totals = add_up(pieces, at[9:], (6, 5), Statistics(1e-5, 0.1, None))
        else:
            parts = [x * row.view(1, -1, 1, 1) for x, row in zip(at[:9], at[9:], strict=True)]
            totals = [parts[8], sum(parts[:8])]
        slopes = torch.autograd.grad(sum(x.pow(2).sum() for x in totals), at, create_graph=True)
        second = torch.autograd.grad(sum(slope.pow(2).sum() for slope in slopes), at)
        products.append([torch.cat([x.flatten() for x in part]) for part in (totals, slopes, second)])
    assert all(distance(one, other) < 1e-6 for one, other in zip(*products, strict=True))


def test_a_block_that_no_branch_reads_is_refused_since_its_gradient_would_not_be_written():
    x, kernels = torch.randn(1, 4, 3, 3, requires_grad=True), torch.randn(2, 1, 3, 3)
    with pytest.raises(AssertionError, match=r"blocks \[\(0, 1\)\] are not both there and read"):
        add_up([Piece(x, (0,), (5,), None)], [torch.ones(2)], (5,), Statistics(1e-5, 0.1, None))
    with pytest.raises(AssertionError, match=r"blocks \[\(1, 0\)\] are not both there and read"):
        depthwise([x[:, :1], x[:, 1:2]], [2, 0], kernels, Frame((3, 1), 1, (S3, S3)), relu=True)


def test_sources_of_different_widths_are_refused():
    x, kernels = torch.randn(1, 4, 3, 3), torch.randn(3, 1, 3, 3)
    with pytest.raises(AssertionError, match="different numbers of blocks"):
        depthwise([x[:, :1], x[:, 1:3]], [1, 1], kernels, Frame((3, 1), 1, (S3,) * 3), relu=True)


def test_tables_stay_where_they_are_as_long_as_a_recorded_graph_may_read_them():
    def of_sums(number):
        return norms._tables(norms.Terms((1,), (False,), ((0, 0, 0, number),), 1), cpu)

    def of_convolutions(number):
        return convolutions._tables(convolutions.Branches((1,), ((0, 0),), (S3,), 3 + number, 1, 1), cpu)

    cpu = torch.device("cpu")
    for tables in (of_sums, of_convolutions):
        first = tables(0)
        for number in range(1, 1000):
            tables(number)
        assert tables(0) is first


@pytest.mark.slow
def test_sums_are_made_in_the_same_order_every_time():
    torch.manual_seed(0)
    x, kernels = torch.randn(3, 2, 14, 14).requires_grad_(), torch.randn(2, 1, 5, 5).requires_grad_()
    frame, results = Frame((5, 1), 1, (S5, S5)), []
    for _ in range(2):
        y = norm_relu_depthwise(x, kernels, frame, (0, 1), Statistics(1e-5, 0.1, None))
        results.append([y, *torch.autograd.grad(y.pow(2).sum(), [x, kernels])])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_second_derivative_is_the_plain_twins_even_where_one_source_is_made_of_another():
    torch.manual_seed(0)
    frame, kernels = Frame((3, 1), 1, (S3, S3)), torch.randn(2, 1, 3, 3)

    def second(dtype, on):
        x = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
        weights = kernels.to(dtype).requires_grad_()
        sources = [x, x.sin()]
        y = (
            depthwise(sources, [1, 1], weights, frame, relu=True)
            if on
            else exactly(sources, [1, 1], weights, frame, True)
        )
        slope = torch.autograd.grad(y.pow(2).sum(), [x, weights], create_graph=True)
        return torch.cat([g.flatten() for g in torch.autograd.grad(sum(g.pow(2).sum() for g in slope), [x, weights])])

    assert distance(second(torch.float32, True), second(torch.float64, False)) < 1e-5


MANY = "max_pool_3x3", "skip_connect", "dil_conv_3x3", "sep_conv_3x3", "conv_7x1_1x7"
"""Of these ten stacks are added up into two nodes: eight in one call, then two that go to one node alone."""


def supernets(operations=DARTS_OPERATIONS, **chooser):
    torch.manual_seed(0)
    space = Darts(channels=4 if chooser else 2, cells=1, nodes=2, operations=operations)
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


@pytest.mark.slow
@pytest.mark.parametrize(("chooser", "training"), [({}, True), ({}, False), ({"channel_divisor": 2}, True)])
def test_a_search_network_is_the_same_function(chooser, training):
    network, weights, images = supernets(**chooser)
    network.train(training)
    logits, gradients, buffers = passed(network, reference, images, weights, torch.float64)
    ours, slopes, kept = passed(network, Stacked(), images, weights, torch.float32)
    assert distance(ours, logits) < 1e-5
    assert distance(slopes, gradients) < 1e-4
    assert all(torch.allclose(value.double(), buffers[n].double(), rtol=1e-4) for n, value in kept.items())


@pytest.mark.slow
@pytest.mark.parametrize("operations", [DARTS_OPERATIONS, MANY])
def test_second_derivatives_are_the_same(operations):
    network, weights, images = supernets(operations)
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
