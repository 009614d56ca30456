"""What is taken off for the convolutions beside the parts is what they had added."""

import pytest
import torch
from torch import nn

from supernet.estimation.latency.joints import joined, joint, trials, with_numbers
from supernet.estimation.parts import Variant

IMAGE = (3, 8, 8)


def meta(build):
    with torch.device("meta"):
        return build()


CHAIN = [
    Variant("stem", meta(lambda: nn.Conv2d(3, 6, 3, padding=1)), ((3, 8, 8),)),
    Variant("middle", meta(lambda: nn.Sequential(nn.Conv2d(6, 10, 3, 2, 1), nn.BatchNorm2d(10))), ((6, 8, 8),)),
    Variant("last", meta(lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())), ((10, 4, 4),)),
    Variant("classifier", meta(lambda: nn.Linear(10, 7)), ((10,),)),
]


def cost(module):
    """Something that adds up; each program has 100 besides."""
    return 100 + sum(p.numel() for p in module.parameters())


def test_in_a_chain_exactly_what_was_added_is_taken_off():
    found = trials(CHAIN, IMAGE)
    sizes = {size for trial in found.values() for size in trial.joints}
    assert sizes == {(6, 8, 8), (10, 4, 4)}
    joints = {size: cost(joint(size)[0]) for size in sizes}
    costs = [cost(joined(variant, IMAGE)[0]) for variant in CHAIN]
    kept = [found[v.key].cost(taken, joints) for v, taken in zip(CHAIN, costs, strict=True)]
    own = sum(cost(v.module) - 100 for v in CHAIN)
    # Two joints take away what two programs cost besides; the chain keeps that of the others, as a network has it.
    assert sum(kept) == pytest.approx(own + 100 * (len(CHAIN) - len(sizes)))


def test_an_image_comes_as_it_is_and_flat_tensors_have_no_convolution():
    module, shapes = joined(CHAIN[0], IMAGE)
    assert shapes == ((1, 3, 8, 8),)
    assert isinstance(module.before[0], nn.Identity)
    module, shapes = joined(CHAIN[3], IMAGE)
    assert shapes == ((1, 10),)
    assert isinstance(module.before[0], nn.Identity)
    assert isinstance(module.after, nn.Identity)


@pytest.mark.parametrize("variant", CHAIN, ids=lambda v: v.key)
def test_what_is_timed_runs(variant):
    module, shapes = joined(variant, IMAGE)
    made = module(*(torch.randn(shape) for shape in shapes))
    assert torch.isfinite(made).all()


def test_a_part_that_does_nothing_costs_nothing():
    nothing = Variant("Identity @ 6x8x8", nn.Identity(), ((6, 8, 8),))
    trial = trials([nothing], IMAGE)[nothing.key]
    assert trial.cost(5.0, {(6, 8, 8): 5.0}) == 0.0
    assert trial.cost(4.9, {(6, 8, 8): 5.0}) == 0.0  # noise
    assert trial.megabytes == 0.0


def test_numbers_are_usual_and_always_the_same():
    module = meta(lambda: nn.Sequential(nn.Conv2d(64, 32, 3), nn.BatchNorm2d(32)))
    first, second = with_numbers(module), with_numbers(module)
    assert not first.training
    for one, two in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    assert first[0].weight.std().item() == pytest.approx((64 * 9) ** -0.5, rel=0.05)
    assert torch.equal(first[1].running_var, torch.ones(32))
    assert module[0].weight.is_meta


def test_a_module_with_numbers_keeps_them():
    module = nn.Linear(3, 2)
    assert with_numbers(module) is module
