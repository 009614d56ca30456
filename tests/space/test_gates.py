"""Binary gates: the output and the gradients of the whole mixture, in the memory of one path."""

import pytest
import torch
from torch import nn

from supernet.execution.engines import engine
from supernet.execution.modes import frozen_statistics
from supernet.runtime.errors import InputError
from supernet.search.differentiable.relaxations import BinaryGates
from supernet.space.architecture import Decision
from supernet.space.choices import OperationChoice, weighted_sum
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.gates import gated_path
from supernet.space.nasbench201 import NasBench201
from supernet.space.operations import OPERATIONS, Site
from supernet.space.supernet import Supernet

OPTIONS = ("none", "skip_connect", "nor_conv_3x3", "avg_pool_3x3")
SPACES = {
    "nasbench201": NasBench201(channels=4, cells=1, stages=2, nodes=3),
    "darts": Darts(channels=4, cells=2, nodes=2),
}


def edge(single=True, gates=True) -> OperationChoice:
    torch.manual_seed(0)
    candidates = {option: OPERATIONS[option](Site(3, 3)) for option in OPTIONS}
    return OperationChoice(Decision("edge", OPTIONS), candidates, single=single, gates=gates).double()


def run(choice, weights, x):
    choice.weights, choice.on = weights, [bool(weight) for weight in weights.tolist()]
    return choice(x)


@pytest.mark.parametrize("drawn", OPTIONS)
def test_the_gradient_of_the_logits_is_the_explicit_formula(drawn):
    """dL/dalpha_i = sum_j <dL/dout, o_j(x)> p_j (delta_ij - p_i), whatever was drawn, "none" among it."""
    choice, place = edge(), OPTIONS.index(drawn)
    x, target = torch.randn(2, 4, 3, 5, 5, dtype=torch.float64)
    alpha = torch.tensor([0.3, -0.2, 0.5, 0.1], dtype=torch.float64, requires_grad=True)
    p = alpha.softmax(-1)
    gates = torch.eye(4, dtype=torch.float64)[place] + (p - p.detach())
    (run(choice, gates, x) - target).square().sum().backward()
    outs = [candidate(x) for candidate in choice.candidates.values()]
    slope = 2 * (outs[place] - target)
    by_gate = [(slope * out).sum() for out in outs]
    by_hand = [sum(by_gate[j] * p[j] * (float(i == j) - p[i]) for j in range(4)) for i in range(4)]
    torch.testing.assert_close(alpha.grad, torch.stack(by_hand).detach(), rtol=1e-12, atol=1e-12)


