"""Perturbations and the auxiliary skip, on losses whose answers are known."""

from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from common import edge_decision, node_decision
from torch import nn
from waiting import waits

from supernet.execution.fused.executor import fused
from supernet.execution.modes import running, single_paths
from supernet.execution.stacked.executor import stacked
from supernet.runtime.errors import InputError
from supernet.search.differentiable.architects import first_order
from supernet.search.differentiable.discretisers import argmax
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.relaxations import Softmax
from supernet.search.differentiable.weight_transforms import (
    Adversarial,
    AuxiliarySkip,
    RandomSmoothing,
    TransformContext,
    WeightTransform,
    transformed,
)
from supernet.space.architecture import Decision
from supernet.space.cells import Cell, reference
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NasBench201
from supernet.space.operations import FactorizedReduce
from supernet.space.supernet import Supernet

WEIGHTS = {"a": torch.tensor([0.25, 0.25, 0.25, 0.25]), "b": torch.tensor([0.1, 0.6, 0.3])}
SLOPES = {"a": torch.tensor([1.0, -2.0, 3.0, -1.0]), "b": torch.tensor([-1.0, 1.0, 0.5])}


def at(progress, loss=None) -> TransformContext:
    decisions = {name: Decision(name, tuple(map(str, range(len(weight))))) for name, weight in WEIGHTS.items()}
    return TransformContext(decisions, progress, loss)


def linear(weights):
    return sum((SLOPES[n] * w).sum() for n, w in weights.items())


def unreachable(weights):
    raise AssertionError("random smoothing asks no loss")


@pytest.mark.parametrize(("progress", "epsilon"), [(0.0, 0.03), (0.5, 0.165), (0.999, 0.29973)])
def test_random_smoothing_by_hand(progress, epsilon):
    torch.manual_seed(3)
    found = RandomSmoothing()(WEIGHTS, at(progress, unreachable))
    torch.manual_seed(3)
    for name, weight in WEIGHTS.items():
        noisy = (weight + epsilon * (2 * torch.rand(len(weight)) - 1)).clamp(0, 1)
        torch.testing.assert_close(found[name], noisy / noisy.sum(), atol=1e-6, rtol=0)
        assert found[name].sum().item() == pytest.approx(1)
    assert WEIGHTS["a"].tolist() == [0.25] * 4  # what it was given is left alone


def test_random_smoothing_moves_by_no_more_than_epsilon_and_not_to_one_side():
    torch.manual_seed(0)
    small = RandomSmoothing(0.01, 0.01)
    moves = torch.stack([small(WEIGHTS, at(0.0, unreachable))["a"] - WEIGHTS["a"] for _ in range(500)])
    assert moves.abs().max() < 0.0201  # 0.01, and what normalising adds
    assert moves.mean(0).abs().max() < 0.001


def test_the_adversary_ascends():
    """The known mistake descends: there the loss falls, here it rises, and more than by chance."""
    torch.manual_seed(0)
    attacked = Adversarial(0.1, 0.1)(WEIGHTS, at(0.0, linear))
    by_chance = [linear(RandomSmoothing(0.1, 0.1)(WEIGHTS, at(0.0, unreachable))) for _ in range(100)]
    assert linear(attacked) > max(by_chance) > linear(WEIGHTS)


def test_the_adversary_of_a_linear_loss_by_hand():
    """Seven steps of 2 epsilon / 7 along the sign, from the same random start, into the box, onto the simplex."""
    epsilon = 0.03 + 0.27 * 0.5
    torch.manual_seed(5)
    attacked = Adversarial()(WEIGHTS, at(0.5, linear))
    torch.manual_seed(5)
    for name, weight in WEIGHTS.items():
        w = (weight + torch.empty_like(weight).uniform_(-epsilon, epsilon)).clamp(0, 1)
        w = w / w.sum()
        for _ in range(7):
            w = w + 2 * epsilon / 7 * SLOPES[name].sign()
            w = torch.minimum(torch.maximum(w, weight - epsilon), weight + epsilon).clamp(0, 1)
            w = w / w.sum()
        torch.testing.assert_close(attacked[name], w)


def test_weights_of_inputs_are_left_alone():
    inputs = node_decision("normal/2", ("0", "1"), 2)
    context = TransformContext({**at(0.0).decisions, "normal/2": inputs}, 0.5, linear_of_operations)
    given = {**WEIGHTS, "normal/2": torch.tensor([0.3, 0.7])}
    for transform in (RandomSmoothing(), Adversarial()):
        found = transform(given, context)
        assert found["normal/2"] is given["normal/2"]
        assert not torch.equal(found["a"], given["a"])


