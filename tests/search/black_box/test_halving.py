"""Successive halving, Hyperband and ASHA against their published tables and rules, written out plainly."""

import csv
import itertools
import math
import random
from collections import Counter
from functools import partial

import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.estimation.benchmark_tables import micro
from supernet.estimation.scores import Measured
from supernet.estimation.short_training import Fidelity, ShortTrainingScore
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.search.black_box.evolution import AgingEvolution
from supernet.search.black_box.exploring import Budget
from supernet.search.black_box.halving import Asha, Hyperband, SuccessiveHalving, halving
from supernet.search.black_box.rungs import Bracket, Job, Ladder, LookedUp, RungExplorer
from supernet.space.architecture import Architecture, Decision
from supernet.space.genes import Candidates
from supernet.space.nasbench201 import NasBench201, canonical
from supernet.space.survey import candidates_of
from supernet.training.from_scratch import FinalNetwork
from supernet.training.loop import Recipe
from supernet.training.schedules import Cosine

SPACE = NasBench201(channels=8, cells=1, stages=1, nodes=2)
TABLE = micro(["digits_valid"])
CLASSES = len({canonical(cell) for cell in SPACE.architectures()})
EXPLORERS = {
    "halving": partial(SuccessiveHalving, architectures=20, ladder=Ladder(most=9)),
    "hyperband": partial(Hyperband, ladder=Ladder(most=9)),
    "asha": partial(Asha, architectures=20, ladder=Ladder(most=9)),
    "aging": partial(Hyperband, ladder=Ladder(most=9), source=partial(AgingEvolution, population=4, sample=2)),
}
each_explorer = pytest.mark.parametrize("name", EXPLORERS)


def explorer_of(name: str, seed: int = 0) -> RungExplorer:
    return EXPLORERS[name](candidates_of(SPACE), seed=seed)


def letters(count: int = 1000) -> Candidates:
    """A space of one decision: architecture number n is the number n."""
    return Candidates("mine", {"edge": Decision("edge", tuple(map(str, range(count))))})


def number(architecture: Architecture) -> int:
    return int(architecture["edge"][0])


def noisy(architecture: Architecture, resource: int) -> float:
    """The accuracy of a cell of the micro space as a training of so many epochs could show it, the same each time."""
    truth = TABLE(architecture).values["digits_valid"] / 100
    noise = random.Random(f"{sorted(architecture.items())} {resource}").gauss(0.0, 0.2)
    return truth + noise / resource


class Counted:
    """A score with a resource that remembers what it was asked, and can stop in the middle of an evaluation."""

    def __init__(self, function=noisy, *, stop_at=None, most=None, continues=True):
        self.function, self.stop_at, self.most, self.continues = function, stop_at, most, continues
        self.asked = []

    def __call__(self, architecture, resource):
        if len(self.asked) == self.stop_at:
            raise Interrupted(15)
        self.asked.append((architecture, resource))
        return Measured({"accuracy": self.function(architecture, resource)}, {"epochs": float(resource)})


# Brackets


def test_brackets_are_those_of_hyperband_for_81_and_3():
    """Algorithm 1 of Li et al. 2018: n = ceil((s_max + 1) / (s + 1) * eta ** s), keep floor(n_i / eta)."""
    assert [bracket.rungs for bracket in Ladder(most=81).brackets()] == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


def test_brackets_are_those_of_another_implementation_for_8_and_2():
    """The table in the documentation of mlr3hyperband, for eta = 2, r_min = 1 and r_max = 8."""
    assert [bracket.rungs for bracket in Ladder(most=8, factor=2).brackets()] == [
        [(8, 1), (4, 2), (2, 4), (1, 8)],
        [(6, 2), (3, 4), (1, 8)],
        [(4, 4), (2, 8)],
        [(4, 8)],
    ]


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 10])
@pytest.mark.parametrize("power", range(9))
def test_the_logarithm_is_that_of_whole_numbers(factor, power):
    """log(243) / log(3) is 4.999... in floating point, and that bracket would be lost."""
    assert Ladder(most=factor**power, factor=factor).top == power
    if power:
        assert Ladder(most=factor**power - 1, factor=factor).top == power - 1
    assert Ladder(least=7, most=7 * factor**power, factor=factor).top == power


