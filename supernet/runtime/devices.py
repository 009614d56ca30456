"""Finds a device by its name, and brings small tensors to it without waiting."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from supernet.runtime.errors import InputError


def find_device(device: str) -> torch.device:
    """Finds the device that a person names.

    Args:
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".

    Returns:
        The device.

    Raises:
        InputError: where there is no such device.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise InputError(f"device={device}: use auto, cpu, cuda or cuda:N") from None
    if found.type not in ("cpu", "cuda"):
        raise InputError(f"device={device}: use auto, cpu, cuda or cuda:N")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device={device}: {torch.cuda.device_count()} CUDA devices are visible; use auto or cpu")
    return found


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Copies a tensor to a device; to a GPU from page-locked memory, so that neither side waits for the other.

    Args:
        tensor: any tensor.
        device: where it is needed.

    Returns:
        The tensor on `device`; the same one if it is there already.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@lru_cache(maxsize=4096)
def constant(numbers: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns numbers as a tensor on a device. They are sent there once, so that a step need not wait for the GPU.

    Args:
        numbers: the numbers.
        device: where they are needed.
        dtype: the type of the tensor.

    Returns:
        (len(numbers),), shared by all who ask for it. It must not be written to.

    Example:
        >>> constant((1.0, 2.0), torch.device("cpu"))
        tensor([1., 2.])
    """
    with torch.inference_mode(False):  # to be used in training, too, wherever it is made
        return send(torch.tensor(numbers, dtype=dtype), device)
