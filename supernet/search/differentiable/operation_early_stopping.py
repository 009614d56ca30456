"""Stops an operation from learning once its gradients on the two halves of the data disagree.

This is OLES (Jiang, Ji, Zhu, Yuan and Huang 2023). Operations with weights overfit the training half, and therefore
lose to skip connections on the validation half. `OperationEarlyStopping` wraps any strategy. It does not
change the strategy: it only stops weights of the supernet from being trained further.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from supernet.execution.modes import frozen_statistics
from supernet.runtime.devices import constant
from supernet.runtime.errors import InputError
from supernet.search.strategy import Step, Strategy, Wrapper
from supernet.space.architecture import Weights
from supernet.space.choices import OperationChoice
from supernet.space.supernet import Supernet


class OperationEarlyStopping(Wrapper):
    """Stops an operation's weights for good once its gradients agree too little between training and validation.

    Before each step of the alphas, two gradients of each operation of each cell are compared. The first is the gradient
    by which its weights have just been moved (of the last training batch, clipped). The second is the gradient of the
    validation batch at the weights as they are now, under the strategy's `expected` weights. Their agreement is the
    mean of `cosines` over the operation's tensors. The operation stops when the mean agreement over `every` steps is
    below the threshold. This costs one more backward pass a step.

    Args:
        strategy: the strategy inside, of any kind.
        threshold: the least agreement, a cosine, in [-1, 1].
        every: the number of steps over which the agreement is averaged before it is judged, 1 or more.
        accumulated: whether the training gradient is compared with the sum of both. The authors' code does so, for it
            never clears the weights' gradients in between, and their 0.4 belongs to that: gradients of one length that
            have nothing in common give 0.7. False compares with the validation gradient alone, as the paper defines it;
            on the digits nearly all operations are below 0.4 there from the start.
        exempt: operations that never stop; among them are skip connections, which have weights at stride 2.

    Raises:
        InputError: `threshold` is no cosine, or `every` is below 1.

    Example:
        >>> from supernet.search.black_box.random_search import UniformStrategy
        >>> from supernet.space.architecture import Decision
        >>> inner = UniformStrategy("mine", {"edge": Decision("edge", ("skip_connect", "conv"))})
        >>> OperationEarlyStopping(inner, threshold=0.4).measures()
        {'early_stopping/stopped': 0.0}
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        threshold: float = 0.4,
        every: int = 20,
        accumulated: bool = True,
        exempt: tuple[str, ...] = ("skip_connect", "auxiliary_skip_connect"),
    ) -> None:
        if not -1 <= threshold <= 1:
            raise InputError(f"threshold={threshold}: is a cosine, needs to lie in [-1, 1], such as 0.4")
        if every < 1:
            raise InputError(f"every={every}: needs 1 step or more, such as 20")
        super().__init__(strategy)
        self._threshold, self._every, self._accumulated, self._exempt = threshold, every, accumulated, exempt
        self._supernet: Supernet | None = None
        self._operations: dict[str, list[nn.Parameter]] = {}
        self._stopped: set[str] = set()
        self._totals: dict[str, Tensor] = {}  # of cosines, since the last judgement
        self._counts: dict[str, int] = {}
        self._saved: dict[str, list[Tensor]] | None = None  # gradients of the step before a resume

    def update(self, step: Step) -> None:
        """Compares gradients, stops what is to be stopped, and lets the strategy learn."""
        self._attach(step.supernet)
        self._compare(step)
        self.strategy.update(step)

    def sample(self, step: Step) -> Weights:
        """Lets the strategy draw; the step that follows leaves gradients of its own."""
        self._before_step(step)
        return self.strategy.sample(step)

    def samples(self, step: Step) -> Sequence[Weights]:
        """The same for a strategy whose step goes through several paths."""
        self._before_step(step)
        return self.strategy.samples(step)

    def measures(self) -> dict[str, float]:
        """Returns the measures of the strategy, and the share of operations that have stopped."""
        share = len(self._stopped) / max(1, len(self._operations))
        return {**self.strategy.measures(), "early_stopping/stopped": share}

    def state_dict(self) -> dict[str, Any]:
        gradients = {name: [g.clone() for g in own] for name, own in self._training_gradients().items()}
        return {
            **super().state_dict(),
            "stopped": sorted(self._stopped),
            "totals": {name: total.clone() for name, total in self._totals.items()},
            "counts": dict(self._counts),
            "gradients": gradients,
        }

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        super().load_state_dict(state)
        self._stopped = set(state["stopped"])
        self._totals, self._counts = dict(state["totals"]), dict(state["counts"])
        self._saved = {name: list(own) for name, own in state["gradients"].items()}
        self._supernet = None  # so that the next step attaches anew and stops the operations of its supernet

    def _before_step(self, step: Step) -> None:
        self._attach(step.supernet)
        self._saved = None

    def _attach(self, supernet: Supernet) -> None:
        """Finds the operations of the network, and stops those again that had stopped before."""
        if self._supernet is supernet:
            return
        self._supernet, self._operations = supernet, _operations(supernet, self._exempt)
        for name, parameters in self._operations.items():
            for parameter in parameters:
                parameter.requires_grad_(name not in self._stopped)

    def _training_gradients(self) -> dict[str, list[Tensor]]:
        """Returns the gradients that the last step left in each operation that still learns and took part in it."""
        if self._saved is not None:
            return self._saved
        found = {n: [p.grad for p in own] for n, own in self._operations.items() if n not in self._stopped}
        return {n: [g for g in own if g is not None] for n, own in found.items() if all(g is not None for g in own)}

    def _compare(self, step: Step) -> None:
        training = self._training_gradients()
        if not training:
            return
        parameters = [p for name in training for p in self._operations[name]]
        before = [
            g.to(p.device) for g, p in zip((g for own in training.values() for g in own), parameters, strict=True)
        ]
        now = _validation_gradients(step, self.strategy.expected(), parameters)
        compared = torch._foreach_add(now, before) if self._accumulated else now
        values = cosines(before, compared).split([len(own) for own in training.values()])
        for name, value in zip(training, values, strict=True):
            self._totals[name] = value.mean() + self._totals.get(name, 0.0)
            self._counts[name] = self._counts.get(name, 0) + 1
        self._stop_weak([name for name in training if self._counts[name] == self._every])

    def _stop_weak(self, due: Sequence[str]) -> None:
        """Stops those of the operations `due` whose gradients agree too little; sets all their sums back to 0."""
        if not due:
            return
        totals = torch.stack([self._totals[name] for name in due]).tolist()
        for name, total in zip(due, totals, strict=True):
            del self._totals[name], self._counts[name]
            if total / self._every < self._threshold:
                self._stopped.add(name)
                for parameter in self._operations[name]:
                    parameter.requires_grad_(False)


