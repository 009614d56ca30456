"""Where data come from. Each function here reads one kind of data and returns `Data`; a yaml in conf/data names it.

To add a data set write such a function and such a yaml; an `.npz` file with MedMNIST's keys or a folder of images
needs no code at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supernet.data.arrays import from_arrays, open_npz
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident, Source
from supernet.data.idx import read_idx
from supernet.data.splits import stratified_split, stratified_subset
from supernet.runtime.errors import InputError

_TEST_SHARE, _TEST_SEED = 0.2, 20_180_624  # the test images never depend on a run's seed


class Sealed:
    """The test images. They can be taken out once: results on them must not guide any choice."""

    def __init__(self, source: Source) -> None:
        self._source: Source | None = source
        self._count = len(source)

    def __len__(self) -> int:
        return self._count

    def open(self) -> Source:
        """The images, the first time; RuntimeError ever after."""
        if self._source is None:
            raise RuntimeError("the test images were used already; evaluate all candidates together, once, at the end")
        source, self._source = self._source, None
        return source


@dataclass(frozen=True)
class Data:
    """A classification data set: what may be learnt from, what may be chosen by, and the sealed rest.

    `valid` is None where the data bring no validation set of their own.
    """

    name: str
    classes: tuple[str, ...]
    train: Source
    valid: Source | None
    test: Sealed
    augmentation: Augmentation

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        return self.train.shape

    @cached_property
    def fingerprint(self) -> str:
        """Which images these are: how many, of which shape, and hashes of all labels and of some 64 images a part.

        Of the test images the labels only. To be asked before the test images are taken out.
        """
        labels, pixels = hashlib.sha256(), hashlib.sha256()
        parts = {"training": self.train, "validation": self.valid, "test": self.test._source}
        for source in parts.values():
            if source is not None:
                labels.update(source.labels.cpu().numpy().tobytes())
                if source is self.test._source:
                    continue
                places = torch.arange(0, len(source), max(1, len(source) // 64))
                pixels.update(source.raw(places).cpu().contiguous().numpy().tobytes())
        counts = ", ".join(f"{len(source or ())} {name}" for name, source in parts.items())
        shape = "x".join(map(str, self.shape))
        return f"{counts} of {shape} (labels {labels.hexdigest()[:8]}, pixels {pixels.hexdigest()[:8]})"


@dataclass(frozen=True)
class Parts:
    """Images and labels as read, before anything is held out."""

    train: Source
    valid: Source | None = None
    test: Source | None = None
    classes: tuple[str, ...] = field(default=())


def digits(crop_padding: int = 1, flip: bool = False) -> Data:
    """Scikit-learn's handwritten digits: 1,797 grey images of 8x8, packaged with it; a fifth is held out to test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy((bunch.images * (255 / 16)).round().astype(np.uint8)).unsqueeze(1)
    parts = Parts(Resident(images, torch.from_numpy(bunch.target.astype(np.int64))))
    return assemble("digits", parts, crop_padding=crop_padding, flip=flip)


def npz(
    path: str,
    classes: Sequence[str] | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    crop_padding: int = 0,
    flip: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Data:
    """Any .npz file with MedMNIST's keys: {train,val,test}_images (uint8, N x H x W [x C]) and _labels (N or N x 1).

    val_* may be missing, and without test_* a fifth of the training images is held out. The limits take a stratified
    part of a set that is too large for the time at hand.
    """
    where = f"data.path={path}"
    arrays = open_npz(path, where)
    train = from_arrays(arrays, "train", where)
    if train is None:
        raise InputError(f"{where}: no train_images and train_labels in it")
    parts = Parts(train, from_arrays(arrays, "val", where), from_arrays(arrays, "test", where), tuple(classes or ()))
    return assemble(
        Path(path).stem,
        parts,
        crop_padding=crop_padding,
        flip=flip,
        mean=mean,
        std=std,
        train_limit=train_limit,
        test_limit=test_limit,
    )


def torchvision_set(
    name: str,
    root: str = "data",
    download: bool = False,
    train_limit: int | None = None,
    test_limit: int | None = None,
    crop_padding: int = 4,
    flip: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    source: str | None = None,
) -> Data:
    """CIFAR10, CIFAR100, SVHN or FashionMNIST through torchvision, from `root`, fetched where `download` is true.

    `source` (FashionMNIST): a folder that holds the four .gz files as published, read as they are.
    """
    if source and name != "FashionMNIST":
        raise InputError(f"data.source={source}: only FashionMNIST is read from such files; give data.root for {name}")
    if source:
        parts = Parts(read_idx(Path(source), "train"), None, read_idx(Path(source), "t10k"), _FASHION)
    else:
        parts = _torchvision_parts(name, root, download)
    return assemble(
        name.lower(),
        parts,
        crop_padding=crop_padding,
        flip=flip,
        mean=mean,
        std=std,
        train_limit=train_limit,
        test_limit=test_limit,
    )


_EXPECTED = {
    "CIFAR10": "cifar-10-batches-py",
    "CIFAR100": "cifar-100-python",
    "SVHN": "{train,test}_32x32.mat",
    "FashionMNIST": "FashionMNIST/raw",
}


def _torchvision_parts(name: str, root: str, download: bool) -> Parts:
    try:
        import torchvision.datasets as sets
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"torchvision cannot be imported ({reason}); install the build that matches torch") from None
    if name not in _EXPECTED:
        raise InputError(f"data.name={name}: use one of {', '.join(_EXPECTED)}")
    halves: list[Any] = []
    for train in (True, False):
        which = {"split": "train" if train else "test"} if name == "SVHN" else {"train": train}
        try:
            halves.append(getattr(sets, name)(root, download=download, **which))
        except (RuntimeError, OSError) as error:
            if download:
                reason = " ".join(str(error).split())
                raise InputError(f"data.root={root}: {name} could not be fetched ({reason}); try data=digits") from None
            expected = Path(root).resolve() / _EXPECTED[name]
            raise InputError(
                f"data.root={root}: no complete {name} there (expected {expected}); "
                "use data.download=true, or data=digits"
            ) from None
    classes = tuple(str(c) for c in getattr(halves[0], "classes", range(10)))
    key = "labels" if name == "SVHN" else "targets"
    train_set, test_set = (
        Resident(_channels_first(half), torch.as_tensor(np.asarray(getattr(half, key))).long()) for half in halves
    )
    return Parts(train_set, None, test_set, classes)


