"""How many images each part of the job has, and the batches that follow from it where the settings name none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from supernet.data.batches import Source, steps_per_epoch
from supernet.data.dataset import Data
from supernet.data.splits import stratified_split
from supernet.runtime.seeding import generator
from supernet.search.recipe import SearchRecipe
from supernet.training.loop import Recipe

from .instantiate import named

_HALVES_STREAM, _CHOICE_STREAM = 0x4A1F, 0xC401
_LARGEST, _SMALLEST = 64, 8  # images in a batch; fewer than 8 make the norms' statistics noise


@dataclass(frozen=True)
class Parts:
    """Indices of the training images: (weights, architecture) of the search, (training, validation) of the retraining.

    `search` is None where there is no search, `retrain` where nothing is held out of the training images.
    """

    search: tuple[torch.Tensor, torch.Tensor] | None
    retrain: tuple[torch.Tensor, torch.Tensor] | None


def parts(data: Data, search: SearchRecipe | None, held: float, seed: int) -> Parts:
    """Divides the training images as the job will. Raises InputError where a class has too few of them.

    `search` is the recipe of the search, None where there is none; `held` the share that retraining holds out.
    """
    halves = retrain = None
    if search is not None:
        with named({f"search.share={search.share}": None}, way_out=", or take a known cell: genotype=darts_v2"):
            halves = _split(data, search.share, seed, _HALVES_STREAM)
    if data.valid is None and held != 0:
        with named({f"retrain_valid={held}": None}, way_out=", or hold nothing out: retrain_valid=0"):
            valid, kept = _split(data, held, seed, _CHOICE_STREAM)
        retrain = kept, valid
    return Parts(halves, retrain)


def _split(data: Data, share: float, seed: int, stream: int) -> tuple[torch.Tensor, torch.Tensor]:
    return stratified_split(data.train.labels, share, generator(seed, stream).initial_seed(), data.classes)


def with_batches(settings: Mapping[str, Any], data: Data, divided: Parts | None = None) -> dict[str, Any]:
    """The settings with a number in place of each `batch_size: null`: what follows from the images it is taken of.

    Where it is not yet known how the images are `divided`, all training images count.
    """
    search, retrain = (None, None) if divided is None else (divided.search, divided.retrain)
    made = dict(settings)
    for key, taken in (("search", search), ("retrain", retrain)):
        node = settings[key]
        if isinstance(node, dict) and node.get("batch_size", 0) is None:
            count = len(data.train if taken is None else taken[0])
            made[key] = {**node, "batch_size": batch_size(count, node.get("least_steps", 0))}
    return made


def batch_size(images: int, least_steps: Any) -> int:
    """64, or fewer where so few images would not give `least_steps` batches an epoch, but not below 8; all of a size.

    Example:
        >>> batch_size(1294, 20), batch_size(360, 20), batch_size(36, 20), batch_size(36, 0), batch_size(5, 20)
        (64, 18, 9, 36, 5)
    """
    steps = least_steps if isinstance(least_steps, int) else 0
    batches = max(1, min(images // _SMALLEST, steps))
    return max(2, min(_LARGEST, -(-images // batches)))


def described(recipe: Recipe | SearchRecipe, source: Source) -> str:
    """A recipe's length in words, where an epoch is several passes over the images or batches are small; else ""."""
    once = steps_per_epoch(source, recipe.batch_size)
    steps = steps_per_epoch(source, recipe.batch_size, recipe.least_steps)
    if steps == once and recipe.batch_size >= _LARGEST:
        return ""
    size = min(recipe.batch_size, len(source))
    passes = f" ({steps // once} passes)" if steps > once else ""
    length = f"{_count(recipe.epochs, 'epoch')} of {_count(steps, 'step')}{passes}"
    return f"{len(source):,} images: {length} in batches of {size}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)
