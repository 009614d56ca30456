"""The fused executor against the reference: outputs, all gradients and statistics in float64."""

import copy
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import cross_entropy

from supernet.execution.engines import Engine, engine
from supernet.execution.fused import executor as fused_module
from supernet.execution.fused.executor import fused
from supernet.execution.modes import running
from supernet.execution.recomputation import checkpointed
from supernet.execution.stacked.executor import stacked
from supernet.genotypes.literature import published
from supernet.space.cells import reference
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import DARTS_OPERATIONS, Darts
from supernet.space.dropout import dropped, set_drop_path, set_skip_dropout
from supernet.space.nasbench201 import NasBench201
from supernet.space.operations import OPERATIONS
from supernet.space.supernet import Supernet

CHOOSERS = {
    "full": Undecided(),
    "partial": Undecided(channel_divisor=2),
    "single": Undecided(single=True),
    "partial single": Undecided(channel_divisor=2, single=True),
}


def weights_of(supernet, *, single, inputs, seed=0):
    stream = torch.Generator().manual_seed(seed)
    weights = {}
    for name, decision in supernet.decisions.items():
        if name.endswith("output") or (decision.role == "inputs" and not inputs):
            continue
        draw = torch.randn(len(decision.options), dtype=torch.double, generator=stream)
        value = draw.softmax(0) if not single or decision.role == "inputs" else (draw == draw.max()).double()
        weights[name] = value.requires_grad_()
    return weights


def outcome(network, executor, run, wanted):
    """Outputs, gradients by `wanted` and buffers of a copy of `network`, all parameters' gradients included."""
    network = copy.deepcopy(network)
    with running(network, executor):
        torch.manual_seed(5)
        logits = run(network)
        loss = cross_entropy(logits, torch.arange(len(logits)) % logits.shape[1])
        gradients = torch.autograd.grad(
            loss, [*wanted, *network.parameters()], allow_unused=True, materialize_grads=True
        )
        network.eval()
        with torch.no_grad():
            evaluated = run(network)
    return [logits.detach(), evaluated, *gradients], dict(network.named_buffers())


def assert_equal(network, run, wanted=(), executor=fused, exact=1e-9):
    """To a billionth of the largest value of each tensor, or to another part of it."""
    (expected, statistics), (given, moved) = (outcome(network, e, run, wanted) for e in (reference, executor))
    for a, b in zip(expected, given, strict=True):
        torch.testing.assert_close(b, a, rtol=exact, atol=exact * max(a.abs().max().item(), 1e-3))
    for name, buffer in statistics.items():
        torch.testing.assert_close(moved[name], buffer, rtol=exact, atol=exact / 1000)


def random_table(seed, nodes):
    """Two to five operations on each edge, drawn."""
    draw = random.Random(seed)
    edges = [f"{kind}/{node}/{s}" for kind in ("normal", "reduce") for node in range(2, 2 + nodes) for s in range(node)]
    everything = [*DARTS_OPERATIONS, "sep_conv_7x7", "conv_7x1_1x7"]
    return {edge: (*draw.sample(everything[1:], draw.randint(1, 4)), "none") for edge in edges}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize("kind", CHOOSERS)
def test_equals_the_reference(kind, size, memory_format):
    torch.manual_seed(0)
    network = Supernet(Darts(channels=8, cells=3, nodes=2).network(CHOOSERS[kind], (3, *size), 5)).double()
    network.to(memory_format=memory_format)
    weights = weights_of(network, single="single" in kind, inputs="partial" in kind)
    images = torch.randn(3, 3, *size, dtype=torch.double)
    assert_equal(network, lambda n: n(images, weights), weights.values())


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_reference_for_any_table(seed):
    torch.manual_seed(seed)
    space = Darts(channels=(4, 6, 10)[seed % 3], cells=2, nodes=2, table=random_table(seed, 2))
    network = Supernet(space.network(Undecided(), (1, 7, 8), 4)).double()
    weights = weights_of(network, single=False, inputs=seed % 2 == 0, seed=seed)
    images = torch.randn(3, 1, 7, 8, dtype=torch.double)
    assert_equal(network, lambda n: n(images, weights), weights.values())


def test_operations_of_ones_own_run_by_themselves():
    torch.manual_seed(0)
    odd = {
        "alone": lambda site: nn.Sequential(
            nn.ReLU(), nn.Conv2d(site.channels_in, site.channels_in, 3, site.stride, 1)
        ),
        "pool then relu": lambda site: nn.Sequential(nn.AvgPool2d(3, site.stride, 1), nn.ReLU()),
        "affine": lambda site: nn.Sequential(
            nn.ReLU(), nn.Conv2d(site.channels_in, site.channels_in, 1, site.stride), nn.BatchNorm2d(site.channels_in)
        ),
        "biased": lambda site: nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(site.channels_in, site.channels_in, 3, site.stride, 1, groups=site.channels_in, bias=True),
            nn.Conv2d(site.channels_in, site.channels_in, 1, bias=False),
            nn.BatchNorm2d(site.channels_in, affine=False),
        ),
    }  # fmt: skip
    space = Darts(channels=4, cells=3, nodes=2, operations=(*odd, "skip_connect"))
    network = Supernet(space.network(Undecided({**OPERATIONS, **odd}), (3, 8, 8), 5)).double()
    weights = weights_of(network, single=False, inputs=True)
    images = torch.randn(3, 3, 8, 8, dtype=torch.double)
    assert_equal(network, lambda n: n(images, weights), weights.values())


