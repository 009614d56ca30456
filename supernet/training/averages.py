"""An exponential moving average of a network's weights, which is often better than the weights of any one step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_RAMP = 100
"""Steps in which most of the decay is reached: the average soon forgets the untrained weights that it began with."""


class MovingAverage:
    """The moving average of all that a network's state holds (Polyak & Juditsky 1992, with weights that decay).

    After step k each number of the average becomes d * average + (1 - d) * number, with d = decay * (1 - exp(-k/100)).
    So are the statistics of norms; whole numbers, such as their counts, are copied. It works on the tensors where they
    lie, so that a step that is recorded as a CUDA graph can hold it.

    Args:
        network: on its device, and laid out by its optimiser already.
        decay: d in the long run, in (0, 1): an average over some 1 / (1 - d) steps.

    Example:
        >>> network = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(network.weight)
        >>> average = MovingAverage(network, 0.5)
        >>> _ = nn.init.ones_(network.weight)
        >>> average.update(average.share(step=1000))
        >>> with average.instead():
        ...     round(network.weight.item(), 3)
        0.5
        >>> network.weight.item()
        1.0
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._own: dict[str, Tensor] = network.state_dict(keep_vars=True)
        self.state = {name: value.detach().clone() for name, value in self._own.items()}
        self._averaged = [name for name, value in self._own.items() if value.is_floating_point()]
        self._copied = [name for name, value in self._own.items() if not value.is_floating_point()]

    def share(self, step: int) -> float:
        """How much of the weights after this step, counted from 1, goes into the average."""
        return 1.0 - self._decay * (1.0 - math.exp(-step / _RAMP))

    @torch.no_grad()
    def update(self, share: float | Tensor) -> None:
        """Moves the average towards the weights as they are now.

        Args:
            share: what `share` says of the step; a number, or a 0-dimensional tensor on the device.
        """
        if not isinstance(share, Tensor):  # so that both round alike
            share = torch.full((), share, device=next(iter(self.state.values())).device)
        averages = [self.state[name] for name in self._averaged]
        distances = torch._foreach_sub([self._own[name].detach() for name in self._averaged], averages)
        torch._foreach_mul_(distances, share)
        torch._foreach_add_(averages, distances)
        if self._copied:
            own = [self._own[name].detach() for name in self._copied]
            torch._foreach_copy_([self.state[name] for name in self._copied], own)

    @contextmanager
    def instead(self) -> Iterator[None]:
        """Within it the network has the average in place of its own weights."""
        own = {name: value.detach().clone() for name, value in self._own.items()}
        self._write(self.state)
        try:
            yield
        finally:
            self._write(own)

    @torch.no_grad()
    def _write(self, state: dict[str, Tensor]) -> None:
        for name, value in self._own.items():
            value.copy_(state[name])

    def state_dict(self) -> dict[str, Any]:
        return dict(self.state)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any], /) -> None:
        for name, value in self.state.items():
            if state[name].shape != value.shape or state[name].dtype != value.dtype:
                raise ValueError(f"{name} is not of its shape and type")
            value.copy_(state[name])
