import copy
import signal
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from waiting import waits

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Resident
from supernet.estimation.problem import SearchProblem
from supernet.execution.engines import engine
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.search.differentiable.architects import first_order, unrolled
from supernet.search.differentiable.discretisers import argmax
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.operation_early_stopping import OperationEarlyStopping, cosines
from supernet.search.differentiable.relaxations import Softmax
from supernet.search.loop import search, search_step
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Step
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.operations import OPERATIONS
from supernet.space.supernet import Supernet
from supernet.training.schedules import Cosine
from supernet.training.tasks import Classification

AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=1)
NAMES = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_5x5")


def small(names=NAMES, factories=OPERATIONS, channels=2, used=None, cells=3) -> Supernet:
    torch.manual_seed(0)
    used = used or engine("reference")
    space = Darts(channels=channels, cells=cells, nodes=2, operations=names)
    choose = Undecided(factories)
    return Supernet(used.apply(space.network(choose, (1, 6, 6), 3)))


def wrapped(supernet, architect=first_order, **settings):
    strategy = GradientStrategy(
        "darts",
        supernet.decisions,
        operations=Softmax(),
        inputs=None,
        architect=architect,
        optimizer=partial(torch.optim.Adam, lr=0.05),
        discretiser=argmax,
    )
    strategy.logits.to(next(supernet.parameters()).dtype)
    return OperationEarlyStopping(strategy, **settings)


def batch(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 1, 6, 6, generator=generator, dtype=torch.float64).to(dtype)
    return Batch(images, torch.randint(3, (6,), generator=generator))


