"""Open decisions as modules, and the supernet: a network that holds some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.space.architecture import Decision

SKIP, AUXILIARY = "skip_connect", "auxiliary_skip_connect"


class Choice(nn.Module):
    """A place in a network where a decision is open.

    `weights`, one for each option, are there only while the supernet runs; so is `on`, which of them are not zero,
    where only those options are to run.
    """

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision
        self.weights: Tensor | None = None
        self.on: Sequence[bool] = ()


def weighted_sum(weights: Tensor, candidates: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The sum of all candidates, each times its weight (DARTS, equation 2)."""
    terms = [w * op(x) for w, op in zip(weights, candidates, strict=True)]
    return sum(terms[1:], terms[0])


def single_path(weights: Tensor, on: Sequence[bool], candidates: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The sum of the candidates that are on, which alone run: one, for weights that are one-hot.

    The zero weights are added as they are: that leaves the sum alone, and gives each of them the sum of the incoming
    gradient (GDAS, Dong and Yang 2019, its code), where the full derivative would need the operation to run.
    """
    terms = [w * op(x) for w, op, runs in zip(weights, candidates, on, strict=True) if runs]
    off = [w for w, runs in zip(weights, on, strict=True) if not runs]
    if not terms:
        raise InputError("single path: all weights of an edge are zero; one operation needs to be on")
    total = sum(terms[1:], terms[0])
    return total + torch.stack(off).sum() if off and weights.requires_grad else total


class OperationChoice(Choice):
    """A mixed operation: all candidates weighted, or, if it is `single`, those alone whose weights are not zero.

    The candidates are the decision's options in their order, and last, where the decision is auxiliary, `AUXILIARY`.
    There it can be left out if the skip connection among the options is a plain one, which does the same.
    """

    def __init__(self, decision: Decision, candidates: Mapping[str, nn.Module], *, single: bool = False) -> None:
        super().__init__(decision)
        self.candidates = nn.ModuleDict(candidates)
        self.single = single

    @property
    def key(self) -> tuple[str, int]:
        """Edges of one key are handed the same weights."""
        return self.decision.name, len(self.candidates)

    def of_candidates(self, weights: Tensor) -> Tensor:
        """The weights of the candidates, of those that are given: without the auxiliary one's it is 0."""
        options, given = self.decision.options, len(weights)
        if not self.decision.auxiliary or given == len(self.candidates):
            return weights
        if given == len(options):
            return nn.functional.pad(weights, (0, 1))
        place = options.index(SKIP)
        return weights[:-1] + nn.functional.pad(weights[-1:], (place, len(options) - 1 - place))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to the same, halved in size where the stride is 2."""
        assert self.weights is not None, "run the supernet, which hands out the weights"
        candidates = list(self.candidates.values())
        if self.single:
            return single_path(self.weights, self.on, candidates, x)
        return weighted_sum(self.weights, candidates, x)


class PartialChannels(nn.Module):
    """An edge on which the first channels / `divisor` are operated on and the others pass by (PC-DARTS, equation 1).

    At stride 2 the others are max-pooled. Both parts are shuffled together, so that other channels come first on the
    next edge.
    """

    def __init__(self, choice: nn.Module, channels: int, stride: int, divisor: int) -> None:
        super().__init__()
        self.choice = choice
        self.stride, self.divisor, self.operated = stride, divisor, channels // divisor

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to the same, halved in size where the stride is 2."""
        return self.shuffle(self.choice(x[:, : self.operated]), self.bypass(x[:, self.operated :]))

    def bypass(self, rest: Tensor) -> Tensor:
        """What becomes of the other channels: (batch, channels - operated, height / stride, width / stride)."""
        return rest if self.stride == 1 else nn.functional.max_pool2d(rest, 2, 2, ceil_mode=True)

    def shuffle(self, operated: Tensor, rest: Tensor) -> Tensor:
        """Joins both parts, channel i of each of the `divisor` groups beside the others' (ShuffleNet)."""
        joined = torch.cat([operated, rest], dim=1)
        return joined.unflatten(1, (self.divisor, self.operated)).transpose(1, 2).flatten(1, 2)


class InputChoice(Choice):
    """The sum of what comes in over a node's edges, each times its weight if the inputs are relaxed at all."""

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Adds up tensors of one shape, one for each option, in their order."""
        if self.weights is None:
            return sum(inputs[1:], inputs[0])
        terms = [w * x for w, x in zip(self.weights, inputs, strict=True)]
        return sum(terms[1:], terms[0])


class Total(nn.Module):
    """Adds a list of tensors."""

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        return sum(inputs[1:], inputs[0])


class Together(nn.Module):
    """Several operations on one edge, added (published cells that join two states twice have them)."""

    def __init__(self, operations: Sequence[nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)

    def forward(self, x: Tensor) -> Tensor:
        terms = [operation(x) for operation in self.operations]
        return sum(terms[1:], terms[0])
