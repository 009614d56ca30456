"""What a strategy is, and what it is given at each step of a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from supernet.data.batches import Batch
from supernet.estimation.supernet_accuracy import Judge
from supernet.execution.precision import Accelerated
from supernet.space.architecture import Architecture, Decision, Weights
from supernet.space.supernet import Supernet
from supernet.training.tasks import Task


@dataclass(frozen=True)
class Step:
    """One step of a search: a batch of each half of the training data, and the supernet with its optimiser.

    `progress` in [0, 1) is how far the search is. `decided`: what becomes of weights before the network sees them,
    where a part of the architecture is decided already (None: nothing). `accelerated`: in which precision the supernet
    runs, and whether as CUDA graphs (None: float32, without).
    """

    supernet: Supernet
    train: Batch
    valid: Batch
    task: Task
    optimizer: torch.optim.Optimizer
    progress: float
    decided: Callable[[Weights], Weights] | None = None
    accelerated: Accelerated | None = None

    def train_loss(self, weights: Weights, inner: Sequence[Tensor] | None = None) -> Tensor:
        """The loss on the half the network learns from; `inner` stands in for the supernet's parameters."""
        return self._loss(self.train, weights, inner)

    def valid_loss(self, weights: Weights, inner: Sequence[Tensor] | None = None) -> Tensor:
        """The loss on the half the architecture is judged by; `inner` stands in for the supernet's parameters."""
        return self._loss(self.valid, weights, inner)

    def exact(self) -> AbstractContextManager[None]:
        """Within it passes are float32 whatever the precision: for differences that rounding would drown."""
        return nullcontext() if self.accelerated is None else self.accelerated.exact()

    def unrecorded(self) -> AbstractContextManager[None]:
        """Within it passes are no CUDA graphs, so that they can be differentiated twice."""
        return nullcontext() if self.accelerated is None else self.accelerated.unrecorded()

    def _loss(self, batch: Batch, weights: Weights, inner: Sequence[Tensor] | None) -> Tensor:
        images = self.task.inputs(batch)
        weights = weights if self.decided is None else self.decided(weights)
        if inner is None:
            return self.task.loss(self.supernet(images, weights), batch)
        with self.supernet.slots.replaced(inner):
            return self.task.loss(self.supernet(images, weights), batch)


def has_alphas(strategy: Strategy) -> bool:
    """Whether a strategy's weights follow alphas: not those of random search, nor weights that are always uniform."""
    return any(weight.requires_grad for weight in strategy.differentiable_weights()[1].values())


class Strategy(Protocol):
    """Decides which weights the supernet runs with, and in the end which architecture is best."""

    decisions: Mapping[str, Decision]

    def begin_epoch(self, progress: float, judge: Judge) -> None:
        """Called before the first step of each epoch, and again where a search goes on within one.

        `judge` is there for strategies that decide something as they go. May raise Interrupted.
        """
        ...

    def update(self, step: Step) -> None:
        """Learns about the architecture. Leaves the network's weights, gradients and statistics as they were."""
        ...

    def sample(self, step: Step) -> Weights:
        """Weights, without gradient, with which the network's next step is taken. Leaves the network as it was."""
        ...

    def expected(self) -> Weights:
        """What the strategy thinks of each option now, without noise."""
        ...

    def differentiable_weights(self) -> tuple[list[Tensor], Weights]:
        """The alphas, and the weights of `expected`, differentiable in them; ([], {}) for a strategy without alphas."""
        ...

    def finish(self, judge: Judge | None = None) -> Architecture:
        """The architecture it would choose now; at the end of the search `judge` is there to try some."""
        ...

    def measures(self) -> Mapping[str, float]:
        """Scalars worth plotting once an epoch."""
        ...

    def to(self, device: torch.device) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...
