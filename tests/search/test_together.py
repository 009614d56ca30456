"""Every method in several processes: the steps of one process with the joined batch, and the same in all of them."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from common import slow_but
from together import taken_together
from torch import Tensor

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, JoinedBatch, Resident
from supernet.estimation.problem import SearchProblem
from supernet.runtime.processes import ALONE, Processes
from supernet.runtime.run import Run
from supernet.search import methods
from supernet.search.collapse.settings import MonitorSettings
from supernet.search.loop import search, search_step
from supernet.search.method import Method
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Step
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.inverted_residual import Style
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.supernet import Supernet
from supernet.training.joining import prepare_network
from supernet.training.schedules import Cosine
from supernet.training.sgd import sgd
from supernet.training.tasks import Classification, ClassWeights
from supernet.training.tasks.joined import joined

NAMES = sorted({*dir(methods)} - {"Method", "adam"})
QUICK = ["darts_2nd_exact"]
CELLS = Darts(channels=8, cells=1, nodes=2, operations=("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3"))
NESTED = Mobile(  # whose smaller sizes have the first channels of larger norms
    (
        Stage((8,), depths=(1, 2), kernels=(3, 5), expansions=(2, 4)),
        Stage((8, 16), stride=2, kernels=(3, 5), squeeze=(False, True), activations=("relu", "hardswish")),
    ),
    stem=8,
    head=16,
    stem_stride=1,
    dropout=0.3,
    style=Style(kernel_transforms=True),
)
SHAPE, SIZE, STEPS = (1, 6, 6), 10, 3
TASK = Classification(imbalance=ClassWeights(), frequencies=(0.5, 0.3, 0.2))  # a mean by weights, not by images
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-6}


@dataclass(frozen=True)
class Taken:
    """Losses and scores of some steps; the alphas, or what a policy learns; and the supernet's state."""

    losses: list[tuple[float, float]]
    alphas: list[Tensor]
    state: dict[str, Tensor]

    def away_from(self, other: "Taken") -> float:
        pairs = [*zip(self.alphas, other.alphas, strict=True)]
        pairs += [(self.state[name], other.state[name]) for name in self.state]
        apart = [(a.double() - b.double()).abs().max().item() for a, b in pairs]
        losses = (torch.tensor(one.losses, dtype=torch.float64) for one in (self, other))
        return max(*apart, torch.sub(*losses).abs().max().item())

    def same(self, other: "Taken") -> bool:
        alphas = all(map(torch.equal, self.alphas, other.alphas))
        return alphas and all(torch.equal(self.state[name], other.state[name]) for name in self.state)


