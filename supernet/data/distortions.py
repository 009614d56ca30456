"""Small changes of training images such as a radiograph has from one examination to the next, a whole batch at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def turned(images: Tensor, degrees: Tensor, factor: Tensor) -> Tensor:
    """Turns and enlarges images about their middle; what comes from outside is 0, which is black.

    Args:
        images: (B, C, H, W) of levels from 0 on.
        degrees: (B,) the angle, counter-clockwise.
        factor: (B,) above 1 enlarges what is seen, below 1 makes it smaller.

    Returns:
        (B, C, H, W) floats, sampled bilinearly.

    Example:
        >>> image = torch.arange(4.0).view(1, 1, 2, 2)
        >>> turned(image, torch.tensor([90.0]), torch.tensor([1.0]))[0, 0].round()
        tensor([[1., 3.],
                [0., 2.]])
    """
    _, _, height, width = images.shape
    angle = torch.deg2rad(degrees)
    cosine, sine, zero = angle.cos() / factor, angle.sin() / factor, torch.zeros_like(angle)
    # Where each pixel of the result comes from, in halves of the sides: hence the aspect where the axes mix.
    across = torch.stack((cosine, -sine * (height / width), zero), 1)
    down = torch.stack((sine * (width / height), cosine, zero), 1)
    grid = F.affine_grid(torch.stack((across, down), 1), list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def contrasted(images: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """Changes contrast, about the mean of each image, and brightness. Levels stay within 0 and 255.

    Args:
        images: (B, C, H, W) of levels from 0 to 255.
        factor: (B,) of the distance of each level from the mean.
        shift: (B,) what is added, in shares of the whole range.

    Returns:
        (B, C, H, W) floats.

    Example:
        >>> contrasted(torch.tensor([[[[100.0, 200.0]]]]), torch.tensor([0.5]), torch.tensor([0.1]))
        tensor([[[[150.5000, 200.5000]]]])
    """
    images = images.float()
    mean = images.mean((1, 2, 3), keepdim=True)
    factor, shift = factor.view(-1, 1, 1, 1), shift.view(-1, 1, 1, 1)
    return ((images - mean) * factor + mean + 255 * shift).clamp(0, 255)
