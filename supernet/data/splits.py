"""Splits and subsets in which every class keeps its share."""

from collections.abc import Sequence

import torch
from torch import Tensor

from supernet.data.stratification import iterative_split
from supernet.data.targets import kind_of, most_named, presence
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator
from supernet.runtime.text import quantity

_SPLIT_STREAM, _SEARCH_STREAM, _CHOICE_STREAM = 0x5711, 0x4A1F, 0xC401


def stratified_split(
    labels: Tensor, fraction: float, seed: int, classes: Sequence[str] = (), groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Splits a set in two so that every class keeps its share on both sides.

    Where an image may show several classes, or images belong together, shares are kept as well as they can be.

    The first side has round(fraction * N) images, spread over the classes by largest remainder. It has more or fewer
    only where a class would be empty on one side otherwise.

    Args:
        labels: of N images, of any kind (`supernet.data.targets`).
        fraction: the share of the first side, between 0 and 1.
        seed: of the random choice.
        classes: the names of the classes, for messages.
        groups: (N,) int64, one number for all images that belong on one side, such as those of a patient.

    Returns:
        The places of the first side and those of the second, two sorted int64 tensors.

    Raises:
        InputError: there is no image, a class has only one, or `fraction` is out of its range.

    Example:
        >>> first, second = stratified_split(torch.tensor([0, 1] * 5), 0.2, seed=0)
        >>> len(first), len(second)
        (2, 8)
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction={fraction}: a split needs a number between 0 and 1, both excluded")
    if len(labels) == 0:
        raise InputError("cannot split a set without images")
    if groups is not None or kind_of(labels) != "classes":
        return _by_presence(labels, fraction, seed, classes, groups)
    counts = torch.bincount(labels)
    shares = _shares(counts, int(fraction * len(labels) + 0.5))
    for index, (count, share) in enumerate(zip(counts.tolist(), shares.tolist(), strict=True)):
        if count == 1:
            raise InputError(
                f"class {_named(index, classes)} has 1 image, too few to have some on both sides of a "
                f"{fraction:.0%} / {1 - fraction:.0%} split; give it more images or leave the class out"
            )
        if count and share in (0, count):
            shares[index] = 1 if share == 0 else count - 1
    chosen = _draw(labels, counts, shares, seed)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[chosen] = False
    return chosen, rest.nonzero().flatten()


def search_halves(
    labels: Tensor, share: float, seed: int, classes: Sequence[str] = (), groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Divides the training images of a search.

    Args:
        labels: of N training images, of any kind (`supernet.data.targets`).
        share: of the images that the supernet's weights learn from.
        seed: of the search.
        classes: the names of the classes, for messages.
        groups: (N,) int64, one number for all images that belong on one side, such as those of a patient.

    Returns:
        Sorted indices of the images that the weights learn from, and of those that judge architectures.

    Raises:
        InputError: where a class has too few images for both.

    Example:
        >>> weights, architectures = search_halves(torch.tensor([0, 1] * 4), 0.5, seed=0)
        >>> len(weights), len(architectures)
        (4, 4)
    """
    return stratified_split(labels, share, generator(seed, _SEARCH_STREAM).initial_seed(), classes, groups)


def hold_out(
    labels: Tensor, share: float, seed: int, classes: Sequence[str] = (), groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Holds training images out, to choose a network by while it is trained.

    Args:
        labels: of N training images, of any kind (`supernet.data.targets`).
        share: of the images that are held out.
        seed: of the training.
        classes: the names of the classes, for messages.
        groups: (N,) int64, one number for all images that belong on one side, such as those of a patient.

    Returns:
        Sorted indices of the images that are learnt from, and of those that are held out.

    Raises:
        InputError: where a class has too few images for both.

    Example:
        >>> learnt, held = hold_out(torch.tensor([0, 1] * 4), 0.25, seed=0)
        >>> len(learnt), len(held)
        (6, 2)
    """
    held, learnt = stratified_split(labels, share, generator(seed, _CHOICE_STREAM).initial_seed(), classes, groups)
    return learnt, held


def split_with_copies(
    labels: Tensor, groups: Tensor, fraction: float, seed: int, classes: Sequence[str] = ()
) -> tuple[Tensor, Tensor]:
    """Splits a set as `stratified_split` does, with all copies of an image on one side.

    The different images are split, at least one of each class to each side, and their copies follow. Without copies the
    result is that of `stratified_split`.

    Args:
        labels: (N,) int64.
        groups: (N,) int64, one number for all copies of an image.
        fraction: the share of the first side, between 0 and 1.
        seed: of the random choice.
        classes: the names of the classes, for messages.

    Returns:
        The places of the first side and those of the second, two sorted int64 tensors.

    Raises:
        InputError: all images of a class are copies of one, or as in `stratified_split`.
    """
    owners = groups * (int(labels.max()) + 1) + labels
    different, member = owners.unique(return_inverse=True)
    if len(different) == len(labels):
        return stratified_split(labels, fraction, seed, classes)
    first = torch.full_like(different, len(labels)).scatter_reduce(0, member, torch.arange(len(labels)), "amin")
    kinds = labels[first]
    counts = torch.bincount(kinds)
    for index, count in enumerate(counts.tolist()):
        if count == 1:
            raise InputError(
                f"class {_named(index, classes)} has 1 image but for exact copies, too few to have some on both sides "
                "of a split; give it more images or leave the class out"
            )
    shares = _shares(counts, int(fraction * len(kinds) + 0.5)).clamp(torch.minimum(counts, torch.tensor(1)))
    chosen = torch.isin(member, _draw(kinds, counts, shares, seed))
    return chosen.nonzero().flatten(), (~chosen).nonzero().flatten()


def stratified_subset(labels: Tensor, size: int, seed: int, classes: Sequence[str] = ()) -> Tensor:
    """Chooses a part of a set in which every class keeps its share.

    Args:
        labels: of N images, of any kind (`supernet.data.targets`).
        size: how many images; all of them if there are no more.
        seed: of the random choice.
        classes: the names of the classes, for messages.

    Returns:
        (min(size, N),) int64, the sorted places of the chosen images.

    Raises:
        InputError: a class would have no image, or `size` is below 1.
    """
    if size < 1:
        raise InputError(f"a subset of {quantity(size, 'image')}: need at least 1")
    if size >= len(labels):
        return torch.arange(len(labels))
    if kind_of(labels) != "classes":
        shown = presence(labels, max(most_named(labels), len(classes)))
        return iterative_split(shown, size / len(labels), seed, both=False).nonzero().flatten()
    counts = torch.bincount(labels)
    shares = _shares(counts, size)
    lost = ((counts > 0) & (shares == 0)).nonzero().flatten()
    if len(lost):
        enough = -(-len(labels) // int(counts[counts > 0].min()))
        name = _named(int(lost[0]), classes)
        raise InputError(
            f"a subset of {quantity(size, 'image')} leaves class {name} without any; take at least {enough}"
        )
    return _draw(labels, counts, shares, seed)


def _by_presence(
    labels: Tensor, fraction: float, seed: int, classes: Sequence[str], groups: Tensor | None
) -> tuple[Tensor, Tensor]:
    """A split of images of which each may show several classes, or that belong together."""
    if len(labels) < 2 or (groups is not None and len(groups.unique()) < 2):
        many = f"{quantity(len(labels), 'image')} of one group, or copies of one" if len(labels) > 1 else "one image"
        raise InputError(f"{many}, and a split needs two that may be parted; give more images")
    shown = presence(labels, max(most_named(labels), len(classes)))
    first = iterative_split(shown, fraction, seed, groups)
    if kind_of(labels) == "classes":
        for side in (shown[first], shown[~first]):
            if len(lost := (shown.any(0) & ~side.any(0)).nonzero().flatten()):
                raise InputError(
                    f"class {_named(int(lost[0]), classes)} has images of too few groups to have some on both sides of "
                    f"a {fraction:.0%} / {1 - fraction:.0%} split; give it more groups or leave the class out"
                )
    return first.nonzero().flatten(), (~first).nonzero().flatten()


def _named(label: int, classes: Sequence[str]) -> str:
    return f"{label} ({classes[label]})" if label < len(classes) else str(label)


def _shares(counts: Tensor, total: int) -> Tensor:
    """Whole numbers per class that sum to `total`, in proportion to the counts (largest remainder)."""
    everything = int(counts.sum())
    shares = counts * total // everything
    remainders = counts * total % everything
    missing = total - int(shares.sum())
    shares[torch.argsort(remainders, descending=True, stable=True)[:missing]] += 1
    return shares


def _draw(labels: Tensor, counts: Tensor, shares: Tensor, seed: int) -> Tensor:
    """The sorted places of `shares[c]` random images of each class c."""
    order = torch.randperm(len(labels), generator=generator(seed, _SPLIT_STREAM))
    order = order[torch.argsort(labels[order], stable=True)]
    sorted_labels = labels[order]
    place_in_class = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[sorted_labels]
    return order[place_in_class < shares[sorted_labels]].sort().values
