"""Search by gradient: logits, a relaxation that makes weights of them, and an architect that gives their gradient.

DARTS, GDAS, SNAS and similar methods are this class with different parts; none has its own class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from supernet.estimation.limits import Limits
from supernet.estimation.supernet_accuracy import SupernetScore
from supernet.execution.modes import evaluating, frozen_statistics, running
from supernet.execution.step_graph import Advance, Host
from supernet.runtime.checkpoint import check_optimizer
from supernet.runtime.errors import InputError
from supernet.runtime.limits import Limit
from supernet.runtime.parameter_slots import plain_settings
from supernet.runtime.seeding import generator
from supernet.search.differentiable.architects import Architect, Bilevel
from supernet.search.differentiable.discretisers import Discretiser
from supernet.search.differentiable.noise import Noise
from supernet.search.differentiable.objectives import RelaxedWeights, Term
from supernet.search.differentiable.relaxations import Relaxation, Settling, strength
from supernet.search.differentiable.weight_transforms import TransformContext, WeightTransform, transformed
from supernet.search.strategy import Step, Strategy
from supernet.space.architecture import Architecture, Decision, Weights
from supernet.space.cells import reference
from supernet.training.sgd import SgdStep

Start = Callable[[int, torch.Generator], Tensor]
"""(number of options, generator) -> the logits of one decision before the first step."""

_INITIAL_STREAM, _NOISE_STREAM = 0xA1FA, 0x0153
_TAKEN = ("update", "relax", "sample", "samples", "backward")  # what a step calls, and recording knows of


def small_normal(options: int, generator: torch.Generator) -> Tensor:
    """Starts near zero: 1e-3 times a normal draw (DARTS' code).

    Args:
        options: how many the decision has.
        generator: draws.

    Returns:
        Logits, (options,).

    Example:
        >>> small_normal(3, torch.Generator().manual_seed(0)).abs().max() < 0.01
        tensor(True)
    """
    return 1e-3 * torch.randn(options, generator=generator)


def uniform(options: int, generator: torch.Generator) -> Tensor:
    """Starts in the middle of the simplex (GAEA, Li et al. 2021).

    Args:
        options: how many the decision has.
        generator: is not used.

    Returns:
        Logits, (options,), all of them 1 / options.

    Example:
        >>> uniform(4, torch.Generator())
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    return torch.full((options,), 1.0 / options)


def zero(options: int, generator: torch.Generator) -> Tensor:
    """Starts at zero (FairDARTS, Chu et al. 2020, whose sigmoids are then 1/2).

    Args:
        options: how many the decision has.
        generator: is not used.

    Returns:
        Logits, (options,), all of them 0.

    Example:
        >>> zero(2, torch.Generator()).sigmoid()
        tensor([0.5000, 0.5000])
    """
    return torch.zeros(options)


class GradientStrategy(Strategy):
    """Alphas that follow the hypergradient.

    Every evaluation within one update sees the same noise, and no two steps do; noise depends on the seed and a count,
    not on the global generator. More than twelve parameters: each is a part that methods exchange by itself.

    Args:
        space: name of the space, for the architectures that are found.
        decisions: those of the supernet, by name.
        operations: relaxes the decisions about operations.
        inputs: relaxes those about inputs; None: every edge counts in full, as in DARTS.
        architect: says where the alphas should move.
        optimizer: the logits -> the alphas' optimiser.
        discretiser: chooses the architecture in the end.
        terms: what is added to the loss the alphas learn from, by name.
        transforms: what happens to weights between relaxation and network, by name and in this order.
        start: the logits before the first step.
        single_level: the alphas learn from the training batch, too (SNAS).
        clip: largest norm of the alphas' gradient (P-DARTS); None: any.
        every: the alphas take one step in so many steps of the network, 1 or more (ProxylessNAS: 5).
        limits: what the architecture that is found may cost; terms of the objective learn of costs here, too.
        seed: of the start and of all noise.

    Raises:
        InputError: where the parts do not go together.
    """

    inherits: ClassVar[bool] = True

    def __init__(
        self,
        space: str,
        decisions: Mapping[str, Decision],
        *,
        operations: Relaxation,
        inputs: Relaxation | None,
        architect: Architect,
        optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer],
        discretiser: Discretiser,
        terms: Mapping[str, Term] | None = None,
        transforms: Mapping[str, WeightTransform] | None = None,
        start: Start = small_normal,
        single_level: bool = False,
        clip: Limit | None = None,
        every: int = 1,
        limits: Limits | None = None,
        seed: int = 0,
    ) -> None:
        if clip is not None and not clip > 0.0:
            raise InputError(f"clip={clip}: needs to be above 0; leave it out for no clipping")
        if every < 1:
            raise InputError(f"every={every}: needs 1 step of the network or more")
        self.transforms = tuple((transforms or {}).values())
        if any(t.auxiliary for t in self.transforms) != any(d.auxiliary for d in decisions.values()):
            raise InputError(
                "transforms: AuxiliarySkip gives the weights of what a chooser with auxiliary=True builds; use both or "
                "neither"
            )
        if limits and "limits" not in inspect.signature(discretiser).parameters:
            raise InputError(f"limits: this discretiser cannot keep {limits}; use argmax, threshold or limit_skips")
        self.space = space
        self.decisions = dict(decisions)
        relaxed = {n: d for n, d in decisions.items() if inputs is not None or d.role != "inputs"}
        stream = generator(seed, _INITIAL_STREAM)
        self.logits = nn.ParameterDict({n: nn.Parameter(start(len(d.options), stream)) for n, d in relaxed.items()})
        self._relaxations = {n: inputs if d.role == "inputs" and inputs else operations for n, d in relaxed.items()}
        self._architect, self._discretiser, self._terms = architect, discretiser, tuple((terms or {}).values())
        self._single_level, self._clip, self._every, self._limits = single_level, clip, every, limits
        self.optimizer = optimizer(self.logits.parameters())
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            what = type(self.optimizer).__name__
            raise InputError(f"optimizer: makes a {what} and no optimizer; use one such as torch.optim.Adam")
        self.seed, self._draws, self._steps, self._loads = seed, 0, 0, 0
        self._noise = Noise(seed, _NOISE_STREAM)
        self._recorded_gradients: list[Tensor] = []  # where a step that is recorded as a graph leaves them

    @property
    def limits(self) -> Limits | None:
        """What the architecture that is found may cost."""
        return self._limits

    def relax(self, progress: Any, draw: int) -> Weights:
        """The weights of draw number `draw`, differentiable in the logits."""
        weights = self._relaxed(progress, draw)
        return transformed(self.transforms, weights, TransformContext(self.decisions, progress))

    def add_transform(self, transform: WeightTransform) -> None:
        """Adds a transform of the weights after all others. Call it before the first step."""
        self.transforms = (*self.transforms, transform)

    @torch.no_grad()
    def inherit(self, before: Strategy) -> None:
        """Starts with the logits that `before` has of the same options; its optimiser's state is left behind."""
        if not isinstance(before, GradientStrategy):
            raise InputError(f"alphas cannot be inherited from {type(before).__name__}, which has none")
        for name, logits in self.logits.items():
            places = [before.decisions[name].options.index(option) for option in self.decisions[name].options]
            logits.copy_(before.logits[name][places])

    def update(self, step: Step) -> None:
        """One step of the alphas' optimiser along the architect's gradient, where it is their turn."""
        self._steps += 1
        if self._steps % self._every:
            return
        draw, progress = self._next_draw(), self._progress(step)
        judge = step.train if self._single_level else step.valid

        def train_loss(inner: Sequence[Tensor]) -> Tensor:
            return step.loss(step.train, self.relax(progress, draw), inner)

        def valid_loss(inner: Sequence[Tensor]) -> Tensor:
            weights = self._relaxed(progress, draw)
            seen = transformed(self.transforms, weights, TransformContext(self.decisions, progress))
            loss = step.loss(judge, seen, inner)
            return sum((term(self._seen(weights, step, loss)) for term in self._terms), loss)

        weights = step.supernet.slots.now()
        problem = Bilevel(
            weights,
            list(self.logits.values()),
            train_loss,
            valid_loss,
            inner_step=SgdStep.of(step.optimizer, weights),
            twice=partial(_differentiable_twice, step),
            exact=step.exact,
            joined=step.processes.averaged,
        )
        with frozen_statistics(step.supernet):
            gradients = self._architect(problem)
        if self._recorded_gradients:
            torch._foreach_copy_(self._recorded_gradients, list(gradients))
            gradients = self._recorded_gradients
        for logits, gradient in zip(self.logits.values(), gradients, strict=True):
            logits.grad = gradient
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self.logits.values(), self._clip)
        settling = {n: r for n, r in self._relaxations.items() if isinstance(r, Settling)}
        before = {name: self.logits[name].detach().clone() for name in settling}
        self.optimizer.step()
        with torch.no_grad():
            for name, relaxation in settling.items():
                self.logits[name].copy_(relaxation.settled(before[name], self.logits[name]))

    def _seen(self, weights: Weights, step: Step, loss: Tensor) -> RelaxedWeights:
        """What the terms of the objective are given."""
        logits, expected = dict(self.logits.items()), self.differentiable_weights()[1]
        progress = self._progress(step)
        return RelaxedWeights(self.decisions, logits, weights, progress, step.epochs, loss, expected, self._limits)

    @torch.no_grad()
    def sample(self, step: Step) -> Weights:
        """The weights of a new draw, perturbed where the method does that, without gradient."""
        progress, device = self._progress(step), self._device
        weights = self._relaxed(progress, self._next_draw())
        context = TransformContext(self.decisions, progress, partial(step.loss, step.train), step.processes.averaged)
        if any(transform.network_only for transform in self.transforms):  # a perturbation draws and judges
            with self._noise.drawn(self._next_draw(), device), evaluating(step.supernet):
                weights = transformed(self.transforms, weights, context)
        else:
            weights = transformed(self.transforms, weights, context)
        self._noise.end_step()
        return {name: weight.detach() for name, weight in weights.items()}

    @torch.no_grad()
    def expected(self) -> Weights:
        """Each decision's weights without noise and without transforms."""
        return self.differentiable_weights()[1]

    def differentiable_weights(self) -> tuple[list[Tensor], Weights]:
        """The logits, and each decision's weights without noise, differentiable in them."""
        weights = {n: relaxation.expected(self.logits[n]) for n, relaxation in self._relaxations.items()}
        return list(self.logits.values()), weights

    def finish(self, score: SupernetScore | None = None) -> Architecture:
        """Returns the architecture that the discretiser chooses."""
        kept = {"limits": self._limits} if self._limits else {}
        return self._discretiser(self.space, self.decisions, self.strengths(), **kept)

    @torch.no_grad()
    def strengths(self) -> Weights:
        """Returns the strengths by which options are ranked in the end: for most relaxations `expected`."""
        return {n: strength(relaxation, self.logits[n]) for n, relaxation in self._relaxations.items()}

    def measures(self) -> dict[str, float]:
        """Learning rate and gradient norm of the alphas."""
        gradients = [p.grad for p in self.logits.values() if p.grad is not None]
        norm = torch.stack([g.pow(2).sum() for g in gradients]).sum().sqrt().item() if gradients else 0.0
        return {"lr/alpha": self.optimizer.param_groups[0]["lr"], "alpha/grad_norm": norm}

    def to(self, device: torch.device) -> Self:
        """Moves the logits; to be called before the first step. On a GPU the optimiser is fused and can be recorded."""
        self.logits.to(device)

        def settle(optimizer: torch.optim.Optimizer) -> None:
            on = device.type == "cuda"
            for group in optimizer.param_groups:  # as on this device, and not as where a state comes from
                if "capturable" in group or isinstance(optimizer, torch.optim.SGD):  # others are fused on processors
                    names = [name for name in ("fused", "capturable") if name in group and not group.get("foreach")]
                    group |= dict.fromkeys(names, on)
                for state in [optimizer.state[p] for p in group["params"] if on and p in optimizer.state]:
                    counts = group.get("capturable") or group.get("fused")  # on the device
                    moved = {n: v for n, v in state.items() if isinstance(v, Tensor) and (counts or n != "step")}
                    state |= {name: value.to(device) for name, value in moved.items()}

        settle(self.optimizer)
        self.optimizer.register_load_state_dict_post_hook(settle)
        return self

    def recording(self, step: Step, *, learn_alphas: bool) -> tuple[Hashable, Host] | None:
        """A step can be recorded, unless the network reads on the host which operations it runs.

        Nor can that of a subclass which takes steps in its own way, as long as it does not say `recording` anew.
        """
        kind = type(self)
        own = any(getattr(kind, name) is not getattr(GradientStrategy, name) for name in _TAKEN)
        if step.supernet.data_dependent or (own and kind.recording is GradientStrategy.recording):
            return None
        learning = learn_alphas and (self._steps + 1) % self._every == 0
        rates = tuple(group["lr"] for group in self.optimizer.param_groups)
        return (learn_alphas, learning, rates, self._loads), _Host(self)

    def state_dict(self) -> dict[str, Any]:
        counts = {"draws": self._draws, "steps": self._steps}
        return {"logits": self.logits.state_dict(), "optimizer": self.optimizer.state_dict(), **counts}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.logits.load_state_dict(state["logits"])
        check_optimizer(self.optimizer, state["optimizer"])
        self.optimizer.load_state_dict(state["optimizer"])
        steps = state.get("steps", 0)  # older checkpoints have none: each step was one of the alphas, too
        if type(state["draws"]) is not int or type(steps) is not int:
            raise ValueError("draws or steps is no number")
        self._draws, self._steps = state["draws"], steps
        self._loads += 1  # the optimiser's state lies elsewhere now

    @property
    def _device(self) -> torch.device:
        return next(iter(self.logits.values())).device

    def _progress(self, step: Step) -> Any:
        """How far the search is; on a GPU always as a tensor, because a step that is recorded has it as one."""
        if isinstance(step.progress, Tensor) or self._device.type != "cuda":
            return step.progress
        return torch.full((), step.progress, device=self._device)

    def _relaxed(self, progress: Any, draw: int) -> Weights:
        with self._noise.drawn(draw, self._device):
            return {n: relaxation(self.logits[n], progress) for n, relaxation in self._relaxations.items()}

    def _next_draw(self) -> int:
        self._draws += 1
        return self._draws


