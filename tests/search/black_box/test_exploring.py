"""The loop over architectures: what it spends, what it never does twice, and that a kill leaves no trace."""

import csv
import json
import math
from functools import partial

import pytest
import torch
from common import slow_but

from supernet.estimation.benchmark_tables import NasBench201Seconds, TableScore, micro
from supernet.estimation.limits import Limits
from supernet.estimation.scores import Measured
from supernet.estimation.space_costs import CostScore, SpaceCosts
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import RunReport
from supernet.runtime.run import Run
from supernet.search.black_box.bananas import Bananas
from supernet.search.black_box.evolution import AgingEvolution, SposEvolution
from supernet.search.black_box.explorers import Explorer, RandomExplorer
from supernet.search.black_box.exploring import Budget, explore
from supernet.search.black_box.local_search import LocalSearch
from supernet.search.black_box.pareto import Nsga2
from supernet.search.black_box.policy import ControllerExplorer, PolicyExplorer
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import NasBench201, canonical, from_string, to_string
from supernet.space.survey import candidates_of

SPACE = NasBench201(channels=8, cells=1, stages=1, nodes=2)
CLASSES = len({canonical(cell) for cell in SPACE.architectures()})
TABLE = TableScore(micro(), "digits_valid")
EXPLORERS = {
    "random": RandomExplorer,
    "aging": partial(AgingEvolution, population=10, sample=3),
    "spos": partial(SposEvolution, population=10, parents=3, mutants=5, crossovers=4),
    "local": partial(LocalSearch, initial=3),
    "policy": PolicyExplorer,
    "controller": partial(ControllerExplorer, hidden=8),
    "nsga2": partial(Nsga2, population=8),
    "aging together": partial(AgingEvolution, population=10, sample=3, together=4),
    "local together": partial(LocalSearch, initial=3, together=4),
    "policy together": partial(PolicyExplorer, together=4),
    "bananas": partial(Bananas, initial=5, round=4, layers=2, width=4, epochs=3),
}
each_explorer = pytest.mark.parametrize("name", EXPLORERS)


def explorer_of(name: str, seed: int = 0, **settings) -> Explorer:
    return EXPLORERS[name](candidates_of(SPACE, **settings), seed=seed)


class Counted:
    """A score that remembers what it was asked, and can ask for a stop."""

    def __init__(self, score=TABLE, stop_at: int | None = None, run: Run | None = None) -> None:
        self.score, self.stop_at, self.run, self.asked = score, stop_at, run, list[Architecture]()

    def __call__(self, architecture: Architecture) -> Measured:
        if self.stop_at is not None and len(self.asked) == self.stop_at:
            raise Interrupted(15)
        self.asked.append(architecture)
        return self.score(architecture)


@each_explorer
def test_a_space_of_125_cells_is_exhausted_and_ends(name):
    score = Counted()
    found = explore(explorer_of(name), score, Budget(evaluations=10_000))
    assert len(score.asked) == len(found.evaluations) == CLASSES
    assert len({canonical(cell) for cell in score.asked}) == CLASSES
    assert (
        found.ended
        == f"nothing new is left to try after {CLASSES} evaluations of 125 in the space (equal ones counted apart)"
    )
    assert TABLE(found.best).values["digits_valid"] == max(e.values["digits_valid"] for e in found.evaluations)


@each_explorer
def test_every_seed_has_a_sequence_of_its_own(name):
    sequences = [
        [e.architecture for e in explore(explorer_of(name, seed), TABLE, Budget(30)).evaluations] for seed in (0, 0, 1)
    ]
    assert sequences[0] == sequences[1] != sequences[2]


@each_explorer
@pytest.mark.parametrize("killed_at", slow_but([3, 24], [0, 1, 3, 10, 11, 24, 40]))
def test_a_search_killed_at_any_evaluation_goes_on_as_if_it_had_not(name, killed_at, tmp_path):
    whole = explore(explorer_of(name), TABLE, Budget(evaluations=45))
    run = Run(checkpoint=tmp_path / "explore.pt", save_seconds=0.0)
    with pytest.raises(Interrupted):
        explore(explorer_of(name), Counted(stop_at=killed_at), Budget(evaluations=45), run=run)
    score = Counted()
    again = explore(explorer_of(name), score, Budget(evaluations=45), run=run)
    assert again == whole
    assert len(score.asked) == 45 - killed_at  # what was judged is not judged again


