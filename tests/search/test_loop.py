import copy
import math
import signal
from dataclasses import replace
from functools import cache, partial

import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident, training_batches
from supernet.estimation.problem import SearchProblem
from supernet.estimation.scores import Measured
from supernet.execution.engines import engine
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.search.black_box.random_search import UniformStrategy
from supernet.search.differentiable.architects import first_order, unrolled
from supernet.search.differentiable.discretisers import argmax
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.relaxations import Gumbel, Softmax
from supernet.search.loop import search, search_step
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Step
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.dropout import set_drop_path
from supernet.space.supernet import Supernet
from supernet.training.meters import NotFinite
from supernet.training.schedules import Cosine
from supernet.training.tasks import Classification

FUSED, AGAIN = engine("fused"), engine("fused", checkpoint_cells=True)
WIDE_REFERENCE = replace(engine("reference"), memory_format=torch.channels_last)
AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=1)
OPERATIONS = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")


class Recorder(Silent):
    """Keeps the scalars; stops the run after some steps where asked to."""

    def __init__(self, interruption=None, stop_after=None):
        self.values, self.lines, self.interruption, self.stop_after = {}, [], interruption, stop_after

    def scalars(self, values, step):
        for tag, value in values.items():
            if not tag.startswith("sys/"):
                self.values[step, tag] = value

    def line(self, message):
        self.lines.append(message)

    def progress(self, done, total, message):
        if done == self.stop_after:
            self.interruption.signal = signal.SIGTERM


def half(seed: int, count: int = 20) -> Resident:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=generator)
    return Resident(images, torch.arange(count) % 3)


def run_search(run, recipe=None, relaxation=None, architect=first_order, train=1, truth=None, used=None):
    torch.manual_seed(run.seed)
    used = used or engine("reference")
    channels = 4 if used.memory_format == torch.channels_last else 2
    space = Darts(channels=channels, cells=3, nodes=2, operations=OPERATIONS)
    network = space.network(Undecided(), (1, 6, 6), 3)
    supernet = Supernet(used.apply(network))
    strategy = GradientStrategy(
        "darts",
        supernet.decisions,
        operations=relaxation or Softmax(),
        inputs=None,
        architect=architect,
        optimizer=partial(torch.optim.Adam, lr=0.01),
        discretiser=argmax,
        seed=run.seed,
    )
    recipe = recipe or SearchRecipe(epochs=3, batch_size=8, schedule=Cosine(0.1, 0.01))
    problem = SearchProblem(supernet, half(train), half(2), AUGMENTATION, run)
    result = search(problem, strategy, recipe, truth=truth)
    state = {**supernet.state_dict(), **{f"alpha {n}": p.detach() for n, p in strategy.logits.items()}}
    return result, state


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@cache
def straight_through(relaxation, architect):
    """What a search comes to that nothing stops: result, state and scalars."""
    recorder = Recorder()
    return *run_search(Run(report=recorder), None, relaxation, architect), recorder.values


@pytest.mark.parametrize(  # 3 steps an epoch, 9 in all: inside, at a boundary, at the end
    ("relaxation", "architect", "stop_after"),
    [
        *(pytest.param(Softmax(), first_order, step, marks=pytest.mark.slow) for step in (1, 4, 9)),
        *((Softmax(), first_order, step) for step in (3, 7)),
        pytest.param(Gumbel(), unrolled, 9, marks=pytest.mark.slow),
        (Gumbel(), unrolled, 4),
    ],
)
def test_stopped_at_any_step_and_resumed_is_bitwise_the_same(tmp_path, stop_after, relaxation, architect):
    straight, state, values = straight_through(relaxation, architect)
    interruption = Interruption()
    first = Recorder(interruption, stop_after)
    run = Run(report=first, checkpoint=tmp_path / "search.pt", interruption=interruption)
    if stop_after < 9:
        with pytest.raises(Interrupted) as stopped:
            run_search(run, None, relaxation, architect)
        assert stopped.value.exit_code == 143
    else:
        run_search(run, None, relaxation, architect)
    torch.manual_seed(1234)  # whatever has happened to the process in between
    second = Recorder()
    resumed, again = run_search(Run(report=second, checkpoint=tmp_path / "search.pt"), None, relaxation, architect)
    assert resumed == straight
    assert same(state, again)
    assert {**first.values, **second.values} == values


@pytest.mark.parametrize("other", [FUSED, AGAIN])
def test_a_checkpoint_of_one_engine_goes_on_with_another(tmp_path, other):
    straight, state = run_search(Run(), used=WIDE_REFERENCE)
    interruption = Interruption()
    run = Run(report=Recorder(interruption, 4), checkpoint=tmp_path / "search.pt", interruption=interruption, seed=0)
    with pytest.raises(Interrupted):
        run_search(run, used=other)
    resumed, again = run_search(Run(checkpoint=tmp_path / "search.pt"), used=WIDE_REFERENCE)
    assert resumed.architecture == straight.architecture
    for name, value in state.items():
        torch.testing.assert_close(again[name], value, rtol=1e-3, atol=1e-4)


