"""The sandwich rule: the largest network learns from the labels, smaller ones learn from it, all in one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from supernet.estimation.limits import Limits
from supernet.execution.modes import frozen_statistics
from supernet.runtime.errors import InputError
from supernet.runtime.limits import Limit
from supernet.runtime.seeding import generator
from supernet.search.black_box.explorers import Explorer
from supernet.search.black_box.random_search import UniformStrategy
from supernet.search.strategy import Step, Strategy, Wrapper
from supernet.space import nested
from supernet.space.architecture import Architecture, Decision, Weights, one_path, random_architecture
from supernet.space.dropout import Dropouts
from supernet.space.supernet import Supernet
from supernet.training.tasks import Output, SoftLoss
from supernet.training.tasks.joined import soft_loss

_SANDWICH_STREAM = 0x5A4D


class SandwichStrategy(Wrapper):
    """The sandwich rule with in-place distillation (BigNAS, Yu et al. 2020, section 3.1).

    A step has the largest network, which learns from the labels, `random` drawn ones and the smallest, which learn from
    the largest one's answers; their gradients are added up. Of a number decision the first option is the smallest and
    the last one the largest; other decisions are drawn. Dropout acts on the largest network alone. The answers that
    teach the others are without dropout: where there is any, they take one pass more. In AttentiveNAS' code the dropout
    is in them. It ends as `UniformStrategy` does: many candidates are judged with the trained weights.

    Args:
        space: the name of the space, for the architectures that are found.
        decisions: those of the supernet, by name.
        random: how many networks between the largest and the smallest a step has, 0 or more.
        distillation: (output, the largest network's output) -> the loss of all networks but the largest; None:
            the task's own (`Task.distillation`).
        clip_value: largest absolute value of an element of the weights' gradient (AttentiveNAS); None: any.
        zero_residuals: blocks that add their input begin as the identity.
        explorer: (candidates, *, seed) -> who proposes the candidates; None: they are drawn.
        candidates: how many architectures are tried in the end, 1 or more.
        finalists: how many of them are judged on all validation data, 1 or more.
        batches: on how many batches of validation data the candidates are judged, 1 or more.
        limits: what candidates may cost; the networks that are trained are those of the whole space.
        seed: of all draws.

    Raises:
        InputError: a number is out of its range, or there is no decision about a number.

    Example:
        >>> kernel = Decision("1/kernel", ("3", "5", "7"), role="number")
        >>> strategy = SandwichStrategy("mine", {kernel.name: kernel}, random=0)
        >>> strategy.extreme(-1).choices, strategy.extreme(0).choices
        ({'1/kernel': ('7',)}, {'1/kernel': ('3',)})
    """

    inherits: ClassVar[bool] = True

    def __init__(
        self,
        space: str,
        decisions: Mapping[str, Decision],
        *,
        random: int = 2,
        distillation: SoftLoss | None = None,
        clip_value: Limit | None = 1.0,
        zero_residuals: bool = True,
        explorer: Callable[..., Explorer] | None = None,
        candidates: int = 1000,
        finalists: int = 10,
        batches: int = 10,
        limits: Limits | None = None,
        seed: int = 0,
    ) -> None:
        end = partial(UniformStrategy, explorer=explorer, candidates=candidates, finalists=finalists, batches=batches)
        super().__init__(end(space, decisions, limits=limits, seed=seed))
        if random < 0:
            raise InputError(f"random={random}: needs 0 networks between the largest and the smallest, or more")
        if clip_value is not None and not clip_value > 0.0:
            raise InputError(f"clip_value={clip_value}: needs to be above 0; leave it out for no clipping")
        if not any(decision.role == "number" for decision in decisions.values()):
            raise InputError(
                f"decisions: space {space!r} has none about a number, so no network is the largest; the sandwich rule "
                "needs a space whose sizes are nested, such as ofa_mbv3"
            )
        self._random, self._distillation, self._clip_value, self._seed = random, distillation, clip_value, seed
        self._zero_residuals, self._draws = zero_residuals, 0
        self._like = torch.zeros(())
        self._dropouts: tuple[Supernet, Dropouts] | None = None

    def extreme(self, place: int, draw: int = 0) -> Architecture:
        """Gives the largest or the smallest architecture.

        Args:
            place: -1: the last option of each number decision; 0: the first.
            draw: number of the draw of all decisions that are no numbers.

        Returns:
            The architecture.
        """
        only = {
            name: replace(d, options=(d.options[place],)) if d.role == "number" else d
            for name, d in self.decisions.items()
        }
        return random_architecture(self.space, only, generator(self._seed, _SANDWICH_STREAM, draw, place % 2))

    def inherit(self, before: Strategy) -> None:
        """Takes nothing over, because an earlier stage has learnt nothing."""

    def initialise(self, supernet: Supernet) -> None:
        """Lets blocks begin as the identity, where that is asked for."""
        if self._zero_residuals:
            nested.zero_residuals(supernet)

    def sample(self, step: Step) -> Weights:
        """Says the weights of the largest network of a new step."""
        return self.samples(step)[0]

    def samples(self, step: Step) -> Sequence[Weights]:
        """Says the weights of the largest network, of the drawn ones and of the smallest."""
        self._draws += 1
        streams = [generator(self._seed, _SANDWICH_STREAM, self._draws, 2 + number) for number in range(self._random)]
        between = [random_architecture(self.space, self.decisions, stream) for stream in streams]
        paths = [self.extreme(-1, self._draws), *between, self.extreme(0, self._draws)]
        return [one_path(path, self.decisions, dtype=self._like.dtype, device=self._like.device) for path in paths]

    def backward(self, step: Step, paths: Sequence[Weights]) -> list[tuple[Tensor, Tensor]]:
        """The largest network learns from the labels, all others from what it answers without dropout."""
        largest, *others = paths
        distillation = soft_loss(step.task, self._distillation)
        images, dropouts = step.task.inputs(step.train), self._dropouts_of(step.supernet)

        def learn(output: Output, loss: Tensor) -> tuple[Tensor, Tensor]:
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach(), step.task.score_sum(output, step.train)

        output = step.supernet(images, largest)
        passes = [learn(output, step.task.loss(output, step.train))]
        teacher = _detached(output)
        if others and dropouts.active:
            with torch.no_grad(), dropouts.off(), frozen_statistics(step.supernet):
                teacher = step.supernet(images, largest)
        with dropouts.off():
            for weights in others:
                output = step.supernet(images, weights)
                passes.append(learn(output, distillation(output, teacher)))
        return passes

    def limit_gradients(self, step: Step) -> None:
        """Clips each number of the gradients by itself, where that is asked for."""
        if self._clip_value is not None:
            nn.utils.clip_grad_value_(step.supernet.slots.now(), self._clip_value)

    def to(self, device: torch.device) -> Self:
        """Sets the device on which weights are made."""
        self._like = self._like.to(device)
        super().to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "draws": self._draws}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict(state)
        if type(state["draws"]) is not int:
            raise ValueError("draws is no number")
        self._draws = state["draws"]

    def _dropouts_of(self, supernet: Supernet) -> Dropouts:
        if self._dropouts is None or self._dropouts[0] is not supernet:
            self._dropouts = supernet, Dropouts(supernet)
        return self._dropouts[1]


def _detached(output: Output) -> Output:
    return (output[0].detach(), output[1].detach()) if isinstance(output, tuple) else output.detach()
