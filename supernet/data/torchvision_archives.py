"""The data sets that torchvision reads or fetches: CIFAR-10, CIFAR-100, SVHN and Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supernet.data.batches import Resident
from supernet.runtime.errors import InputError

_EXPECTED = {
    "CIFAR10": "cifar-10-batches-py",
    "CIFAR100": "cifar-100-python",
    "SVHN": "{train,test}_32x32.mat",
    "FashionMNIST": "FashionMNIST/raw",
}


def read_torchvision(name: str, root: str, download: bool) -> tuple[Resident, Resident, tuple[str, ...]]:
    """The training images, the test images and the names of the classes. Raises InputError, led by data.root."""
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
        except Exception as error:  # SciPy, pickle and torchvision raise whatever a file makes them
            reason = " ".join(str(error).split()) or type(error).__name__
            if download:
                raise InputError(f"data.root={root}: {name} could not be fetched ({reason}); try data=digits") from None
            expected = Path(root).resolve() / _EXPECTED[name]
            raise InputError(
                f"data.root={root}: no complete {name} there (expected {expected}; {reason[:200]}); "
                "use data.download=true, or data=digits"
            ) from None
    classes = tuple(str(c) for c in getattr(halves[0], "classes", range(10)))
    key = "labels" if name == "SVHN" else "targets"
    try:
        train_set, test_set = (
            Resident(_channels_first(half), torch.as_tensor(np.asarray(getattr(half, key))).long()) for half in halves
        )
    except Exception as error:  # SciPy, pickle and torchvision raise whatever a file makes them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"data.root={root}: {name} holds something else than expected ({reason}); fetch it again"
        ) from None
    return train_set, test_set, classes


def _channels_first(dataset: Any) -> Tensor:
    images = torch.as_tensor(np.asarray(dataset.data))
    if images.dim() == 3:
        return images.unsqueeze(1)
    return images if images.shape[1] == 3 else images.permute(0, 3, 1, 2).contiguous()