def linear_of_operations(weights):
    assert weights["normal/2"].tolist() == pytest.approx([0.3, 0.7])  # the loss is of all weights
    return linear({name: weight for name, weight in weights.items() if name in SLOPES})


@dataclass(frozen=True)
class Doubling(WeightTransform):
    seen: list = field(default_factory=list)

    def __call__(self, weights, context):
        self.seen.append(context.progress)
        return {name: 2 * weight for name, weight in weights.items()}


def test_the_loss_that_a_transform_sees_has_those_after_it_applied():
    losses = []

    class Asking(WeightTransform):
        def __call__(self, weights, context):
            losses.append(context.loss(weights).item())
            return {name: weight + 1 for name, weight in weights.items()}

    context = at(0.5, lambda weights: weights["b"].sum())
    found = transformed([Doubling(), Asking(), Doubling(), Doubling()], WEIGHTS, context)
    assert losses == pytest.approx([8.0])  # what it is given, doubled twice
    torch.testing.assert_close(found["b"], 4 * (2 * WEIGHTS["b"] + 1))


def test_an_adversary_wants_a_loss():
    with pytest.raises(InputError, match="training loss"):
        Adversarial()(WEIGHTS, at(0.5))


def test_an_attack_that_fails_is_dropped():
    """At the maximum of the loss nothing is worse."""

    def peak(weights):
        return -sum(((w - WEIGHTS[n]) ** 2).sum() for n, w in weights.items())

    for name, weight in Adversarial(0.1, 0.1)(WEIGHTS, at(0.0, peak)).items():
        assert torch.equal(weight, WEIGHTS[name])


def test_nothing_waits_for_a_gpu():
    def slope(weights):
        return sum((w * SLOPES[n]).sum() for n, w in weights.items())

    supernet = assisted_supernet(("skip_connect", "sep_conv_3x3"))
    assert not waits(Adversarial(), WEIGHTS, at(0.5, slope))
    assert not waits(AuxiliarySkip(), probabilities(supernet), TransformContext(supernet.decisions, 0.5))


@pytest.mark.parametrize("make", [RandomSmoothing, Adversarial])
def test_perturbations_refuse_nonsense(make):
    with pytest.raises(InputError, match="needs 0 or more"):
        make(start=-0.1)
    with pytest.raises(InputError, match="steps=0"):
        Adversarial(steps=0)


EXECUTORS = {"reference": reference, "fused": fused, "stacked": stacked}
HALVING = ("reduce/2/0", "reduce/2/1", "reduce/3/0", "reduce/3/1")


class ByHand(nn.Module):
    """An edge of DARTS-, written out: sum_o p_o o(x) + beta skip(x)."""

    def __init__(self, choice, p, beta):
        super().__init__()
        self.choice, self.p, self.beta = choice, p, beta

    def forward(self, x):
        candidates = self.choice.candidates
        skip = candidates["auxiliary_skip_connect"](x) if "auxiliary_skip_connect" in candidates else x
        options = zip(self.choice.decision.options, self.p, strict=True)
        return sum(w * candidates[option](x) for option, w in options) + self.beta * skip


def assisted_supernet(options):
    torch.manual_seed(0)
    space = Darts(channels=4, cells=3, nodes=2, operations=options)
    return Supernet(space.network(Undecided(auxiliary=True), (1, 6, 6), 3)).double()


def probabilities(supernet):
    generator = torch.Generator().manual_seed(1)
    edges = {n: d for n, d in supernet.decisions.items() if d.role == "operation"}
    return {n: torch.rand(len(d.options), generator=generator, dtype=torch.float64) for n, d in edges.items()}


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("options", [("none", "sep_conv_3x3"), ("max_pool_3x3", "skip_connect", "sep_conv_3x3")])
def test_every_edge_has_an_auxiliary_skip_that_fades(executor, options):
    """Also where the skip connection is no candidate (S4); at stride 2 it has weights of its own."""
    supernet = assisted_supernet(options)
    p, images = probabilities(supernet), torch.randn(4, 1, 6, 6, dtype=torch.float64)
    outputs = {}
    for progress in (0.0, 0.75):
        with running(supernet, EXECUTORS[executor]):
            outputs[progress] = supernet(images, AuxiliarySkip()(p, TransformContext(supernet.decisions, progress)))
    for cell in (module for module in list(supernet.modules()) if isinstance(module, Cell)):
        for name, edge in list(cell.edges.items()):
            full = f"{cell.kind}/{name.split('-')[1]}/{name.split('-')[0]}"
            reduction = isinstance(dict(edge.candidates.items()).get("auxiliary_skip_connect"), FactorizedReduce)
            assert reduction == (full in HALVING)
            cell.edges[name] = ByHand(edge, p[full], 0.0)
    for progress, output in outputs.items():
        for edge in (module for module in supernet.modules() if isinstance(module, ByHand)):
            edge.beta = 1 - progress
        torch.testing.assert_close(output, supernet.network(images))


