"""Images in folders, one folder a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from supernet.data.batches import Files, Resident, Source
from supernet.data.images import SUFFIXES, image_shape, read_image
from supernet.data.sources import Data, Parts, assemble
from supernet.runtime.errors import InputError


def image_folder(
    path: str,
    size: Sequence[int] | None = None,
    crop_padding: int = 0,
    flip: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    workers: int = 0,
    resident_gib: float = 2.0,
) -> Data:
    """A folder with train/<class>/<image>, perhaps val and test beside it, or <class>/<image> alone.

    `size`: [height, width] that all become; needed only where they differ. Sets of up to `resident_gib` stay in
    memory, larger ones are read when needed, by `workers` processes.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"data.path={path}: no such folder; expected train/<class>/<image> or <class>/<image> in it")
    train_root = root / "train" if (root / "train").is_dir() else root
    classes = tuple(sorted(p.name for p in train_root.iterdir() if p.is_dir() and not p.name.startswith(".")))
    if not classes:
        raise InputError(f"data.path={path}: no folder for a class in it; expected train/<class>/<image>")
    if workers < 0 or resident_gib < 0:
        raise InputError(f"data.workers={workers} and data.resident_gib={resident_gib} must be 0 or more")
    listed = {
        "train": _list_images(train_root, classes),
        "val": next((_list_images(root / n, classes) for n in ("val", "valid") if (root / n).is_dir()), None),
        "test": _list_images(root / "test", classes) if (root / "test").is_dir() and train_root != root else None,
    }
    shape = _common_shape([p for found in listed.values() if found for p in found[0]], size)
    count = sum(len(found[0]) for found in listed.values() if found)
    resident = count * shape[0] * shape[1] * shape[2] <= resident_gib * 2**30

    def source(part: str) -> Source | None:
        found = listed[part]
        if found is None:
            return None
        files = Files(tuple(found[0]), found[1], shape, resize=size is not None, workers=workers)
        if not resident:
            return files
        images = torch.stack([read_image(p, shape, resize=size is not None) for p in found[0]])
        return Resident(images, found[1])

    train = source("train")
    assert train is not None
    parts = Parts(train, source("val"), source("test"), classes)
    return assemble(root.name, parts, crop_padding=crop_padding, flip=flip, mean=mean, std=std)


def _list_images(folder: Path, classes: tuple[str, ...]) -> tuple[list[str], Tensor]:
    extra = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name not in classes and p.name[0] != ".")
    if extra:
        raise InputError(f"data.path: class {extra[0]!r} in {folder} is not among the training classes")
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(str(p) for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise InputError(f"data.path: no images in {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    return paths, torch.tensor(labels)


def _common_shape(paths: Sequence[str], size: Sequence[int] | None) -> tuple[int, int, int]:
    """(channels, height, width): colour if any of some 50 sampled images has it, the size asked for or theirs."""
    shapes = {image_shape(p) for p in paths[:: max(1, len(paths) // 50)]}
    channels = max(shape[0] for shape in shapes)
    if size is not None:
        if len(size) != 2 or min(size) < 1:
            raise InputError(f"data.size={list(size)}: use [height, width]")
        return channels, int(size[0]), int(size[1])
    sizes = sorted({shape[1:] for shape in shapes})
    if len(sizes) > 1:
        raise InputError(f"data.path: images of {len(sizes)} sizes, {sizes[0]} to {sizes[-1]}; set data.size=[H,W]")
    return channels, *sizes[0]
