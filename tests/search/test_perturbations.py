"""Perturbations and the auxiliary skip, on losses whose answers are known."""

import pytest
import torch
from waiting import waits

from supernet.runtime.errors import InputError
from supernet.search.perturbations import Adversarial, AuxiliarySkip, RandomSmoothing
from supernet.space.architecture import Decision
from supernet.space.choices import OperationChoice
from supernet.space.operations import OPERATIONS, Site

WEIGHTS = {"a": torch.tensor([0.25, 0.25, 0.25, 0.25]), "b": torch.tensor([0.1, 0.6, 0.3])}
SLOPES = {"a": torch.tensor([1.0, -2.0, 3.0, -1.0]), "b": torch.tensor([-1.0, 1.0, 0.5])}


def linear(weights):
    return sum((SLOPES[n] * w).sum() for n, w in weights.items())


def unreachable(weights):
    raise AssertionError("random smoothing asks no loss")


@pytest.mark.parametrize(("progress", "epsilon"), [(0.0, 0.03), (0.5, 0.165), (0.999, 0.29973)])
def test_random_smoothing_by_hand(progress, epsilon):
    torch.manual_seed(3)
    found = RandomSmoothing()(WEIGHTS, unreachable, progress)
    torch.manual_seed(3)
    for name, weight in WEIGHTS.items():
        noisy = (weight + epsilon * (2 * torch.rand(len(weight)) - 1)).clamp(0, 1)
        torch.testing.assert_close(found[name], noisy / noisy.sum(), atol=1e-6, rtol=0)
        assert found[name].sum().item() == pytest.approx(1)
    assert WEIGHTS["a"].tolist() == [0.25] * 4  # what it was given is left alone


def test_random_smoothing_moves_by_no_more_than_epsilon_and_not_to_one_side():
    torch.manual_seed(0)
    small = RandomSmoothing(0.01, 0.01)
    moves = torch.stack([small(WEIGHTS, unreachable, 0.0)["a"] - WEIGHTS["a"] for _ in range(500)])
    assert moves.abs().max() < 0.0201  # 0.01, and what normalising adds
    assert moves.mean(0).abs().max() < 0.001


def test_the_adversary_ascends():
    """The known mistake descends: there the loss falls, here it rises, and more than by chance."""
    torch.manual_seed(0)
    attacked = Adversarial(0.1, 0.1)(WEIGHTS, linear, 0.0)
    by_chance = [linear(RandomSmoothing(0.1, 0.1)(WEIGHTS, unreachable, 0.0)) for _ in range(100)]
    assert linear(attacked) > max(by_chance) > linear(WEIGHTS)


def test_the_adversary_of_a_linear_loss_by_hand():
    """Seven steps of 2 epsilon / 7 along the sign, from the same random start, into the box, onto the simplex."""
    epsilon = 0.03 + 0.27 * 0.5
    torch.manual_seed(5)
    attacked = Adversarial()(WEIGHTS, linear, 0.5)
    torch.manual_seed(5)
    for name, weight in WEIGHTS.items():
        w = (weight + torch.empty_like(weight).uniform_(-epsilon, epsilon)).clamp(0, 1)
        w = w / w.sum()
        for _ in range(7):
            w = w + 2 * epsilon / 7 * SLOPES[name].sign()
            w = torch.minimum(torch.maximum(w, weight - epsilon), weight + epsilon).clamp(0, 1)
            w = w / w.sum()
        torch.testing.assert_close(attacked[name], w)


def test_an_attack_that_fails_is_dropped():
    """At the maximum of the loss nothing is worse."""

    def peak(weights):
        return -sum(((w - WEIGHTS[n]) ** 2).sum() for n, w in weights.items())

    for name, weight in Adversarial(0.1, 0.1)(WEIGHTS, peak, 0.0).items():
        assert torch.equal(weight, WEIGHTS[name])


def test_nothing_waits_for_a_gpu():
    def slope(weights):
        return sum((w * SLOPES[n]).sum() for n, w in weights.items())

    weights = {n: torch.full((len(d.options),), 0.5) for n, d in DECISIONS.items()}
    assert not waits(Adversarial(), WEIGHTS, slope, 0.5)
    assert not waits(AuxiliarySkip(), DECISIONS, weights, 0.5)


@pytest.mark.parametrize("make", [RandomSmoothing, Adversarial])
def test_perturbations_refuse_nonsense(make):
    with pytest.raises(InputError, match="needs 0 or more"):
        make(start=-0.1)
    with pytest.raises(InputError, match="steps=0"):
        Adversarial(steps=0)


DECISIONS = {
    d.name: d
    for d in (
        Decision("normal/2", ("0", "skip_connect"), 2, inputs=True),
        Decision("normal/2/0", ("none", "skip_connect", "sep_conv_3x3")),
        Decision("normal/2/1", ("none", "sep_conv_3x3")),
    )
}


def test_auxiliary_skip_adds_beta_times_the_skip_and_fades():
    """Where beta is 1 - progress, the edge computes sum_o p_o o(x) + beta x (stride 1), written out by hand."""
    torch.manual_seed(0)
    decision = DECISIONS["normal/2/0"]
    edge = OperationChoice(decision, {o: OPERATIONS[o](Site(4, affine=False)) for o in decision.options}).double()
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    p = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    plain = sum(w * op(x) for w, op in zip(p, edge.candidates.values(), strict=True))
    for progress in (0.0, 0.25, 0.9):
        edge.weights = AuxiliarySkip()(DECISIONS, {"normal/2/0": p}, progress)["normal/2/0"]
        torch.testing.assert_close(edge(x), plain + (1 - progress) * x)


def test_auxiliary_skip_leaves_other_decisions_alone():
    weights = {n: torch.full((len(d.options),), 0.5) for n, d in DECISIONS.items()}
    assisted = AuxiliarySkip(start=0.5)(DECISIONS, weights, 0.0)
    assert assisted["normal/2/0"].tolist() == [0.5, 1.0, 0.5]
    for name in ("normal/2", "normal/2/1"):
        assert torch.equal(assisted[name], weights[name])


def test_auxiliary_skip_decays_linearly_or_along_a_cosine():
    def beta(decay, progress):
        weights = {"normal/2/0": torch.zeros(3)}
        return AuxiliarySkip(1.0, decay)(DECISIONS, weights, progress)["normal/2/0"][1].item()

    assert [beta("linear", t) for t in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.5, 0])
    assert [beta("cosine", t) for t in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1, 0.75, 0.5, 0], abs=1e-7)
    with pytest.raises(InputError, match="use linear or cosine"):
        AuxiliarySkip(decay="none")
