"""How a network runs for a while, and that it is afterwards what it was before."""

import pytest
import torch
from torch import nn

from supernet.execution.fused.executor import fused
from supernet.execution.modes import evaluating, frozen_statistics, holding, recalibrated, running, single_paths
from supernet.space.cells import Cell, reference
from supernet.space.choices import OperationChoice
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet

SPACE = Darts(channels=4, cells=1, nodes=2, operations=("none", "skip_connect", "sep_conv_3x3"))


def supernet(single=False) -> Supernet:
    torch.manual_seed(0)
    return Supernet(SPACE.network(Undecided(single=single), (1, 6, 6), 3)).double()


def images(seed=0, count=8):
    return torch.randn(count, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def one_hot(network: Supernet, number: int):
    return {name: torch.eye(len(d.options)).double()[number % len(d.options)] for name, d in network.decisions.items()}


def state_of(network: nn.Module):
    keys = ("training", "execute", "single", "momentum", "track_running_stats")
    attributes = [[vars(module).get(key) for key in keys] for module in network.modules()]
    return {name: value.clone() for name, value in network.state_dict().items()}, attributes


def same(one, other) -> bool:
    return one[1] == other[1] and all(torch.equal(one[0][name], other[0][name]) for name in one[0])


MODES = {
    "running": lambda network: running(network, fused),
    "frozen_statistics": frozen_statistics,
    "recalibrated": lambda network: recalibrated(network, [images(1)], lambda x: network(x, one_hot(network, 2))),
    "single_paths": single_paths,
    "evaluating": evaluating,
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_the_network_is_afterwards_what_it_was_also_where_the_block_fails(mode):
    network = supernet()
    network.norms[0].eval()  # as somebody froze it
    next(module for module in network.modules() if isinstance(module, OperationChoice)).single = True
    before = state_of(network)
    with mode(network):
        assert not same(state_of(network), before)
    assert same(state_of(network), before)
    with pytest.raises(KeyboardInterrupt), mode(network):
        raise KeyboardInterrupt
    assert same(state_of(network), before)


def test_all_cells_run_on_the_executor_and_nested_blocks_give_each_its_own_back():
    network = supernet()
    (cell,) = (module for module in network.modules() if isinstance(module, Cell))
    calls = []

    def counted(own, inputs):
        calls.append(own)
        return reference(own, inputs)

    with running(network, fused):
        with running(network, counted):
            network(images(), one_hot(network, 2))
        assert cell.execute is fused
    assert cell.execute is reference
    assert calls == [cell]


def test_frozen_norms_use_the_batch_and_forget_it():
    network = supernet()
    weights, twin = one_hot(network, 2), supernet()
    with frozen_statistics(network):
        out = network(images(), weights)
    assert torch.equal(out, twin(images(), weights))
    assert not same(state_of(network), state_of(twin))  # the twin remembers
    assert same(state_of(network), state_of(supernet()))


def test_recalibrated_statistics_are_the_mean_over_the_batches():
    """By hand: mean and unbiased variance of each batch, and of three batches their plain mean."""
    norm, batches = nn.BatchNorm2d(1).double(), [images(seed) for seed in range(3)]
    norm.running_mean.fill_(100.0)
    with recalibrated(norm, batches, norm):
        assert norm.running_mean.item() == pytest.approx(sum(b.mean().item() for b in batches) / 3, rel=1e-12)
        assert norm.running_var.item() == pytest.approx(sum(b.var().item() for b in batches) / 3, rel=1e-12)
    assert (norm.running_mean.item(), norm.running_var.item(), norm.momentum) == (100.0, 1.0, 0.1)
    assert norm.num_batches_tracked == 0


def test_recalibration_that_fails_leaves_nothing_behind():
    network = supernet()
    before = state_of(network)

    def fails(x):
        network(x, one_hot(network, 2))
        raise RuntimeError

    with pytest.raises(RuntimeError), recalibrated(network, [images()], fails):
        pytest.fail("the block does not run")
    assert same(state_of(network), before)


def test_norms_without_statistics_are_left_alone():
    norm = nn.BatchNorm2d(1, track_running_stats=False).double()
    with frozen_statistics(norm), recalibrated(norm, [images()], norm):
        assert norm.running_mean is None
    assert norm.track_running_stats is False


def test_single_paths_run_only_what_is_on():
    network = supernet()
    weights, ran = one_hot(network, 1), []
    for choice in (module for module in network.modules() if isinstance(module, OperationChoice)):
        for name, candidate in choice.candidates.items():
            candidate.register_forward_hook(lambda *_, name=name: ran.append(name))
    whole = network(images(), weights)
    assert set(ran) == set(SPACE.operations)
    ran.clear()
    with single_paths(network):
        assert torch.equal(network(images(), weights), whole)
    assert set(ran) == {"skip_connect"}


def test_holding_gives_each_module_its_own_value_back():
    modules = [nn.Dropout(0.1), nn.Dropout(0.2)]
    with holding(modules, "p", 0.5):
        assert [module.p for module in modules] == [0.5, 0.5]
    assert [module.p for module in modules] == [0.1, 0.2]
    with pytest.raises(KeyError), holding([*modules, nn.ReLU()], "p", 0.5):
        pytest.fail("a module without the attribute is refused")
    assert [module.p for module in modules] == [0.1, 0.2]
