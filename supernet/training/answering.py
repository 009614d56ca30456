"""What a network says of each image of a set, to make figures of."""

from __future__ import annotations

import torch
from torch import nn

from supernet.clinical.scores import Scores
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source, evaluation_batches
from supernet.execution.modes import evaluating
from supernet.training.tasks import Task
from supernet.training.tasks.task import logits_of


def answers(
    network: nn.Module,
    source: Source,
    augmentation: Augmentation,
    *,
    batch_size: int,
    device: torch.device,
    task: Task,
) -> Scores:
    """Asks a network about all images, in evaluation mode and without gradients.

    Args:
        network: maps images (batch, channels, height, width) to logits (batch, outputs).
        source: the images, each with one class or with several labels.
        augmentation: only its normalisation is applied.
        batch_size: images at once.
        device: where the network computes.
        task: which part of a batch the network is given.

    Returns:
        The logits and labels, in the order of the images.
    """
    logits = []
    with evaluating(network), torch.inference_mode():
        for batch in evaluation_batches(source, batch_size, augmentation, device):
            output = network(task.inputs(batch))
            logits.append(logits_of(output).float())
    return Scores(torch.cat(logits).cpu().numpy(), source.labels.numpy())