@each_explorer
def test_a_signal_between_two_evaluations_is_heeded(name, tmp_path):
    interruption = Interruption()
    run = Run(checkpoint=tmp_path / "explore.pt", interruption=interruption)

    def score(architecture: Architecture) -> Measured:
        interruption.signal = 15 if len(asked.asked) == 6 else None
        return asked(architecture)

    asked = Counted()
    with pytest.raises(Interrupted):
        explore(explorer_of(name), score, Budget(evaluations=20), run=run)
    interruption.signal = None
    assert explore(explorer_of(name), TABLE, Budget(20), run=run) == explore(explorer_of(name), TABLE, Budget(20))


class Broken(Exception):
    """What a score raises that has come upon an operation that does not work."""


@each_explorer
def test_one_that_fails_is_a_row_and_told_as_the_worst(name, tmp_path):
    def score(cell: Architecture) -> Measured:
        if "nor_conv_3x3" in str(cell):
            raise Broken("no such\nkernel")
        return TABLE(cell)

    explorer, rows = explorer_of(name), tmp_path / "explore.csv"
    run = Run(checkpoint=tmp_path / "explore.pt")
    found = explore(explorer, score, Budget(evaluations=45), run=run, rows=rows)
    failed = [e for e in found.evaluations if e.failed]
    assert 0 < len(failed) < len(found.evaluations) == 45  # a failure counts
    assert {(e.failed, e.fitness) for e in failed} == {("Broken: no such kernel", (-math.inf,))}
    assert all(("nor_conv_3x3" in str(e.architecture)) == bool(e.failed) for e in found.evaluations)
    assert explorer.told[explorer.candidates.key(failed[0].architecture)][1] == (-math.inf,)
    assert not any(e.failed for e in found.front)
    assert found.best == max((e for e in found.evaluations if not e.failed), key=lambda e: e.fitness).architecture
    written = list(csv.DictReader(rows.open()))
    assert [row["failed"] for row in written] == [e.failed for e in found.evaluations]
    assert explore(explorer_of(name), Counted(stop_at=0), Budget(evaluations=45), run=run) == found


def test_where_nothing_succeeds_the_fault_is_one_line():
    def score(cell: Architecture) -> Measured:
        raise Broken(f"kernel {next(number)}")

    number = iter(range(1, 100))
    with pytest.raises(InputError, match="judged nothing; all of 10 evaluations failed, the last one with Broken: ker"):
        explore(explorer_of("random"), score, Budget(evaluations=45))
    with pytest.raises(InputError, match="judged nothing; all of 3 evaluations failed, the last one with Broken: kern"):
        explore(explorer_of("random"), score, Budget(evaluations=3))