def taken(name: str, dtype: torch.dtype, processes: Processes = ALONE, order: Any = slice(None)) -> Taken:
    """Some steps of a method on 10 images each, in an order of one's own."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return _taken(name, processes, order)
    finally:
        torch.set_default_dtype(before)


def _taken(name: str, processes: Processes, order: Any) -> Taken:
    method: Method = getattr(methods, name)()
    space = NESTED if name in ("bignas", "once_for_all") else CELLS
    torch.manual_seed(0)
    supernet = Supernet(space.network(method.chooser_for(space), SHAPE, 3))
    prepare_network(supernet, processes)
    inner: Any = method.make_strategy(space.name, supernet.decisions, seed=0)
    strategy = method.stages[0].wrapper(inner) if method.stages and method.stages[0].wrapper else inner
    optimizer, task = sgd(supernet, 0.01, 0.9, weight_decay=3e-4), joined(TASK, processes)
    stream = torch.Generator().manual_seed(1)

    def batch() -> Batch:
        images, labels = torch.randn(SIZE, *SHAPE, generator=stream), torch.randint(3, (SIZE,), generator=stream)
        images, labels, rows = images[order], labels[order], processes.rows(SIZE)
        return Batch(images[rows], labels[rows], JoinedBatch(labels, rows) if processes.several else None)

    losses = []
    for number in range(2 * STEPS if name.startswith("proxyless") else STEPS):  # whose alphas rest in four of five
        step = Step(supernet, batch(), batch(), task, optimizer, 0.3 + number / 10, processes=processes)
        losses.append(tuple(value.item() for value in search_step(step, strategy, 5.0)))
    learnt = inner.policy.parameters() if hasattr(inner, "policy") else getattr(inner, "logits", {}).values()
    state = {name: value.clone() for name, value in supernet.state_dict().items()}
    return Taken(losses, [each.detach().clone() for each in learnt], state)


def compared(name: str, count: int, dtype: torch.dtype) -> None:
    alone = taken(name, dtype)
    first, *others = taken_together(lambda processes: taken(name, dtype, processes), count, synchronised=True)
    assert isinstance(first, Taken), first
    assert all(first.same(other) for other in others)
    # Adam divides by the size of gradients: where these are next to nothing it makes much of their rounding, for one
    # process as for several. So much differs for one that has the same images in another order.
    rounding = taken(name, dtype, order=torch.arange(SIZE).flip(0)).away_from(alone)
    assert first.away_from(alone) <= max(TOLERANCES[dtype], 3 * rounding)
    assert dtype == torch.float32 or first.away_from(alone) <= TOLERANCES[dtype]


@pytest.mark.parametrize("name", slow_but(QUICK, NAMES))
def test_two_processes_take_the_steps_of_one(name):
    compared(name, 2, torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "dtype"), [(4, torch.float64), (2, torch.float32), (4, torch.float32)])
@pytest.mark.parametrize("name", NAMES)
def test_four_processes_do_and_so_does_float32(name, count, dtype):
    compared(name, count, dtype)


@pytest.mark.slow
def test_without_the_others_part_of_a_gradient_the_steps_are_others():
    """That the comparison would see it: each process learns from its own images alone."""

    def take(processes):
        return taken("darts", torch.float64, processes)

    alone = taken("darts", torch.float64)
    apart = [one.away_from(alone) for one in taken_together(take, 2)]  # norms of its own images
    assert min(apart) > 1e-6


def problem_of(processes: Processes, checkpoint=None, **changes: Any) -> SearchProblem:
    """A search with all that draws: augmentation, drop path, and a last batch that does not divide evenly."""
    stream = torch.Generator().manual_seed(3)
    images = torch.randint(256, (29, 1, 8, 8), dtype=torch.uint8, generator=stream)
    source = Resident(images, torch.randint(3, (29,), generator=stream))
    torch.manual_seed(0)
    supernet = Supernet(CELLS.network(Undecided(), (1, 8, 8), 3))
    run = Run(processes=processes, checkpoint=checkpoint, **changes)
    augmentation = Augmentation((0.5,), (0.25,), crop_padding=1, flip=True, cutout=2)
    return SearchProblem(supernet, source, source.subset(torch.arange(28, -1, -1)), augmentation, run, TASK)


RECIPE = SearchRecipe(epochs=2, batch_size=8, schedule=Cosine(0.01, 0.01), drop_path=0.4)


def searched(processes: Processes, monitor=MonitorSettings(every=1, batch_size=8, iterations=3)):  # noqa: B008
    problem = problem_of(processes)
    strategy = methods.darts().make_strategy("darts", problem.supernet.decisions, seed=0)
    found = search(problem, strategy, RECIPE, monitor=monitor)
    return found, [logits.detach() for logits in strategy.logits.values()], dict(problem.supernet.state_dict())


@cache
def searched_alone():
    return searched(ALONE)


def test_a_whole_search_is_that_of_one_process():
    alone, (one, other) = searched_alone(), taken_together(searched, 2, synchronised=True, every=2)
    assert not isinstance(one, str), one
    assert one[0].architecture == other[0].architecture == alone[0].architecture
    assert all(map(torch.equal, one[1], other[1]))
    for key in one[2]:
        assert torch.equal(one[2][key], other[2][key]), key
        torch.testing.assert_close(one[2][key], alone[2][key], rtol=1e-3, atol=2e-5)
    for part in ("train", "valid"):
        mine, its = getattr(one[0], part), getattr(alone[0], part)
        assert mine.count == its.count
        assert mine.loss == pytest.approx(its.loss, rel=1e-4)
        assert mine.score == pytest.approx(its.score)


@pytest.mark.slow
def test_norms_of_each_process_remember_the_mean_of_all():
    one, other = taken_together(searched, 2, every=1)
    assert not isinstance(one, str), one
    assert all(torch.equal(one[2][key], other[2][key]) for key in one[2])


def test_a_process_that_went_wrong_is_caught():
    def take(processes):
        problem = problem_of(processes)
        strategy = methods.darts().make_strategy("darts", problem.supernet.decisions, seed=0)
        sample = strategy.sample

        def spoilt(step):
            if processes.rank == 1 and step.progress > 0.3:
                with torch.no_grad():
                    next(iter(strategy.logits.values()))[0] += 1e-4
            return sample(step)

        strategy.sample = spoilt
        search(problem, strategy, RECIPE)

    for line in taken_together(take, 2, every=1):
        assert line.startswith("Parted: strategy/logits/")
        assert " differs between processes 0 and 1 at step " in line
