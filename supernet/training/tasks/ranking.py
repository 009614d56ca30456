"""Scores that need the answers for all images at once: areas under ROC curves and average precisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from supernet.clinical.ranking import auroc, average_precision
from supernet.clinical.scores import Scores
from supernet.data.batches import Batch
from supernet.data.targets import presence
from supernet.training.tasks.task import Output, logits_of

RANKINGS = {"auroc": 0.5, "average_precision": 0.0}
"""The scores, and what chance reaches of each whatever the labels are; 0 where it is how frequent a class is."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network said of a batch, and the truth. Both stay on the device until they are read.

    Args:
        logits: (batch, outputs).
        labels: (batch,) or (batch, outputs).
    """

    logits: Tensor
    labels: Tensor

    @staticmethod
    def of(output: Output, batch: Batch) -> Answers:
        """Keeps what is needed of a batch, without its graph."""
        return Answers(logits_of(output).detach(), batch.labels)

    @staticmethod
    def together(answers: Sequence[Answers]) -> tuple[Tensor, Tensor]:
        """Returns the logits and the labels of all batches, on the CPU."""
        logits, labels = (torch.cat([getattr(each, name) for each in answers]) for name in ("logits", "labels"))
        return logits.float().cpu(), labels.cpu()


def ranked(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """The means over the classes of area under the ROC curve and of average precision.

    Of two classes that exclude each other the second is asked, as in the clinical report. Classes without an image of
    either kind are left out; where that leaves none, the answer is that of a guess.

    Args:
        logits: (N, outputs).
        labels: (N,), or (N, outputs) with 1, 0 and -1 (unknown).

    Returns:
        "auroc" and "average_precision".
    """
    scores = Scores(logits.nan_to_num().numpy(), labels.numpy())  # a diverged network is found by its loss
    questions = [q for q in map(scores.question, scores.asked) if 0 < q.positive.sum() < len(q.positive)]
    found: dict[str, list[float | None]] = {
        "auroc": [auroc(q.log_odds, q.positive) for q in questions],
        "average_precision": [average_precision(q.log_odds, q.positive) for q in questions],
    }
    guess = {name: chance_of(name, labels, logits.shape[1]) for name in found}
    return {n: float(np.mean(np.asarray(v, dtype=np.float64))) if v else guess[n] for n, v in found.items()}


def chance_of(score: str, labels: Tensor, outputs: int) -> float:
    """What answers that are alike for all images reach.

    Args:
        score: "auroc": one half; or "average_precision": the mean frequency of the classes that are asked.
        labels: of all images.
        outputs: how many classes there are.

    Returns:
        The score.
    """
    if score == "auroc":
        return RANKINGS[score]
    several = labels.dim() == 2
    yes = presence(labels, outputs).sum(0)
    known = (labels >= 0).sum(0) if several else torch.full_like(yes, len(labels))
    asked = range(1, 2) if not several and outputs == 2 else range(outputs)
    shares = [float(yes[n] / known[n]) for n in asked if 0 < yes[n] < known[n]]
    return sum(shares) / max(len(shares), 1)
