"""The stacked executor against the definition: outputs, gradients, statistics; in float64, over random cells."""

import copy
import random

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from supernet.execution.modes import frozen_statistics, running, single_paths
from supernet.execution.stacked.executor import Stacked, stacked
from supernet.space.architecture import random_architecture
from supernet.space.cells import Cell, one_by_one, reference
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import DARTS_OPERATIONS, Darts
from supernet.space.dropout import set_drop_path
from supernet.space.operations import OPERATIONS, Zero
from supernet.space.supernet import Supernet

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def own(site):
    """An operation of one's own: not to be recognised."""
    convolution = nn.Conv2d(site.channels_in, site.channels_in, 3, site.stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(site.channels_in, affine=False))


def triple(site):
    """Three layers, built like separable convolutions: to be recognised though no name says so."""
    layers = []
    for kernel, stride in ((3, site.stride), (5, 1), (7, 1)):
        layers += [
            nn.ReLU(),
            nn.Conv2d(
                site.channels_in, site.channels_in, kernel, stride, kernel // 2, groups=site.channels_in, bias=False
            ),
            nn.Conv2d(site.channels_in, site.channels_in, 1, bias=False),
            nn.BatchNorm2d(site.channels_in, affine=False),
        ]
    return nn.Sequential(*layers)


FACTORIES = {**OPERATIONS, "own": own, "triple": triple}
MANY = (*DARTS_OPERATIONS, "sep_conv_7x7", "conv_7x1_1x7", "own", "triple")


def build(space, shape=(2, 9, 9), seed=0, **chooser):
    """A supernet in float64 whose running statistics differ from norm to norm."""
    torch.manual_seed(seed)
    supernet = Supernet(space.network(Undecided(FACTORIES, **chooser), shape, 3)).double()
    for buffer in supernet.buffers():
        if buffer.is_floating_point():
            buffer.add_(torch.rand_like(buffer))
    return supernet


def random_weights(supernet, inputs=False):
    wanted = {n: d for n, d in supernet.decisions.items() if inputs or d.role == "operation"}
    return {n: torch.randn(len(d.options)).double().softmax(0).requires_grad_() for n, d in wanted.items()}


def passed(supernet, executor, images, weights):
    """Logits, gradients and buffers after one forward and backward pass of a copy."""
    supernet = copy.deepcopy(supernet)
    with running(supernet, executor):
        logits = supernet(images, weights)
    at = [*weights.values(), *supernet.parameters()]
    loss = (logits * torch.arange(1.0, 4.0)).sum() + logits.pow(2).sum()
    gradients = torch.autograd.grad(loss, at, allow_unused=True, materialize_grads=True)
    return logits, gradients, dict(supernet.named_buffers())


def assert_same(supernet, images, weights, executor=stacked, tolerance=1e-9):
    logits, gradients, buffers = passed(supernet, reference, images, weights)
    others, theirs, kept = passed(supernet, executor, images, weights)
    assert (logits - others).abs().max() <= tolerance * logits.abs().max()
    largest = max(gradient.abs().max() for gradient in gradients)
    for one, other in zip(gradients, theirs, strict=True):
        assert (one - other).abs().max() <= tolerance * one.abs().max() + 1e-14 * largest
    assert buffers.keys() == kept.keys()
    for name, buffer in buffers.items():
        assert torch.allclose(buffer, kept[name], rtol=tolerance, atol=1e-14), name


def calls(supernet, images, weights, executor=stacked):
    """How many cells the executor left to the reference."""
    left = []
    import supernet.execution.stacked.executor as module

    def spy(cell, inputs):
        left.append(cell)
        return one_by_one(cell, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "one_by_one", spy)
        with running(supernet, executor):
            supernet(images, weights)
    return len(left)


@pytest.mark.parametrize("pointwise", ["convolution", "matmul"])
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("training", [True, False])
def test_darts_cells_are_the_same_function(pointwise, layout, training):
    supernet = build(Darts(channels=4, cells=3, nodes=2)).train(training)
    images = torch.randn(3, 2, 9, 9).double().to(memory_format=FORMATS[layout])
    weights = random_weights(supernet)
    assert_same(supernet, images, weights, Stacked(pointwise))
    assert calls(supernet, images, weights) == 0


@pytest.mark.parametrize("seed", range(12))
def test_random_tables_are_the_same_function(seed):
    """Each edge with candidates of its own, unknown ones among them; sizes, formats, modes and input weights vary."""
    draw = random.Random(seed)
    nodes, channels = draw.choice((2, 3)), draw.choice((2, 3, 6))
    edges = [f"{kind}/{n}/{s}" for kind in ("normal", "reduce") for n in range(2, 2 + nodes) for s in range(n)]
    table = {edge: tuple(draw.sample(MANY, draw.randint(1, 5))) for edge in edges}
    table = {edge: names if set(names) - {"none"} else (*names, "skip_connect") for edge, names in table.items()}
    height, width = draw.choice(((8, 9), (9, 8), (7, 7), (8, 8)))
    supernet = build(Darts(channels=channels, cells=3, nodes=nodes, table=table), (2, height, width), seed)
    supernet.train(draw.random() < 0.7)
    images = torch.randn(3, 2, height, width).double().to(memory_format=draw.choice(list(FORMATS.values())))
    weights = random_weights(supernet, inputs=draw.random() < 0.5)
    assert_same(supernet, images, weights, Stacked(draw.choice(("convolution", "matmul"))))
    assert calls(supernet, images, weights) == 0


