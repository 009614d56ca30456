"""Where data come from. Each function here reads one kind of data and returns `Data`; a yaml in conf/data names it.

To add a data set write such a function and such a yaml; an `.npz` file with MedMNIST's keys or a folder of images
needs no code at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident, Source
from supernet.data.idx import read_idx
from supernet.data.images import PLAIN, Preparation
from supernet.data.npz import open_npz, read_parts
from supernet.data.reading import Reading, class_counts, hashed, majority
from supernet.data.splits import split_with_copies, stratified_split, stratified_subset
from supernet.data.torchvision_archives import read_torchvision
from supernet.runtime.errors import InputError

_TEST_SHARE, _TEST_SEED = 0.2, 20_180_624  # the test images never depend on a run's seed
_FLAT = 1e-4  # the measured deviation of pixels that are all alike


class Sealed:
    """The test images. They can be taken out once: results on them must not guide any choice."""

    def __init__(self, source: Source) -> None:
        self._source: Source | None = source
        self._labels, self._digest = source.labels, source.digest()

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def labels(self) -> Tensor:
        """(N,) int64: how many images of each class there are may be known at any time."""
        return self._labels

    @property
    def digest(self) -> str:
        """The hash by which these images are recognised."""
        return self._digest

    def open(self) -> Source:
        """The images, the first time; RuntimeError ever after."""
        if self._source is None:
            raise RuntimeError("the test images were used already; evaluate all candidates together, once, at the end")
        source, self._source = self._source, None
        return source


@dataclass(frozen=True)
class Data:
    """A classification data set: what may be learnt from, what may be chosen by, and the sealed rest.

    `valid` is None where the data bring no validation set of their own. `held_out`: the test images were drawn from
    the training images; `notes`: what the reader left out or changed, a short line each.
    """

    name: str
    classes: tuple[str, ...]
    train: Source
    valid: Source | None
    test: Sealed
    augmentation: Augmentation
    held_out: bool = False
    notes: tuple[str, ...] = ()

    @property
    def reading(self) -> Reading:
        """What was read, for people."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        counts = {p: class_counts(s.labels, len(self.classes)) for p, s in parts.items() if s is not None}
        return Reading(self.classes, counts, self.shape, self.held_out, self.notes)

    @property
    def majority(self) -> float:
        """The share of the largest class among the test images: the accuracy of always naming it."""
        return majority(class_counts(self.test.labels, len(self.classes)))

    @property
    def fingerprint(self) -> str:
        """A hash of the images and labels of all parts: other data of the same name have another one."""
        return hashed((self.train.digest(), self.valid.digest() if self.valid else "", self.test.digest))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image as a network is given it."""
        return self.augmentation.output(self.train.shape)


@dataclass(frozen=True)
class Parts:
    """Images and labels as read, before anything is held out.

    `copies` (N,): one number for all training images of the same content, where that was looked for.
    """

    train: Source
    valid: Source | None = None
    test: Source | None = None
    classes: tuple[str, ...] = field(default=())
    copies: Tensor | None = None
    notes: tuple[str, ...] = ()


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
    part of a set that is too large for the time at hand. Channels may come first; whole numbers up to 65535 and floats
    in [0, 1] or [0, 255] become 256 levels; labels may be one-hot. Four channels stay four.
    """
    where = f"data.path={path}"
    read, scale, notes = read_parts(open_npz(path, where), where)
    named = tuple(str(name) for name in classes or ())
    parts = Parts(read["train"], read.get("val"), read.get("test"), named, notes=tuple(notes))
    return assemble(
        Path(path).stem,
        parts,
        crop_padding=crop_padding,
        flip=flip,
        mean=mean,
        std=std,
        train_limit=train_limit,
        test_limit=test_limit,
        preparation=Preparation(white=int(scale.white)) if scale.white > 255 else PLAIN,
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
        train, test, named = read_torchvision(name, root, download)
        parts = Parts(train, None, test, named)
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
    preparation: Preparation = PLAIN,
    scale: Sequence[float] | None = None,
) -> Data:
    """Checks what was read, holds out a test set where there is none, and measures mean and deviation."""
    classes = _check(name, parts)
    train, test = parts.train, parts.test
    if test is None:
        train, test = _hold_out(name, parts, classes)
    if train_limit is not None:
        train = train.subset(stratified_subset(train.labels, train_limit, _TEST_SEED, parts.classes))
    if test_limit is not None:
        test = test.subset(stratified_subset(test.labels, test_limit, _TEST_SEED, parts.classes))
    measured = _statistics(train) if mean is None or std is None else ((), ())
    means, deviations = tuple(measured[0] if mean is None else mean), tuple(measured[1] if std is None else std)
    if len(means) != train.shape[0]:
        raise InputError(f"data.mean={list(means)}: the images have {train.shape[0]} channels, give one number each")
    flat = ("all pixels of the training images have one value",) if max(measured[1], default=1) <= _FLAT else ()
    shares = None if scale is None else tuple(scale)
    augmentation = Augmentation(means, deviations, crop_padding, flip, preparation=preparation, scale=shares)
    held_out = parts.test is None
    return Data(name, classes, train, parts.valid, Sealed(test), augmentation, held_out, (*parts.notes, *flat))


def _check(name: str, parts: Parts) -> tuple[str, ...]:
    """The names of the classes, once labels and shapes of all parts go together. Raises InputError."""
    given = [s for s in (parts.train, parts.valid, parts.test) if s is not None]
    labels = [s.labels for s in given]
    if any(len(each) == 0 for each in labels) or min(int(each.min()) for each in labels) < 0:
        raise InputError(f"data {name}: needs images in every part and labels from 0 on")
    count = _count_classes(name, parts.classes, labels)
    shapes = {s.shape for s in given}
    if len(shapes) > 1:
        raise InputError(f"data {name}: images of different shapes in its parts: {sorted(shapes)}")
    if min(parts.train.shape) < 1:
        raise InputError(f"data {name}: images of shape {parts.train.shape} hold no pixels")
    return parts.classes or tuple(str(label) for label in range(count))


def _hold_out(name: str, parts: Parts, classes: tuple[str, ...]) -> tuple[Source, Source]:
    """(training images, test images), copies of one image on one side."""
    train, key = parts.train, (_TEST_SHARE, _TEST_SEED, classes)
    try:
        if parts.copies is None:
            held, kept = stratified_split(train.labels, *key)
        else:
            held, kept = split_with_copies(train.labels, parts.copies, *key)
    except InputError as error:
        raise InputError(f"data {name}: a fifth is held out to test: {error}") from None
    return train.subset(kept), train.subset(held)


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
