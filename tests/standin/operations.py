"""One operation of the device, done by the CPU on the same memory."""

from typing import Any

import torch
from torch import Tensor

from tests.standin.places import Place, leaves, mapped, on_cpu

aten = torch.ops.aten

_IN_FLOAT32 = {
    *("addmm", "avg_pool2d", "avg_pool2d_backward", "baddbmm", "bmm", "convolution", "convolution_backward", "mm"),
    *("_adaptive_avg_pool2d", "_adaptive_avg_pool2d_backward", "_log_softmax", "_softmax", "mean", "sum"),
    *("native_batch_norm", "native_batch_norm_backward", "_native_batch_norm_legit"),
}
"""Operations whose sums a GPU keeps in float32 where values are bfloat16."""


def name_of(func: Any) -> str:
    """An operation's name, such as "add_"."""
    return str(func._schema.name.split("::")[1])


def compute(func: Any, args: Any, kwargs: Any, outputs: Any) -> Any:
    """Does an operation and writes what it gives to where CUDA's kernel would have.

    Args:
        func: the operation.
        args: its arguments, with places of tensors on the device; a generator is the CPU's.
        kwargs: more of them.
        outputs: places of what it made on the device, and tensors of the CPU; None: there are none yet.

    Returns:
        What it gives, on the CPU.
    """
    with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
        args, kwargs = on_cpu(args), _without_device(on_cpu(kwargs))
        values = _translated(func, args, kwargs)
        if outputs is not None:
            for target, value in zip(leaves(outputs), leaves(values), strict=True):
                _write(target, value)
        return values


def _write(target: Any, value: Any) -> None:
    if not isinstance(value, Tensor) or not isinstance(target, (Place, Tensor)):
        return
    if isinstance(target, Place):
        if target.empty or not value.numel():  # room that CUDA's form reserves and the CPU's does not
            return
        target = target.tensor()
    if target.data_ptr() != value.data_ptr() and target.shape == value.shape:
        target.copy_(value)


def _without_device(kwargs: dict[str, Any]) -> dict[str, Any]:
    changed = dict(kwargs)
    if changed.get("device") is not None:
        changed["device"] = torch.device("cpu")
    for name in ("pin_memory", "non_blocking"):
        if name in changed:
            changed[name] = None if name == "pin_memory" else False
    return changed


def _translated(func: Any, args: Any, kwargs: Any) -> Any:
    name = name_of(func)
    if name == "cudnn_batch_norm":
        made = aten.native_batch_norm(*args)
        return (*made, torch.empty(0, dtype=torch.uint8))
    if name == "cudnn_batch_norm_backward":
        values, slopes, weight, mean, variance, saved_mean, saved_deviation, epsilon, _ = args
        saved = saved_mean, saved_deviation, True, epsilon, [True, True, True]
        return aten.native_batch_norm_backward(slopes, values, weight, mean, variance, *saved)
    if name in _IN_FLOAT32:
        args = mapped(args, Tensor, lambda tensor: tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
    return func(*args, **kwargs)