def test_a_score_that_draws_draws_by_the_architecture_and_leaves_no_trace():
    def score(cell: Architecture) -> Measured:
        return Measured({"drawn": float(torch.rand(()))})

    torch.manual_seed(1)
    before = torch.get_rng_state()
    found = [explore(explorer_of("random", seed), score, Budget(evaluations=40)) for seed in (0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    by_cell = [{e.architecture: e.values["drawn"] for e in each.evaluations} for each in found]
    shared = by_cell[0].keys() & by_cell[1].keys()
    assert shared
    assert all(by_cell[0][cell] == by_cell[1][cell] for cell in shared)
    assert len(set(by_cell[0].values())) == 40


def test_a_longer_budget_goes_on_with_what_was_asked_for(tmp_path):
    """A part of what was proposed together is judged in one piece, and the rest in another one."""
    for name in ("aging together", "local together", "spos"):
        run = Run(checkpoint=tmp_path / f"{name}.pt")
        for evaluations in (5, 17, 31):
            found = explore(explorer_of(name), TABLE, Budget(evaluations), run=run)
            assert found == explore(explorer_of(name), TABLE, Budget(evaluations))


def test_every_evaluation_is_a_row_and_a_point(tmp_path):
    from rich.console import Console
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows, truth = tmp_path / "explore.csv", micro(["digits_test"])

    def explored(stop_at: int | None = None):
        report = RunReport(tmp_path, "explore", Console(quiet=True))
        run = Run(report=report, checkpoint=tmp_path / "explore.pt")
        try:
            return explore(
                explorer_of("aging"), Counted(stop_at=stop_at), Budget(evaluations=25), run=run, rows=rows, truth=truth
            )
        finally:
            report.close()

    with pytest.raises(Interrupted):
        explored(stop_at=12)
    assert len(list(csv.DictReader(rows.open()))) == 12
    found = explored()
    written = list(csv.DictReader(rows.open()))
    assert [int(row["evaluation"]) for row in written] == list(range(1, 26))
    for row, evaluation in zip(written, found.evaluations, strict=True):
        assert json.loads(row["architecture"]) == {n: list(kept) for n, kept in evaluation.architecture.items()}
        assert float(row["digits_valid"]) == evaluation.values["digits_valid"]
        assert float(row["truth/digits_test"]) == truth(evaluation.architecture).values["digits_test"]
    events = EventAccumulator(str(tmp_path / "tb" / "explore"), {"scalars": 0}).Reload()
    values = [e.value for e in events.Scalars("explore/digits_valid")]
    assert values == pytest.approx([e.values["digits_valid"] for e in found.evaluations])
    best = [e.value for e in events.Scalars("explore/best")]
    assert best == pytest.approx([max(values[: n + 1]) for n in range(25)])
    assert len(events.Scalars("explore/truth/digits_test")) == 25


def test_simulated_seconds_are_spent_and_the_last_evaluation_may_pass_the_limit():
    score = TableScore(micro(), "digits_valid", NasBench201Seconds())
    found = explore(explorer_of("random"), score, Budget(simulated_seconds=500.0))
    spent = [e.cost["simulated_seconds"] for e in found.evaluations]
    assert sum(spent[:-1]) < 500.0 <= sum(spent)
    assert found.ended == "the budget of 500.0 simulated seconds is spent"
    with pytest.raises(InputError, match="simulated_seconds=500: this score does not say"):
        explore(explorer_of("random"), TABLE, Budget(simulated_seconds=500))


def test_seconds_of_all_pieces_count(tmp_path, monkeypatch):
    clock = iter(float(n) for n in range(10_000))
    monkeypatch.setattr("supernet.search.black_box.exploring.time.monotonic", lambda: next(clock))
    run = Run(checkpoint=tmp_path / "explore.pt")
    with pytest.raises(Interrupted):
        explore(explorer_of("random"), Counted(stop_at=5), Budget(seconds=40.0), run=run)
    score = Counted()
    found = explore(explorer_of("random"), score, Budget(seconds=40.0), run=run)
    assert found.ended == "the budget of 40.0 seconds is spent"
    assert 0 < len(score.asked) < len(explore(explorer_of("random"), TABLE, Budget(seconds=40.0)).evaluations) + 5


def test_known_ones_are_free_unless_they_are_to_be_paid():
    """As NATS-Bench has it, a method that asks again pays again."""
    explorer = AgingEvolution(candidates_of(NasBench201(nodes=1)), population=2, sample=1, distinct=False)
    score = Counted(lambda cell: Measured({"digits_valid": float("skip" in str(cell))}))
    found = explore(explorer, score, Budget(evaluations=40), repeats=True)
    assert len(score.asked) == 40
    explorer = AgingEvolution(candidates_of(NasBench201(nodes=1)), population=2, sample=1, distinct=False)
    score = Counted(score.score)
    found = explore(explorer, score, Budget(evaluations=40))
    assert len(score.asked) == 5  # and a thousand known ones in a row are the end
    assert found.ended.startswith("nothing new is left to try after 5 evaluations")


def test_no_candidate_fits_a_limit():
    costs, counted = CostScore(SPACE, (1, 8, 8), 10), SpaceCosts(SPACE, (1, 8, 8), 10)
    for name in EXPLORERS:
        with pytest.raises(InputError, match="candidates: none that was drawn keeps the limits"):
            explore(explorer_of(name, fits=Limits(counted, {"parameters": 10}).fits), TABLE, Budget(evaluations=5))
        found = explore(
            explorer_of(name, fits=Limits(counted, {"parameters": 900}).fits), TABLE, Budget(evaluations=500)
        )
        sizes = [costs(e.architecture).values["parameters"] for e in found.evaluations]
        fitting = {canonical(c) for c in SPACE.architectures() if costs(c).values["parameters"] <= 900}
        assert max(sizes) <= 900
        assert len({canonical(e.architecture) for e in found.evaluations}) >= len(fitting) - 5  # a class has one size
    with pytest.raises(InputError, match=r"limits.watts: no cost has this name; known: bytes, macs"):
        Limits(counted, {"watts": 1.0})


def test_objectives_are_named_and_can_be_small():
    costs = CostScore(SPACE, (1, 8, 8), 10)
    least = explore(explorer_of("random"), costs, Budget(evaluations=200), objectives=("-parameters",))
    assert costs(least.best).values["parameters"] == min(costs(c).values["parameters"] for c in SPACE.architectures())
    with pytest.raises(InputError, match="objectives=speed: the score gives digits_valid; use one of them"):
        explore(explorer_of("random"), TABLE, Budget(evaluations=2), objectives=("speed",))


def test_other_objectives_are_no_way_to_go_on(tmp_path):
    run = Run(checkpoint=tmp_path / "explore.pt")
    costs = CostScore(SPACE, (1, 8, 8), 10)
    explore(explorer_of("random"), costs, Budget(evaluations=2), objectives=("macs",), run=run)
    with pytest.raises(InputError, match=r"objectives=\['parameters'\]: it was begun with \['macs'\]"):
        explore(explorer_of("random"), costs, Budget(evaluations=4), objectives=("parameters",), run=run)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({}, "needs a limit of evaluations"),
        ({"evaluations": 0}, "evaluations=0: needs a number above 0"),
        ({"seconds": -1.0}, "seconds=-1.0: needs a number above 0"),
        ({"simulated_seconds": float("inf")}, "simulated_seconds=inf: needs a number above 0"),
        ({"seconds": float("nan")}, "seconds=nan: needs a number above 0"),
    ],
)
def test_a_budget_that_is_none_is_refused(limits, words):
    with pytest.raises(InputError, match=words):
        Budget(**limits)