def cosines(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Compares gradients pair by pair: the cosine along the output channels, averaged over all else.

    That is what the authors' code does. Tensors of one shape are done together.

    Args:
        one: tensors of any shapes, one or more; the first dimension is the output channels.
        other: as many tensors of the same shapes.

    Returns:
        (tensors,), in [-1, 1]; 0 where one of both is 0.

    Example:
        >>> x, y, kernel = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
        >>> cosines([x, x, kernel], [-x, y, torch.eye(2)])  # one column of the kernels agrees, the other does not
        tensor([-1.0000,  0.0000,  0.5000])
    """
    places: dict[torch.Size, list[int]] = {}
    for place, tensor in enumerate(one):
        places.setdefault(tensor.shape, []).append(place)
    values = one[0].new_empty(len(one))
    for shape, group in places.items():
        wide = (len(group), shape[0], -1) if shape else (len(group), 1, 1)
        a, b = (torch.stack([tensors[i] for i in group]).reshape(wide) for tensors in (one, other))
        values[constant(tuple(group), values.device, torch.long)] = nn.functional.cosine_similarity(a, b, dim=1).mean(1)
    return values


def _operations(supernet: Supernet, exempt: Sequence[str]) -> dict[str, list[nn.Parameter]]:
    """Where each candidate with weights stands in the network, and its parameters."""
    found = {}
    for path, module in supernet.named_modules():
        if isinstance(module, OperationChoice):
            for option, candidate in module.candidates.items():
                parameters = list(candidate.parameters())
                if parameters and option not in exempt:
                    found[f"{path}.{option}"] = parameters
    return found


def _validation_gradients(step: Step, weights: Weights, parameters: Sequence[Tensor]) -> list[Tensor]:
    """The validation loss' gradients; statistics, `.grad` and random streams stay as they were."""
    device = parameters[0].device
    with frozen_statistics(step.supernet), torch.random.fork_rng([device] if device.type == "cuda" else []):
        loss = step.loss(step.valid, weights)
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return step.processes.averaged(slopes)
