"""The interface of a search strategy, and the `Step` that it is given."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from supernet.data.batches import Batch
from supernet.estimation.limits import Limits
from supernet.estimation.supernet_accuracy import SupernetScore
from supernet.execution.precision import Accelerated
from supernet.execution.step_graph import Host
from supernet.runtime.errors import InputError
from supernet.runtime.processes import ALONE, Processes
from supernet.space.architecture import Architecture, Decision, Weights
from supernet.space.supernet import Supernet
from supernet.training.tasks import Task


@dataclass(frozen=True)
class Step:
    """One step of a search: a batch of each half of the training data, and the supernet with its optimiser.

    Args:
        supernet: the network that is searched.
        train: a batch of the half that the weights learn from.
        valid: a batch of the half that the architecture is judged by.
        task: what is learnt.
        optimizer: of the supernet's weights.
        progress: how far the search is, in [0, 1); while a step of a strategy that `recording` allows is recorded as a
            CUDA graph, a 0-dimensional tensor on the device.
        accelerated: in which precision the supernet runs, and whether as CUDA graphs (None: float32, without).
        epochs: how many the search has.
        processes: those that take the step together, each with its share of both batches. `task` then is over the
            joined batches, and whoever takes a gradient of a loss averages it (`Processes.averaged`).
    """

    supernet: Supernet
    train: Batch
    valid: Batch
    task: Task
    optimizer: torch.optim.Optimizer
    progress: Any
    accelerated: Accelerated | None = None
    epochs: int = 1
    processes: Processes = ALONE

    def loss(self, batch: Batch, weights: Weights, inner: Sequence[Tensor] | None = None) -> Tensor:
        """The loss of the supernet on `train` or on `valid`.

        Args:
            batch: one of the step's two batches.
            weights: with which the supernet runs.
            inner: tensors that stand in for the supernet's parameters, in their order; None: the parameters.

        Returns:
            A scalar, differentiable in the weights and in the parameters or what stands in for them.
        """
        images = self.task.inputs(batch)
        if inner is None:
            return self.task.loss(self.supernet(images, weights), batch)
        with self.supernet.slots.replaced(inner):
            return self.task.loss(self.supernet(images, weights), batch)

    def exact(self) -> AbstractContextManager[None]:
        """Within it the supernet computes in float32 whatever the precision: for differences that rounding drowns."""
        return nullcontext() if self.accelerated is None else self.accelerated.exact()

    def unrecorded(self) -> AbstractContextManager[None]:
        """Within it the supernet runs without CUDA graphs, so that losses can be differentiated twice."""
        return nullcontext() if self.accelerated is None else self.accelerated.unrecorded()


class Strategy(ABC):
    """Decides which weights the supernet runs with, and in the end which architecture is best.

    A strategy says at least `sample`, `expected` and `finish`; the other hooks do nothing by themselves.

    Attributes:
        space: the name of the space, for the architectures that are found.
        decisions: those of the supernet, by name.
        inherits: whether a later stage of a search can start with what this strategy has learnt (`inherit`).

    Example:
        >>> from supernet.space.architecture import one_hot
        >>> class First(Strategy):
        ...     def __init__(self, space, decisions):
        ...         self.space, self.decisions = space, decisions
        ...     def sample(self, step):
        ...         return self.expected()
        ...     def expected(self):
        ...         return one_hot(self.finish(), self.decisions)
        ...     def finish(self, score=None):
        ...         return Architecture(self.space, {n: d.answers[: d.keep] for n, d in self.decisions.items()})
        >>> First("mine", {"edge": Decision("edge", ("none", "skip_connect", "conv"))}).expected()
        {'edge': tensor([0., 1., 0.])}
    """

    space: str
    decisions: Mapping[str, Decision]
    inherits: ClassVar[bool] = False

    def initialise(self, supernet: Supernet) -> None:
        """Changes the initial weights of the supernet, before the first step of a search that starts with new ones.

        Args:
            supernet: with weights as the space draws them.
        """
        return

    def begin_epoch(self, progress: float, score: SupernetScore) -> None:
        """Is called before the first step of each epoch, and again where a search goes on within one.

        Args:
            progress: how far the search is, in [0, 1).
            score: judges by the supernet, for strategies that decide something while it learns.

        Raises:
            Interrupted: by `score`, where the run was asked to stop.
        """
        return

    def update(self, step: Step) -> None:
        """Learns about the architecture. It leaves the network's weights, gradients and statistics as they were.

        Args:
            step: a batch of each half of the data, and the supernet with its optimiser.
        """
        return

    @abstractmethod
    def sample(self, step: Step) -> Weights:
        """Says with which weights the network's next step is taken. It leaves the network as it was.

        Args:
            step: the step, whose training batch the network will learn from.

        Returns:
            (options,) for each decision, without gradient.
        """

    def samples(self, step: Step) -> Sequence[Weights]:
        """Says with which weights, one set after the other, the network's next step is taken; this is what is asked.

        The network runs with each of them on the same batch, and their gradients are added up before the one step.
        A strategy whose step has one pass says `sample` alone; what changes `samples` of a strategy inside it, too.

        Args:
            step: the step, whose training batch the network will learn from.

        Returns:
            One or more sets of weights: (options,) for each decision, without gradient.
        """
        return [self.sample(step)]

    def backward(self, step: Step, paths: Sequence[Weights]) -> list[tuple[Tensor, Tensor]]:
        """Adds the gradients of the network's next step to its parameters, which have none yet: one pass for each path.

        This is where paths learn from something else than the labels, as in a distillation. Whoever says it anew says
        which loss each path has; the step itself, clipping and all else is taken afterwards.

        Args:
            step: the step, whose training batch the network learns from.
            paths: what `samples` gave.

        Returns:
            For each path the mean loss and the sum of its images' scores, 0-dimensional and without gradient. Where
            processes share the batch, gradients are averaged over them afterwards.
        """
        passes = []
        for weights in paths:
            output = step.supernet(step.task.inputs(step.train), weights)
            loss = step.task.loss(output, step.train)
            loss.backward()  # type: ignore[no-untyped-call]  # adds to the gradients of the paths before
            passes.append((loss.detach(), step.task.score_sum(output, step.train)))
        return passes

    def limit_gradients(self, step: Step) -> None:
        """Changes the gradients that `backward` has left, before their norm is clipped.

        Args:
            step: the step; its gradients are those of the joined batch, where processes share one.
        """
        return

    @abstractmethod
    def expected(self) -> Weights:
        """Says what the strategy thinks of each option now, without noise.

        Returns:
            (options,) for each decision.
        """

    def recording(self, step: Step, *, learn_alphas: bool) -> tuple[Hashable, Host] | None:
        """Says whether a step of this strategy can be recorded as one CUDA graph, and what it depends on.

        A graph repeats what a step did on the device. So all that `update`, `samples` and `backward` decide on the host
        is to be in the key, their own counts are to be moved by the host's part, and `step.progress` is a tensor.

        Args:
            step: the step that comes next.
            learn_alphas: whether the alphas learn in it.

        Returns:
            The key of this step, and who counts and draws noise in it; None (as here): it decides on the host.
        """
        return None

    def strengths(self) -> Weights:
        """Says how strong each option is, for a discretiser: what `expected` says, unless a strategy knows better.

        Returns:
            (options,) for each decision.
        """
        return self.expected()

    def differentiable_weights(self) -> tuple[list[Tensor], Weights]:
        """Gives the alphas, and the weights that follow them, for those who differentiate a loss in the alphas.

        Returns:
            The alphas, and the weights of `expected`, differentiable in them; ([], {}) for a strategy without alphas.
        """
        return [], {}

    @abstractmethod
    def finish(self, score: SupernetScore | None = None) -> Architecture:
        """Says which architecture the strategy would choose now.

        Args:
            score: judges by the supernet, at the end of the search; None: no architecture can be tried.

        Returns:
            The architecture.
        """

    def runners_up(self) -> Sequence[Architecture]:
        """Lists what the last `finish` would have chosen in place of its answer.

        Returns:
            Architectures, the best first; () where whole architectures are not ranked.
        """
        return ()

    def measures(self) -> Mapping[str, float]:
        """Gives values to plot, once an epoch.

        Returns:
            Scalars by tag.
        """
        return {}

    def inherit(self, before: Strategy) -> None:
        """Starts with what a strategy of the same kind has learnt about the options that are left.

        Args:
            before: the strategy of the stage before.

        Raises:
            InputError: this strategy cannot start with it.
        """
        raise InputError(f"{type(self).__name__} cannot start with what an earlier stage has learnt")

    def to(self, device: torch.device) -> Self:
        """Moves what the strategy learns to a device, before the first step."""
        return self

    def state_dict(self) -> dict[str, Any]:
        """All that the strategy has learnt and drawn, for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Takes over what `state_dict` gave."""
        return


class Wrapper(Strategy):
    """A strategy around another one, which it asks for all that it does not do itself.

    It does not pass on `inherit`: the strategy inside inherits before it is wrapped. Nor does it pass on `recording`:
    who decides nothing on the host says so by asking the strategy inside. One that says `sample` anew says `samples`
    anew, too: the step of the network asks for `samples`.

    Args:
        strategy: the strategy inside; its space and its decisions are the wrapper's, too.

    Example:
        >>> from supernet.search.black_box.random_search import UniformStrategy
        >>> class Counted(Wrapper):
        ...     def measures(self):
        ...         return {**self.strategy.measures(), "decisions": len(self.decisions)}
        >>> Counted(UniformStrategy("mine", {"edge": Decision("edge", ("a", "b"))})).measures()
        {'decisions': 1}
    """

    def __init__(self, strategy: Strategy) -> None:
        self.strategy, self.space, self.decisions = strategy, strategy.space, strategy.decisions

    def initialise(self, supernet: Supernet) -> None:
        self.strategy.initialise(supernet)

    def begin_epoch(self, progress: float, score: SupernetScore) -> None:
        self.strategy.begin_epoch(progress, score)

    def update(self, step: Step) -> None:
        self.strategy.update(step)

    def sample(self, step: Step) -> Weights:
        return self.strategy.sample(step)

    def samples(self, step: Step) -> Sequence[Weights]:
        return self.strategy.samples(step)

    def backward(self, step: Step, paths: Sequence[Weights]) -> list[tuple[Tensor, Tensor]]:
        return self.strategy.backward(step, paths)

    def limit_gradients(self, step: Step) -> None:
        self.strategy.limit_gradients(step)

    def expected(self) -> Weights:
        return self.strategy.expected()

    def strengths(self) -> Weights:
        return self.strategy.strengths()

    def differentiable_weights(self) -> tuple[list[Tensor], Weights]:
        return self.strategy.differentiable_weights()

    def finish(self, score: SupernetScore | None = None) -> Architecture:
        return self.strategy.finish(score)

    def runners_up(self) -> Sequence[Architecture]:
        return self.strategy.runners_up()

    def measures(self) -> Mapping[str, float]:
        return self.strategy.measures()

    def to(self, device: torch.device) -> Self:
        self.strategy.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        return {"strategy": self.strategy.state_dict()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.strategy.load_state_dict(state["strategy"])


def has_alphas(strategy: Strategy) -> bool:
    """Says whether the weights of a strategy follow alphas.

    Args:
        strategy: any strategy.

    Returns:
        False for random search, and for weights that are uniform whatever the alphas are (`relaxations.Uniform`).

    Example:
        >>> from supernet.search.black_box.random_search import UniformStrategy
        >>> has_alphas(UniformStrategy("mine", {"edge": Decision("edge", ("a", "b"))}))
        False
    """
    return any(weight.requires_grad for weight in strategy.differentiable_weights()[1].values())


def limited(make: Callable[..., Strategy], limits: Limits | None) -> Callable[..., Strategy]:
    """Gives what makes a strategy the limits that its architecture has to keep.

    Args:
        make: makes the strategy; one that keeps limits takes the keyword `limits`.
        limits: what architectures may cost; None: nothing is given.

    Returns:
        What makes the strategy.

    Raises:
        InputError: there are limits, and the strategy does not take them.

    Example:
        >>> from supernet.search.black_box.random_search import UniformStrategy
        >>> limited(UniformStrategy, None) is UniformStrategy
        True
    """
    if limits is None:
        return make
    parameters = inspect.signature(make).parameters
    if "limits" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return partial(make, limits=limits)
    if limits:
        raise InputError(f"limits: this strategy cannot keep {limits}; one that can takes the keyword 'limits'")
    return make
