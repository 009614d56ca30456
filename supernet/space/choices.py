"""Modules for open decisions: a mixed operation on an edge, and a weighted sum at a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.space.architecture import Decision
from supernet.space.gates import gated_path

SKIP, AUXILIARY = "skip_connect", "auxiliary_skip_connect"


class Choice(nn.Module):
    """A place in a network where a decision is open.

    `weights`, one for each option, are there only while the supernet runs; so is `on`, which of them are not zero,
    where only those options are to run.

    Args:
        decision: the open question.
    """

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision
        self.weights: Tensor | None = None
        self.on: Sequence[bool] = ()


def weighted_sum(weights: Tensor, candidates: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The sum of all candidates, each times its weight (DARTS, equation 2).

    Args:
        weights: (candidates,).
        candidates: modules that give tensors of one shape.
        x: what each is given.

    Returns:
        A tensor of the shape that the candidates give.

    Example:
        >>> weighted_sum(torch.tensor([0.5, 2.0]), [nn.Identity(), nn.Identity()], torch.ones(2))
        tensor([2.5000, 2.5000])
    """
    terms = [w * op(x) for w, op in zip(weights, candidates, strict=True)]
    return sum(terms[1:], terms[0])


def single_path(weights: Tensor, on: Sequence[bool], candidates: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The sum of the candidates that are on, which alone run: one, for weights that are one-hot.

    The zero weights are added as they are: that leaves the sum alone, and gives each of them the sum of the incoming
    gradient (GDAS, Dong and Yang 2019, its code), where the full derivative would need the operation to run.

    Args:
        weights: (candidates,).
        on: which of them are not zero.
        candidates: modules that give tensors of one shape.
        x: what each is given.

    Returns:
        A tensor of the shape that the candidates give.

    Raises:
        InputError: no candidate is on.

    Example:
        >>> single_path(torch.tensor([0.0, 1.0]), [False, True], [nn.Identity(), nn.ReLU()], torch.tensor([-3.0, 3.0]))
        tensor([0., 3.])
    """
    terms = [w * op(x) for w, op, runs in zip(weights, candidates, on, strict=True) if runs]
    off = [w for w, runs in zip(weights, on, strict=True) if not runs]
    if not terms:
        raise InputError("single path: all weights of an edge are zero; one operation needs to be on")
    total = sum(terms[1:], terms[0])
    return total + torch.stack(off).sum() if off and weights.requires_grad else total


class OperationChoice(Choice):
    """A mixed operation: all candidates weighted, or those alone whose weights are not zero.

    Args:
        decision: the open question.
        candidates: the modules of the options in their order, and last, where the decision is auxiliary, `AUXILIARY`.
            That one can be left out if the skip connection among the options is a plain one, which does the same.
        single: only candidates whose weight is not zero run.
        gates: where weights learn, the single path gives each of them its full gradient (`gates.gated_path`).
    """

    def __init__(
        self, decision: Decision, candidates: Mapping[str, nn.Module], *, single: bool = False, gates: bool = False
    ) -> None:
        super().__init__(decision)
        self.candidates = nn.ModuleDict(candidates)
        self.single, self.gates = single, gates

    @property
    def learns(self) -> bool:
        """Whether weights of options that do not run want a gradient: then `forward` is to run, and no shortcut."""
        gated = self.single and self.gates and not all(self.on)
        return gated and self.weights is not None and self.weights.requires_grad

    @property
    def key(self) -> tuple[str, int]:
        """The key of the edge; edges of one key get the same weights."""
        return self.decision.name, len(self.candidates)

    def of_candidates(self, weights: Tensor) -> Tensor:
        """The weights of the candidates, made of the weights of the options.

        Args:
            weights: (options,), or (options + 1,) with that of the auxiliary skip connection, which is 0 otherwise.

        Returns:
            (candidates,). Where the auxiliary one is left out, its weight is added to that of the skip connection.
        """
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
        if self.learns:
            return gated_path(self.weights, self.on, candidates, x)
        if self.single:
            return single_path(self.weights, self.on, candidates, x)
        return weighted_sum(self.weights, candidates, x)


class PartialChannels(nn.Module):
    """An edge on which the first channels / `divisor` are operated on and the others pass by (PC-DARTS, equation 1).

    At stride 2 the others are max-pooled. Both parts are shuffled together, so that other channels come first on the
    next edge.

    Args:
        choice: operates on the first channels.
        channels: all that come in.
        stride: of the edge, 1 or 2.
        divisor: the first 1 / `divisor` of the channels are operated on.

    Example:
        >>> edge = PartialChannels(nn.Identity(), channels=4, stride=1, divisor=2)
        >>> edge(torch.arange(4.0).view(1, 4, 1, 1)).flatten().tolist()
        [0.0, 2.0, 1.0, 3.0]
    """

    def __init__(self, choice: nn.Module, channels: int, stride: int, divisor: int) -> None:
        super().__init__()
        self.choice = choice
        self.stride, self.divisor, self.operated = stride, divisor, channels // divisor

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to the same, halved in size where the stride is 2."""
        return self.shuffle(self.choice(x[:, : self.operated]), self.bypass(x[:, self.operated :]))

    def bypass(self, rest: Tensor) -> Tensor:
        """Returns the other channels, max-pooled at stride 2: (batch, channels - operated, height / stride, ...)."""
        return rest if self.stride == 1 else nn.functional.max_pool2d(rest, 2, 2, ceil_mode=True)

    def shuffle(self, operated: Tensor, rest: Tensor) -> Tensor:
        """Joins both parts, channel i of each of the `divisor` groups beside the others' (ShuffleNet)."""
        joined = torch.cat([operated, rest], dim=1)
        return joined.unflatten(1, (self.divisor, self.operated)).transpose(1, 2).flatten(1, 2)


class NumberChoice(Choice):
    """An open size, such as that of a kernel or a number of channels; the modules that have the size read it here.

    Args:
        decision: the open question.
        single: where the weights are one-hot and nothing learns from them, only what the option needs is computed.

    Example:
        >>> depth = NumberChoice(Decision("stage1/depth", ("1", "2"), role="number"), single=True)
        >>> depth.weights, depth.on = torch.tensor([0.0, 1.0]), (False, True)
        >>> depth.place
        1
    """

    def __init__(self, decision: Decision, *, single: bool = False) -> None:
        super().__init__(decision)
        self.single = single

    @property
    def key(self) -> tuple[str, int]:
        """The key of the decision; choices of one key get the same weights."""
        return self.decision.name, len(self.decision.options)

    @property
    def place(self) -> int | None:
        """The place of the one option that is computed alone; None where all are mixed by their weights.

        What learns from the weights needs the mixture: its derivative by the weight of an option is that option's
        part, which has to be computed.
        """
        assert self.weights is not None, "run the supernet, which hands out the weights"
        if not self.single or sum(self.on) != 1 or self.weights.requires_grad:
            return None
        return list(self.on).index(True)


class InputChoice(Choice):
    """The sum of what comes in over a node's edges, each times its weight if the inputs are relaxed at all."""

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Adds up tensors of one shape, one for each option, in their order."""
        if self.weights is None:
            return sum(inputs[1:], inputs[0])
        terms = [w * x for w, x in zip(self.weights, inputs, strict=True)]
        return sum(terms[1:], terms[0])


class Total(nn.Module):
    """Adds the tensors that come in over the edges of a node."""

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        return sum(inputs[1:], inputs[0])


class Together(nn.Module):
    """Several operations on one edge, added (published cells that join two states twice have them).

    Args:
        operations: modules that give tensors of one shape.
    """

    def __init__(self, operations: Sequence[nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)

    def forward(self, x: Tensor) -> Tensor:
        terms = [operation(x) for operation in self.operations]
        return sum(terms[1:], terms[0])
