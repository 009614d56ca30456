"""Optimisers for architecture parameters that PyTorch does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from supernet.runtime.errors import InputError


class ExponentiatedGradient(torch.optim.Optimizer):
    """Steps that stay on the simplex: theta <- normalise(max(theta exp(-lr g), floor)) (GAEA, Li et al. 2021).

    Parameters lie on the simplex along their last dimension, (options,) or (decisions, options), and stay there. No
    momentum, no decay.

    Args:
        params: tensors of weights, each row of which is above 0 and sums to 1.
        lr: the learning rate, 0 or more.
        floor: the least weight before a row is normalised, in (0, 1). 1e-5 is that of the authors' code: nothing can
            vanish for good.

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> weights = torch.tensor([0.5, 0.5], requires_grad=True)
        >>> weights.grad = torch.tensor([0.0, 1.0986])
        >>> ExponentiatedGradient([weights], lr=1.0).step()
        >>> weights.detach()
        tensor([0.7500, 0.2500])
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.1, floor: float = 1e-5) -> None:
        if not lr >= 0:
            raise InputError(f"lr={lr}: needs 0 or more, such as 0.1")
        if not 0 < floor < 1:
            raise InputError(f"floor={floor}: needs to lie between 0 and 1, such as 1e-5")
        super().__init__(params, {"lr": lr, "floor": floor})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Takes one step against the parameters' `.grad`; a parameter without one stays as it is.

        Args:
            closure: computes the loss and the gradients; None: the gradients are there already.

        Returns:
            What `closure` returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for theta in group["params"]:
                if theta.grad is None:
                    continue
                # A factor of e^60 gives an option all the weight; a larger one could overflow.
                exponent = (-group["lr"] * theta.grad).clamp(max=60)
                grown = (theta * exponent.exp()).clamp_min(group["floor"])
                theta.copy_(grown / grown.sum(-1, keepdim=True))
        return loss
