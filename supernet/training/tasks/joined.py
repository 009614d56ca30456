"""A task over the joined batch of several processes, each of which has the output for its own images."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from supernet.data.batches import Batch
from supernet.runtime.processes import Processes
from supernet.space.dropout import draw_for
from supernet.training.tasks.task import Output, SoftLoss, Task


def joined(task: Task, processes: Processes) -> Task:
    """Lets the loss and the score of a step be those of the joined batch, in every process.

    Outputs are gathered, so that any loss is exact, also one that divides by something else than the number of images.
    They are small beside gradients. A process's gradient of the loss is that of its own images, times the number of
    processes: what `Processes.averaged` makes of these gradients is the gradient over the joined batch.

    Args:
        task: what is learnt.
        processes: those that learn it together.

    Returns:
        The task over joined batches; `task` itself where a process is alone.
    """
    return cast(Task, Joined(task, processes)) if processes.several else task


class Joined:
    """See `joined`. What it does not say itself is the task's."""

    def __init__(self, task: Task, processes: Processes) -> None:
        self._task, self._processes = task, processes
        self._batch: Batch | None = None  # the last that entered a network
        self._last: tuple[weakref.ref[Tensor], Output] | None = None  # an output, and what of all it became

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._task, name)

    def inputs(self, batch: Batch) -> Tensor:
        """The images of this process; dropout that meets them is drawn for the joined batch."""
        assert batch.joined is not None
        self._batch = batch
        draw_for(batch.joined.total, batch.joined.rows)
        return self._task.inputs(batch)

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """The mean over the joined batch."""
        whole = self._gathered(output, batch)
        self._last = weakref.ref(_first(output)), _detached(whole)
        return self._own_part(self._task.loss(whole, _whole(batch)))

    def distillation(self, output: Output, teacher: Output) -> Tensor:
        """That of the task, over the joined batch."""
        return self.soft(self._task.distillation)(output, teacher)

    def soft(self, loss: SoftLoss) -> SoftLoss:
        """Makes a loss of outputs that of the joined batch, for images that `inputs` has given last."""

        def of_all(output: Output, teacher: Output) -> Tensor:
            assert self._batch is not None
            taught = self._gathered(_detached(teacher), self._batch)
            return self._own_part(loss(self._gathered(output, self._batch), taught))

        return of_all

    def score_sum(self, output: Output, batch: Batch) -> Tensor:
        """The sum over the joined batch; an output whose loss was the last one is not gathered again."""
        known, whole = self._last or (None, None)
        if known is None or whole is None or known() is not _first(output):
            whole = self._gathered(_detached(output), batch)
        self._last = None
        return self._task.score_sum(whole, _whole(batch))

    def _gathered(self, output: Output, batch: Batch) -> Output:
        assert batch.joined is not None
        sizes, gather = self._processes.sizes(batch.joined.total), self._processes.gathered
        if isinstance(output, tuple):
            return gather(output[0], sizes), gather(output[1], sizes)
        return gather(output, sizes)

    def _own_part(self, loss: Tensor) -> Tensor:
        scaled: Tensor = _Times.apply(loss, self._processes.count)
        return scaled


def soft_loss(task: Task, loss: SoftLoss | None) -> SoftLoss:
    """A distillation loss over the batch that a task is over.

    Args:
        task: that of a step, joined or not.
        loss: (output, teacher's output) -> scalar; None: the task's own.

    Returns:
        The same over the joined batch, where there is one.
    """
    if loss is None:
        return task.distillation
    make: Callable[[SoftLoss], SoftLoss] | None = getattr(task, "soft", None)
    return loss if make is None else make(loss)


def _whole(batch: Batch) -> Batch:
    """The joined batch, as far as a loss needs it: all labels; of the images only the size counts."""
    assert batch.joined is not None
    return replace(batch, labels=batch.joined.labels, joined=None)


def _first(output: Output) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _detached(output: Output) -> Output:
    return (output[0].detach(), output[1].detach()) if isinstance(output, tuple) else output.detach()


class _Times(torch.autograd.Function):
    """The same value with so many times the slope; slopes of slopes have the factor once."""

    @staticmethod
    def forward(loss: Tensor, factor: int) -> Tensor:
        return loss.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        return ctx.factor * gradients[0], None