@pytest.mark.parametrize(("least", "most", "factor"), [(1, 100, 3), (2, 200, 4), (3, 50, 2), (5, 5, 3)])
def test_resources_of_any_length_climb_from_the_least_to_the_most(least, most, factor):
    ladder = Ladder(least, most, factor)
    resources = ladder.resources(ladder.top)
    assert resources[-1] == most
    assert least <= resources[0] < least * factor
    assert all(a * factor <= b for a, b in itertools.pairwise(resources))


def test_units_count_what_is_trained():
    """Without going on the bracket of 81 costs (s_max + 1) * R = 405, as the paper says."""
    bracket = Ladder(most=81).brackets()[0]
    assert bracket.units(continues=False) == 405
    assert bracket.units(continues=True) == 81 + 27 * 2 + 9 * 6 + 3 * 18 + 54


def test_at_least_one_goes_on():
    assert Bracket(5, (1, 3, 9), 3).rungs == [(5, 1), (1, 3), (1, 9)]


# Successive halving and Hyperband


def test_halving_finds_the_best_and_keeps_the_best_of_each_rung():
    score = Counted(lambda architecture, resource: float(number(architecture)))
    found = halving(SuccessiveHalving(letters(27), architectures=27, ladder=Ladder(most=27)), score)
    by_rung = {r: {number(a) for a, resource in score.asked if resource == r} for r in (1, 3, 9, 27)}
    assert by_rung == {1: set(range(27)), 3: set(range(18, 27)), 9: {24, 25, 26}, 27: {26}}
    assert number(found.best) == 26
    assert found.ended == "all rungs are complete, of 27 architectures"


def test_equals_the_rule_written_out_where_the_order_changes_from_rung_to_rung():
    score, explorer = Counted(), explorer_of("hyperband")
    halving(explorer, score)
    asked = iter(score.asked)
    for bracket in explorer.brackets:
        members = [next(asked) for _ in range(bracket.architectures)]
        assert {r for _, r in members} == {bracket.resources[0]}
        cells = [cell for cell, _ in members]
        for (count, below), (fewer, resource) in itertools.pairwise(bracket.rungs):
            assert len(cells) == count
            cells = sorted(cells, key=lambda cell: noisy(cell, below), reverse=True)[:fewer]
            assert [next(asked) for _ in range(fewer)] == [(cell, resource) for cell in cells]
    assert next(asked, None) is None


def test_the_best_is_of_the_highest_rung_even_where_a_lower_one_has_larger_values():
    """At 1 epoch everything looks better than at 9, as an accuracy on a small part of the data may."""
    score = Counted(lambda architecture, resource: number(architecture) / resource)
    found = halving(SuccessiveHalving(letters(9), architectures=9, ladder=Ladder(most=9)), score)
    assert number(found.best) == 8
    last = found.evaluations[-1]
    assert (last.values["rung"], last.values["resource"], last.cost["units"]) == (2, 9, 6)


def test_of_equals_those_that_were_asked_for_first_go_on():
    score = Counted(lambda architecture, resource: 0.5)
    halving(SuccessiveHalving(letters(), architectures=9, ladder=Ladder(most=9)), score)
    assert [cell for cell, _ in score.asked[9:12]] == [cell for cell, _ in score.asked[:3]]
    assert score.asked[12][0] == score.asked[0][0]


def test_what_is_told_in_another_order_gives_the_same_rungs():
    """All of a rung at once, as several machines would judge it, and the answers in any order."""
    climbed = []
    for order in (1, -1):
        explorer, rungs = explorer_of("halving"), []
        while open_ := list(iter(explorer.ask, None)):
            rungs.append([(cell, explorer.open[cell]) for cell in open_])
            for cell in open_[::order]:
                explorer.tell(cell, (noisy(cell, explorer.open[cell].resource),))
        climbed.append(rungs[1:])  # which are drawn differs with what is known by then, but not here
        assert [len(rung) for rung in rungs] == [20, 6, 2]
        assert explorer.ask() is None
    assert climbed[0] == climbed[1]