def _channels_first(dataset: Any) -> Tensor:
    images = torch.as_tensor(np.asarray(dataset.data))
    if images.dim() == 3:
        return images.unsqueeze(1)
    return images if images.shape[1] == 3 else images.permute(0, 3, 1, 2).contiguous()


_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def assemble(
    name: str,
    parts: Parts,
    *,
    crop_padding: int,
    flip: bool,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
) -> Data:
    """Checks what was read, holds out a test set where there is none, and measures mean and deviation."""
    train, test = parts.train, parts.test
    labels = [s.labels for s in (train, parts.valid, test) if s is not None]
    if any(len(each) == 0 for each in labels) or min(int(each.min()) for each in labels) < 0:
        raise InputError(f"data {name}: needs images in every part and labels from 0 on")
    count = _count_classes(name, parts.classes, labels)
    shapes = {s.shape for s in (train, parts.valid, test) if s is not None}
    if len(shapes) > 1:
        raise InputError(f"data {name}: images of different shapes in its parts: {sorted(shapes)}")
    if min(train.shape) < 1:
        raise InputError(f"data {name}: images of shape {train.shape} hold no pixels")
    if test is None:
        held, kept = stratified_split(train.labels, _TEST_SHARE, _TEST_SEED)
        train, test = train.subset(kept), train.subset(held)
    if train_limit is not None:
        train = train.subset(stratified_subset(train.labels, train_limit, _TEST_SEED))
    if test_limit is not None:
        test = test.subset(stratified_subset(test.labels, test_limit, _TEST_SEED))
    measured = _statistics(train) if mean is None or std is None else ((), ())
    means, deviations = tuple(mean or measured[0]), tuple(std or measured[1])
    if len(means) != train.shape[0]:
        raise InputError(f"data.mean={list(means)}: the images have {train.shape[0]} channels, give one number each")
    augmentation = Augmentation(means, deviations, crop_padding, flip)
    classes = parts.classes or tuple(str(label) for label in range(count))
    return Data(name, classes, train, parts.valid, Sealed(test), augmentation)


def _count_classes(name: str, classes: Sequence[str], labels: Sequence[Tensor]) -> int:
    """How many classes there are by the labels of all parts; each must have training images (the first part)."""
    count = max(int(each.max()) for each in labels) + 1
    if count < 2 or (classes and len(classes) < count):
        wanted = f"{len(classes)} named" if classes else "at least 2 expected"
        raise InputError(f"data {name}: {count} classes by the labels, {wanted}")
    present = set(labels[0].unique().tolist())
    if len(present) < max(count, len(classes)):
        first = next(label for label in range(count + 1) if label not in present)
        named = f" ({classes[first]})" if first < len(classes) else ""
        raise InputError(f"data {name}: no training images of class {first}{named}; labels count from 0 without gaps")
    if len(set(classes)) != len(classes):
        raise InputError(f"data {name}: two classes have one name among {', '.join(classes)}")
    return count


def _statistics(source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, pixels in [0, 1], over up to some 5,000 images."""
    indices = torch.arange(0, len(source), max(1, len(source) // 5000))
    total, squares = torch.zeros(2, source.shape[0], dtype=torch.float64)
    pixels = 0
    for part in indices.split(500):
        values = source.raw(part).double().div_(255)
        total += values.sum(dim=(0, 2, 3))
        squares += values.square().sum(dim=(0, 2, 3))
        pixels += values[:, 0].numel()
    mean = total / pixels
    deviation = (squares / pixels - mean**2).clamp_min(1e-8).sqrt()
    return tuple(round(v, 6) for v in mean.tolist()), tuple(round(v, 6) for v in deviation.tolist())
