import copy
import math

import pytest
import torch

from supernet.runtime.errors import InputError
from supernet.search.differentiable.optimizers import ExponentiatedGradient


def parameter(*values) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def test_a_step_by_hand():
    theta = parameter(0.5, 0.3, 0.2)
    theta.grad = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    ExponentiatedGradient([theta], lr=0.1).step()
    grown = torch.tensor([0.5 * math.exp(-0.1), 0.3 * math.exp(0.2), 0.2], dtype=torch.float64)
    torch.testing.assert_close(theta.detach(), grown / grown.sum(), rtol=1e-12, atol=0)


def test_it_is_mirror_descent_with_the_entropy():
    """The step minimises g.x + KL(x || theta)/lr on the simplex: at it, g + log(x / theta)/lr is one constant."""
    theta = parameter(0.1, 0.2, 0.3, 0.4)
    before, theta.grad = theta.detach().clone(), torch.tensor([0.3, -1.0, 2.0, 0.5], dtype=torch.float64)
    ExponentiatedGradient([theta], lr=0.7).step()
    condition = theta.grad + (theta.detach() / before).log() / 0.7
    torch.testing.assert_close(condition, condition[:1].expand(4))


def test_rows_of_stacked_parameters_are_steps_of_their_own():
    rows = torch.tensor([[0.5, 0.5], [0.1, 0.9]], dtype=torch.float64)
    gradients = torch.tensor([[1.0, -1.0], [30.0, 3.0]], dtype=torch.float64)
    stacked = torch.nn.Parameter(rows.clone())
    stacked.grad = gradients
    ExponentiatedGradient([stacked]).step()
    for row, gradient, result in zip(rows, gradients, stacked.detach(), strict=True):
        alone = torch.nn.Parameter(row.clone())
        alone.grad = gradient
        ExponentiatedGradient([alone]).step()
        torch.testing.assert_close(result, alone.detach())


def test_nothing_vanishes_or_overflows():
    theta = parameter(0.5, 0.5)
    optimizer = ExponentiatedGradient([theta], lr=0.1)
    for _ in range(20):
        theta.grad = torch.tensor([-1e4, 1e4], dtype=torch.float64)
        optimizer.step()
    assert theta[1].item() == pytest.approx(1e-5, rel=1e-3) or 0 < theta[1].item() < 1e-5
    assert theta.sum().item() == pytest.approx(1)
    for _ in range(300):  # and comes back
        theta.grad = torch.tensor([1.0, -1.0], dtype=torch.float64)
        optimizer.step()
    assert theta[1].item() > 0.99


def test_goes_to_the_best_vertex_of_a_linear_loss_and_skips_what_has_no_gradient():
    theta, idle = parameter(1 / 3, 1 / 3, 1 / 3), parameter(0.5, 0.5)
    optimizer = ExponentiatedGradient([theta, idle], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        (theta * torch.tensor([1.0, 0.2, 0.9])).sum().backward()
        optimizer.step()
    assert theta[1].item() > 0.999
    assert idle.tolist() == [0.5, 0.5]
    twin = ExponentiatedGradient([theta, idle])
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert twin.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("settings", [{"lr": -1.0}, {"floor": 0.0}, {"floor": 1.0}])
def test_refuses_nonsense(settings):
    (name,) = settings
    with pytest.raises(InputError, match=f"^{name}="):
        ExponentiatedGradient([parameter(1.0)], **settings)
