import pytest
import torch

from supernet.runtime.errors import InputError
from supernet.search.differentiable.relaxations import (
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


def test_temperature_must_be_positive():
    with pytest.raises(InputError, match="above 0"):
        Gumbel(end=0.0)


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
    for relaxation in (Softmax(), Gumbel(), Sigmoid(), Simplex(), Uniform()):
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
    "relaxation", [Softmax(), Gumbel(), Gumbel(hard=True), Dirichlet(), Sigmoid(), Simplex(), Uniform()]
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