def test_finished_search_answers_at_once(tmp_path):
    run = Run(checkpoint=tmp_path / "search.pt")
    first, _ = run_search(run)
    recorder = Recorder()
    second, _ = run_search(Run(checkpoint=tmp_path / "search.pt", report=recorder))
    assert second == first
    assert not recorder.lines


def test_seeds_differ_and_repeat():
    one, two, again = (run_search(Run(seed=seed))[1] for seed in (1, 2, 1))
    assert same(one, again)
    assert not same(one, two)


def test_learning_rate_is_that_of_torchs_cosine():
    recorder = Recorder()
    run_search(Run(report=recorder))
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3, eta_min=0.01)
    for epoch in range(3):
        assert recorder.values[3 * (epoch + 1), "lr/weights"] == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_warm_up_leaves_the_alphas_alone():
    recipe = SearchRecipe(epochs=2, batch_size=8, warm_up=1)
    recorder = Recorder()
    run_search(Run(report=recorder), recipe)
    assert recorder.values[3, "alpha/grad_norm"] == 0.0
    assert recorder.values[6, "alpha/grad_norm"] > 0.0


def test_drop_path_climbs_in_a_line_and_rests_between_epochs(monkeypatch):
    """RobustDARTS: from 0 to the given probability in the last epoch; the supernet is judged without drop path."""
    seen = []
    monkeypatch.setattr("supernet.search.loop.set_drop_path", lambda network, p: seen.append(p))
    run_search(Run(), SearchRecipe(epochs=3, batch_size=8, drop_path=0.4))
    assert seen == [0.0, 0.0, 0.2, 0.0, 0.4, 0.0]


def test_drop_path_works_on_the_edges_of_a_supernet():
    """Each mixed operation of an image is there, doubled, or not at all."""
    torch.manual_seed(0)
    space = Darts(channels=4, cells=1, nodes=2, operations=("skip_connect", "sep_conv_3x3"))
    cell = space.network(Undecided(), (1, 6, 6), 3).cells[0]
    edge = cell.edges["2-3"]  # between nodes, of stride 1
    edge.weights, total = torch.tensor([1.0, 0.0]), cell.totals[1]
    cell.edges["0-3"].weights = cell.edges["1-3"].weights = torch.zeros(2)
    for name in ("0-2", "1-2"):
        cell.edges[name].weights = torch.tensor([1.0, 0.0])
    assert total.weights is None
    set_drop_path(cell, 0.5)
    cell.preprocess0 = cell.preprocess1 = torch.nn.Identity()
    inputs = [torch.randn(40, 8, 6, 6) for _ in range(2)]
    with torch.no_grad():
        _, _, first, second = cell.execute(cell, inputs)
    ratio = (second / first).flatten(1)[first.flatten(1).abs().sum(1) > 0].nan_to_num()
    kept = {round(float(row[row != 0].mean()), 4) if row.any() else 0.0 for row in ratio}
    assert kept == {0.0, 2.0}


def test_weights_learn_from_the_training_half_alone():
    """A step with frozen alphas does not depend on the validation batch."""
    states = []
    for valid in (2, 3):
        torch.manual_seed(0)
        supernet = Supernet(Darts(channels=2, cells=3, nodes=2).network(Undecided(), (1, 6, 6), 3))
        optimizer = torch.optim.SGD(supernet.parameters(), 0.1)
        batches = [next(training_batches(half(seed), 8, AUGMENTATION, seed=0)) for seed in (1, valid)]
        step = Step(supernet, *batches, Classification(), optimizer, 0.0)
        strategy = GradientStrategy(
            "darts",
            supernet.decisions,
            operations=Softmax(),
            inputs=None,
            architect=first_order,
            optimizer=torch.optim.Adam,
            discretiser=argmax,
        )
        search_step(step, strategy, 5.0, learn_alphas=False)
        states.append(supernet.state_dict())
    assert same(*states)


def test_who_judges_candidates_runs_as_the_search_does():
    torch.manual_seed(0)
    supernet = Supernet(Darts(channels=4, cells=3, nodes=2).network(Undecided(), (1, 6, 6), 3))
    strategy = UniformStrategy("darts", supernet.decisions, candidates=2, finalists=1, batches=1)
    seen = []

    class Last(Silent):
        def scalars(self, values, step):
            seen.clear()  # what comes after the epoch's report are the trials of `finish`

    supernet.network.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    recipe, run = SearchRecipe(epochs=1, batch_size=8), Run(precision="bfloat16", report=Last())
    search(SearchProblem(supernet, half(1), half(2), AUGMENTATION, run), strategy, recipe)
    assert len(seen) > 3
    assert all(seen)


def test_reports_what_people_watch():
    recorder = Recorder()
    run_search(Run(report=recorder))
    tags = {tag for _, tag in recorder.values}
    assert tags == {
        "search/balanced_accuracy/valid",
        "search/loss/train",
        "search/loss/valid",
        "search/accuracy/train",
        "search/accuracy/valid",
        "lr/weights",
        "lr/alpha",
        "alpha/grad_norm",
        "alpha/entropy/normal",
        "alpha/entropy/reduce",
        "alpha/skip_count/normal",
        "alpha/skip_count/reduce",
    }
    assert len(recorder.lines) == 3
    assert "new genotype" in recorder.lines[0]


