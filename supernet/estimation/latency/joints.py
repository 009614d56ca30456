"""What is timed for a part of a network: the part between two 1x1 convolutions, as others stand beside it in a network.

A part alone would be given its input in the plain order of channels, and would have to give its output so. In a whole
network it gets and gives them as its neighbours have them: ONNX Runtime keeps channels in blocks, and reorders them
where an operation cannot use that. So a convolution makes the input of each part and one reads its output. What the two
cost is measured by themselves, at each size that a part is given or gives, and is taken off again, one half on either
side of a joint: what is taken off in a chain of parts is exactly what was added.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supernet.estimation.costs import stored_bytes
from supernet.estimation.latency.onnx_programs import Timed
from supernet.estimation.parts import Recorded, Shape, Variant
from supernet.space.architecture import Architecture

_NARROW = 8
"""Channels outside of the convolutions: a full block of ONNX Runtime's, and little work."""


@dataclass(frozen=True)
class Trial:
    """What is timed for one part, and the joints whose time is not the part's.

    Args:
        joints: the sizes at which the part is joined to a convolution, (channels, height, width).
        megabytes: of the part's parameters and buffers.
    """

    joints: tuple[Shape, ...]
    megabytes: float

    def cost(self, milliseconds: float, joints: Mapping[Shape, float]) -> float:
        """What the part itself takes.

        Args:
            milliseconds: of the part between its convolutions.
            joints: milliseconds of the two convolutions at each size.

        Returns:
            Milliseconds, 0 or more.
        """
        return max(0.0, milliseconds - sum(joints[shape] for shape in self.joints) / 2)


def trials(variants: Iterable[Variant], image: Shape) -> dict[str, Trial]:
    """What is timed for each part.

    Args:
        variants: the parts' modules.
        image: the size of an image: what is given this many channels is the first part and gets them as they are.

    Returns:
        By the parts' keys.
    """
    found = {}
    for variant in variants:
        with torch.no_grad():
            made = variant.module(*variant.inputs())
        sizes = (*(s for s in variant.shapes if s[0] != image[0]), tuple(made.shape[1:]))
        joints = tuple(shape for shape in sizes if len(shape) == 3)
        found[variant.key] = Trial(joints, stored_bytes(variant.module) / 1e6)
    return found


def joined(variant: Variant, image: Shape) -> Timed:
    """A part between its convolutions, with random weights.

    Args:
        variant: the part's module, on the meta device.
        image: the size of an image.

    Returns:
        The module, and the shapes of its inputs.
    """
    before = [_before(shape) if len(shape) == 3 and shape[0] != image[0] else nn.Identity() for shape in variant.shapes]
    with torch.no_grad():
        made = variant.module(*variant.inputs())
    after = _after(tuple(made.shape[1:])) if made.dim() == 4 else nn.Identity()
    shapes = tuple(
        (1, _NARROW, *shape[1:]) if isinstance(own, nn.Conv2d) else (1, *shape)
        for own, shape in zip(before, variant.shapes, strict=True)
    )
    return _Joined(before, with_numbers(variant.module), after), shapes


def joint(shape: Shape) -> Timed:
    """The two convolutions at one joint, without a part between them.

    Args:
        shape: (channels, height, width) between them.

    Returns:
        The module, and the shape of its input.
    """
    return nn.Sequential(_before(shape), _after(shape)), ((1, _NARROW, *shape[1:]),)


def image_of(recorded: Recorded, architecture: Architecture) -> Shape:
    """The size of the images that the network of an architecture computes on.

    A space can choose the resolution. Then its networks resize what they are given, and are measured on images that
    have their size: a device takes or makes them so.

    Args:
        recorded: the parts of the space.
        architecture: of the space.

    Returns:
        (channels, height, width).
    """
    first = recorded.parts[0]
    found = first.variants.get(tuple(architecture[name][0] for name in first.decisions))
    same = found is not None and len(found.shapes) == 1 and found.shapes[0][0] == recorded.shape[0]
    return found.shapes[0] if found is not None and same else recorded.shape


class _Joined(nn.Module):
    def __init__(self, before: list[nn.Module], part: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before, self.part, self.after = nn.ModuleList(before), part, after

    def forward(self, *inputs: Tensor) -> Tensor:
        made: Tensor = self.after(self.part(*(own(x) for own, x in zip(self.before, inputs, strict=True))))
        return made


def _before(shape: Shape) -> nn.Module:
    return nn.Conv2d(_NARROW, shape[0], 1)


def _after(shape: Shape) -> nn.Module:
    return nn.Conv2d(shape[0], _NARROW, 1)


def with_numbers(module: nn.Module) -> nn.Module:
    """A copy of a module on the meta device, with numbers: random weights of a usual size, and ones as statistics.

    Args:
        module: any; those that have numbers stay as they are.

    Returns:
        The copy, on the processor, in evaluation mode.

    Example:
        >>> with torch.device("meta"):
        ...     empty = nn.Linear(3, 2)
        >>> with_numbers(empty)(torch.zeros(1, 3)).shape
        torch.Size([1, 2])
    """
    if not any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        return module.eval()
    made = copy.deepcopy(module).to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            fan = max(1, math.prod(parameter.shape[1:]))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(fan))
        for buffer in made.buffers():
            buffer.fill_(1)
    return made
