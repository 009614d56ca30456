import math

import pytest
import torch

from supernet.runtime.errors import InputError
from supernet.search.differentiable.relaxations import (
    BinaryGates,
    Dirichlet,
    Gumbel,
    Sigmoid,
    Simplex,
    Softmax,
    Uniform,
    concentration,
    strength,
)

LOGITS = torch.tensor([0.3, -1.0, 1.2], dtype=torch.float64)


def test_softmax():
    p = LOGITS.exp() / LOGITS.exp().sum()
    torch.testing.assert_close(Softmax()(LOGITS, 0.5), p)
    torch.testing.assert_close(Softmax().expected(LOGITS), p)


@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_draws_each_option_as_often_as_its_probability(hard):
    """The largest of log p + G is option i with probability p_i, at any temperature (Gumbel-max)."""
    torch.manual_seed(0)
    relaxation = Gumbel(hard=hard, start=1.0, end=1.0)
    draws = torch.stack([relaxation(LOGITS, 0.0) for _ in range(4000)])
    frequency = torch.bincount(draws.argmax(1), minlength=3) / 4000
    torch.testing.assert_close(frequency.double(), LOGITS.softmax(0), atol=0.03, rtol=0)
    torch.testing.assert_close(draws.sum(1), torch.ones(4000, dtype=torch.float64))
    assert bool((draws.max(1).values == 1).all()) == hard


def test_gumbel_temperature_goes_from_start_to_end():
    def spread(progress):
        torch.manual_seed(1)
        return Gumbel(start=10.0, end=0.1)(LOGITS, progress).max().item()

    assert spread(0.0) < 0.5 < spread(0.99)
    torch.manual_seed(1)
    noise = -torch.empty_like(LOGITS).exponential_().log()
    torch.manual_seed(1)
    by_hand = ((LOGITS.log_softmax(0) + noise) / 5.05).softmax(0)
    torch.testing.assert_close(Gumbel(start=10.0, end=0.1)(LOGITS, 0.5), by_hand)


def test_hard_gumbel_passes_the_soft_gradient():
    value = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    gradients = []
    for hard in (False, True):
        logits = LOGITS.clone().requires_grad_()
        torch.manual_seed(2)
        (Gumbel(hard=hard)(logits, 0.3) * value).sum().backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients)


def test_temperature_must_be_positive_and_fall_in_a_known_way():
    with pytest.raises(InputError, match="above 0"):
        Gumbel(end=0.0)
    with pytest.raises(InputError, match=r"^decay=cosine: use linear or exponential"):
        Gumbel(decay="cosine")


@pytest.mark.parametrize("epoch", [0, 10, 45, 89.5])
def test_fbnets_temperature_is_the_published_one(epoch):
    """5 exp(-0.045 epoch) in a search of 90 epochs."""
    relaxation = Gumbel(start=5.0, end=5 * math.exp(-0.045 * 90), decay="exponential")
    temperature = 5 * math.exp(-0.045 * epoch)
    assert relaxation.temperature(epoch / 90) == pytest.approx(temperature, rel=1e-12)
    torch.manual_seed(3)
    noise = -torch.empty_like(LOGITS).exponential_().log()
    torch.manual_seed(3)
    by_hand = ((LOGITS.log_softmax(0) + noise) / temperature).softmax(0)
    torch.testing.assert_close(relaxation(LOGITS, epoch / 90), by_hand)


@pytest.mark.parametrize("paths", ["all", "two"])
def test_binary_gates_are_drawn_by_their_probability(paths):
    """One of two that are drawn without replacement, by their probabilities among themselves."""
    torch.manual_seed(0)
    p, relaxation = LOGITS.softmax(0).tolist(), BinaryGates(paths)
    draws = torch.stack([relaxation(LOGITS, 0.0) for _ in range(6000)])
    assert set(draws.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(draws.sum(1), torch.ones(6000, dtype=torch.float64))

    def pair(i, j):
        return p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])

    two = [sum(pair(i, j) * p[i] / (p[i] + p[j]) for j in range(3) if j != i) for i in range(3)]
    assert draws.mean(0).tolist() == pytest.approx(p if paths == "all" else two, abs=0.025)


def test_the_gradient_of_gates_is_that_of_their_probabilities():
    """ProxylessNAS, equation 4; of two paths, among those two."""
    value = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    pairs = set()
    for seed in range(120):
        for paths in ("all", "two"):
            logits = LOGITS.clone().requires_grad_()
            torch.manual_seed(seed)
            (BinaryGates(paths)(logits, 0.3) * value).sum().backward()
            chosen = logits.grad != 0
            p = torch.where(chosen, LOGITS.exp(), 0.0) / LOGITS.exp()[chosen].sum()
            by_hand = [sum(value[j] * p[j] * (float(i == j) - p[i]) for j in range(3)) for i in range(3)]
            torch.testing.assert_close(logits.grad, torch.stack(by_hand))
            assert chosen.sum() == (3 if paths == "all" else 2)
            if paths == "two":
                pairs.add(tuple(chosen.tolist()))
    assert len(pairs) == 3, "every pair is drawn"


