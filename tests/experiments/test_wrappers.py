"""Methods that wrap a stage's strategy, from the command line: DARTS-PT and OLES."""

import pytest
from common import composed, tiny
from supernet.experiments import job
from supernet.experiments.job import prepare
from supernet.experiments.searching import search_cell

from supernet.runtime.interrupt import Interruption
from supernet.runtime.report import Silent

SMALL = ["space=nasbench201", "space.channels=2", "space.cells=1", "space.nodes=2", "baseline.random=0"]
PROJECTION = "{_target_: supernet.search.differentiable.projection.Projection, _partial_: true}"


class Recorder(Silent):
    """Keeps the scalars."""

    def __init__(self):
        self.values = {}

    def scalars(self, values, step):
        for tag, value in values.items():
            self.values.setdefault(tag, []).append(value)


@pytest.fixture
def searched(monkeypatch, images, tmp_path):
    """Searches a cell: the cell, and the scalars of each stage."""

    def run(*overrides):
        reports = {}
        monkeypatch.setattr(job, "RunReport", lambda directory, name, console: reports.setdefault(name, Recorder()))
        settings = composed(*tiny(images, *SMALL, "runtime.progress=false", *overrides))
        cell = search_cell(prepare(settings, tmp_path, Interruption()), "")
        return cell, {name: report.values for name, report in reports.items()}

    return run


def test_darts_pt_decides_edge_by_edge_in_its_second_stage(searched):
    cell, logged = searched("method=darts_pt", "search.epochs=2")
    assert "projection/rounds" not in logged["search1"]
    assert logged["search2"]["projection/rounds"] == [1, 1, 2]  # of 3 rounds, which are at 0, 1/2 and the end
    assert len(cell) >= 3


@pytest.mark.parametrize("method", ["darts_pt", "darts_pt_fixed"])
def test_selection_by_perturbation_runs_to_its_end_with_the_monitor(searched, method):
    """Until every edge is decided, and with alphas that the weights do not depend on: nothing is sharp then."""
    cell, logged = searched(f"method={method}", "search.epochs=4", "monitor.every=1")
    assert logged["search2"]["projection/rounds"][-2:] == [2, 2]
    assert len(cell) == 5
    assert ("collapse/lambda_max" in logged["search1"]) == (method == "darts_pt")
    assert "collapse/lambda_max" not in logged["search2"]
    assert len(logged["search2"]["collapse/gap"]) == 6


def test_oles_stops_operations(searched):
    wrapped = ["stages.0.wrapper.every=4", "stages.0.wrapper.threshold=1.0"]
    _, logged = searched("method=oles", "search.epochs=2", *wrapped)
    assert logged["search"]["early_stopping/stopped"] == [0.0, 1.0]  # 3 steps an epoch, the first compares nothing


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["method=gdas", f"stages=[{{}}, {{wrapper: {PROJECTION}}}]"], "stages[1].wrapper: selection by perturbation"),
        (["method=random_search", f"stages=[{{wrapper: {PROJECTION}}}]"], "stages[0].wrapper: selection by pert"),
        (["method=darts_pt", "stages.1.wrapper.batches=0"], "stages[1].wrapper.batches=0: needs 1 or more"),
        (["method=darts_pt", "stages.1.wrapper.batches=many"], "stages[1].wrapper.batches=many: needs a whole number"),
        (["method=oles", "stages.0.wrapper.threshold=2"], "stages[0].wrapper.threshold=2.0: is a cosine"),
        (
            ["method=darts_pt", "monitor.on_rise=stop", "monitor.every=1"],
            "monitor.on_rise=stop: acts on a search in one stage, and this one has 2",
        ),
        (
            [f"stages=[{{wrapper: {PROJECTION}}}]", "monitor=early_stop", "monitor.every=1"],
            "has no alphas and so no lambda_max; use go_on",
        ),
        (
            ["relaxation=uniform", "monitor=early_stop", "monitor.every=1"],
            "has no alphas and so no lambda_max; use go_on",
        ),
        (["method=random_search", "stages=[{keep: 2}, {}]"], "stages[0].keep=2: this search ranks no operations"),
        (["method=random_search", "space=micro", "stages=[{keep: 2}, {}]"], "supernet: stages[0].keep=2: this search"),
        (["method=darts_pt_fixed", "stages=[{keep: 2}, {}]"], "stages[0].keep=2: this search ranks no operations"),
        (
            [f"stages=[{{wrapper: {PROJECTION}}}, {{inherit_weights: true}}]"],
            "stages[1].inherit_weights=True: what the wrapper of the stage",
        ),
        (["stages=[{wrapper: {_target_: pathlib.PurePath, _partial_: true}}]"], "stages[0].wrapper: "),
    ],
)
def test_a_wrapper_that_cannot_be_is_one_line_before_anything_runs(supernet, images, tmp_path, overrides, says):
    code, printed = supernet(*tiny(images, *SMALL, *overrides))
    lines = [line for line in printed.splitlines() if line.strip()]
    assert code == 2, printed
    assert len(lines) == 1, printed
    assert says in lines[0]
    assert not list(tmp_path.rglob("*.pt"))