class _Host:
    """The host's part of a step by gradient: counts, and the seeds of the noise."""

    def __init__(self, strategy: GradientStrategy) -> None:
        self._strategy = strategy

    @property
    def streams(self) -> int:
        return len(self._strategy._noise.last_step)

    @property
    def kept(self) -> object:
        """The plain settings of the strategy's parts, and what its optimiser keeps on the host."""
        strategy = self._strategy
        parts = [strategy._architect, *strategy._terms, *strategy.transforms, *strategy._relaxations.values()]
        states = [value for state in strategy.optimizer.state.values() for value in state.values()]
        on_host = [v.tolist() if isinstance(v, Tensor) else v for v in states if not isinstance(v, Tensor) or v.is_cpu]
        return [plain_settings(part) for part in parts], on_host

    @contextmanager
    def recording(self, generators: Sequence[torch.Generator]) -> Iterator[Advance]:
        strategy, noise = self._strategy, self._strategy._noise
        draws, steps = strategy._draws, strategy._steps
        numbers, moved, all_logits = list[int](), list[int](), list(strategy.logits.values())
        # Not in the graph's memory: what it leaves there is gone once another graph was replayed, such as that of a
        # step in which the alphas do not learn, and gradients are read at the end of an epoch (`measures`).
        gradients = [torch.zeros_like(logits) for logits in all_logits]

        def advance() -> Sequence[int]:
            seeds = {number: noise.seed_of(strategy._draws + number) for number in set(numbers)}
            strategy._draws, strategy._steps = strategy._draws + moved[0], strategy._steps + moved[1]
            for logits, gradient in zip(all_logits, gradients, strict=True) if learnt else ():
                logits.grad = gradient
            return [seeds[number] for number in numbers]

        learnt = False
        strategy._recorded_gradients = gradients
        try:
            with noise.recorded(generators):
                yield advance
        finally:
            strategy._recorded_gradients = []
            learnt = all_logits[0].grad is gradients[0]
            numbers += [number - draws for number in noise.last_step]
            moved += [strategy._draws - draws, strategy._steps - steps]
            strategy._draws, strategy._steps = draws, steps


@contextmanager
def _differentiable_twice(step: Step) -> Iterator[None]:
    with running(step.supernet, reference), step.unrecorded():
        yield