def test_two_paths_keep_their_probability_together():
    """ProxylessNAS' rescale_updated_arch_param; the difference of the two is what the optimiser says."""
    before, after = LOGITS, LOGITS + torch.tensor([0.4, 0.0, 0.1], dtype=torch.float64)
    settled = BinaryGates("two").settled(before, after)
    torch.testing.assert_close(settled.softmax(0)[1], before.softmax(0)[1], rtol=1e-12, atol=0)
    assert settled[0] - settled[2] == pytest.approx((after[0] - after[2]).item())
    assert settled[1] == before[1]
    assert torch.equal(BinaryGates("two").settled(before, before), before)
    assert torch.equal(BinaryGates().settled(before, after), after)
    with pytest.raises(InputError, match=r"^paths=three: use all or two"):
        BinaryGates("three")


def test_dirichlet_has_the_moments_of_its_concentration():
    """Mean c/C and variance m(1 - m)/(C + 1), with c = elu(logits) + 1."""
    concentration = torch.where(LOGITS > 0, LOGITS + 1, LOGITS.exp())
    total = concentration.sum()
    mean = concentration / total
    torch.manual_seed(0)
    draws = Dirichlet()(LOGITS.expand(20000, 3), 0.5)
    torch.testing.assert_close(draws.mean(0), mean, atol=0.01, rtol=0)
    torch.testing.assert_close(draws.var(0), mean * (1 - mean) / (total + 1), atol=0.004, rtol=0)
    torch.testing.assert_close(draws.sum(-1), torch.ones(20000, dtype=torch.float64))
    torch.testing.assert_close(Dirichlet().expected(LOGITS), mean)


def test_dirichlet_ranks_by_the_softmax_and_all_others_by_what_they_expect():
    """The authors' genotype() takes softmax(alpha); between edges that is another order than the mean's."""
    one, other = torch.tensor([0.5, 1.5, -1.0]), torch.tensor([-0.5, -1.0, 0.5])
    assert torch.equal(strength(Dirichlet(), one), one.softmax(-1))
    assert strength(Dirichlet(), one).max() > strength(Dirichlet(), other).max()
    assert Dirichlet().expected(one).max() < Dirichlet().expected(other).max()
    for relaxation in (Softmax(), Gumbel(), Sigmoid(), Simplex(), Uniform(), BinaryGates()):
        assert torch.equal(strength(relaxation, LOGITS), relaxation.expected(LOGITS))


def test_dirichlet_gradient_is_that_of_the_expectation():
    """The pathwise gradient of E[sum v w^2], averaged, against E[w_i^2] = c_i (c_i + 1) / (C (C + 1))."""
    values = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    logits = LOGITS.clone().requires_grad_()
    c = torch.where(logits > 0, logits + 1, logits.clamp(max=0).exp())
    total = c.sum()
    (exact,) = torch.autograd.grad((values * c * (c + 1) / (total * (total + 1))).sum(), logits)
    torch.manual_seed(0)
    draws = Dirichlet()(logits.expand(40000, 3), 0.0)
    (pathwise,) = torch.autograd.grad((values * draws**2).sum(-1).mean(), logits)
    torch.testing.assert_close(pathwise, exact, atol=0.02, rtol=0)


def test_dirichlet_of_extreme_logits_is_finite():
    logits = torch.tensor([-200.0, 0.0, 50.0], requires_grad=True)
    weights = Dirichlet()(logits, 0.0)
    (gradient,) = torch.autograd.grad(weights[2], logits)
    assert weights.isfinite().all()
    assert gradient.isfinite().all()
    assert concentration(torch.tensor([0.0], requires_grad=True)).item() == 1


def test_sigmoid_options_do_not_compete():
    torch.testing.assert_close(Sigmoid()(LOGITS, 0.5), 1 / (1 + (-LOGITS).exp()))
    more = LOGITS + torch.tensor([5.0, 0.0, 0.0])
    assert torch.equal(Sigmoid().expected(more)[1:], Sigmoid().expected(LOGITS)[1:])


def test_simplex_passes_parameters_and_gradients_on():
    theta = torch.nn.Parameter(torch.tensor([0.2, 0.3, 0.5]))
    assert not isinstance(Simplex()(theta, 0.0), torch.nn.Parameter)  # a choice would register it as its own
    (gradient,) = torch.autograd.grad((Simplex()(theta, 0.0) * torch.tensor([1.0, 2.0, 3.0])).sum(), theta)
    assert gradient.tolist() == [1, 2, 3]
    assert torch.equal(Simplex().expected(theta), theta)


def test_uniform_does_not_listen_to_the_logits():
    assert Uniform()(LOGITS, 0.3).tolist() == pytest.approx([1 / 3] * 3)
    assert Uniform().expected(LOGITS).tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    "relaxation",
    [
        Softmax(),
        Gumbel(),
        Gumbel(hard=True),
        BinaryGates(),
        BinaryGates("two"),
        Dirichlet(),
        Sigmoid(),
        Simplex(),
        Uniform(),
    ],
)
def test_rows_of_stacked_logits_are_decisions_of_their_own(relaxation):
    """A row is what it is alone where there is no noise; with noise, it depends on its own logits only."""
    stacked = torch.stack([LOGITS, LOGITS.flip(0), 2 * LOGITS])
    alone = torch.stack([relaxation.expected(row) for row in stacked])
    torch.testing.assert_close(relaxation.expected(stacked), alone)
    torch.manual_seed(0)
    weights = relaxation(stacked.requires_grad_(), 0.5)
    assert weights.shape == stacked.shape
    if weights.requires_grad:
        (gradient,) = torch.autograd.grad((weights[1] ** 2).sum(), stacked)
        assert gradient[0].abs().sum() == gradient[2].abs().sum() == 0 < gradient[1].abs().sum()
