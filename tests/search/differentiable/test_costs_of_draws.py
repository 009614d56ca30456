"""The gradient of a cost where options are drawn, and "none" is among them."""

import math

import numpy as np
import pytest
import torch

from supernet.estimation.forms import Form
from supernet.estimation.forms import Term as Table
from supernet.search.differentiable.objectives import CostTerm, RelaxedWeights
from supernet.search.differentiable.relaxations import BinaryGates, Gumbel, Softmax
from supernet.space.architecture import Decision


def cost_at(relaxation, logits, edge, seed):
    torch.manual_seed(seed)
    weights = {"edge": relaxation(logits, 0.5)}
    expected = {"edge": relaxation.expected(logits)}
    loss = torch.tensor(2.0, dtype=torch.float64)
    return RelaxedWeights({"edge": edge}, {"edge": logits}, weights, 0.5, 10, loss=loss, expected=expected)


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("kind", ["log_multiplicative", "hinge", "absolute", "linear"])
@pytest.mark.parametrize("relaxation", [BinaryGates(), Gumbel(hard=True)])
def test_the_gradient_of_a_cost_survives_a_drawn_none(relaxation, kind, drawn, optional):
    """Whether or not "none" can be kept; in ProxylessNAS' code such a draw takes the latency's gradient away."""
    edge = Decision("edge", ("none", "a", "b"), optional=optional)
    answers, values = (("none", "a", "b"), [0.0, 1.0, 3.0]) if optional else (("a", "b"), [1.0, 3.0])
    form = Form({"edge": edge}, 0.0, (Table(("edge",), (), np.array(values), (answers,)),))
    nothing = 0
    for seed in range(20):
        logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        at = cost_at(relaxation, logits, edge, seed)
        (gradient,) = torch.autograd.grad(CostTerm(form, target=1.0, kind=kind, drawn=drawn)(at), logits)
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 10
        if at.weights["edge"][0] == 1:
            nothing += 1
            if not drawn or (optional and kind == "linear"):
                assert gradient[2] > gradient[1]
    assert nothing > 1


def test_the_gradient_of_a_linear_cost_is_the_same_whatever_gates_drew():
    """p_i (c_i - p c), as for the expected cost."""
    edge, costs = (
        Decision("edge", ("none", "a", "b"), optional=True),
        torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64),
    )
    form = Form({"edge": edge}, 5.0, (Table(("edge",), (), costs.numpy(), (edge.options,)),))
    logits = torch.tensor([0.2, -0.4, 0.1], dtype=torch.float64, requires_grad=True)
    p = logits.detach().softmax(-1)
    for seed in range(10):
        term = CostTerm(form, target=2.0, weight=0.5, kind="linear")
        (gradient,) = torch.autograd.grad(term(cost_at(BinaryGates(), logits, edge, seed)), logits)
        torch.testing.assert_close(gradient, 0.5 / 2.0 * p * (costs - p @ costs))


@pytest.mark.parametrize("cost", [1e-6, 0.01, 0.9, 1.0, 3.0, 100.0])
def test_the_loss_of_fbnet_never_turns_and_the_power_is_that_of_the_logarithm(cost):
    """log(lat ** b), as in a copy of FBNet, is b log(lat); and log(lat) is negative below one millisecond."""
    edge = Decision("edge", ("a", "b"))
    form = Form({"edge": edge}, 0.0, (Table(("edge",), (), np.array([cost, 2 * cost]), (edge.options,)),))
    logits, totals = torch.zeros(2, dtype=torch.float64, requires_grad=True), {}
    for power in (0.3, 0.6):
        at = cost_at(Softmax(), logits, edge, 0)
        totals[power] = at.loss + CostTerm(form, target=1.0, weight=power)(at)
        assert totals[power] > 0
        (gradient,) = torch.autograd.grad(totals[power], logits, retain_graph=True)
        assert gradient[1] > 0 > gradient[0], "the cheaper option gains"
    factor = math.log(1 + 1.5 * cost) / math.log(2)
    assert totals[0.6].item() == pytest.approx(2.0 * factor**0.6, rel=1e-6)
    assert 2.0 * totals[0.6].item() == pytest.approx(totals[0.3].item() ** 2, rel=1e-6)