@pytest.mark.parametrize("seed", range(8))
def test_partial_channels_are_the_same_function(seed):
    """Parts of two or three channels, odd sizes, own operations, edges weighted or not, in either mode and format."""
    draw = random.Random(seed)
    divisor, nodes = draw.choice((2, 4)), draw.choice((2, 3))
    edges = [f"{kind}/{n}/{s}" for kind in ("normal", "reduce") for n in range(2, 2 + nodes) for s in range(n)]
    table = {edge: ("skip_connect", *draw.sample(MANY, draw.randint(1, 4))) for edge in edges if draw.random() < 0.5}
    table = {edge: tuple(dict.fromkeys(names)) for edge, names in table.items()}
    height, width = draw.choice(((8, 9), (7, 7), (8, 8)))
    space = Darts(channels=divisor * draw.choice((2, 3)), cells=3, nodes=nodes, table=table)
    supernet = build(space, (2, height, width), seed, channel_divisor=divisor).train(draw.random() < 0.7)
    images = torch.randn(3, 2, height, width).double().to(memory_format=draw.choice(list(FORMATS.values())))
    weights = random_weights(supernet, inputs=draw.random() < 0.7)
    assert_same(supernet, images, weights, Stacked(draw.choice(("convolution", "matmul"))))
    assert calls(supernet, images, weights) == 0


def test_single_paths_are_left_to_the_reference():
    """Stacked, all options would run, and those that are off would get another gradient."""
    supernet = build(Darts(channels=4, cells=2, nodes=2), single=True)
    weights = random_weights(supernet)
    weights = {n: torch.eye(len(w)).double()[w.argmax()].requires_grad_() for n, w in weights.items()}
    images = torch.randn(3, 2, 8, 8).double()
    assert_same(supernet, images, weights)
    assert calls(supernet, images, weights) == 2
    whole = build(Darts(channels=4, cells=2, nodes=2))
    assert calls(whole, images, weights) == 0
    with single_paths(whole):
        assert_same(whole, images, weights)
        assert calls(whole, images, weights) == 2


def test_statistics_stand_still_where_they_are_frozen():
    supernet = build(Darts(channels=4, cells=2, nodes=2))
    images, weights = torch.randn(3, 2, 8, 8).double(), random_weights(supernet)
    with frozen_statistics(supernet):
        assert_same(supernet, images, weights)
        before = copy.deepcopy(supernet.state_dict())
        with running(supernet, stacked):
            supernet(images, weights)
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_parameters_put_in_place_of_the_own_ones_are_used():
    supernet = build(Darts(channels=4, cells=2, nodes=2))
    images, weights = torch.randn(3, 2, 8, 8).double(), random_weights(supernet)
    others = {name: torch.randn_like(p) for name, p in supernet.named_parameters()}
    results = []
    for executor in (reference, stacked):
        with running(supernet, executor), frozen_statistics(supernet):
            results.append(torch.func.functional_call(supernet, others, (images, weights)))
    assert torch.allclose(*results, rtol=1e-9)


def test_second_derivatives_are_the_same():
    supernet = build(Darts(channels=2, cells=1, nodes=2), (2, 6, 6))
    images, weights = torch.randn(3, 2, 6, 6).double(), random_weights(supernet)
    logits, parameters = list(weights.values()), list(supernet.parameters())
    torch.manual_seed(1)
    vector = [torch.randn_like(p) for p in parameters]
    products = []
    for executor in (reference, Stacked("convolution"), Stacked("matmul")):
        with running(supernet, executor), frozen_statistics(supernet):
            loss = supernet(images.contiguous(memory_format=torch.channels_last), weights).pow(2).sum()
        slope = torch.autograd.grad(loss, parameters, create_graph=True)
        product = sum((s * v).sum() for s, v in zip(slope, vector, strict=True))
        products.append(torch.cat(torch.autograd.grad(product, logits)))
    assert products[0].abs().max() > 1e-3
    for product in products[1:]:
        assert torch.allclose(product, products[0], rtol=1e-8, atol=1e-10)


