import pytest
import torch

from supernet.data.splits import stratified_split, stratified_subset
from supernet.data.stratification import iterative_split
from supernet.data.targets import padded
from supernet.runtime.errors import InputError

RARE = torch.tensor([0.5, 0.3, 0.1, 0.04, 0.01])


def drawn(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, len(RARE), generator=torch.Generator().manual_seed(seed)) < RARE


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
def test_every_label_keeps_its_share(fraction):
    shown = drawn(2001)
    first = iterative_split(shown, fraction, seed=0)
    assert first.sum() == int(fraction * 2001 + 0.5)
    expected = fraction * shown.sum(0)
    assert (shown[first].sum(0) - expected).abs().max() <= 1.5
    nothing = ~shown.any(1)
    assert abs(nothing[first].sum() - fraction * nothing.sum()) < 0.006 * len(shown)


def test_it_is_better_than_chance_and_another_seed_is_another_split():
    shown = drawn(500, seed=3)

    def error(first: torch.Tensor) -> float:
        return float((shown[first].sum(0) / shown.sum(0) - 0.5).abs().mean())

    dealt = [iterative_split(shown, 0.5, seed) for seed in range(5)]
    chance = [torch.rand(500, generator=torch.Generator().manual_seed(seed)) < 0.5 for seed in range(5)]
    assert max(map(error, dealt)) < min(map(error, chance))
    assert torch.equal(dealt[1], iterative_split(shown, 0.5, 1))
    assert not torch.equal(dealt[0], dealt[1])


def test_groups_are_never_divided_and_labels_keep_their_share():
    shown = drawn(3000)
    groups = torch.randint(0, 700, (3000,), generator=torch.Generator().manual_seed(1)) * 10
    first = iterative_split(shown, 0.2, 0, groups)
    assert not set(groups[first].tolist()) & set(groups[~first].tolist())
    assert abs(first.sum() - 600) < 15
    assert (shown[first].sum(0) - 0.2 * shown.sum(0)).abs().max() <= 3


def test_a_label_of_two_images_is_on_both_sides():
    for seed in range(10):
        shown = torch.zeros(50, 2, dtype=torch.bool)
        shown[[7, 31], 0] = True
        first = iterative_split(shown, 0.1, seed)
        assert first[7] != first[31]
        assert 4 <= first.sum() <= 6


def test_a_class_comes_to_both_sides_but_takes_no_other_one_away():
    """Of few images, so that it often has to be brought there, and often would be at another one's cost."""

    def one_sided(shown, first):
        return {c for c in range(8) if shown[:, c].sum() > 1 and bool(shown[first, c].any() != shown[~first, c].any())}

    brought = 0
    for seed in range(60):
        shown = torch.rand(8, 8, generator=torch.Generator().manual_seed(seed)) < 0.25
        before, after = (one_sided(shown, iterative_split(shown, 0.2, seed, both=both)) for both in (False, True))
        assert after <= before
        brought += len(before - after)
    assert brought > 10


def test_a_large_group_does_not_fill_the_small_side():
    groups = torch.tensor([0] * 60 + list(range(1, 41)))
    first = iterative_split(torch.ones(100, 1, dtype=torch.bool), 0.2, 0, groups)
    assert not first[0]
    assert first.sum() == 20


def test_splits_of_every_kind_of_labels():
    labels = torch.where(drawn(200), 1, 0)
    labels[:20] = -1  # unknown shows nothing
    boxes = padded(
        [torch.tensor([[float(c), 0, 0, 4, 4, 0, 16] for c in row.nonzero()[:, 0]]).view(-1, 7) for row in drawn(200)]
    )
    for kind in (labels, boxes):
        first, second = stratified_split(kind, 0.25, 0)
        assert len(first) in (50, 51)  # one more where a rare label would be missing
        assert torch.cat((first, second)).sort().values.tolist() == list(range(200))
        assert len(stratified_subset(kind, 33, 0)) == 33
    classes, groups = torch.arange(60) % 3, torch.arange(60) // 3
    first, second = stratified_split(classes, 0.5, 0, groups=groups)
    assert not set(groups[first].tolist()) & set(groups[second].tolist())
    assert torch.bincount(classes[first]).tolist() == [10, 10, 10]


def test_classes_of_one_group_are_named():
    classes, groups = torch.tensor([0] * 9 + [1] * 3), torch.tensor([*range(9), 9, 9, 9])
    with pytest.raises(InputError, match=r"class 1 \(cat\) has images of too few groups to have some on both sides"):
        stratified_split(classes, 0.5, 0, ("dog", "cat"), groups)