def test_dropout_after_skips_is_that_of_the_reference():
    torch.manual_seed(0)
    factories = {**OPERATIONS, "skip_connect": dropped(OPERATIONS["skip_connect"])}
    network = Supernet(Darts(channels=4, cells=3, nodes=2).network(Undecided(factories), (3, 8, 8), 5)).double()
    weights = weights_of(network, single=False, inputs=False)
    images = torch.randn(3, 3, 8, 8, dtype=torch.double)
    set_skip_dropout(network, 0.5)
    assert_equal(network, lambda n: n(images, weights), weights.values())
    torch.manual_seed(1)
    with running(network, fused):
        assert not torch.allclose(network(images, weights), network(images, weights))  # it does drop


@pytest.mark.parametrize("kind", ["full", "partial"])
@pytest.mark.parametrize(("dtype", "exact"), [(torch.float32, 1e-3), (torch.float64, 1e-9)])
def test_edges_that_leave_a_state_can_share_operations(kind, dtype, exact):
    """In float32 their first steps run together. A norm that is run twice moves its running statistics twice."""
    torch.manual_seed(0)
    network = Supernet(Darts(channels=8, cells=3, nodes=2).network(CHOOSERS[kind], (3, 8, 8), 5))
    for cell in network.network.cells:
        edges = [cell.edges[name] for name in ("0-2", "0-3")]
        one, other = (edge.choice.candidates if kind == "partial" else edge.candidates for edge in edges)
        for name in ("sep_conv_3x3", "max_pool_3x3"):
            other[name] = one[name]
        *convolutions, norm = one["dil_conv_3x3"]  # shared without the norm, which may be another one
        other["dil_conv_3x3"] = nn.Sequential(*convolutions, nn.BatchNorm2d(norm.num_features, 0.1, affine=False))
    network.to(dtype)
    weights = weights_of(network, single=False, inputs=False)
    weights = {name: weight.detach().to(dtype).requires_grad_() for name, weight in weights.items()}
    images = torch.randn(3, 3, 8, 8, dtype=dtype)
    assert_equal(network, lambda n: n(images, weights), weights.values(), exact=exact)


def test_a_node_of_which_nothing_is_on():
    torch.manual_seed(0)
    network = Supernet(Darts(channels=4, cells=3, nodes=2).network(Undecided(single=True), (3, 8, 8), 5)).double()
    weights = weights_of(network, single=True, inputs=False)
    for name in ("normal/2/0", "normal/2/1", "reduce/3/2"):
        none = torch.tensor([o == "none" for o in network.decisions[name].options], dtype=torch.double)
        weights[name] = none.requires_grad_()
    images = torch.randn(3, 3, 8, 8, dtype=torch.double)
    assert_equal(network, lambda n: n(images, weights), weights.values())


def test_hooks_are_called():
    network = Supernet(
        Engine(fused).apply(Darts(channels=4, cells=3, nodes=2).network(Undecided(), (3, 6, 6), 5))
    ).double()
    seen = []
    convolution = network.network.cells[0].edges["0-2"].candidates["sep_conv_3x3"][1]
    convolution.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    network(torch.randn(2, 3, 6, 6, dtype=torch.double), weights_of(network, single=False, inputs=False))
    assert seen == [(2, 4, 6, 6)]


