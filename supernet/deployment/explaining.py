"""Where a network looked: Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from supernet.deployment.drawing import overlaid, write_picture
from supernet.deployment.pictures import Picture
from supernet.runtime.errors import InputError

_HEAD = "prediction"  # what networks call a head on maps of several resolutions


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a network looked for an answer.

    Args:
        data: (H, W) in [0, 1], of the picture as it was given: 1 where what raised the answer most lies.
        label: what it is about.
        picture: that was looked at.
    """

    data: Tensor
    label: str
    picture: Picture

    def plot(self, *, pil: bool = False) -> Any:
        """Lays the map over the picture: an array (H, W, 3) of uint8, red first, or a picture of Pillow."""
        drawn = overlaid(self.picture.original(), self.data.numpy())
        return Image.fromarray(drawn) if pil else drawn

    def numpy(self) -> np.ndarray:
        """The map as an array."""
        return self.data.numpy()

    def save(self, filename: str | Path) -> str:
        """Writes `plot` to a file of pictures, such as map.png, and returns its name."""
        write_picture(Path(filename), self.plot())
        return str(filename)


def explained(network: nn.Module, images: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Computes where the maps of a network raise a score.

    Each map before the network's end is weighted by the mean of the score's gradient over its places (the paper's
    equation 1); what is positive of their sum (equation 2) is enlarged to the image. A network that ends in a head on
    maps of several resolutions has such a sum for each, and they are added; there each place is weighted by its own
    gradient, because the score of a box is one of a place (Zhao and Chan 2023, "ODAM", equation 4).

    Args:
        network: in evaluation mode. Its weights stay as they are, and get no gradients.
        images: (1, channels, height, width), normalised, on the network's device.
        score: from the output of the network to a scalar.

    Returns:
        (height, width) in [0, 1], on the CPU; zeros where nothing raises the score.

    Raises:
        InputError: the network has no maps.

    Example:
        >>> corner = torch.zeros(1, 1, 8, 8)
        >>> corner[..., :4, :4] = 1.0
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
        >>> _ = [nn.init.ones_(weight) for weight in network.parameters()]
        >>> found = explained(network, corner, lambda logits: logits[0, 1])
        >>> bool(found[:2, :2].min() > found[6:, 6:].max())
        True
    """
    with torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone().requires_grad_()
        maps, output = _maps(network, images)
        gradients = torch.autograd.grad(score(output), maps, allow_unused=True)
    total = torch.zeros(images.shape[2:], device=images.device)
    for each, gradient in zip(maps, gradients, strict=True):
        if gradient is not None:
            weights = gradient.mean((2, 3), keepdim=True) if len(maps) == 1 else gradient
            heat = (weights * each.detach()).sum(1, keepdim=True).relu()
            total += interpolate(heat, images.shape[2:], mode="bilinear", align_corners=False)[0, 0]
    return (total / total.max().clamp_min(torch.finfo(torch.float32).tiny)).cpu()


def _maps(network: nn.Module, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """The maps that a head reads, or else the last ones that are more than a point; and the network's output."""
    last: list[Tensor] = []
    read: list[Tensor] = []

    def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and max(output.shape[2:]) > 1 and output.requires_grad:
            last[:] = [output]

    def before(_module: nn.Module, inputs: Any) -> None:
        read[:] = [each for each in inputs if isinstance(each, Tensor) and each.dim() == 4 and each.requires_grad]

    hooks = [module.register_forward_hook(after) for module in network.modules()]
    head = getattr(network, _HEAD, None)
    hooks += [head.register_forward_pre_hook(before)] if isinstance(head, nn.Module) else []
    try:
        output = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not (read or last):
        raise InputError("explain: the network has no maps of more than one place, so that nothing can be located")
    return read or last, output


def on_picture(heat: Tensor, picture: Picture) -> Tensor:
    """Brings a map of the model's image back to the picture.

    Args:
        heat: (height, width) of the model's image.
        picture: that the image was made of.

    Returns:
        (H, W) of the picture; 0 where the model was shown nothing.
    """
    height, width = picture.shape
    placed = picture.placed
    x = ((torch.arange(width) + 0.5) * placed.scale_x + placed.left) / heat.shape[1] * 2 - 1
    y = ((torch.arange(height) + 0.5) * placed.scale_y + placed.top) / heat.shape[0] * 2 - 1
    grid = torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), -1)[None]
    seen = (grid.abs() <= 1).all(-1)[0]
    found = nn.functional.grid_sample(heat[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
    return torch.where(seen, found, 0.0).clamp(0, 1)
