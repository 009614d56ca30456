"""The default size of a batch, and the length of a recipe in words."""

from __future__ import annotations

from supernet.data.batches import Source, steps_per_epoch
from supernet.runtime.text import quantity
from supernet.training.epochs import LoopRecipe

_LARGEST, _SMALLEST = 64, 8  # images in a batch; fewer than 8 make the norms' statistics noise


def batch_size_for(images: int, least_steps: int) -> int:
    """Computes a batch size from the number of images; all batches of an epoch have about this size.

    Args:
        images: how many an epoch goes over.
        least_steps: the number of batches that an epoch should have at least.

    Returns:
        64, or fewer where 64 would not give `least_steps` batches, but 8 or more where there are 8 images.

    Example:
        >>> [batch_size_for(images, 20) for images in (1294, 360, 36, 5)], batch_size_for(36, 0)
        ([64, 18, 9, 5], 36)
    """
    batches = max(1, min(images // _SMALLEST, least_steps))
    return max(2, min(_LARGEST, -(-images // batches)))


def length_in_words(recipe: LoopRecipe, source: Source) -> str:
    """A recipe's length, where an epoch is several passes over the images or batches are small; otherwise "".

    Args:
        recipe: of a search or of a training.
        source: the images that an epoch goes over.

    Returns:
        Such as "36 images: 20 epochs of 20 steps (5 passes) in batches of 9".
    """
    once = steps_per_epoch(source, recipe.batch_size)
    steps = steps_per_epoch(source, recipe.batch_size, recipe.least_steps)
    if steps == once and recipe.batch_size >= _LARGEST:
        return ""
    size = min(recipe.batch_size, len(source))
    passes = f" ({quantity(steps // once, 'pass')})" if steps > once else ""
    length = f"{quantity(recipe.epochs, 'epoch')} of {quantity(steps, 'step')}{passes}"
    return f"{quantity(len(source), 'image')}: {length} in batches of {size}"
