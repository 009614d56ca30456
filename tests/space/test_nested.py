"""Sorted channels and residuals that start at 0: what was trained already computes the same, to the last digits."""

import itertools

import pytest
import torch
from torch import nn

from supernet.space.architecture import Architecture, one_path, random_architecture
from supernet.space.choosers import Undecided
from supernet.space.elastic import Size
from supernet.space.inverted_residual import ElasticInvertedResidual
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.nested import sort_channels, sort_opened, zero_residuals
from supernet.space.supernet import Supernet

SHAPE = (1, 8, 8)
STAGES = (
    Stage((8,), depths=(1, 2), kernels=(3, 5), expansions=(3, 4, 6)),
    Stage((16,), depths=(1, 2), stride=2, kernels=(3, 5), expansions=(3, 4, 6), squeeze=(True,)),
)


def made(kept=None) -> Supernet:
    torch.manual_seed(0)
    space = Mobile(STAGES, stem=8, head=16, stem_stride=1, dropout=0.0)
    supernet = Supernet(space.network(Undecided(single=True, kept=kept or {}), SHAPE, 3)).double()
    for module in supernet.modules():  # no two channels alike
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return supernet


def widths(*options: str) -> dict[str, tuple[str, ...]]:
    return {f"stage{s}/{b}/expand": options for s, b in itertools.product((1, 2), (1, 2))}


def outputs(supernet, expand, training) -> list[torch.Tensor]:
    """Of networks whose expansions are among some; with all depths and kernels."""
    supernet.train(training)
    images = torch.randn(4, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    made = []
    for number in range(12):
        stream = torch.Generator().manual_seed(number)
        drawn = dict(random_architecture("mobile", supernet.decisions, stream).choices)
        drawn |= {n: (expand[int(torch.randint(len(expand), (), generator=stream))],) for n in drawn if "expand" in n}
        weights = one_path(Architecture("mobile", drawn), supernet.decisions, dtype=torch.float64)
        buffers = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
        made.append(supernet(images, weights).detach())
        for name, buffer in supernet.named_buffers():
            buffer.copy_(buffers[name])
    return made


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trained", [("6",), ("4", "6")])
def test_trained_networks_stay_and_the_most_important_channels_come_first(trained, training):
    before, now = made(widths(*trained)), made()
    unsorted = [module.project[0].weight.clone() for module in blocks(now)]
    wanted = outputs(now, trained, training)
    sort_opened(before, now)
    for one, other in zip(outputs(now, trained, training), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert not all(
        torch.equal(a, b)
        for a, b in zip(outputs(now, ("3",), training), outputs(made(), ("3",), training), strict=True)
    )
    for block, old in zip(blocks(now), unsorted, strict=True):
        sums, given = block.project[0].weight.abs().sum(dim=(0, 2, 3)), block.form.channels_in.largest
        ends = [0, *sorted({int(e) * given for e in trained})]
        for start, end in itertools.pairwise(ends):
            tier = sums[start:end]
            assert torch.equal(tier, tier.sort(descending=True).values)
            assert torch.equal(tier, old.abs().sum(dim=(0, 2, 3))[start:end].sort(descending=True).values)


def blocks(supernet) -> list[ElasticInvertedResidual]:
    return [module for module in supernet.modules() if isinstance(module, ElasticInvertedResidual)]


def test_channels_inside_squeeze_and_excite_are_sorted_by_its_last_layer():
    block = blocks(made())[2]
    assert block.squeeze is not None
    sort_channels(block, Size.fixed(block.form.expanded.largest), Size.fixed(block.squeeze.reduce.out_channels))
    sums = block.squeeze.expand.weight.abs().sum(dim=(0, 2, 3))
    assert torch.equal(sums, sums.sort(descending=True).values)


def test_nothing_is_sorted_where_no_width_opens():
    before, now = made(widths("4", "6")), made(widths("4", "6"))
    state = {name: tensor.clone() for name, tensor in now.state_dict().items()}
    sort_opened(before, now)
    assert all(torch.equal(tensor, state[name]) for name, tensor in now.state_dict().items())


@pytest.mark.parametrize("sharing", ["nested", "separate"])
def test_residual_blocks_begin_as_the_identity(sharing):
    torch.manual_seed(0)
    stages = [Stage((8,), kernels=(3, 5)), Stage((16,), stride=2, kernels=(3, 5))]
    network = Mobile(tuple(stages), stem=8, head=16, stem_stride=1, sharing=sharing).network(Undecided(), SHAPE, 3)
    last = [norm for name, norm in network.named_modules() if isinstance(norm, nn.BatchNorm2d) and ".project." in name]
    zero_residuals(network)
    per_block = 1 if sharing == "nested" else 2
    assert [norm.weight.abs().sum().item() for norm in last] == [0.0] * per_block + [16.0] * per_block
    others = [norm for norm in network.modules() if isinstance(norm, nn.BatchNorm2d) and norm not in last]
    assert all(bool((norm.weight == 1).all()) for norm in others)