@pytest.mark.parametrize("listen", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_of_a_pooling_are_called(listen):
    """In float32, where poolings run compiled and one serves all edges; that the network ran before plays no part."""
    network = Supernet(Darts(channels=4, cells=3, nodes=2).network(Undecided(), (3, 6, 6), 5))
    weights = {name: weight.float() for name, weight in weights_of(network, single=False, inputs=False).items()}
    pooling, _ = network.network.cells[0].edges["0-2"].candidates["max_pool_3x3"]
    images, seen = torch.randn(2, 3, 6, 6), []
    with running(network, fused):
        network(images, weights)
        getattr(pooling, listen)(lambda module, inputs, *output: seen.append(inputs[0].shape))
        network(images, weights)
    assert seen == [(2, 4, 6, 6)]


def test_edges_of_two_kinds_are_left_to_the_reference():
    torch.manual_seed(0)
    network = Supernet(Darts(channels=4, cells=1, nodes=2).network(Undecided(), (3, 6, 6), 5)).double()
    other = Supernet(Darts(channels=4, cells=1, nodes=2).network(Undecided(channel_divisor=2), (3, 6, 6), 5)).double()
    network.network.cells[0].edges["0-2"] = other.network.cells[0].edges["0-2"]
    mixed = Supernet(network.network)
    weights = weights_of(mixed, single=False, inputs=False)
    images = torch.randn(3, 3, 6, 6, dtype=torch.double)
    assert_equal(mixed, lambda n: n(images, weights), weights.values())


@pytest.mark.parametrize("name", ["darts_v2", "nasnet_a", "amoebanet_a"])
def test_a_final_network_with_drop_path_equals_the_reference(name):
    torch.manual_seed(0)
    nodes = max(int(key.split("/")[1]) for key in published(name) if key.count("/") == 2) - 1
    network = Darts(channels=4, cells=3, nodes=nodes).network(Decided(published(name)), (3, 8, 8), 5).double()
    set_drop_path(network, 0.3)
    images = torch.randn(3, 3, 8, 8, dtype=torch.double)
    assert_equal(network, lambda n: n(images))


@pytest.mark.parametrize("executor", [reference, fused])
@pytest.mark.parametrize("stand_in", [False, True])
def test_cells_that_are_computed_again_are_the_same(executor, stand_in):
    torch.manual_seed(0)
    network = Supernet(Darts(channels=4, cells=3, nodes=2).network(Undecided(), (3, 8, 8), 5)).double()
    weights = weights_of(network, single=False, inputs=True)
    images = torch.randn(3, 3, 8, 8, dtype=torch.double)
    others = {name: value.detach() + 0.1 for name, value in network.named_parameters()}

    def run(n):
        if stand_in:  # gone again when the gradient is asked for
            return torch.func.functional_call(n, others, (images, weights))
        return n(images, weights)

    assert_equal(network, run, weights.values(), executor=checkpointed(executor))


def test_unneeded_work_is_not_done(monkeypatch):
    """Without weights' gradients nothing is kept for them; with them it is."""
    torch.manual_seed(0)
    network = Supernet(Engine(fused).apply(Darts(channels=4, cells=1, nodes=2).network(Undecided(), (3, 6, 6), 5)))
    weights = {
        n: w.float().detach().requires_grad_() for n, w in weights_of(network, single=False, inputs=False).items()
    }
    images, kept = torch.randn(2, 3, 6, 6), []
    calls = []
    for name in ("separable", "relu_separables"):  # the second where there is a compiled part
        real = getattr(fused_module, name)
        monkeypatch.setattr(fused_module, name, lambda *a, real=real: calls.append(a) or real(*a))

    def size(parameters):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            torch.func.functional_call(network, parameters, (images, weights))
        return sum(kept)

    everything = dict(network.named_parameters())
    assert size({n: p.detach() for n, p in everything.items()}) < 0.9 * size(everything)
    assert calls


@pytest.mark.parametrize("space", [Darts(channels=8, cells=3, nodes=3), NasBench201(channels=8, cells=1)])
def test_no_relu_is_computed_twice_where_nothing_is_compiled(space, monkeypatch):
    """Chains, 1x1 convolutions and both halves of factorised reductions read the same one."""
    torch.manual_seed(0)
    network = Supernet(space.network(Undecided(), (3, 8, 8), 5)).double()
    given, real = [], F.relu
    monkeypatch.setattr(F, "relu", lambda x, **options: given.append(x) or real(x, **options))
    with running(network, fused):
        network(torch.randn(2, 3, 8, 8, dtype=torch.double), weights_of(network, single=False, inputs=False))
    assert given
    assert len({id(x) for x in given}) == len(given)  # the list keeps them all, so that no address is used again


def test_cannot_be_differentiated_twice_and_says_so():
    torch.manual_seed(0)
    network = Supernet(Engine(fused).apply(Darts(channels=4, cells=1, nodes=2).network(Undecided(), (3, 6, 6), 5)))
    weights = {
        n: w.float().detach().requires_grad_() for n, w in weights_of(network, single=False, inputs=False).items()
    }
    loss = network(torch.randn(2, 3, 6, 6), weights).square().sum()
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(loss, list(network.parameters()), create_graph=True, allow_unused=True)


def test_engines_by_name():
    assert engine("fused").executor is fused
    assert engine("reference").executor is reference
    assert engine("fused", checkpoint_cells=True).executor is not fused
    assert engine("fused", "cuda").executor is stacked


def test_too_narrow_a_network_is_left_to_the_reference():
    narrow = Darts(channels=2, cells=3, nodes=2).network(Undecided(), (3, 8, 8), 5)
    assert all(cell.execute is reference for cell in engine("fused").apply(narrow).cells)
    assert narrow.stem[0].weight.is_contiguous()
    wide = Darts(channels=4, cells=3, nodes=2).network(Undecided(), (3, 8, 8), 5)
    assert all(cell.execute is fused for cell in engine("fused").apply(wide).cells)
    assert wide.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