def test_without_its_weight_the_auxiliary_skip_counts_for_nothing():
    supernet = assisted_supernet(("none", "sep_conv_3x3"))
    p, images = probabilities(supernet), torch.randn(4, 1, 6, 6, dtype=torch.float64)
    faded = AuxiliarySkip()(p, TransformContext(supernet.decisions, 1.0))
    assert torch.equal(supernet(images, p), supernet(images, faded))
    with single_paths(supernet):
        torch.testing.assert_close(supernet(images, p), supernet(images, faded))
        assert not torch.allclose(
            supernet(images, AuxiliarySkip()(p, TransformContext(supernet.decisions, 0.5))), supernet(images, p)
        )


def test_beside_a_plain_skip_connection_it_is_that_ones_weight_and_has_no_parameters():
    space, shape = NasBench201(4, 1, 1, 2), (1, 6, 6)
    torch.manual_seed(0)
    plain = Supernet(space.network(Undecided(), shape, 3))
    torch.manual_seed(0)
    supernet = Supernet(space.network(Undecided(auxiliary=True), shape, 3))
    weights = {n: torch.rand(5) for n, d in plain.decisions.items() if d.role == "operation"}
    raised = {n: w + torch.tensor([0.0, 0.625, 0.0, 0.0, 0.0]) for n, w in weights.items()}
    images = torch.randn(4, *shape)
    assisted = AuxiliarySkip()(weights, TransformContext(supernet.decisions, 0.375))
    assert list(plain.state_dict()) == list(supernet.state_dict())
    assert torch.equal(supernet(images, assisted), plain(images, raised))


def test_auxiliary_skip_leaves_other_decisions_alone():
    decisions = {
        d.name: d
        for d in (
            node_decision("normal/2", ("0", "skip_connect"), 2),
            edge_decision("normal/2/0", ("none", "sep_conv_3x3"), auxiliary=True),
            edge_decision("normal/2/1", ("none", "skip_connect")),
        )
    }
    weights = {n: torch.full((2,), 0.5) for n in decisions}
    assisted = AuxiliarySkip(start=0.5)(weights, TransformContext(decisions, 0.0))
    assert assisted["normal/2/0"].tolist() == [0.5, 0.5, 0.5]
    for name in ("normal/2", "normal/2/1"):
        assert torch.equal(assisted[name], weights[name])


def test_auxiliary_skip_decays_linearly_or_along_a_cosine():
    decisions = {"normal/2/0": edge_decision("normal/2/0", ("none", "sep_conv_3x3"), auxiliary=True)}

    def beta(decay, progress):
        weights = {"normal/2/0": torch.zeros(2)}
        return AuxiliarySkip(1.0, decay)(weights, TransformContext(decisions, progress))["normal/2/0"][-1].item()

    assert [beta("linear", t) for t in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.5, 0])
    assert [beta("cosine", t) for t in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1, 0.75, 0.5, 0], abs=1e-7)
    with pytest.raises(InputError, match="use linear or cosine"):
        AuxiliarySkip(decay="none")


@pytest.mark.parametrize(("auxiliary", "transforms"), [(True, {}), (False, {"skip": AuxiliarySkip()})])
def test_auxiliary_skips_and_their_weight_go_together(auxiliary, transforms):
    decisions = {"normal/2/0": edge_decision("normal/2/0", ("none", "sep_conv_3x3"), auxiliary=auxiliary)}
    make = partial(GradientStrategy, operations=Softmax(), inputs=None, architect=first_order, discretiser=argmax)
    with pytest.raises(InputError, match=r"transforms: .* auxiliary=True"):
        make("darts", decisions, optimizer=torch.optim.Adam, transforms=transforms)