def steps_of(supernet, count, dtype=torch.float64):
    optimizer = torch.optim.SGD(supernet.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    task = Classification()
    return [
        Step(supernet, batch(2 * n, dtype), batch(2 * n + 1, dtype), task, optimizer, n / count) for n in range(count)
    ]


def cosine_by_hand(one: torch.Tensor, other: torch.Tensor) -> float:
    """Position by position of a kernel, over the output channels."""
    columns = zip(one.flatten(1).T.tolist(), other.flatten(1).T.tolist(), strict=True)
    values = []
    for a, b in columns:
        dot, sizes = sum(x * y for x, y in zip(a, b, strict=True)), sum(x * x for x in a) * sum(y * y for y in b)
        values.append(dot / sizes**0.5 if sizes else 0.0)  # a tap that sees nothing but padding
    return sum(values) / len(values)


def test_cosines_are_those_by_hand():
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 1, 3, 3), (4, 4, 1, 1), (4, 1, 3, 3), (6, 2)]
    one, other = ([torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes] for _ in range(2))
    by_hand = torch.tensor([cosine_by_hand(a, b) for a, b in zip(one, other, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(cosines(one, other), by_hand, rtol=1e-12, atol=1e-14)
    same = cosines(one, [3 * t for t in one])
    torch.testing.assert_close(same, torch.ones(4, dtype=torch.float64))
    assert not waits(cosines, one, other)
    vectors = [torch.tensor([3.0, 4.0]), torch.tensor(2.0)]
    torch.testing.assert_close(
        cosines(vectors, [torch.tensor([4.0, 3.0]), torch.tensor(-1.0)]), torch.tensor([0.96, -1])
    )


def expected_agreement(supernet, strategy, step, accumulated):
    """By plain differentiation on a copy: (operation's place -> mean cosine of its tensors), before the step."""
    twin = copy.deepcopy(supernet)
    weights = strategy.expected()
    twin.zero_grad()
    F.cross_entropy(twin(step.valid.images, weights), step.valid.labels).backward()
    before, now = (dict(network.named_parameters()) for network in (supernet, twin))
    found: dict[str, list[float]] = {}
    for name, parameter in now.items():
        parts = name.split(".")
        if "candidates" in parts and "skip_connect" not in parts:
            where = parts.index("candidates")
            place = ".".join([*parts[:where], parts[where + 1]])
            training, validation = before[name].grad, parameter.grad
            compared = training + validation if accumulated else validation
            found.setdefault(place, []).append(cosine_by_hand(training, compared))
    return {place: sum(values) / len(values) for place, values in found.items()}


@pytest.mark.parametrize("accumulated", [False, True])
@pytest.mark.parametrize("used", ["reference", "fused"])
def test_agreement_is_that_of_plain_differentiation_and_the_weak_stop(accumulated, used):
    supernet = small(channels=4, used=engine(used)).double()
    steps = steps_of(supernet, 4)
    strategy = wrapped(supernet, every=3, threshold=-1.0, accumulated=accumulated)
    search_step(steps[0], strategy, 0.5)  # there is nothing to compare with yet
    assert not strategy.state_dict()["totals"]
    means: dict[str, float] = {}
    for step in steps[1:3]:
        for place, value in expected_agreement(supernet, strategy, step, accumulated).items():
            means[place] = means.get(place, 0.0) + value / 3
        search_step(step, strategy, 0.5)
    totals = strategy.state_dict()["totals"]
    assert len(means) == 3 * 5 * 2
    assert totals.keys() == means.keys()
    for place, total in totals.items():
        assert total.item() / 3 == pytest.approx(means[place], rel=1e-8, abs=1e-12)
    for place, value in expected_agreement(supernet, strategy, steps[3], accumulated).items():
        means[place] += value / 3
    ranked = sorted(means.values())
    strategy._threshold = (ranked[9] + ranked[10]) / 2
    search_step(steps[3], strategy, 0.5)
    weak = {place for place, value in means.items() if value < strategy._threshold}
    assert set(strategy.state_dict()["stopped"]) == weak
    assert len(weak) == 10
    assert strategy.measures()["early_stopping/stopped"] == pytest.approx(1 / 3)
    assert not strategy.state_dict()["totals"]  # begun anew


def test_what_has_stopped_stands_still_and_the_rest_goes_on():
    supernet = small().double()
    strategy = wrapped(supernet, every=1, threshold=1.0)  # all stop, but for skip connections
    steps = steps_of(supernet, 5)
    for step in steps[:2]:
        search_step(step, strategy, 5.0)
    assert strategy.measures()["early_stopping/stopped"] == 1.0
    before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
    for step in steps[2:]:
        search_step(step, strategy, 5.0)
    for name, parameter in supernet.named_parameters():
        stopped = "sep_conv" in name or "dil_conv" in name
        assert torch.equal(parameter, before[name]) == stopped, name
        assert parameter.requires_grad != stopped


class Idle:
    """A strategy that learns nothing."""

    def __init__(self, strategy):
        self.decisions, self.expected = strategy.decisions, strategy.expected

    def update(self, step):
        pass


def test_comparing_leaves_everything_as_it_was():
    """With dropout among the operations, which would draw from the global stream."""

    def dropping(site):
        return nn.Sequential(nn.Conv2d(site.channels_in, site.channels_in, 1, site.stride), nn.Dropout(0.5))

    supernet = small((*NAMES, "dropping"), {**OPERATIONS, "dropping": dropping}).double()
    steps, strategy = steps_of(supernet, 2), wrapped(supernet)
    search_step(steps[0], strategy, 5.0)

    def state():
        gradients = [None if p.grad is None else p.grad.clone() for p in supernet.parameters()]
        return [*gradients, *(t.clone() for t in supernet.state_dict().values()), torch.get_rng_state()]

    before = state()
    strategy.strategy = Idle(strategy.strategy)
    strategy.update(steps[1])
    assert len(strategy._totals) == 3 * 5 * 3
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(before, state(), strict=True))


@pytest.mark.parametrize("architect", [first_order, unrolled])
def test_engines_agree_once_operations_have_stopped(architect):
    results = []
    for used in ("reference", "fused"):
        supernet = small(channels=4, cells=2, used=engine(used)).double()
        strategy = wrapped(supernet, architect, every=1, threshold=0.65)
        for step in steps_of(supernet, 4):
            search_step(step, strategy, 5.0)
        logits = [p.detach() for p in strategy.strategy.logits.values()]
        results.append(([*supernet.state_dict().values(), *logits], strategy.state_dict()["stopped"]))
    assert results[0][1] == results[1][1]
    assert 0 < len(results[0][1]) < 20
    for mine, theirs in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


def test_nonsense_is_refused_by_name():
    supernet = small()
    for settings in ({"threshold": 1.5}, {"threshold": float("nan")}, {"every": 0}):
        (name,) = settings
        with pytest.raises(InputError, match=f"^{name}="):
            wrapped(supernet, **settings)


class Stopping(Silent):
    """Stops the run after some steps."""

    def __init__(self, interruption, stop_after):
        self.interruption, self.stop_after = interruption, stop_after

    def progress(self, done, total, message):
        if done == self.stop_after:
            self.interruption.signal = signal.SIGTERM


def half(seed: int, count: int = 20) -> Resident:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=generator)
    return Resident(images, torch.arange(count) % 3)


def run_search(run, architect):
    supernet = small(used=engine("fused"), channels=4, cells=2)
    strategy = wrapped(supernet, architect, every=3, threshold=0.45)
    recipe = SearchRecipe(epochs=4, batch_size=8, schedule=Cosine(0.1, 0.01), warm_up=1)
    result = search(SearchProblem(supernet, half(1), half(2), AUGMENTATION, run), strategy, recipe)
    state = {**supernet.state_dict(), **{f"alpha {n}": p.detach() for n, p in strategy.strategy.logits.items()}}
    return result, state, strategy.state_dict()["stopped"]


# 3 steps an epoch, 12 in all, the first 3 without alphas
@pytest.mark.parametrize(("architect", "stop_after"), [(first_order, 2), (first_order, 9), (unrolled, 5)])
def test_stopped_at_any_step_and_resumed_is_bitwise_the_same(tmp_path, architect, stop_after):
    straight = run_search(Run(), architect)
    assert 0 < len(straight[2]) < 20
    interruption, path = Interruption(), tmp_path / "search.pt"
    run = Run(report=Stopping(interruption, stop_after), checkpoint=path, interruption=interruption)
    with pytest.raises(Interrupted):
        run_search(run, architect)
    torch.manual_seed(1234)
    result, state, stopped = run_search(Run(checkpoint=path), architect)
    assert (result, stopped) == (straight[0], straight[2])
    assert all(torch.equal(state[name], value) for name, value in straight[1].items())
