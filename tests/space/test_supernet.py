"""A network with open decisions, as a function of images and of the weights of the options."""

import pytest
import torch
from common import edge_decision
from torch import nn

from supernet.runtime.errors import InputError
from supernet.space.choices import Choice, OperationChoice
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.operations import Site
from supernet.space.supernet import Supernet

OPTIONS = ("skip_connect", "nor_conv_1x1")


def supernet_of(space: Darts, shape=(3, 8, 8), classes=4) -> Supernet:
    return Supernet(space.network(Undecided(), shape, classes))


def uniform(supernet: Supernet):
    decisions = supernet.decisions.values()
    return {d.name: torch.full((len(d.options),), 1 / len(d.options)) for d in decisions if d.role == "operation"}


def edge(name: str, options=OPTIONS, **settings) -> OperationChoice:
    return Undecided(**settings).operation(edge_decision(name, options), Site(2, 2))


class Scaled(nn.Module):
    """Multiplies by a number."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def scaling(name: str, *factors: float, single=False) -> OperationChoice:
    """A mixed operation whose options multiply by these numbers."""
    decision = edge_decision(name, [f"times {factor}" for factor in factors])
    candidates = {f"times {number}": Scaled(factor) for number, factor in enumerate(factors)}
    return OperationChoice(decision, candidates, single=single)


def test_decisions_are_those_of_the_network_by_name_each_once():
    network = nn.Sequential(edge("normal/2/0"), nn.ReLU(), edge("normal/2/1"), edge("normal/2/0"))
    supernet = Supernet(network)
    assert list(supernet.decisions) == ["normal/2/0", "normal/2/1"]
    assert supernet.decisions["normal/2/0"] == network[0].decision
    assert len(supernet.norms) == 3


@pytest.mark.parametrize("other", [edge("normal/2/0", OPTIONS[::-1]), edge("normal/2/0", auxiliary=True)])
def test_the_same_decision_asked_differently_is_refused(other):
    with pytest.raises(InputError, match="'normal/2/0' is asked twice with different options"):
        Supernet(nn.Sequential(edge("normal/2/0"), other))


def test_mixed_operations_by_hand():
    """(0.5 x 2 + 0.25 x 8) and then (3 x 1): 9 times what comes in; both places of one name get one weight."""
    network = nn.Sequential(scaling("cell/1/0", 2.0, 8.0), scaling("cell/2/0", 1.0, 100.0))
    weights = {"cell/1/0": torch.tensor([0.5, 0.25]), "cell/2/0": torch.tensor([3.0, 0.0])}
    assert Supernet(network)(torch.ones(1), weights).item() == 9.0
    twice = Supernet(nn.Sequential(*(scaling("cell/1/0", 2.0, 8.0) for _ in range(2))))
    assert twice(torch.ones(1), weights).item() == 9.0


def test_single_paths_run_what_is_on_and_give_every_weight_a_gradient():
    weights = {"cell/1/0": torch.tensor([0.0, 1.0], requires_grad=True)}
    supernet, ran = Supernet(scaling("cell/1/0", float("nan"), 5.0, single=True)), []
    supernet.network.candidates["times 0"].register_forward_hook(lambda *_: ran.append(0))
    out = supernet(torch.full((1,), 2.0), weights)
    assert out.item() == 10.0
    assert not ran
    assert torch.autograd.grad(out, weights["cell/1/0"])[0].tolist() == [1.0, 10.0]
    assert supernet.data_dependent


def test_weights_are_taken_back_where_a_pass_fails():
    supernet = supernet_of(Darts(channels=4, cells=1, nodes=2))
    with pytest.raises(RuntimeError):
        supernet(torch.randn(2, 5, 8, 8), uniform(supernet))
    assert all(choice.weights is None for choice in supernet.modules() if isinstance(choice, Choice))


def test_the_places_of_parameters_are_found_once_and_in_their_order():
    supernet = supernet_of(Darts(channels=4, cells=1, nodes=2))
    assert supernet.slots is supernet.slots
    assert [id(p) for p in supernet.slots.now()] == [id(p) for p in supernet.parameters()]


def test_supernet_wants_weights_for_operations_only():
    supernet = supernet_of(Darts(channels=4, cells=2, nodes=2))
    weights = uniform(supernet)
    images = torch.randn(2, 3, 8, 8)
    plain = supernet(images, weights)
    ones = {n: torch.ones(len(d.options)) for n, d in supernet.decisions.items() if d.role == "inputs"}
    torch.testing.assert_close(plain, supernet(images, weights | ones))
    halves = {n: torch.full((len(d.options),), 0.5) for n, d in supernet.decisions.items() if d.role == "inputs"}
    assert not torch.allclose(plain, supernet(images, weights | halves))
    missing = next(iter(weights))
    with pytest.raises(KeyError):
        supernet(images, {n: w for n, w in weights.items() if n != missing})


def test_supernet_holds_no_alphas_and_keeps_no_weights():
    supernet = supernet_of(Darts(channels=4, cells=2, nodes=2))
    weights = {n: w.requires_grad_() for n, w in uniform(supernet).items()}
    supernet(torch.randn(2, 3, 8, 8), weights).sum().backward()
    assert all(w.grad is not None for n, w in weights.items())
    assert all(c.weights is None for c in supernet.modules() if isinstance(c, Choice))
    assert not any("alpha" in name or "weights" in name for name in supernet.state_dict())
