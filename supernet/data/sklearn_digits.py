"""Reads the handwritten digits that scikit-learn contains."""

from __future__ import annotations

import numpy as np
import torch

from supernet.data.batches import Resident
from supernet.data.dataset import CommonSettings, Data, Parts, assemble


def digits(crop_padding: int = 1, flip: bool = False) -> Data:
    """Reads scikit-learn's handwritten digits: 1,797 grey images of 8 x 8 pixels in 10 classes, with nothing to fetch.

    A fifth of each class is held out to test.

    Args:
        crop_padding: pixels of zeros on every side of a training image, from which a random crop is taken.
        flip: whether half of the training images are mirrored left to right, at random.

    Returns:
        The data set; its pixels are in memory.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> import supernet
        >>> data = supernet.data.digits()
        >>> data.name, data.shape, data.classes[:3]
        ('digits', (1, 8, 8), ('0', '1', '2'))

    The images are the test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """
    from sklearn.datasets import load_digits  # slow to import, and other data do not need it

    bunch = load_digits()
    images = torch.from_numpy((bunch.images * (255 / 16)).round().astype(np.uint8)).unsqueeze(1)
    parts = Parts(Resident(images, torch.from_numpy(bunch.target.astype(np.int64))))
    return assemble("digits", parts, CommonSettings(crop_padding, flip))
