"""Says in one line what a module is made of: the key under which a table of measurements has it."""

from __future__ import annotations

from typing import Any

from torch import nn

from supernet.space.dropout import DropPath


def described(module: nn.Module) -> str:
    """Says in one line what a module is made of. Modules that compute the same with other numbers have equal lines.

    Args:
        module: any module.

    Returns:
        The class names, sizes and settings of the module and all that is in it.

    Example:
        >>> described(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.ReLU()))
        'Sequential(Conv2d(8>8 3x3 pad1 groups8), ReLU)'
    """
    kind = type(module).__name__
    if isinstance(module, nn.Conv2d):
        return f"{kind}({_convolution(module)})"
    if isinstance(module, nn.Linear):
        return f"{kind}({module.in_features}>{module.out_features}{'' if module.bias is None else ' bias'})"
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return f"{kind}({module.num_features}{'' if module.affine else ' fixed'})"
    if isinstance(module, DropPath):  # does nothing in a final network, but says that the block has a shortcut
        return kind
    own = [module.extra_repr()] if module.extra_repr() else []
    if not type(module).__module__.startswith("torch."):
        own += [f"{name}={value}" for name, value in vars(module).items() if _is_setting(name, value)]
    inside = [described(child) for child in module.children() if not isinstance(child, nn.Dropout)]
    return f"{kind}({', '.join(own + inside)})" if own or inside else kind


def _is_setting(name: str, value: Any) -> bool:
    plain = isinstance(value, bool | int | float | str | tuple)
    return plain and not name.startswith("_") and name not in ("training", "call_super_init", "dump_patches")


def _convolution(conv: nn.Conv2d) -> str:
    """Its channels and kernel, and what is not usual: 8>16 3x3 stride2 pad1."""

    def sides(name: str, value: Any, usual: int) -> list[str]:
        height, width = value if isinstance(value, tuple) else (value, value)
        if height == width == usual:
            return []
        return [f"{name}{height}" if height == width else f"{name}{height}x{width}"]

    words = [f"{conv.in_channels}>{conv.out_channels}", "x".join(map(str, conv.kernel_size))]
    words += [*sides("stride", conv.stride, 1), *sides("pad", conv.padding, 0), *sides("dilation", conv.dilation, 1)]
    words += [] if conv.groups == 1 else [f"groups{conv.groups}"]
    return " ".join([*words, *([] if conv.bias is None else ["bias"])])