def test_bfloat16_is_close_and_the_alphas_gradient_is_float32():
    supernet = build(Darts(channels=8, cells=2, nodes=2)).float()
    weights = {n: w.detach().float().requires_grad_() for n, w in random_weights(supernet).items()}
    images = torch.randn(8, 2, 8, 8)
    seen = []

    def gradients(executor, on):
        twin = copy.deepcopy(supernet)
        with running(twin, executor), torch.autocast("cpu", torch.bfloat16, enabled=on):
            logits = twin(images, weights)
        seen.append(logits.dtype)
        return torch.autograd.grad(logits.float().pow(2).sum(), [*weights.values()])

    exact, near = gradients(reference, False), gradients(stacked, True)
    rough = gradients(reference, True)
    assert seen == [torch.float32, torch.bfloat16, torch.bfloat16]
    assert all(gradient.dtype == torch.float32 for gradient in near)
    exact, near, rough = torch.cat(exact), torch.cat(near), torch.cat(rough)
    assert torch.cosine_similarity(exact, near, dim=0) > 0.99
    assert (near - exact).norm() < 2 * (rough - exact).norm()


@pytest.mark.parametrize("change", ["drop_path", "hook", "mixed_norms", "decided"])
def test_what_is_no_plain_search_cell_is_left_to_the_reference(change):
    supernet = build(Darts(channels=4, cells=2, nodes=2))
    images, weights = torch.randn(3, 2, 8, 8).double(), random_weights(supernet)
    assert calls(supernet, images, weights) == 0
    cell = supernet.network.cells[0]
    left = 1
    if change == "drop_path":
        set_drop_path(supernet, 0.5)
        left = 2
    elif change == "hook":
        heard = []
        cell.edges["0-2"].candidates["sep_conv_3x3"][1].register_forward_hook(lambda *_: heard.append(1))
    elif change == "mixed_norms":
        next(m for m in cell.edges.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    else:
        architecture = random_architecture("darts", supernet.decisions, torch.Generator().manual_seed(0))
        network = Darts(channels=4, cells=2, nodes=2).network(Decided(architecture), (2, 8, 8), 3).double()
        with running(network, stacked):
            one = network(images)
        assert torch.allclose(one, network(images))
        return
    assert calls(supernet, images, weights) == left
    if change != "drop_path":
        assert_same(supernet, images, weights)
    if change == "hook":
        assert heard


def test_a_replaced_module_is_noticed():
    supernet = build(Darts(channels=4, cells=1, nodes=2))
    images, weights = torch.randn(3, 2, 8, 8).double(), random_weights(supernet)
    with running(supernet, stacked):
        supernet(images, weights)
    supernet.network.cells[0].edges["0-2"].candidates["sep_conv_3x3"][0] = nn.Softplus()
    assert_same(supernet, images, weights)


def test_a_node_that_gets_only_zeros_is_zero():
    supernet = build(Darts(channels=4, cells=1, nodes=2))
    for name in ("0-2", "1-2"):
        edge = supernet.network.cells[0].edges[name]
        for option in list(edge.candidates):
            edge.candidates[option] = Zero(2)  # a single cell is a reduction cell
    assert_same(supernet, torch.randn(3, 2, 8, 8).double(), random_weights(supernet))


def test_plans_made_without_gradients_serve_with_them():
    supernet = build(Darts(channels=5, cells=1, nodes=2))
    images, weights = torch.randn(3, 2, 8, 8).double(), random_weights(supernet)
    with running(supernet, stacked):
        with torch.inference_mode():
            supernet(images, weights)
        supernet(images, weights).sum().backward()


def test_norm_with_an_expanded_scale_is_avoided():
    """F.batch_norm takes a weight of stride 0 and returns wrong gradients for channels_last input on the CPU."""
    from supernet.execution.stacked.packing import spread

    order = torch.tensor([1, 1, 2, 2])
    scales = spread([torch.tensor([0.3, 0.7])], order, torch.tensor([2, 0]), 2)
    assert torch.equal(scales, torch.tensor([0.7, 0.7, 1.0, 1.0]))
    assert scales.is_contiguous()
    assert scales.stride() == (1,)


class Counter(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("pointwise", "divisor", "most"), [("convolution", 1, 3500), ("convolution", 4, 4800), ("matmul", 1, 4850)]
)
def test_few_operations(pointwise, divisor, most):
    """At most 3,500 tensor operations a pass of the published search network; edge by edge there are 16,000.

    As matrix products there are more, most of which are views: they launch nothing on a GPU.
    """
    supernet = Supernet(Darts().network(Undecided(channel_divisor=divisor), (3, 32, 32), 10))
    inputs = divisor > 1
    weights = {n: w.float().detach().requires_grad_() for n, w in random_weights(supernet, inputs).items()}
    images = torch.randn(1, 3, 8, 8)
    with running(supernet, Stacked(pointwise)):
        supernet(images.repeat(2, 1, 1, 1), weights)  # makes plans and constants
        with Counter() as counter:
            loss = supernet(images.repeat(2, 1, 1, 1), weights).sum()
            torch.autograd.grad(loss, [*weights.values(), *supernet.parameters()])
    assert counter.number <= most
    assert isinstance(supernet.network.cells[0], Cell)
