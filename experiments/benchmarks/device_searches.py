"""Searches for accurate cells that are quick on a device: at random, by evolution, by gradient with a soft term.

Each spends the same number of evaluations, which are look-ups of an accuracy, and answers with a cell for each limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from experiments.benchmarks.device_tables import TEST, VALID, Benchmark, Device
from supernet.data.batches import Batch
from supernet.estimation.forms import Form
from supernet.estimation.limits import Limits
from supernet.estimation.scores import Measured
from supernet.estimation.space_costs import SpaceCosts
from supernet.search.black_box.evolution import AgingEvolution
from supernet.search.black_box.explorers import Explorer, RandomExplorer
from supernet.search.black_box.exploring import Budget, explore
from supernet.search.black_box.pareto import Nsga2
from supernet.search.differentiable.architects import first_order
from supernet.search.differentiable.discretisers import argmax, within
from supernet.search.differentiable.gradient import GradientStrategy, zero
from supernet.search.differentiable.objectives import CostTerm
from supernet.search.differentiable.relaxations import Softmax
from supernet.search.strategy import Step
from supernet.space.architecture import Architecture, Decision, Weights
from supernet.space.genes import Candidates
from supernet.space.supernet import Supernet
from supernet.training.tasks import CLASSIFICATION

EVALUATIONS = 500
POPULATION, SAMPLE = 20, 5
OTHERS = 6  # limits of evolution besides the four of a device
STAGES, DRAWS, RATE, WEIGHT = 8, 5, 0.25, 3.0  # of the search by gradient
MOST_STEPS = 150  # of a stage: sure alphas draw known cells, which cost nothing
ASKED = 100  # limits for which it is asked, between the least and the largest predicted latency


@dataclass(frozen=True)
class Answer:
    """A cell for a limit, and how many were measured before it and broke the limit."""

    limit: float
    cell: Architecture
    broken: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a search has judged, and its answers to the four limits."""

    judged: Sequence[Architecture]
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Task:
    """A device, a seed, and what is known before the search: the latency that 100 measured cells predict."""

    benchmark: Benchmark
    device: Device
    seed: int
    form: Form

    def score(self, cell: Architecture) -> Measured:
        """Accuracies, and latencies as they are measured and predicted."""
        known = {TEST: self.device.accuracy[cell], VALID: self.device.valid[cell]}
        return Measured(known | {"measured": self.device.latency[cell], "predicted": self.form.of(cell)})

    def costs(self) -> SpaceCosts:
        """The same latencies as costs of the space, for limits."""
        return self.benchmark.costs_with(predicted=self.form, measured=self.device.latency.__getitem__)

    def answered(
        self, judged: Iterable[Architecture], limit: float, latency: str = "measured", accuracy: str = TEST
    ) -> Answer:
        """The best cell that keeps a limit by the latency that is known.

        Where that is the predicted one, the best is measured, and if it breaks the limit the next one is.
        """
        known = {cell: self.score(cell).values for cell in judged}
        fitting = [cell for cell, values in known.items() if values[latency] <= limit]
        ranked = sorted(fitting, key=lambda cell: -known[cell][accuracy])
        place = next(n for n, cell in enumerate(ranked) if self.device.latency[cell] <= limit)
        return Answer(limit, ranked[place], place)


def by_random(task: Task) -> Outcome:
    """Cells drawn evenly, all of them measured."""
    return _explored(task, RandomExplorer(task.benchmark.candidates, seed=task.seed), "measured", TEST)


def by_nsga2(task: Task, latency: str = "measured", accuracy: str = TEST) -> Outcome:
    """NSGA-II on accuracy and latency; without a limit, it finds the whole front."""
    explorer = Nsga2(task.benchmark.candidates, population=POPULATION, seed=task.seed)
    return _explored(task, explorer, latency, accuracy)


def _explored(task: Task, explorer: Explorer, latency: str, accuracy: str) -> Outcome:
    found = explore(explorer, task.score, Budget(evaluations=EVALUATIONS), objectives=(accuracy, f"-{latency}"))
    judged = [one.architecture for one in found.evaluations]
    return Outcome(judged, [task.answered(judged, limit, latency, accuracy) for limit in task.device.limits])


