"""Open decisions as modules, and the supernet: a network that holds some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.space.architecture import Decision, Weights


class Choice(nn.Module):
    """A place in a network where a decision is open. `weights` is there only while the supernet runs."""

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        self.decision = decision
        self.weights: Tensor | None = None


class OperationChoice(Choice):
    """A mixed operation: the sum of all candidates, each times its weight (DARTS, equation 2)."""

    def __init__(self, decision: Decision, candidates: Mapping[str, nn.Module]) -> None:
        super().__init__(decision)
        self.candidates = nn.ModuleDict(candidates)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to the same, halved in size where the stride is 2."""
        assert self.weights is not None, "run the supernet, which hands out the weights"
        terms = [w * op(x) for w, op in zip(self.weights, self.candidates.values(), strict=True)]
        return sum(terms[1:], terms[0])


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
    runs on the same supernet by handing it other weights.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._choices = [module for module in network.modules() if isinstance(module, Choice)]
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
        try:
            for choice in self._choices:
                choice.weights = (
                    weights[choice.decision.name] if not choice.decision.inputs else weights.get(choice.decision.name)
                )
            return self.network(images)
        finally:
            for choice in self._choices:
                choice.weights = None
