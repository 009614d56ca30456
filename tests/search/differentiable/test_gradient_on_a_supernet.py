"""A gradient strategy on a real supernet, against PyTorch's own SGD: the virtual step must be the step SGD takes."""

import copy
from functools import partial

import pytest
import torch

from supernet.data.batches import Batch
from supernet.runtime.errors import InputError
from supernet.search.differentiable.architects import Bilevel, first_order, unrolled, unrolled_exact
from supernet.search.differentiable.discretisers import argmax
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.relaxations import Gumbel, Softmax
from supernet.search.strategy import Step
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet
from supernet.training.tasks import Classification

SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.03}


def batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 1, 6, 6, dtype=torch.float64, generator=generator)
    return Batch(images, torch.randint(3, (6,), generator=generator))


@pytest.fixture
def supernet():
    torch.manual_seed(0)
    return Supernet(Darts(channels=2, cells=3, nodes=2).network(Undecided(), (1, 6, 6), 3)).double()


def strategy_of(supernet, architect, relaxation):
    strategy = GradientStrategy(
        "darts",
        supernet.decisions,
        operations=relaxation,
        inputs=None,
        architect=architect,
        optimizer=partial(torch.optim.SGD, lr=0.0),
        discretiser=argmax,
    )
    strategy.logits.double()
    return strategy


def trained_step(supernet, strategy, steps=2, **settings) -> Step:
    """The step that follows a few real ones, so that the optimizer has momentum."""
    optimizer = torch.optim.SGD(supernet.parameters(), **{**SGD, **settings})
    for number in range(steps):
        optimizer.zero_grad()
        step = Step(supernet, batch(10 + number), batch(2), Classification(), optimizer, 0.0)
        step.loss(step.train, strategy.expected()).backward()
        optimizer.step()
    return Step(supernet, batch(1), batch(2), Classification(), optimizer, 0.5)


def look_ahead(step: Step, weights) -> float:
    """The validation loss after torch.optim.SGD's own step on the training batch: copies, no functional calls."""
    twin = copy.deepcopy(step.supernet)
    optimizer = torch.optim.SGD(twin.parameters(), **SGD)
    optimizer.load_state_dict(copy.deepcopy(step.optimizer.state_dict()))
    optimizer.zero_grad()
    task = Classification()
    task.loss(twin(step.train.images, weights), step.train).backward()
    optimizer.step()
    with torch.no_grad():
        return task.loss(twin(step.valid.images, weights), step.valid).item()


@torch.no_grad()
def move(strategy, directions, amount: float) -> None:
    for logits, direction in zip(strategy.logits.values(), directions, strict=True):
        logits += amount * direction


@pytest.mark.parametrize("relaxation", [Softmax(), Gumbel()])
@pytest.mark.parametrize("steps", [0, 2])
def test_exact_hypergradient_is_the_slope_of_the_loss_after_a_real_sgd_step(supernet, relaxation, steps):
    """Both passes of an update must see one draw, the right batch, the optimizer's rate, decay and momentum."""
    strategy = strategy_of(supernet, unrolled_exact, relaxation)
    step = trained_step(supernet, strategy, steps)
    strategy.update(step)
    generator = torch.Generator().manual_seed(7)
    for _ in range(2):
        slope = product = 0.0
        directions = [torch.randn(len(p), dtype=p.dtype, generator=generator) for p in strategy.logits.values()]
        for sign in (1, -1):
            move(strategy, directions, sign * 1e-6)
            with torch.no_grad():
                weights = strategy.relax(0.5, draw=1)
            move(strategy, directions, -sign * 1e-6)
            slope += sign * look_ahead(step, weights) / 2e-6
        for logits, direction in zip(strategy.logits.values(), directions, strict=True):
            product += (logits.grad @ direction).item()
        assert product == pytest.approx(slope, rel=1e-5)


def test_weights_of_the_problem_are_the_supernets_parameters_and_hold_no_alpha(supernet):
    problems: list[Bilevel] = []

    def architect(problem: Bilevel):
        problems.append(problem)
        return first_order(problem)

    strategy = strategy_of(supernet, architect, Softmax())
    strategy.update(trained_step(supernet, strategy))
    (problem,) = problems
    assert [id(w) for w in problem.inner] == [id(p) for p in supernet.parameters()]
    assert [id(a) for a in problem.outer] == [id(a) for a in strategy.logits.values()]
    assert not {id(w) for w in problem.inner} & {id(a) for a in problem.outer}


class Recorded:
    """Softmax that writes down a random number at each call."""

    def __init__(self):
        self.seen = []

    def __call__(self, logits, progress):
        self.seen.append(torch.rand(()).item())
        return logits.softmax(-1)

    expected = staticmethod(lambda logits: logits.softmax(-1))


def test_all_passes_of_an_update_see_one_draw_and_the_next_update_another(supernet):
    relaxation = Recorded()
    strategy = strategy_of(supernet, unrolled, relaxation)
    step, count = trained_step(supernet, strategy), len(strategy.logits)
    draws = []
    for _ in range(2):
        relaxation.seen.clear()
        strategy.update(step)
        passes = [tuple(relaxation.seen[i : i + count]) for i in range(0, len(relaxation.seen), count)]
        assert len(passes) == 4  # training, validation, and one to either side
        assert len(set(passes)) == 1
        draws.append(passes[0])
    assert draws[0] != draws[1]
    assert len(set(draws[0])) == count  # each decision has noise of its own


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.Adam,
        partial(torch.optim.SGD, lr=0.1, momentum=0.9, dampening=0.5),
        lambda parameters: torch.optim.SGD([{"params": [p]} for p in parameters], lr=0.1),
    ],
)
def test_unrolling_refuses_what_is_not_plain_sgd(supernet, optimizer):
    step = Step(supernet, batch(1), batch(2), Classification(), optimizer(supernet.parameters()), 0.0)
    with pytest.raises(InputError, match="plain SGD") as error:
        strategy_of(supernet, unrolled, Softmax()).update(step)
    assert "\n" not in str(error.value)
    strategy_of(supernet, first_order, Softmax()).update(step)
