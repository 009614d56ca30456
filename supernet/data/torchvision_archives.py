"""Reads the data sets of torchvision, which can also download them: CIFAR-10, CIFAR-100, SVHN and Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supernet.data.batches import Resident
from supernet.data.dataset import CommonSettings, Data, Parts, assemble
from supernet.data.idx import read_idx
from supernet.runtime.errors import InputError

# Mean and standard deviation of CIFAR-10's training images as the DARTS code has them (quark0/darts, cnn/utils.py).
CIFAR10_MEAN = (0.49139968, 0.48215827, 0.44653124)
CIFAR10_STD = (0.24703233, 0.24348505, 0.26158768)
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_EXPECTED = {
    "CIFAR10": "cifar-10-batches-py",
    "CIFAR100": "cifar-100-python",
    "SVHN": "{train,test}_32x32.mat",
    "FashionMNIST": "FashionMNIST/raw",
}


def cifar10(
    root: str | Path = "data",
    download: bool = False,
    train_limit: int | None = None,
    test_limit: int | None = None,
    crop_padding: int = 4,
    flip: bool = True,
    mean: Sequence[float] | None = CIFAR10_MEAN,
    std: Sequence[float] | None = CIFAR10_STD,
) -> Data:
    """Reads CIFAR-10: 60,000 colour images of 32 x 32 pixels in 10 classes, 10,000 of them to test.

    Args:
        root: the folder that torchvision keeps its data sets in.
        download: whether the data set is fetched where it is not there.
        train_limit: how many training images are used at most, with every class in proportion; None uses all.
        test_limit: how many test images are used at most, with every class in proportion; None uses all.
        crop_padding: pixels of zeros on every side of a training image, from which a random crop is taken.
        flip: whether half of the training images are mirrored left to right, at random.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.

    Returns:
        The data set, named "cifar10"; its pixels are in memory.

    Raises:
        InputError: the data set is not there or damaged, or a setting is out of its range.

    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    settings = CommonSettings(crop_padding, flip, mean, std, train_limit, test_limit)
    return _read("CIFAR10", root, download, settings)


