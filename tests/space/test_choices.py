"""How a supernet hands its weights to single paths."""

import pytest
import torch

from supernet.execution.modes import running, single_paths
from supernet.execution.recomputation import checkpointed
from supernet.execution.stacked.executor import stacked
from supernet.runtime.errors import InputError
from supernet.space.cells import reference
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet

SPACE = Darts(channels=4, cells=2, nodes=2)


def one_hot(supernet):
    torch.manual_seed(0)
    wanted = {n: d for n, d in supernet.decisions.items() if d.role == "operation"}
    drawn = {n: torch.eye(len(d.options))[torch.randint(1, len(d.options), ())] for n, d in wanted.items()}
    return {n: weight.double().requires_grad_() for n, weight in drawn.items()}


@pytest.mark.parametrize("executor", [reference, stacked, checkpointed(reference)])
def test_the_device_is_read_once_a_pass(executor, monkeypatch):
    """Each reading waits for a GPU to finish; there are ten edges in the two cells here."""
    supernet = Supernet(SPACE.network(Undecided(single=True), (3, 8, 8), 5)).double()
    weights, read = one_hot(supernet), []
    original = torch.Tensor.tolist
    with running(supernet, executor):
        monkeypatch.setattr(torch.Tensor, "tolist", lambda self: [read.append(self.shape), original(self)][1])
        loss = supernet(torch.randn(3, 3, 8, 8).double(), weights).sum()
    assert read == [(sum(len(weight) for weight in weights.values()),)]
    gradients = torch.autograd.grad(loss, [*weights.values()])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_only_single_paths_wait():
    single, whole = (Supernet(SPACE.network(Undecided(single=s), (3, 8, 8), 5)) for s in (True, False))
    assert (single.data_dependent, whole.data_dependent) == (True, False)
    with single_paths(whole):
        assert whole.data_dependent
    assert not whole.data_dependent


def test_an_edge_without_a_path_is_told_of():
    supernet = Supernet(SPACE.network(Undecided(single=True), (3, 8, 8), 5)).double()
    weights = one_hot(supernet)
    weights["reduce/2/0"] = torch.zeros_like(weights["reduce/2/0"])
    with pytest.raises(InputError, match="all weights of an edge are zero"):
        supernet(torch.randn(3, 3, 8, 8).double(), weights)
