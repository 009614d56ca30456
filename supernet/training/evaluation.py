"""How well a network, or any other function of images, does on a part of the data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source, evaluation_batches
from supernet.execution.modes import evaluating
from supernet.training.meters import Averages, Meter
from supernet.training.tasks import Output, Task


def evaluate(
    forward: Callable[[Tensor], Output],
    source: Source,
    augmentation: Augmentation,
    *,
    batch_size: int,
    device: torch.device,
    task: Task,
) -> Averages:
    """Loss, accuracy and its balanced form over all of `source`, without gradients, every image weighted alike.

    A module is evaluated in evaluation mode; for any other function the caller chooses (`evaluating`).
    """
    if isinstance(forward, nn.Module) and any(module.training for module in forward.modules()):
        with evaluating(forward):
            return evaluate(forward, source, augmentation, batch_size=batch_size, device=device, task=task)
    meter = Meter(device)
    with torch.inference_mode():
        for batch in evaluation_batches(source, batch_size, augmentation, device):
            output = forward(task.inputs(batch))
            meter.add(task.loss(output, batch), task.correct(output, batch), len(batch))
            meter.add_classes(task.by_class(output, batch))
    return meter.read()