# ASHA


def asha_by_hand(resources, factor, new, budget, value):
    """Algorithm 2 of Li et al. 2020, get_job, with one worker: recomputed from all results at each call."""
    results, promoted, jobs = [], set(), []
    for _ in range(budget):
        job = None
        for rung in range(len(resources) - 2, -1, -1):
            of_rung = [(architecture, accuracy) for architecture, at, accuracy in results if at == rung]
            top = sorted(of_rung, key=lambda pair: -pair[1])[: int(len(of_rung) / factor)]
            promotable = [architecture for architecture, _ in top if (architecture, rung) not in promoted]
            if promotable:
                promoted.add((promotable[0], rung))
                job = promotable[0], rung + 1
                break
        if job is None:
            job = next(new), 0
        jobs.append((job[0], resources[job[1]]))
        results.append((*job, value(job[0], resources[job[1]])))
    return jobs


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_asha_promotes_as_the_paper_says(factor, seed):
    def value(architecture, resource):  # all different, and another order at each rung
        return random.Random(number(architecture) * 1000 + resource + seed).random()

    ladder = Ladder(most=factor**3, factor=factor)
    score = Counted(value)
    halving(Asha(letters(), seed=seed, ladder=ladder), score, Budget(evaluations=150))
    new = iter(list(dict.fromkeys(cell for cell, _ in score.asked)) + [None] * 150)
    assert score.asked == asha_by_hand(ladder.resources(3), factor, new, 150, value)
    assert len({resource for _, resource in score.asked}) == 4


def test_asha_with_several_workers_depends_on_the_order_of_the_answers_alone():
    def asked(seed):
        explorer, order, sequence = EXPLORERS["asha"](letters(), seed=0), random.Random(seed), []
        while True:
            while len(explorer.open) < 4 and (cell := explorer.ask()) is not None:
                sequence.append((number(cell), explorer.open[cell]))
            if not explorer.open:
                return sequence
            cell = order.choice(list(explorer.open))
            explorer.tell(cell, (number(cell) * 1.0,))

    assert asked(1) == asked(1) != asked(2)
    for seed in range(4):
        jobs = [(cell, job.rung) for cell, job in asked(seed)]
        assert len(set(jobs)) == len(jobs)
        counts = Counter(rung for _, rung in jobs)
        assert counts[0] == 20
        assert counts[1] >= 20 // 3
        assert all((cell, rung - 1) in jobs for cell, rung in jobs if rung)


def test_asha_leaves_out_the_lowest_rungs():
    explorer = Asha(letters(), ladder=Ladder(most=27), skipped=2)
    explorer.tell(explorer.ask(), (0.0,))
    explorer.tell(explorer.ask(), (0.0,))
    assert explorer.open[explorer.ask()] == Job(0, 0, 9, 0)


# Never twice, exhaustion, budget


@each_explorer
@pytest.mark.parametrize("seed", range(3))
def test_no_architecture_meets_a_rung_twice_nor_begins_as_an_equal_one(name, seed):
    score = Counted()
    halving(explorer_of(name, seed), score)
    assert len({(canonical(cell), resource) for cell, resource in score.asked}) == len(score.asked)
    assert len({canonical(cell) for cell, _ in score.asked}) == len({cell for cell, _ in score.asked})


@pytest.mark.parametrize(
    ("explorer", "says"),
    [
        (partial(SuccessiveHalving, architectures=500), "the space is exhausted after {} of 500 architectures; all"),
        (Hyperband, "the space is exhausted after {} of 143 architectures; all their rungs are complete"),
        (partial(Hyperband, passes=3), "the space is exhausted after {} of 429"),
        (Asha, "the space is exhausted after {}, and nothing is left to promote"),
        (partial(Asha, architectures=500), "the space is exhausted after {}, and"),
    ],
)
def test_a_space_of_125_cells_is_exhausted_and_ends(explorer, says):
    score = Counted()
    found = halving(explorer(candidates_of(SPACE)), score)
    assert found.ended.startswith(says.format(CLASSES))
    assert len({canonical(cell) for cell, _ in score.asked}) == CLASSES
    assert max(resource for _, resource in score.asked) >= 27


