"""Small tensors on a device, without waiting for it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """`tensor` on `device`. To a GPU it goes from page-locked memory, so that neither side waits for the other."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@lru_cache(maxsize=4096)
def constant(numbers: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """(len(numbers),): these numbers on `device`, sent there the first time they are wanted. Not to be written to.

    A step that writes a number of the host's into a tensor of a GPU waits until that has done all it was told.
    """
    with torch.inference_mode(False):  # to be used in training, too, wherever it is made
        return send(torch.tensor(numbers, dtype=dtype), device)
