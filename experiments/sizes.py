"""Divides the training images among the parts of the job, and finds sizes that the settings leave open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from supernet.data.dataset import Data
from supernet.data.splits import hold_out, search_halves
from supernet.runtime.errors import InputError
from supernet.search.recipe import SearchRecipe
from supernet.training.lengths import batch_size_for

from .instantiate import named


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
            halves = search_halves(data.train.labels, search.share, seed, data.classes, data.groups)
    if data.valid is None and held != 0:
        with named({f"retrain_valid={held}": None}, way_out=", or hold nothing out: retrain_valid=0"):
            retrain = hold_out(data.train.labels, held, seed, data.classes, data.groups)
    return Parts(halves, retrain)


def with_batches(settings: Mapping[str, Any], data: Data, divided: Parts | None = None) -> dict[str, Any]:
    """Returns the settings with each `batch_size: null` replaced by a number that follows from the number of images.

    Where it is not yet known how the images are `divided`, all training images count.
    """
    search, retrain = (None, None) if divided is None else (divided.search, divided.retrain)
    made = dict(settings)
    for key, taken in (("search", search), ("retrain", retrain)):
        node = settings[key]
        if isinstance(node, dict) and node.get("batch_size", 0) is None:
            count = len(data.train if taken is None else taken[0])
            least = node.get("least_steps", 0)  # as it was given: its kind is checked where the recipe is made
            made[key] = {**node, "batch_size": batch_size_for(count, least if isinstance(least, int) else 0)}
    return made


def check_shares(settings: Mapping[str, Any], processes: int) -> None:
    """Raises InputError where so many processes cannot share the batches, of which each needs 2 images.

    A batch that is left to the data counts with the most that it can be. So it can be asked before the data are read,
    and before any process starts.
    """
    least = 2 * processes
    for name in ("retrain",) if settings.get("genotype") else ("search", "retrain"):
        node = settings.get(name)
        size = node.get("batch_size", least) if isinstance(node, Mapping) else least
        most = batch_size_for(least, 0) if size is None else size
        if processes > 1 and isinstance(most, int) and most < least:
            raise InputError(
                f"{name}.batch_size={'null, up to ' if size is None else ''}{most}: {processes} processes share a "
                f"batch, and each needs 2 images; {least} or more, or fewer runtime.devices"
            )


def with_image_size(settings: Mapping[str, Any], shape: Sequence[int]) -> dict[str, Any]:
    """Returns the settings with the space's `image_size: null` replaced by the shorter side of the images.

    `shape` is their (channels, height, width). A space that resizes images to `resolutions` of its own stays as it is.
    """
    node = settings["space"]
    if not isinstance(node, dict) or node.get("image_size", 0) is not None or node.get("resolutions"):
        return dict(settings)
    return {**settings, "space": {**node, "image_size": min(shape[1:])}}
