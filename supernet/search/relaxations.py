"""Relaxations: from logits to weights that can be differentiated, one frozen dataclass each.

A relaxation maps the logits of one decision, shape (options,), to its weights, shape (options,). `progress` in
[0, 1) is how far the search is: temperatures and the like are functions of it. `expected` is what the logits stand
for without noise, by which options are ranked in the end. To add one, write such a class and a yaml that names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from supernet.runtime.errors import InputError


class Relaxation(Protocol):
    """Maps logits (options,) to weights (options,)."""

    def __call__(self, logits: Tensor, progress: float) -> Tensor:
        """The weights of one evaluation; draws, if any, come from torch's global generator."""
        ...

    def expected(self, logits: Tensor) -> Tensor:
        """The weights without noise."""
        ...


@dataclass(frozen=True)
class Softmax:
    """p = softmax(alpha) (DARTS, Liu et al. 2019, equation 2)."""

    def __call__(self, logits: Tensor, progress: float) -> Tensor:
        return logits.softmax(-1)

    def expected(self, logits: Tensor) -> Tensor:
        """softmax(alpha)."""
        return logits.softmax(-1)


@dataclass(frozen=True)
class Gumbel:
    """softmax((log p + G) / t) with Gumbel noise G and a temperature t that goes from `start` to `end` in a line.

    `hard` passes on a one-hot vector and the soft one's gradient (straight through). SNAS (Xie et al. 2019,
    equation 5) is soft, GDAS (Dong and Yang 2019, equations 3 and 4) is hard with temperatures 10 to 0.1.
    """

    hard: bool = False
    start: float = 10.0
    end: float = 0.1

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end > 0):
            raise InputError(f"relaxation: temperatures {self.start} to {self.end} must be above 0")

    def __call__(self, logits: Tensor, progress: float) -> Tensor:
        temperature = self.start + (self.end - self.start) * progress
        noise = -torch.empty_like(logits).exponential_().log()
        soft = ((logits.log_softmax(-1) + noise) / temperature).softmax(-1)
        if not self.hard:
            return soft
        one_hot = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        return one_hot - soft.detach() + soft

    def expected(self, logits: Tensor) -> Tensor:
        """softmax(alpha): how probable each option is to be drawn."""
        return logits.softmax(-1)
