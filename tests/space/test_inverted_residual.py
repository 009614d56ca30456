"""One block against torchvision's, and its parts against closed forms."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models._utils import _make_divisible

from supernet.runtime.errors import InputError
from supernet.space.inverted_residual import Form, Hardsigmoid, InvertedResidual, SqueezeExcite, Style, rounded


def test_channels_are_rounded_as_torchvision_does():
    counts = [n / 7 for n in range(1, 7000)]
    assert [rounded(count) for count in counts] == [_make_divisible(count, 8) for count in counts]


def test_squeeze_and_excite_is_torchvisions():
    theirs = torchvision.ops.SqueezeExcitation(16, 8, scale_activation=nn.Hardsigmoid).double()
    ours = SqueezeExcite(16, 8, Style()).double()
    for own, value in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        own.copy_(value)
    x = torch.randn(2, 16, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(x), theirs(x), atol=1e-14)


def test_the_gate_has_pytorchs_values_and_two_derivatives():
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    gate, pytorchs = Hardsigmoid(), nn.Hardsigmoid()
    assert torch.equal(gate(x), pytorchs(x))  # nothing learns: the one operator
    wanted = x.clone().requires_grad_()
    assert (gate(wanted) - pytorchs(x)).abs().max() < 1e-15

    def loss(given: torch.Tensor) -> torch.Tensor:
        return (gate(given) * given.sin()).sum()

    (slope,) = torch.autograd.grad(loss(wanted), wanted, create_graph=True)
    (curve,) = torch.autograd.grad(slope.sum(), wanted)
    inside = (x.abs() - 3).abs() > 1e-3  # not at the two corners
    assert torch.allclose(curve[inside], (2 * x.cos() * (x.abs() < 3) / 6 - x.sin() * pytorchs(x))[inside])


@pytest.mark.parametrize("groups", [1, 2])
def test_groups_halve_both_1x1_convolutions(groups):
    block = InvertedResidual(Form(16, 16, 16, kernel=5, residual=True, groups=groups), Style(widens_always=True))
    weights = [p.numel() for p in block.parameters() if p.dim() == 4]
    assert weights == [16 * 16 // groups, 16 * 25, 16 * 16 // groups]


def test_shuffled_groups_reach_each_other():
    """Without the shuffle the first half of the outputs would not depend on the second half of the inputs."""
    block = InvertedResidual(Form(8, 8, 8, kernel=1, groups=2), Style(widens_always=True)).double().eval()
    with torch.no_grad():
        for weight in block.parameters():
            weight.abs_()  # no activation is 0
    x = torch.ones(1, 8, 1, 1, dtype=torch.float64)

    def first_half(given: torch.Tensor) -> torch.Tensor:
        return block(given)[:, :4].flatten()

    jacobian = torch.autograd.functional.jacobian(first_half, x).view(4, 8)
    assert (jacobian > 0).sum(1).tolist() == [8] * 4


def test_a_block_that_does_not_widen_has_no_first_convolution_unless_it_is_asked_for():
    form = Form(16, 16, 16)
    assert InvertedResidual(form, Style()).expand is None
    assert InvertedResidual(form, Style(widens_always=True)).expand is not None


def test_the_input_is_added_only_where_the_form_says():
    x = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    block = InvertedResidual(Form(8, 16, 8, residual=True), Style()).eval()
    alone = InvertedResidual(Form(8, 16, 8), Style()).eval()
    alone.load_state_dict(block.state_dict())
    assert torch.allclose(block(x), x + alone(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate": "tanh"}, "gate=tanh: use one of sigmoid, hardsigmoid"),
        ({"squeeze_from": "output"}, "squeeze_from=output: use one of expanded, input"),
        ({"squeeze_activation": "gelu"}, "squeeze_activation=gelu: use one of relu, "),
        ({"norm_momentum": 0.0}, "norm_momentum=0.0: need to lie in"),
    ],
)
def test_bad_styles_are_one_line(settings, message):
    with pytest.raises(InputError, match=message):
        Style(**settings)