def cifar100(
    root: str | Path = "data",
    download: bool = False,
    train_limit: int | None = None,
    test_limit: int | None = None,
    crop_padding: int = 4,
    flip: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Data:
    """Reads CIFAR-100: 60,000 colour images of 32 x 32 pixels in 100 classes, 10,000 of them to test.

    Args:
        root: the folder that torchvision keeps its data sets in.
        download: whether the data set is fetched where it is not there.
        train_limit: how many training images are used at most, with every class in proportion; None uses all.
        test_limit: how many test images are used at most, with every class in proportion; None uses all.
        crop_padding: pixels of zeros on every side of a training image, from which a random crop is taken.
        flip: whether half of the training images are mirrored left to right, at random.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.

    Returns:
        The data set, named "cifar100"; its pixels are in memory.

    Raises:
        InputError: the data set is not there or damaged, or a setting is out of its range.

    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    settings = CommonSettings(crop_padding, flip, mean, std, train_limit, test_limit)
    return _read("CIFAR100", root, download, settings)


def svhn(
    root: str | Path = "data",
    download: bool = False,
    train_limit: int | None = None,
    test_limit: int | None = None,
    crop_padding: int = 4,
    flip: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Data:
    """Reads SVHN, house numbers: 99,289 colour images of 32 x 32 pixels in 10 classes, 26,032 of them to test.

    Args:
        root: the folder that torchvision keeps its data sets in.
        download: whether the data set is fetched where it is not there.
        train_limit: how many training images are used at most, with every class in proportion; None uses all.
        test_limit: how many test images are used at most, with every class in proportion; None uses all.
        crop_padding: pixels of zeros on every side of a training image, from which a random crop is taken.
        flip: whether half of the training images are mirrored left to right, at random.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.

    Returns:
        The data set, named "svhn"; its pixels are in memory.

    Raises:
        InputError: the data set is not there or damaged, or a setting is out of its range.

    Y. Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning", 2011. Images are not
    mirrored unless `flip` is set, because a mirrored 2 is not a 2.
    """
    settings = CommonSettings(crop_padding, flip, mean, std, train_limit, test_limit)
    return _read("SVHN", root, download, settings)


def fashion_mnist(
    root: str | Path = "data",
    download: bool = False,
    train_limit: int | None = None,
    test_limit: int | None = None,
    crop_padding: int = 2,
    flip: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    source: str | Path | None = None,
) -> Data:
    """Reads Fashion-MNIST: 70,000 grey images of 28 x 28 pixels in 10 classes of clothes, 10,000 of them to test.

    Args:
        root: the folder that torchvision keeps its data sets in.
        download: whether the data set is fetched where it is not there.
        train_limit: how many training images are used at most, with every class in proportion; None uses all.
        test_limit: how many test images are used at most, with every class in proportion; None uses all.
        crop_padding: pixels of zeros on every side of a training image, from which a random crop is taken.
        flip: whether half of the training images are mirrored left to right, at random.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.
        source: a folder with the four .gz files as they are published, which are read in place of `root`.

    Returns:
        The data set, named "fashionmnist"; its pixels are in memory.

    Raises:
        InputError: the data set is not there or damaged, or a setting is out of its range.

    H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
    Algorithms", 2017.
    """
    settings = CommonSettings(crop_padding, flip, mean, std, train_limit, test_limit)
    if source:
        parts = Parts(read_idx(Path(source), "train"), None, read_idx(Path(source), "t10k"), _FASHION)
        return assemble("fashionmnist", parts, settings)
    return _read("FashionMNIST", root, download, settings)


def _read(name: str, root: str | Path, download: bool, settings: CommonSettings) -> Data:
    """The data set that torchvision has under this name."""
    train, test, classes = read_torchvision(name, root, download)
    return assemble(name.lower(), Parts(train, None, test, classes), settings)


def read_torchvision(name: str, root: str | Path, download: bool) -> tuple[Resident, Resident, tuple[str, ...]]:
    """Reads a data set through torchvision.

    Args:
        name: the name of torchvision's class, such as "CIFAR10".
        root: the folder that torchvision keeps its data sets in.
        download: whether the data set is fetched where it is not there.

    Returns:
        The training images, the test images and the names of the classes.

    Raises:
        InputError: torchvision cannot be used, or the data set is not there or damaged.
    """
    try:
        import torchvision.datasets as sets
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"torchvision cannot be imported ({reason}); install the build that matches torch") from None
    if name not in _EXPECTED:
        raise InputError(f"name={name}: use one of {', '.join(_EXPECTED)}")
    halves: list[Any] = []
    for train in (True, False):
        which = {"split": "train" if train else "test"} if name == "SVHN" else {"train": train}
        try:
            halves.append(getattr(sets, name)(root, download=download, **which))
        except Exception as error:  # SciPy, pickle and torchvision raise whatever a file makes them
            reason = " ".join(str(error).split()) or type(error).__name__
            if download:
                raise InputError(f"root={root}: {name} could not be fetched ({reason}); try digits()") from None
            expected = Path(root).resolve() / _EXPECTED[name]
            raise InputError(
                f"root={root}: no complete {name} there (expected {expected}; {reason[:200]}); "
                "use download=True, or digits(), which has nothing to fetch"
            ) from None
    classes = tuple(str(c) for c in getattr(halves[0], "classes", range(10)))
    key = "labels" if name == "SVHN" else "targets"
    try:
        train_set, test_set = (
            Resident(_channels_first(half), torch.as_tensor(np.asarray(getattr(half, key))).long()) for half in halves
        )
    except Exception as error:  # SciPy, pickle and torchvision raise whatever a file makes them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"root={root}: {name} holds something else than expected ({reason}); fetch it again") from None
    return train_set, test_set, classes


def _channels_first(dataset: Any) -> Tensor:
    images = torch.as_tensor(np.asarray(dataset.data))
    if images.dim() == 3:
        return images.unsqueeze(1)
    return images if images.shape[1] == 3 else images.permute(0, 3, 1, 2).contiguous()
