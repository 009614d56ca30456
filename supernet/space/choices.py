"""Open decisions as modules, and the supernet: a network that holds some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.runtime.places import Parameters
from supernet.space.architecture import Decision, Weights

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


@contextmanager
def holding(modules: Sequence[nn.Module], attribute: str, value: object) -> Iterator[None]:
    """Within it a plain attribute of all modules has this value; then each has its own again."""
    places = [vars(module) for module in modules]  # a module's `setattr` is slow, and there are thousands
    before = [place[attribute] for place in places]
    for place in places:
        place[attribute] = value
    try:
        yield
    finally:
        for place, own in zip(places, before, strict=True):
            place[attribute] = own


def single_paths(network: nn.Module) -> AbstractContextManager[None]:
    """Within it all mixed operations of `network` run only what is on (`single_path`)."""
    choices = [module for module in network.modules() if isinstance(module, OperationChoice)]
    return holding(choices, "single", True)


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


class Supernet(nn.Module):
    """A network with open decisions: a function of images and architecture weights.

    It holds no architecture parameters: `parameters()` is exactly w of the bilevel problem, and every strategy
    runs on the same supernet by handing it other weights. `everything`: it is the reference, which does what the
    original's code does, gradients that nobody needs included.
    """

    def __init__(self, network: nn.Module, *, everything: bool = False) -> None:
        super().__init__()
        self.network = network
        self.everything = everything
        self._choices = [module for module in network.modules() if isinstance(module, Choice)]
        self._operations = [choice for choice in self._choices if isinstance(choice, OperationChoice)]
        self.norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
        self.decisions: dict[str, Decision] = {}
        for choice in self._choices:
            known = self.decisions.setdefault(choice.decision.name, choice.decision)
            if known != choice.decision:
                raise InputError(f"space: {known.name!r} is asked twice with different options; give each its own name")

    def forward(self, images: Tensor, weights: Weights) -> Tensor:
        """Logits (batch, classes) for images (batch, channels, height, width).

        `weights` needs an entry for each operation decision; where an input decision has none, its node's edges
        are plainly added.
        """
        of_candidates: dict[tuple[str, int], Tensor] = {}
        for edge in self._operations:
            if edge.key not in of_candidates:
                of_candidates[edge.key] = edge.of_candidates(weights[edge.decision.name])
        on = self._on(of_candidates)
        try:
            for choice in self._choices:
                if isinstance(choice, OperationChoice):
                    choice.weights, choice.on = of_candidates[choice.key], on.get(choice.key, ())
                else:
                    choice.weights = weights.get(choice.decision.name)
            return self.network(images)
        finally:
            for choice in self._choices:
                choice.weights, choice.on = None, ()

    @cached_property
    def places(self) -> Parameters:
        """Where the parameters are, in the order of `parameters()`; from the first use on the structure is to stay."""
        return Parameters(self)

    @property
    def waits(self) -> bool:
        """Whether a pass begins by reading weights from the device: which operations run is decided on the host."""
        return any(choice.single for choice in self._operations)

    def _on(self, weights: Mapping[tuple[str, int], Tensor]) -> dict[tuple[str, int], list[bool]]:
        """By key of single paths, which weights are not zero, all read at once: a device is waited for once."""
        keys = list(dict.fromkeys(choice.key for choice in self._operations if choice.single))
        if not keys:
            return {}
        read = iter(torch.cat([weights[key].detach() for key in keys]).ne(0).tolist())
        return {key: [next(read) for _ in range(len(weights[key]))] for key in keys}
