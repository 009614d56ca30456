"""Measures a network, or any other function of images, on a part of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source, evaluation_batches
from supernet.execution.modes import evaluating
from supernet.runtime.processes import ALONE, Processes
from supernet.training.meters import Averages, Meter
from supernet.training.tasks import Output, Task

Value = TypeVar("Value")


def evaluate(
    forward: Callable[[Tensor], Output],
    source: Source,
    augmentation: Augmentation,
    *,
    batch_size: int,
    device: torch.device,
    task: Task,
    processes: Processes = ALONE,
) -> Averages:
    """Measures loss and scores over all images of a source, without gradients, every image weighted alike.

    Args:
        forward: maps images (batch, channels, height, width) to what the task expects. A module is evaluated in
            evaluation mode; for any other function the caller chooses the mode (`evaluating`).
        source: the labelled images.
        augmentation: only its normalisation is applied.
        batch_size: images at once; the result depends on it only by rounding.
        device: where `forward` computes.
        task: what is measured.
        processes: take turns, whole batches each, and all get the averages: for networks that all of them hold.

    Returns:
        The averages, with all of the task's scores.

    Raises:
        InputError: where the source has no images or an image cannot be read.
    """
    if isinstance(forward, nn.Module) and any(module.training for module in forward.modules()):
        with evaluating(forward):
            return evaluate(
                forward, source, augmentation, batch_size=batch_size, device=device, task=task, processes=processes
            )
    meter, own = Meter(device), []
    with torch.inference_mode():
        for batch in evaluation_batches(source, batch_size, augmentation, device, processes):
            output = forward(task.inputs(batch))
            meter.add(task.loss(output, batch), task.score_sum(output, batch), len(batch))
            own.append(task.tally(output, batch))
        tallies = in_turns(processes.all_of(own, device))
        scores, chance = dict(task.scores(tallies)), task.chance(tallies)
    averages = Meter.together(processes.all_of(meter.state_dict()))
    return replace(averages, score=scores.pop(task.score), others=scores, chance=chance)


def in_turns(shares: Sequence[Sequence[Value]]) -> list[Value]:
    """Puts what processes have made in turns into one order.

    Args:
        shares: of each process; the first ones may have one more.

    Returns:
        All of it.

    Example:
        >>> in_turns([[0, 2, 4], [1, 3]])
        [0, 1, 2, 3, 4]
    """
    longest = max(map(len, shares), default=0)
    return [share[number] for number in range(longest) for share in shares if number < len(share)]


def evaluate_probabilities(
    probabilities: Callable[[Tensor], Tensor],
    source: Source,
    augmentation: Augmentation,
    *,
    batch_size: int,
    task: Task,
) -> Averages:
    """Measures, as `evaluate` does, a model that normalises images itself, such as an exported one.

    Args:
        probabilities: maps pixels (batch, channels, height, width), floats in [0, 255], to (batch, classes) on the CPU.
        source: the labelled images.
        augmentation: that of the data: what it cuts away of an image is cut away, its normalisation is not applied.
        batch_size: images at once.
        task: what is measured; it is given logits that have these probabilities.

    Returns:
        The averages, with all of the task's scores.
    """
    channels = len(augmentation.mean)
    levels = replace(augmentation, mean=(0.0,) * channels, std=(1 / 255,) * channels)

    def logits(pixels: Tensor) -> Tensor:
        return task.answer.logits(probabilities(pixels))

    return evaluate(logits, source, levels, batch_size=batch_size, device=torch.device("cpu"), task=task)