def test_none_adds_nothing_to_the_formula_but_does_not_silence_it():
    """The authors' code leaves alpha.grad at None where "none" was drawn, and so a latency term without effect."""
    choice = edge()
    alpha = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    p = alpha.softmax(-1)
    gates = torch.eye(4, dtype=torch.float64)[0] + (p - p.detach())
    latency = torch.tensor([0.0, 1.0, 8.0, 2.0], dtype=torch.float64)
    run(choice, gates, torch.randn(2, 3, 5, 5, dtype=torch.float64)).sum().backward(retain_graph=True)
    accuracy = alpha.grad.clone()
    assert accuracy.abs().min() > 0
    (gates @ latency).backward()
    by_hand = p.detach() * (latency - p.detach() @ latency)
    torch.testing.assert_close(alpha.grad - accuracy, by_hand, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("drawn", OPTIONS)
def test_all_other_gradients_are_those_of_the_mixture(drawn):
    choice, x = edge(), torch.randn(4, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.eye(4, dtype=torch.float64)[OPTIONS.index(drawn)].requires_grad_()
    whole = weighted_sum(weights, list(choice.candidates.values()), x)
    wanted = torch.autograd.grad(whole.square().sum(), [weights, x, *choice.parameters()])
    out = run(choice, weights, x)
    torch.testing.assert_close(out, whole)
    found = torch.autograd.grad(out.square().sum(), [weights, x, *choice.parameters()], allow_unused=True)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(torch.zeros_like(theirs) if mine is None else mine, theirs)


@pytest.mark.parametrize("used", ["reference", "fused"])
@pytest.mark.parametrize("space", SPACES)
def test_a_supernet_with_gates_is_that_of_all_operations(space, used):
    """Weight gradients of both, at the same one-hot weights, in float64; the running statistics stay."""
    networks = []
    for chooser in (Undecided(), Undecided(single=True, gates=True)):
        torch.manual_seed(1)
        networks.append(Supernet(engine(used).apply(SPACES[space].network(chooser, (3, 8, 8), 5))).double())
    torch.manual_seed(2)
    weights = {
        name: BinaryGates()(torch.zeros(len(d.options), dtype=torch.float64), 0.0).requires_grad_()
        for name, d in networks[0].decisions.items()
        if d.role == "operation"
    }
    images, found = torch.randn(6, 3, 8, 8, dtype=torch.float64), []
    for supernet in networks:
        before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
        with frozen_statistics(supernet):
            loss = supernet(images, weights).square().sum()
            found.append([loss.detach(), *torch.autograd.grad(loss, list(weights.values()))])
        assert all(torch.equal(buffer, before[name]) for name, buffer in supernet.named_buffers())
    for whole, gated in zip(*found, strict=True):
        torch.testing.assert_close(gated, whole, rtol=1e-9, atol=1e-9)
    assert sum(gradient.abs().sum() for gradient in found[1][1:]) > 0


class Counted(nn.Module):
    """A linear layer that notes what is kept for its gradient."""

    def __init__(self):
        super().__init__()
        self.layer, self.runs = nn.Conv2d(3, 3, 1).double(), []

    def forward(self, x):
        self.runs.append(torch.is_grad_enabled())
        return self.layer(x)


def test_only_the_drawn_path_keeps_activations():
    """The others run once, in the backward pass, without a graph."""
    candidates = [Counted() for _ in range(4)]
    weights = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    x, kept = torch.randn(2, 3, 4, 4, dtype=torch.float64), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        out = gated_path(weights, [False, True, False, False], candidates, x)
    assert [candidate.runs for candidate in candidates] == [[], [True], [], []]
    gated = len(kept)
    out.sum().backward()
    assert [candidate.runs for candidate in candidates] == [[False], [True], [False], [False]]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        weighted_sum(weights, candidates, x)
    assert kept[:gated].count(x.shape) < kept[gated:].count(x.shape)


def test_the_backward_pass_has_the_precision_of_the_forward_pass():
    torch.manual_seed(0)
    candidates = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)]
    x, found = torch.randn(4, 4, 6, 6), []
    for edge in (
        lambda w, x: gated_path(w, [False, True, False], candidates, x),
        lambda w, x: weighted_sum(w, candidates, x),
    ):
        weights = torch.tensor([0.0, 1.0, 0.0], requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = edge(weights, x.bfloat16())
        out.float().square().sum().backward()
        found.append(weights.grad)
    torch.testing.assert_close(*found, rtol=0.03, atol=0.5)


def test_the_other_operations_run_with_the_parameters_of_the_forward_pass():
    """Architects put others in their places while they compute a loss, and take the gradient afterwards."""
    candidates = [nn.Conv2d(1, 1, 1, bias=False).double() for _ in range(2)]
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    own, other = candidates[1].weight, torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64)
    candidates[1]._parameters["weight"] = other
    out = gated_path(weights, [True, False], candidates, x)
    candidates[1]._parameters["weight"] = own
    out.sum().backward()
    torch.testing.assert_close(weights.grad[1], 3 * x.sum())


@pytest.mark.parametrize(("drawn", "moves"), [("nor_conv_3x3", True), ("skip_connect", False)])
def test_operations_that_are_not_drawn_remember_no_statistics(drawn, moves):
    choice, x = edge(), torch.randn(2, 3, 5, 5, dtype=torch.float64)
    before = {name: buffer.clone() for name, buffer in choice.named_buffers()}
    out = run(choice, torch.eye(4, dtype=torch.float64)[OPTIONS.index(drawn)].requires_grad_(), x)
    out.square().sum().backward()
    moved = [name for name, buffer in choice.named_buffers() if not torch.equal(buffer, before[name])]
    assert {name.split(".")[1] for name in before} == {"nor_conv_3x3"}
    assert bool(moved) == moves


def test_weights_that_do_not_learn_take_the_plain_single_path():
    choice, x = edge(), torch.randn(2, 3, 5, 5, dtype=torch.float64)
    weights = torch.eye(4, dtype=torch.float64)[2]
    out = run(choice, weights, x)
    assert "Gates" not in type(out.grad_fn).__name__
    torch.testing.assert_close(out, choice.candidates["nor_conv_3x3"](x))


def test_gates_refuse_what_they_cannot_do():
    with pytest.raises(InputError, match=r"^gates=True: are for single paths"):
        Undecided(gates=True)
    weights = torch.zeros(2, requires_grad=True)
    with pytest.raises(InputError, match=r"^gates: all weights of an edge are zero"):
        gated_path(weights, [False, False], [nn.Identity(), nn.Identity()], torch.ones(1))
    weights = torch.tensor([1.0, 0.0], requires_grad=True)
    out = gated_path(weights, [True, False], [nn.Identity(), nn.ReLU()], torch.ones(1))
    with pytest.raises(InputError, match=r"^gates: their gradient cannot be differentiated again"):
        torch.autograd.grad(out.square().sum(), weights, create_graph=True)
