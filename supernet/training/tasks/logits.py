"""What the tasks have in common whose networks give logits, perhaps with an auxiliary head's beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from supernet.runtime.errors import InputError
from supernet.training.tasks.imbalance import check_imbalance
from supernet.training.tasks.task import Output


def loss_with_auxiliary(output: Output, auxiliary_weight: float, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Adds the loss of an auxiliary head to that of the network itself.

    Args:
        output: logits, or those and the auxiliary head's.
        auxiliary_weight: what the auxiliary head's loss is multiplied by.
        loss: takes logits and gives a scalar.

    Returns:
        A scalar: the loss of the logits alone where there is no auxiliary head or its weight is 0.

    Example:
        >>> import torch
        >>> both = (torch.tensor([1.0, 2.0]), torch.tensor([10.0]))
        >>> loss_with_auxiliary(both, 0.5, torch.sum), loss_with_auxiliary(both[0], 0.5, torch.sum)
        (tensor(8.), tensor(3.))
    """
    logits, auxiliary = output if isinstance(output, tuple) else (output, None)
    found = loss(logits)
    if auxiliary is None or auxiliary_weight == 0.0:
        return found
    return found + auxiliary_weight * loss(auxiliary)


def check_settings(
    auxiliary_weight: float, label_smoothing: float, score: str, scores: Sequence[str], imbalance: object
) -> None:
    """Checks the settings of a task whose networks give logits.

    Args:
        auxiliary_weight: of the auxiliary head's loss.
        label_smoothing: the share of a label that is spread.
        score: what networks are compared by.
        scores: the scores that the task has.
        imbalance: the correction for what is rare, or None.

    Raises:
        InputError: one of them is out of its range.
    """
    if not 0.0 <= auxiliary_weight < math.inf:
        raise InputError(f"auxiliary_weight={auxiliary_weight}: needs 0 or more, such as 0.4")
    if not 0.0 <= label_smoothing < 1.0:
        raise InputError(f"label_smoothing={label_smoothing}: needs to lie in [0, 1), such as 0.1")
    if score not in scores:
        raise InputError(f"score={score}: use {', '.join(scores)}")
    check_imbalance(imbalance)
