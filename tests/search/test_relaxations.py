import pytest
import torch

from supernet.runtime.errors import InputError
from supernet.search.relaxations import Gumbel, Softmax

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