def test_what_a_score_cannot_say_is_one_line():
    with pytest.raises(InputError, match="is not known of"):
        explore(explorer_of("random"), lambda cell: Measured({"a": float("nan")}), Budget(evaluations=2))
    with pytest.raises(InputError, match="score: gives float for an architecture"):
        explore(explorer_of("random"), lambda cell: 0.5, Budget(evaluations=2))
    with pytest.raises(InputError, match="column=digits_nothing: was not read; read were digits_valid, digits_test"):
        TableScore(micro(), "digits_nothing")
    with pytest.raises(InputError, match="has no cell"):
        TABLE(from_string("|none~0|"))
    with pytest.raises(InputError, match="data=svhn: known: cifar10, cifar100, imagenet16_120"):
        NasBench201Seconds("svhn")


def test_an_empty_field_of_a_table_is_one_line(tmp_path):
    from supernet.estimation.benchmark_tables import read_table

    path = tmp_path / "cells.csv"
    path.write_text("arch,accuracy\n|none~0|,10\n|skip_connect~0|,\n")
    with pytest.raises(InputError, match=r"column=accuracy: .* has no number for .skip_connect~0."):
        TableScore(read_table(path, ["accuracy"]), "accuracy")(from_string("|skip_connect~0|"))


def test_seconds_are_the_fitted_ones():
    """STRATEGIES' fit: 12 epochs on CIFAR-10 by the operations of a cell, and a pass over the validation images."""
    cell = from_string("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|none~2|")
    training = 34.50 + 7.10 + 4.83 + 27.89 + 17.08 + 7.10
    validation = 1.09 + 0.243 * training / 12
    assert NasBench201Seconds()(cell) == pytest.approx(training + validation)
    assert NasBench201Seconds("cifar100")(cell) == pytest.approx(2 * training + 0.2 * validation)
    assert NasBench201Seconds("imagenet16_120")(cell) == pytest.approx(6.07 * training + 0.122 * validation)
    assert to_string(cell).count("none") == 2


def test_the_words_for_a_limit_agree_with_it():
    assert Budget(evaluations=1).spent(1, 0.0, 0.0) == "the budget of 1 evaluation is spent"
    assert Budget(evaluations=2, units=1).spent(1, 0.0, 0.0, 1.0) == "the budget of 1 unit is spent"
    assert Budget(simulated_seconds=500.0).spent(1, 0.0, 500.0) == "the budget of 500.0 simulated seconds is spent"
