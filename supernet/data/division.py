"""Which training images a search learns from and which it judges by, and which a training holds out."""

from __future__ import annotations

from torch import Tensor

from supernet.data.dataset import Data
from supernet.data.splits import stratified_split
from supernet.runtime.seeding import generator

_HALVES_STREAM, _CHOICE_STREAM = 0x4A1F, 0xC401


def search_halves(data: Data, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Divides the training images between the weights and the architecture of a search, class by class.

    Args:
        data: the data set.
        share: part of the training images that the weights learn from, in (0, 1).
        seed: of the draw.

    Returns:
        The indices of the weights' images and of the architecture's.

    Raises:
        InputError: where a class has too few images.

    Example:
        >>> from supernet.data import digits
        >>> [len(half) for half in search_halves(digits(), share=0.5, seed=0)]
        [719, 719]
    """
    return stratified_split(data.train.labels, share, generator(seed, _HALVES_STREAM).initial_seed(), data.classes)


def training_and_validation(data: Data, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """Holds a share of the training images out to choose by, class by class.

    Args:
        data: the data set.
        held_out: the share, in (0, 1).
        seed: of the draw.

    Returns:
        The indices of the images to train on and of those held out.

    Raises:
        InputError: where a class has too few images.
    """
    seed = generator(seed, _CHOICE_STREAM).initial_seed()
    held, kept = stratified_split(data.train.labels, held_out, seed, data.classes)
    return kept, held