@each_explorer
def test_the_budget_is_in_units_of_the_resource(name):
    for continues in (True, False):
        found = halving(explorer_of(name), Counted(continues=continues), Budget(units=20))
        units = [evaluation.cost["units"] for evaluation in found.evaluations]
        assert found.ended == "the budget of 20 units is spent"
        assert sum(units[:-1]) < 20 <= sum(units)
        for evaluation, spent in zip(found.evaluations, units, strict=True):
            first = evaluation.values["rung"] == 0
            resource = evaluation.values["resource"]
            assert spent == (resource if first or not continues else resource - resource // 3)


def test_the_plan_says_what_a_run_costs_before_it_begins():
    lines = []

    class Lines(Silent):
        def line(self, message):
            lines.append(message)

    for continues in (True, False):
        explorer = explorer_of("hyperband")
        found = halving(explorer, Counted(continues=continues), run=Run(report=Lines()), name="search")
        spent = sum(evaluation.cost["units"] for evaluation in found.evaluations)
        assert (
            lines.pop() == f"search: 9 at 1, 3 at 3, 1 at 9; then 5 at 3, 1 at 9; then 3 at 9: {spent:.0f} units in all"
        )


# Kill and resume


@each_explorer
def test_killed_at_any_evaluation_it_goes_on_as_if_it_had_not(name, tmp_path):
    straight = Counted()
    whole = halving(explorer_of(name), straight)
    for killed_at in range(len(straight.asked)):
        run = Run(checkpoint=tmp_path / f"{killed_at}.pt")
        first, second = Counted(stop_at=killed_at), Counted()
        with pytest.raises(Interrupted):
            halving(explorer_of(name), first, run=run)
        assert halving(explorer_of(name), second, run=run) == whole
        assert first.asked + second.asked == straight.asked


@each_explorer
def test_killed_by_power_at_any_evaluation_it_repeats_what_was_lost(name, tmp_path):
    """Nothing is written at the moment of the kill: only what was saved before counts."""
    whole = halving(explorer_of(name), Counted())

    class Killed(BaseException):  # an error of the score would be a row
        pass

    def dying(at):
        def value(architecture, resource):
            if len(score.asked) > at:
                raise Killed
            return noisy(architecture, resource)

        score = Counted(value)
        return score

    run = Run(checkpoint=tmp_path / "halving.pt", save_seconds=0.0)
    for _ in range(0, len(whole.evaluations) - 3, 3):  # three evaluations, then the power is gone; and again
        with pytest.raises(Killed):
            halving(explorer_of(name), dying(3), run=run)
    assert halving(explorer_of(name), Counted(), run=run) == whole


def test_what_several_workers_had_open_is_asked_for_again_after_a_kill():
    explorer = explorer_of("asha")
    asked = [explorer.ask() for _ in range(3)]
    explorer.tell(asked[1], (0.5,))
    again = explorer_of("asha")
    again.load_state_dict(explorer.state_dict())
    assert [again.ask(), again.ask()] == [asked[0], asked[2]]
    assert again.ask() not in asked


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (partial(Hyperband, ladder=Ladder(most=10)), r"ladder=\[1, 10, 3\]: it was begun .* \[1, 9, 3\]"),
        (partial(Hyperband, ladder=Ladder(most=9), passes=2), "brackets: begin with"),
        (partial(Asha, ladder=Ladder(most=9)), "part explorer"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused_in_one_line(tmp_path, other, says):
    run = Run(checkpoint=tmp_path / "halving.pt")
    halving(explorer_of("hyperband"), Counted(), run=run)
    with pytest.raises(InputError, match=says) as error:
        halving(other(candidates_of(SPACE)), Counted(), run=run)
    assert "\n" not in str(error.value)


# With trainings


def trainings(tmp_path, **settings) -> ShortTrainingScore:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (24, 1, 8, 8), dtype=torch.uint8, generator=generator)
    images = Resident(pixels, torch.arange(24) % 3)
    recipe = Recipe(epochs=9, batch_size=12, schedule=Cosine(0.05), drop_path=0.0, cutout=0)
    final = FinalNetwork(SPACE.resized(channels=2), (1, 8, 8), 3)
    augmentation = Augmentation((0.5,), (0.25,))
    return ShortTrainingScore(final, images, images, augmentation, recipe, states=tmp_path, **settings)


def test_halving_of_short_trainings_ends_and_is_the_trainings_at_once(tmp_path):
    rows = tmp_path / "rows.csv"
    explorer = SuccessiveHalving(candidates_of(SPACE), architectures=9, ladder=Ladder(most=9))
    found = halving(explorer, trainings(tmp_path / "states"), rows=rows)
    written = list(csv.DictReader(rows.open()))
    assert [float(row["resource"]) for row in written] == [1] * 9 + [3] * 3 + [9]
    assert sum(float(row["cost/epochs"]) for row in written) == sum(float(row["cost/units"]) for row in written) == 21
    best = found.evaluations[-1]
    assert best.architecture == found.best
    at_once = trainings(None)(found.best)
    assert all(best.values[name] == value for name, value in at_once.values.items())


@pytest.mark.parametrize("folder", [False, True])
def test_a_killed_halving_of_short_trainings_has_the_same_values(tmp_path, folder):
    def explored(where, run=None, stop_at=None):
        score, calls = trainings(where if folder else None, fidelity=Fidelity(share=0.5)), []

        def stopping(architecture, epochs):
            calls.append(1)
            if len(calls) == stop_at:
                raise Interrupted(15)
            return score(architecture, epochs)

        explorer = SuccessiveHalving(candidates_of(SPACE), architectures=6, ladder=Ladder(most=9))
        return halving(explorer, LookedUp(stopping, score.most, score.continues), run=run)

    whole = explored(tmp_path / "whole")
    run = Run(checkpoint=tmp_path / "halving.pt")
    with pytest.raises(Interrupted):
        explored(tmp_path / "states", run, stop_at=8)  # the second of the second rung
    again = explored(tmp_path / "states", run)
    assert [(e.architecture, e.values) for e in again.evaluations] == [
        (e.architecture, e.values) for e in whole.evaluations
    ]
    assert again.best == whole.best


# Bad input


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Ladder(least=0), "^least=0: needs 1 or more"),
        (lambda: Ladder(least=4, most=3), "^most=3: needs least=4 or more"),
        (lambda: Ladder(factor=1), "^factor=1: needs 2 or more"),
        (lambda: SuccessiveHalving(letters(), architectures=0), "^architectures=0"),
        (lambda: Hyperband(letters(), passes=0), "^passes=0"),
        (lambda: Asha(letters(), architectures=0), "^architectures=0"),
        (lambda: Asha(letters(), skipped=5), "^skipped=5: the ladder has 5 rungs; leave out 0 to 4"),
        (lambda: Budget(units=0), "^units=0: needs a number above 0"),
        (lambda: halving(Hyperband(letters()), Counted(most=80)), "^most=81: the score gives 80 at most"),
        (lambda: halving(Hyperband(letters()), Counted(), objectives=("a", "b")), "^objectives="),
        (
            lambda: halving(Hyperband(letters()), Counted(lambda a, r: 0.5), objectives=("b",)),
            "^objectives=b: the score gives accuracy",
        ),
        (lambda: halving(Hyperband(letters()), Counted(lambda a, r: math.nan)), "^objectives=accuracy: is not known"),
        (lambda: Hyperband(letters()).tell(letters().random(random.Random(0)), (0.0,)), "^architecture: was not asked"),
        (
            lambda: halving(
                Hyperband(Candidates("mine", {"e": Decision("e", ("a",))}, fits=lambda a: False)), Counted()
            ),
            "^candidates: none that was drawn keeps the limits",
        ),
    ],
)
def test_refuses_nonsense_in_one_line(make, says):
    with pytest.raises(InputError, match=says) as error:
        make()
    assert "\n" not in str(error.value)
