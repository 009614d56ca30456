import pytest
import torch
import torch.nn.functional as F

from supernet.genotypes.literature import published
from supernet.runtime.errors import InputError
from supernet.space.architecture import check, one_hot, random_architecture
from supernet.space.choices import Choice
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import AuxiliaryHead, Darts, QuarterMeans
from supernet.space.dropout import set_drop_path
from supernet.space.supernet import Supernet


def supernet_of(space: Darts, shape=(3, 8, 8), classes=4) -> Supernet:
    return Supernet(space.network(Undecided(), shape, classes))


def uniform(supernet: Supernet, dtype=torch.float32):
    decisions = supernet.decisions.values()
    return {
        d.name: torch.full((len(d.options),), 1 / len(d.options), dtype=dtype)
        for d in decisions
        if d.role == "operation"
    }


def test_supernet_of_the_paper_has_its_parameter_count():
    with torch.device("meta"):
        supernet = supernet_of(Darts(channels=16, cells=8), (3, 32, 32), 10)
        pdarts_stage_1 = supernet_of(Darts(channels=16, cells=5), (3, 32, 32), 10)
    assert sum(p.numel() for p in supernet.parameters()) == 1_930_618
    assert sum(p.numel() for p in pdarts_stage_1.parameters()) == 1_275_834
    edges = [d for d in supernet.decisions.values() if d.role == "operation"]
    assert len(edges) == 28
    assert all(len(d.options) == 8 for d in edges)


def test_auxiliary_head_has_its_published_count():
    with torch.device("meta"):
        network = Darts(36, 20, auxiliary=True).network(Decided(published("darts_v2")), (3, 32, 32), 10)
    assert sum(p.numel() for p in network.auxiliary.parameters()) == 476_426


def test_one_hot_supernet_equals_the_derived_network():
    """With an architecture's one-hot weights the supernet computes what the network built from it does."""
    torch.manual_seed(0)
    space = Darts(channels=4, cells=3, nodes=3)
    supernet = supernet_of(space, (1, 9, 7)).double()
    for seed in range(3):
        architecture = random_architecture("darts", supernet.decisions, torch.Generator().manual_seed(seed))
        check(architecture, supernet.decisions)
        derived = space.network(Decided(architecture, searching=True), (1, 9, 7), 4).double()
        names = {}
        for name in derived.state_dict():
            parts = name.split(".")
            if "edges" in parts:
                source, node = parts[3].split("-")
                kind = "reduce" if parts[1] in "12" else "normal"
                parts[4:4] = ["candidates", architecture[f"{kind}/{node}/{source}"][0]]
            names[name] = "network." + ".".join(parts)
        state = supernet.state_dict()
        derived.load_state_dict({name: state[ours] for name, ours in names.items()})
        images = torch.randn(3, 1, 9, 7, dtype=torch.float64)
        weights = one_hot(architecture, supernet.decisions, dtype=torch.float64)
        for mode in (True, False):
            torch.testing.assert_close(
                supernet.train(mode)(images, weights), derived.train(mode)(images), rtol=1e-12, atol=1e-12
            )
        assert not [m for m in derived.modules() if isinstance(m, Choice)]


def test_table_gives_an_edge_operations_of_its_own():
    space = Darts(channels=4, cells=2, nodes=2, table={"reduce/2/1": ("skip_connect", "sep_conv_3x3")})
    decisions = supernet_of(space).decisions
    assert decisions["reduce/2/1"].options == ("skip_connect", "sep_conv_3x3")
    assert len(decisions["reduce/2/0"].options) == 8


def test_drop_path_scales_what_it_keeps_and_spares_identities():
    torch.manual_seed(0)
    space = Darts(channels=2, cells=1, nodes=2)
    skips = {f"reduce/{n}/{s}": ("skip_connect",) for n in (2, 3) for s in range(n)}
    network = space.network(Decided({"reduce/2": ("0", "1"), "reduce/3": ("0", "2"), **skips}), (1, 4, 4), 3)
    images = torch.randn(8, 1, 4, 4)
    set_drop_path(network, 0.5)
    cell = network.cells[0]
    dropped = cell.drop_path(torch.ones(4000, 1, 1, 1))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert 0.45 < (dropped > 0).float().mean() < 0.55
    network.eval()
    torch.testing.assert_close(network(images), network(images))
    assert cell.drop_path(images) is images


def test_auxiliary_logits_only_in_training():
    network = Darts(4, 3, auxiliary=True).network(Decided(published("darts_v1")), (1, 12, 8), 5)
    logits, auxiliary = network(torch.randn(2, 1, 12, 8))
    assert logits.shape == auxiliary.shape == (2, 5)
    assert network.eval()(torch.randn(2, 1, 12, 8)).shape == (2, 5)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("height", "width"), [(7, 7), (6, 4), (1, 1), (5, 2), (1, 3), (2, 9)])
def test_the_auxiliary_head_pools_as_adaptive_pooling_does(height, width, channels_last):
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 3, height, width, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    ours, theirs = QuarterMeans()(x), torch.nn.AdaptiveAvgPool2d(2)(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-15)
    slopes = torch.randn_like(theirs)
    gradients = (torch.autograd.grad(y, x, slopes)[0] for y in (ours, theirs))
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-15)


def test_halves_of_even_size_are_pooled_to_the_bit_and_the_published_window_stays():
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(QuarterMeans()(x), torch.nn.AdaptiveAvgPool2d(2)(x))
    pools = [AuxiliaryHead(4, 2, size, "cifar").features[1] for size in ((8, 8), (7, 7))]
    assert [type(pool) for pool in pools] == [torch.nn.AvgPool2d, QuarterMeans]


def test_learns_a_tiny_set():
    torch.manual_seed(0)
    network = Darts(4, 2).network(Decided(published("darts_v2")), (1, 8, 8), 2)
    images = torch.randn(16, 1, 8, 8)
    labels = (images.mean(dim=(1, 2, 3)) > 0).long()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"nodes": 1}, "nodes=1: needs to be at least 2"),
        ({"cells": 0}, "cells=0"),
        ({"channels": 1}, "channels=1"),
        ({"operations": ()}, "operations"),
        ({"operations": ("none",)}, "besides 'none'"),
        ({"operations": ("sep_conv_3x3", "sep_conv_3x3")}, "different operations"),
        ({"stem": "mnist"}, "use cifar"),
    ],
)
def test_bad_settings_are_one_line(settings, says):
    with pytest.raises(InputError, match=says) as error:
        Darts(**settings)
    assert "\n" not in str(error.value)


def test_unknown_operation_lists_the_known():
    with pytest.raises(InputError, match="'sep_conv_9x9' at reduce/2/0 is unknown; known: none, max_pool"):
        Darts(cells=1, operations=("sep_conv_9x9",)).network(Undecided(), (3, 8, 8), 2)
