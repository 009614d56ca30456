"""Progressive shrinking (once-for-all, Cai et al. 2020): first the largest network learns, then smaller ones inside it.

Each stage opens some more sizes and goes on with the weights of the stage before. Several networks learn in a step,
from the labels and from the largest network as the first stage left it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from supernet.runtime.errors import InputError
from supernet.search.strategy import Step, Strategy, Wrapper
from supernet.space.architecture import Architecture, Decision, Weights, one_path
from supernet.space.supernet import Supernet
from supernet.training.tasks import Output, SoftLoss
from supernet.training.tasks.joined import soft_loss

_RESOLUTION = "resolution"  # images of any size have one teacher
KINDS = ("kernel", "expand", "squeeze", "activation", "depth", "width", _RESOLUTION)
"""The kinds of sizes that a mobile space can have open; one that a space has not is open there in one way."""


@dataclass(frozen=True)
class Shrinking:
    """What is open in one stage of progressive shrinking, and what its networks learn from.

    Args:
        open: kind of a number decision, such as "kernel" of "stage2/1/kernel" -> how many of its options, the largest
            ones, are open in this stage, 1 or more. Kinds that are not named are open as they are.
        paths: how often the strategy draws in a step; the gradients of all networks are added up, 1 or more.
        distillation: times the cross entropy with the answers of the largest network, as the first stage left it, is
            added to the loss, 0 or more.

    Raises:
        InputError: a number is out of its range.

    Example:
        >>> kernel = Decision("stage1/1/kernel", ("3", "5", "7"), role="number")
        >>> Shrinking(open={"kernel": 2}).kept({kernel.name: kernel})
        {'stage1/1/kernel': ('5', '7')}
    """

    open: Mapping[str, int] = field(default_factory=dict)
    paths: int = 1
    distillation: float = 0.0

    def __post_init__(self) -> None:
        for kind, count in self.open.items():
            if type(count) is not int or count < 1:
                raise InputError(f"open.{kind}={count}: needs 1 option or more; leave {kind} out for all")
        if self.paths < 1:
            raise InputError(f"paths={self.paths}: needs 1 or more")
        if not 0.0 <= self.distillation < math.inf:
            raise InputError(f"distillation={self.distillation}: needs 0 or more, such as 1")

    def __str__(self) -> str:
        """For a checkpoint to tell one stage from another."""
        return f"open={sorted(self.open.items())}, paths={self.paths}, distillation={self.distillation}"

    def kept(self, decisions: Mapping[str, Decision]) -> dict[str, tuple[str, ...]]:
        """Gives the options that are open in this stage.

        Args:
            decisions: of the whole space, by name.

        Returns:
            The largest options of each decision whose kind is named in `open`.

        Raises:
            InputError: a kind that is named is unknown, or the space has no open size at all.
        """
        kinds = {name: name.rsplit("/", 1)[-1] for name, d in decisions.items() if d.role == "number"}
        if self.open and not kinds:
            raise InputError(
                f"open.{next(iter(self.open))}: the space has no open size at all; progressive shrinking needs a space "
                "whose sizes are nested, such as ofa_mbv3"
            )
        if unknown := sorted(set(self.open) - {*kinds.values(), *KINDS}):
            raise InputError(
                f"open.{unknown[0]}: the space has no open size of this kind; it has "
                f"{', '.join(dict.fromkeys(kinds.values()))}"
            )
        return {name: decisions[name].options[-self.open[kind] :] for name, kind in kinds.items() if kind in self.open}


class Teacher:
    """The largest network, as a stage left it, with the statistics of its own norms.

    In once-for-all's code the teacher is in training mode: its norms take the statistics of the batch, and what it
    says depends on the other images.

    Args:
        supernet: the one that the first stage trained; from now on it stays as it is.

    Raises:
        InputError: it trained several networks, whose norms have no statistics of the largest one.
    """

    def __init__(self, supernet: Supernet) -> None:
        several = [
            d for n, d in supernet.decisions.items() if len(d.options) > 1 and n.rsplit("/", 1)[-1] != _RESOLUTION
        ]
        if several:
            raise InputError(
                f"distillation: the first stage trains several networks, and {several[0].name} is one of "
                f"{', '.join(several[0].options)}; open one option of each there, so that the largest can teach"
            )
        self.supernet = supernet.eval().requires_grad_(False)
        largest = Architecture("", {name: d.options[-1:] for name, d in supernet.decisions.items()})
        device = next(supernet.parameters()).device
        self._weights = one_path(largest, supernet.decisions, device=device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Output:
        """Answers for images, (batch, channels, height, width)."""
        answer: Output = self.supernet(images, self._weights)
        return answer


class Several(Wrapper):
    """Asks a strategy several times for the paths of one step.

    Args:
        strategy: such as `UniformStrategy`.
        times: 1 or more.
    """

    def __init__(self, strategy: Strategy, times: int) -> None:
        super().__init__(strategy)
        self._times = times

    def samples(self, step: Step) -> Sequence[Weights]:
        return [weights for _ in range(self._times) for weights in self.strategy.samples(step)]


class Distilled(Wrapper):
    """Lets the paths of a strategy learn from the labels and from a teacher's answers.

    Args:
        strategy: such as `UniformStrategy`.
        teacher: answers each batch once.
        weight: so many times the distillation loss is added to that of the labels.
        distillation: (output, teacher's output) -> that loss; None: the task's own (`Task.distillation`).
    """

    def __init__(
        self, strategy: Strategy, teacher: Teacher, weight: float, distillation: SoftLoss | None = None
    ) -> None:
        super().__init__(strategy)
        self._teacher, self._weight, self._distillation = teacher, weight, distillation

    def backward(self, step: Step, paths: Sequence[Weights]) -> list[tuple[Tensor, Tensor]]:
        """Adds the gradients of both losses, path after path."""
        images, passes = step.task.inputs(step.train), []
        distillation = soft_loss(step.task, self._distillation)
        taught = self._teacher(images)
        for weights in paths:
            output = step.supernet(images, weights)
            loss = step.task.loss(output, step.train) + self._weight * distillation(output, taught)
            loss.backward()  # type: ignore[no-untyped-call]
            passes.append((loss.detach(), step.task.score_sum(output, step.train)))
        return passes


def shrinking_strategy(strategy: Strategy, shrinking: Shrinking | None, teacher: Teacher | None) -> Strategy:
    """Makes the strategy of a stage of progressive shrinking.

    Args:
        strategy: draws the networks.
        shrinking: what the stage says; None: nothing.
        teacher: where the stage distils.

    Returns:
        The strategy, or one around it.
    """
    if shrinking is not None and shrinking.paths > 1:
        strategy = Several(strategy, shrinking.paths)
    if shrinking is not None and teacher is not None and shrinking.distillation > 0.0:
        strategy = Distilled(strategy, teacher, shrinking.distillation)
    return strategy