def test_what_a_table_knows_is_logged_every_epoch():
    recorder, asked = Recorder(), []

    def known(architecture):
        asked.append(architecture)
        return Measured({"top": float(len(asked)), "unknown": math.nan})

    found, _ = run_search(Run(report=recorder), truth=known)
    assert [recorder.values[step, "table/top"] for step in (3, 6, 9)] == [1.0, 2.0, 3.0]
    assert math.isnan(recorder.values[3, "table/unknown"])
    assert asked[-1] == found.architecture


def test_divergence_stops_with_the_step_and_the_last_good_checkpoint(tmp_path):
    path = tmp_path / "search.pt"
    recipe = SearchRecipe(epochs=3, batch_size=8, schedule=Cosine(1e30), clip=math.inf)
    with pytest.raises(NotFinite, match=r"not finite .*; there is no checkpoint") as error:
        run_search(Run(checkpoint=path), recipe)
    assert "\n" not in str(error.value)
    assert not path.exists()


def test_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "search.pt"
    run_search(Run(checkpoint=path, fingerprint={"space": "darts"}))
    with pytest.raises(InputError, match="space is darts there and nasbench201"):
        run_search(Run(checkpoint=path, fingerprint={"space": "nasbench201"}))


def test_checkpoint_of_another_recipe_is_refused(tmp_path):
    path = tmp_path / "search.pt"
    run_search(Run(checkpoint=path))
    with pytest.raises(InputError, match=r"search\.epochs is 3 there and 2 in this run"):
        run_search(Run(checkpoint=path), SearchRecipe(epochs=2, batch_size=8, schedule=Cosine(0.1, 0.01)))


def test_pictures_are_drawn_where_somebody_looks():
    class Watcher(Recorder):
        tags: list = []  # noqa: RUF012

        def figure(self, tag, draw, step):
            self.tags.append((tag, step))
            assert draw().axes

    watcher = Watcher()
    run_search(Run(report=watcher), SearchRecipe(epochs=1, batch_size=8))
    assert sorted(watcher.tags) == [
        (t, 3) for t in ("alpha/normal", "alpha/reduce", "genotype/normal", "genotype/reduce")
    ]


def a_step(rate: float) -> tuple[Step, GradientStrategy]:
    """The first step of a search whose weights move by plain gradients, with alphas by DARTS' first order."""
    torch.manual_seed(0)
    space = Darts(channels=2, cells=3, nodes=2, operations=OPERATIONS)
    supernet = Supernet(space.network(Undecided(), (1, 6, 6), 3))
    parts = {"operations": Softmax(), "inputs": None, "architect": first_order, "discretiser": argmax}
    strategy = GradientStrategy(
        "darts", supernet.decisions, optimizer=partial(torch.optim.Adam, lr=0.5), seed=0, **parts
    )
    train, valid = (next(training_batches(half(n), 8, AUGMENTATION, seed=n)) for n in (1, 2))
    optimizer = torch.optim.SGD(supernet.parameters(), rate)
    return Step(supernet, train, valid, Classification(), optimizer, 0.0), strategy


def test_the_weights_gradient_is_clipped_by_its_whole_norm():
    for clip in (1e-2, math.inf):
        step, strategy = a_step(1.0)
        before = [p.detach().clone() for p in step.supernet.parameters()]
        search_step(step, strategy, clip)
        moved = torch.cat([(p - b).flatten() for p, b in zip(step.supernet.parameters(), before, strict=True)]).norm()
        assert (moved.item() == pytest.approx(1e-2, rel=1e-3)) == (clip == 1e-2)


def test_a_search_clips_by_its_recipe():
    states = [run_search(Run(), SearchRecipe(epochs=1, batch_size=8, clip=clip))[1] for clip in (1e-3, math.inf)]
    assert not same(*states)


def test_the_alphas_step_comes_first():
    """DARTS, algorithm 1: the alphas learn at the weights as they are, the weights with the alphas as they are then."""
    step, strategy = a_step(0.5)
    untouched = copy.deepcopy(step.supernet)
    logits = {n: p.detach().clone().requires_grad_() for n, p in strategy.logits.items()}
    search_step(step, strategy, math.inf)
    at_first = replace(step, supernet=untouched)
    loss = at_first.loss(at_first.valid, {n: p.softmax(0) for n, p in logits.items()})
    for parameter, slope in zip(strategy.logits.values(), torch.autograd.grad(loss, logits.values()), strict=True):
        torch.testing.assert_close(parameter.grad, slope)
    loss = at_first.loss(at_first.train, {n: p.detach().softmax(0) for n, p in strategy.logits.items()})
    for own, slope in zip(
        step.supernet.parameters(), torch.autograd.grad(loss, list(untouched.parameters())), strict=True
    ):
        torch.testing.assert_close(own.grad, slope)


def test_nesterov_momentum_reaches_the_weights_optimiser():
    states = [
        run_search(Run(), SearchRecipe(epochs=1, batch_size=8, nesterov=nesterov))[1] for nesterov in (True, False)
    ]
    assert not same(*states)
