"""Candidates are judged with the same results by one process and by two; quick scores are not sent."""

import csv
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident, evaluation_batches
from supernet.estimation.benchmark_tables import TableScore, micro
from supernet.estimation.joined_scores import Joined
from supernet.estimation.problem import SearchProblem
from supernet.estimation.scores import Measured
from supernet.estimation.sending import sent, worth_a_worker
from supernet.estimation.short_training import ShortTrainingScore
from supernet.estimation.space_costs import CostScore
from supernet.estimation.supernet_accuracy import RecalibratedScore, SupernetScore
from supernet.estimation.zero_cost.score import ZeroCostScore
from supernet.execution.engines import engine
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.runtime.run import Run
from supernet.runtime.workers import Workers
from supernet.search.black_box.evolution import AgingEvolution, SposEvolution
from supernet.search.black_box.explorers import RandomExplorer
from supernet.search.black_box.exploring import Budget, explore
from supernet.search.black_box.halving import Asha, Hyperband, SuccessiveHalving, halving
from supernet.search.black_box.rungs import Ladder
from supernet.space.choosers import Undecided
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.space.survey import candidates_of
from supernet.training.from_scratch import FinalNetwork
from supernet.training.loop import Recipe

SPACE = NasBench201(channels=4, cells=1, stages=1, nodes=2)
AUGMENTATION = Augmentation((0.5,), (0.25,))
IMAGES = torch.randint(0, 256, (48, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SOURCE = Resident(IMAGES, torch.arange(48) % 4)
CPU = torch.device("cpu")


def training(**settings) -> ShortTrainingScore:
    return ShortTrainingScore(
        FinalNetwork(SPACE, (1, 8, 8), 4), SOURCE, SOURCE, AUGMENTATION, Recipe(epochs=4, cutout=0), **settings
    )


def problem() -> SearchProblem:
    torch.manual_seed(0)
    network = engine("fused", CPU).apply(SPACE.network(Undecided(single=True), (1, 8, 8), 4))
    return SearchProblem(Supernet(network), SOURCE, SOURCE, AUGMENTATION, Run()).on_device()


def zero_cost() -> ZeroCostScore:
    return ZeroCostScore(
        SPACE, (1, 8, 8), 4, list(evaluation_batches(SOURCE, 24, AUGMENTATION, CPU)), ("naswot", "zico")
    )


def rows_of(found) -> list:
    """All that is said of each evaluation besides the time that it took."""
    costs = [{name: cost for name, cost in e.cost.items() if name != "seconds"} for e in found.evaluations]
    return [
        (e.architecture, dict(e.values), cost, e.fitness, e.failed)
        for e, cost in zip(found.evaluations, costs, strict=True)
    ]


def test_quick_scores_are_not_sent():
    table = micro(["digits_valid"])
    for score in (table, TableScore(table, "digits_valid"), CostScore(SPACE, (1, 8, 8), 4), Joined((table, table))):
        assert not worth_a_worker(score)
    assert worth_a_worker(Joined((table, zero_cost())))
    found = explore(RandomExplorer(candidates_of(SPACE)), table, Budget(evaluations=5), workers=Workers(2, "ray"))
    assert len(found.evaluations) == 5  # and nobody has looked for ray


def test_what_is_sent_is_alone_and_on_a_processor():
    interruption, given = Interruption(), problem()
    SupernetScore(given, 16)(next(candidates_of(SPACE).all()))  # has batches and an accelerator ready
    run = Run(interruption=interruption, checkpoint=Path("a.pt"))
    score = sent(training(run=run))
    assert score.run.interruption is not interruption
    assert score.run.checkpoint is None
    assert sent(SupernetScore(given, 16)).problem is not given
    gpu = Run(device=torch.device("meta"))
    with pytest.raises(InputError, match="workers: the networks are on meta, which is for one process alone"):
        sent(training(run=gpu))


def test_a_training_rests_in_one_process_and_goes_on_in_another():
    """As a worker does it: the state goes there and back with the question."""
    cell = next(candidates_of(SPACE).all())
    whole, here, there = training(), training(), training()
    first = here(cell, 1)
    there.take_up(cell, here.rested(cell))
    second = there(cell, 3)
    assert whole(cell, 1).values == first.values
    assert whole(cell, 3).values == second.values
    assert second.cost["epochs"] == 2.0
    there.take_up(cell, None)
    assert there.rested(cell) is None


@pytest.mark.parametrize("explorer", [SuccessiveHalving, Hyperband, Asha])
def test_rungs_are_asked_for_together(explorer):
    more = {"architectures": 9} | ({"together": 3} if explorer is Asha else {})
    made = explorer(candidates_of(SPACE), ladder=Ladder(most=9), **({} if explorer is Hyperband else more))
    counts = []
    while asked := made.ask_together(100):
        counts.append((len(asked), {made.open[architecture].rung for architecture in asked}))
        for architecture in asked:
            made.tell(architecture, (float(hash(str(architecture)) % 97),))
    if explorer is SuccessiveHalving:
        assert counts == [(9, {0}), (3, {1}), (1, {2})]
    if explorer is Hyperband:
        assert [count for count, _ in counts] == [9, 3, 1, 5, 1, 3]
    if explorer is Asha:
        assert counts[0] == (3, {0})
        assert max(count for count, _ in counts) == 3


def test_a_learning_source_is_asked_one_by_one():
    source = partial(AgingEvolution, population=4, sample=2)
    made = SuccessiveHalving(candidates_of(SPACE), architectures=9, ladder=Ladder(most=9), source=source)
    counts = []
    while asked := made.ask_together(100):
        counts.append(len(asked))
        for architecture in asked:
            made.tell(architecture, (float(len(counts)),))
    assert counts == [4, 1, 1, 1, 1, 1, 3, 1]


SCORES = {
    "supernet": lambda: SupernetScore(problem(), 16),
    "recalibrated": lambda: RecalibratedScore(problem(), 16, 2),
    "zero-cost": zero_cost,
    "training": training,
    "joined": lambda: Joined((zero_cost(), CostScore(SPACE, (1, 8, 8), 4))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORES)
def test_two_workers_find_what_one_finds(name, tmp_path):
    found, states = [], []
    for count in (1, 2):
        run, rows, score = Run(checkpoint=tmp_path / f"{count}.pt"), tmp_path / f"{count}.csv", SCORES[name]()
        explorer = SposEvolution(candidates_of(SPACE), population=6, parents=2, mutants=3, crossovers=2)
        before = torch.get_rng_state()
        found.append(explore(explorer, score, Budget(14), run=run, rows=rows, workers=Workers(count)))
        assert torch.equal(torch.get_rng_state(), before)
        states.append(explorer.state_dict())
    assert rows_of(found[0]) == rows_of(found[1])
    assert states[0] == states[1]
    kept = [torch.load(tmp_path / f"{count}.pt")["parts"]["explorer"] for count in (1, 2)]
    assert kept[0] == kept[1]


@pytest.mark.slow
def test_two_workers_climb_rungs_as_one_does():
    found = []
    for count in (1, 2):
        explorer = Hyperband(candidates_of(SPACE), ladder=Ladder(most=4, factor=2))
        found.append(halving(explorer, training(), Budget(units=20), workers=Workers(count)))
    assert rows_of(found[0]) == rows_of(found[1])
    assert all(e.cost["epochs"] == e.cost["units"] for e in found[0].evaluations)  # they go on where they rested


def dying(folder: Path, cell) -> Measured:
    """Fails for some cells; the first of the others kills its worker."""
    if "nor_conv_3x3" in str(cell):
        raise RuntimeError("broken")
    if not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return Measured({"letters": float(len(str(cell)))})


@pytest.mark.slow
def test_a_dead_worker_and_a_failure_are_no_end(tmp_path):
    rows = tmp_path / "rows.csv"
    found = explore(
        RandomExplorer(candidates_of(SPACE)), partial(dying, tmp_path), Budget(12), rows=rows, workers=Workers(2)
    )
    assert (tmp_path / "died").exists()
    again = explore(RandomExplorer(candidates_of(SPACE)), partial(dying, tmp_path), Budget(12), workers=Workers(1))
    assert rows_of(found) == rows_of(again)
    failed = [row["failed"] for row in csv.DictReader(rows.open())]
    assert set(failed) == {"", "RuntimeError: broken"}