def by_aging(task: Task, latency: str = "measured") -> Outcome:
    """Aging evolution within ten limits, of which four are those of the device; they share the evaluations.

    From the lowest limit up, and each population begins with the best cells so far. The answer to a limit is the best
    of all cells that keep it. Where the latency is predicted, the best is measured, and if it breaks the limit the next
    one is.
    """
    costs, judged, device = task.costs(), dict[Architecture, None](), task.device
    low, high = _ends(task, costs)
    sweep = sorted({*device.limits, *(low * (high / low) ** (place / (OTHERS - 1)) for place in range(OTHERS))})
    for number, limit in enumerate(sweep):
        limits = Limits(costs, {latency: limit})
        space = Candidates(task.benchmark.space.name, costs.decisions, fits=limits.fits)
        explorer = AgingEvolution(space, population=POPULATION, sample=SAMPLE, seed=task.seed)
        for cell in sorted(judged, key=lambda cell: device.accuracy[cell])[-POPULATION:]:
            explorer.tell(cell, (device.accuracy[cell],))
        budget = Budget(evaluations=EVALUATIONS * (number + 1) // len(sweep) - len(judged))
        found = [one.architecture for one in explore(explorer, task.score, budget, objectives=(TEST,)).evaluations]
        assert all(limits.fits(cell) for cell in found), "evolution has judged a cell beyond the limit"
        judged |= dict.fromkeys(found)
    return Outcome(list(judged), [task.answered(judged, limit, latency) for limit in device.limits])


@dataclass(frozen=True)
class Drawn(Step):
    """A step whose loss is the expected loss of a cell that is drawn from the weights; there is no supernet.

    A table has no gradient. That of the expectation is estimated from drawn cells (REINFORCE, Williams 1992): the mean
    of (loss - mean loss) times the gradient of the logarithm of the cell's probability, which is unbiased.
    """

    judge: Callable[[Architecture], float] = field(kw_only=True)
    space: str = field(kw_only=True)
    decisions: Mapping[str, Decision] = field(kw_only=True)
    generator: torch.Generator = field(kw_only=True)

    def loss(self, batch: Batch, weights: Weights, inner: Sequence[Tensor] | None = None) -> Tensor:
        """The mean loss of some drawn cells, with the gradient of its expectation."""
        drawn = {
            name: torch.multinomial(w.detach(), DRAWS, True, generator=self.generator) for name, w in weights.items()
        }
        inputs = {name: d.options for name, d in self.decisions.items() if d.role == "inputs"}
        losses = []
        for number in range(DRAWS):
            kept = {name: (self.decisions[name].options[int(places[number])],) for name, places in drawn.items()}
            losses.append(self.judge(Architecture(self.space, inputs | kept)))
        logarithm = torch.stack([weights[name][places].log() for name, places in drawn.items()]).sum(0)
        loss = torch.tensor(losses)
        advantage = (loss - loss.mean()) * DRAWS / (DRAWS - 1)
        return loss.mean() + (advantage * (logarithm - logarithm.detach())).mean()


def by_gradient(task: Task) -> Outcome:
    """Alphas that learn the expected logarithm of a cell's error, with a soft term for its predicted latency.

    Eight stages, each with a lower target and the alphas of the stage before. The most probable cells within 100 limits
    are judged, too. For each of the four limits the answer is the most probable cell within it by its prediction; it is
    measured, and where it breaks the limit the next one is taken.
    """
    device, judged, seen = task.device, dict[Architecture, None](), set[Architecture]()

    def measured(cell: Architecture) -> float:
        seen.add(cell)
        return device.latency[cell]

    costs = task.benchmark.costs_with(predicted=task.form, measured=measured)
    low, high = _ends(task, costs)
    limits = [low * (high / low) ** (place / (ASKED - 1)) for place in range(ASKED)]
    stages = list(_stages(task, costs, judged, low, high))

    def probable(limit: float, most: Mapping[str, float]) -> Architecture:
        _, strategy = min(stages, key=lambda stage: abs(math.log(stage[0] / limit)))
        return within(strategy.space, strategy.decisions, strategy.strengths(), limits=Limits(costs, most))

    for limit in limits:
        if len(judged) < EVALUATIONS:
            judged[probable(limit, {"predicted": limit})] = None
    answers = []
    for limit in device.limits:
        seen.clear()
        kept = probable(limit, {"predicted": limit, "measured": limit})
        answers.append(Answer(limit, kept, sum(device.latency[cell] > limit for cell in seen)))
    return Outcome(list(judged), answers)


def _ends(task: Task, costs: SpaceCosts) -> tuple[float, float]:
    """The least predicted latency of all cells, and the largest of the cells that were measured."""
    low = Limits(costs, {"predicted": 1e9}).cheapest("predicted")[1]
    cells = task.benchmark.measured(task.device, task.seed)
    shortest = min(task.device.latency[cell] for cell in cells)
    return max(low, shortest), max(task.device.latency[cell] for cell in cells)


def _stages(
    task: Task, costs: SpaceCosts, judged: dict[Architecture, None], low: float, high: float
) -> Iterator[tuple[float, GradientStrategy]]:
    """The targets, from the largest to the least, and the alphas that were learnt for each."""
    stream = torch.Generator().manual_seed(task.seed)
    nothing = Supernet(nn.Identity())
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)  # of the supernet's weights, of which there are none
    before: GradientStrategy | None = None

    def judge(cell: Architecture) -> float:
        judged[cell] = None
        return math.log(100.0 - task.device.accuracy[cell])

    for number in range(STAGES):
        target = low * (high / low) ** ((STAGES - number - 0.5) / STAGES)
        strategy = GradientStrategy(
            task.benchmark.space.name,
            costs.decisions,
            operations=Softmax(),
            inputs=None,
            architect=first_order,
            optimizer=partial(torch.optim.Adam, lr=RATE, betas=(0.5, 0.999)),
            discretiser=argmax,
            terms={"latency": CostTerm(task.form, target=target, weight=WEIGHT, kind="hinge")},
            start=zero,
        )
        if before is not None:
            strategy.inherit(before)
        step = Drawn(
            *(nothing, None, None, CLASSIFICATION, optimizer, number / STAGES),  # type: ignore[arg-type]
            judge=judge,
            space=strategy.space,
            decisions=costs.decisions,
            generator=stream,
        )
        for _ in range(MOST_STEPS):
            if len(judged) + DRAWS > (EVALUATIONS - ASKED) * (number + 1) / STAGES:
                break
            strategy.update(step)
        before = strategy
        yield target, strategy


WAYS: dict[str, Callable[[Task], Outcome]] = {
    "random": by_random,
    "nsga2": by_nsga2,
    "nsga2, predicted": partial(by_nsga2, latency="predicted"),
    "nsga2, 12 epochs": partial(by_nsga2, accuracy=VALID),
    "aging": by_aging,
    "aging, predicted": partial(by_aging, latency="predicted"),
    "gradient": by_gradient,
}
