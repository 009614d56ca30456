"""Averages that stay on the device until they are read, and a check for diverged training."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from supernet.runtime.errors import InputError


class NotFinite(InputError):
    """The loss or a weight became infinite or not a number; one line names the step and the last good checkpoint."""


@dataclass(frozen=True)
class Averages:
    """What was measured over `count` images.

    Args:
        loss: mean over the images.
        score: what the task compares networks by (`Task.score`), such as the accuracy in [0, 1].
        count: number of images.
        others: further scores by name, where the images were tallied.
        chance: the score of the best answer that does not look at the image; None where the images were not tallied.
    """

    loss: float
    score: float
    count: int
    others: Mapping[str, float] = field(default_factory=dict)
    chance: float | None = None


class Meter:
    """Sums loss and score over images, weighted by the size of each batch, and gives their means.

    `add` does not wait for the device; `read` does. The sums are part of a checkpoint (`state_dict`).

    Args:
        device: where the sums are kept: that of the losses that are added.

    Example:
        >>> meter = Meter()
        >>> meter.add(torch.tensor(1.0), torch.tensor(2.0), n=2)
        >>> meter.add(torch.tensor(4.0), torch.tensor(0.0), n=1)
        >>> averages = meter.read()
        >>> averages.loss, averages.count, round(averages.score, 3)
        (2.0, 3, 0.667)
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        precision = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self._loss = torch.zeros((), dtype=precision, device=device)
        self._score = torch.zeros((), dtype=precision, device=device)
        # Once the sum is not finite it stays so: this counts the batches before the first bad one.
        self._finite = torch.zeros((), dtype=torch.int64, device=device)
        self._count = 0
        self._batches = 0

    def add(self, loss: Tensor, score_sum: Tensor, n: int) -> None:
        """Adds a batch.

        Args:
            loss: its mean loss, 0-dimensional.
            score_sum: the sum of its images' scores, 0-dimensional.
            n: how many images it has.
        """
        self.add_sums(loss, score_sum, n)
        self.add_count(n)

    def add_sums(self, loss: Tensor, score_sum: Tensor, n: int) -> None:
        """Does the device's part of `add`, which can be recorded as part of a CUDA graph.

        Args:
            loss: the batch's mean loss, 0-dimensional.
            score_sum: the sum of its images' scores, 0-dimensional.
            n: how many images it has.
        """
        self._loss += loss.detach().to(self._loss.dtype) * n
        self._score += score_sum.detach()
        self._finite += self._loss.isfinite()

    def add_count(self, n: int) -> None:
        """Does the host's part of `add`.

        Args:
            n: how many images the batch has.
        """
        self._count += n
        self._batches += 1

    def read(self) -> Averages:
        """Returns the means since the last reset; all 0 where nothing was added."""
        return self.together([self.state_dict()])

    @classmethod
    def together(cls, states: Sequence[Mapping[str, Any]]) -> Averages:
        """The means over what several meters have added.

        Args:
            states: theirs, in any number but none.

        Returns:
            The means.
        """
        if len(states) == 1:
            whole = states[0]
        else:
            whole = {name: sum(state[name] for state in states) for name in ("loss", "score", "count")}
        n = max(whole["count"], 1)
        return Averages(float(whole["loss"]) / n, float(whole["score"]) / n, whole["count"])

    @property
    def count(self) -> int:
        """The number of images that were added since the last reset."""
        return self._count

    def reset(self) -> None:
        """Sets all sums back to zero."""
        for total in (self._loss, self._score, self._finite):
            total.zero_()
        self._count = self._batches = 0

    def bad_batches(self) -> int:
        """The number of batches from the first one whose loss was not finite to the last; 0 where all were finite."""
        return self._batches - int(self._finite.item())

    def state_dict(self) -> dict[str, Any]:
        sums = {"loss": self._loss, "score": self._score, "finite": self._finite}
        return {**{k: v.cpu().clone() for k, v in sums.items()}, "count": self._count, "batches": self._batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._loss.copy_(state["loss"])
        self._score.copy_(state["score"])
        self._finite.copy_(state["finite"])
        self._count, self._batches = int(state["count"]), int(state["batches"])


def check_finite(meter: Meter, network: nn.Module, step: int, checkpoint: Path | None) -> None:
    """Checks that training has not diverged: before a checkpoint is written, so that the one on disk stays good.

    Args:
        meter: has the losses of the epoch so far.
        network: its weights and its statistics are checked.
        step: how many steps were taken.
        checkpoint: the path of the checkpoint, for the message; None where none is written.

    Raises:
        NotFinite: a loss in `meter` or a weight of `network` is infinite or not a number.

    Example:
        >>> meter = Meter()
        >>> meter.add(torch.tensor(float("inf")), torch.tensor(0.0), n=1)
        >>> check_finite(meter, nn.Linear(1, 1), step=7, checkpoint=None)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        supernet.training.meters.NotFinite: the loss is not finite at step 7; there is no checkpoint before it; ...
    """
    bad = meter.bad_batches()
    floats = [values for values in network.state_dict().values() if values.is_floating_point()]
    if not bad and bool(torch.stack([values.isfinite().all() for values in floats]).all()):
        return
    what = f"the loss is not finite at step {step - bad + 1}" if bad else f"a weight is not finite after step {step}"
    saved = checkpoint is not None and checkpoint.exists()
    good = f"the last good checkpoint is {checkpoint}" if saved else "there is no checkpoint before it"
    raise NotFinite(f"{what}; {good}; lower the learning rate or the clipping norm")


def memory_gb(device: torch.device) -> float:
    """Measures the largest memory that was held so far.

    Args:
        device: a GPU, whose memory is measured; for any other device it is that of the process.

    Returns:
        The memory in GB, 1e9 bytes; 0 for the process on Windows, which does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return 0.0
    import resource  # not there on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9
