"""Methods that wrap a leg's strategy, from the command line: DARTS-PT and OLES."""

import csv
import importlib.util
from pathlib import Path

import pytest

from supernet.space.architecture import Architecture

_spec = importlib.util.spec_from_file_location("toy_settings", Path(__file__).with_name("conftest.py"))
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
tiny = _conftest.tiny

SMALL = ["space=nasbench201", "space.channels=2", "space.cells=1", "space.nodes=2", "baseline.random=0"]
PROJECTION = "{_target_: supernet.search.projection.Projection, _partial_: true}"


def logged(run: Path, leg: str, tag: str) -> list[float]:
    return [float(r["value"]) for r in csv.DictReader((run / "metrics" / f"{leg}.csv").open()) if r["tag"] == tag]


def test_darts_pt_decides_edge_by_edge_in_its_second_leg(supernet, images, tmp_path):
    code, printed = supernet(*tiny(images, *SMALL, "method=darts_pt", "search.epochs=2"))
    assert code == 0, printed
    (run,) = (path.parent for path in tmp_path.glob("runs/*/*/genotype.json"))
    assert logged(run, "search1", "projection/rounds") == []
    assert logged(run, "search2", "projection/rounds") == [1, 1, 2]  # of 3 rounds, at 0, 1/2 and 1 of 3 epochs
    assert len(Architecture.load(run / "genotype.json")) >= 3


def test_oles_stops_operations(supernet, images, tmp_path):
    wrapped = ["stages.0.wrapper.every=2", "stages.0.wrapper.threshold=1.0"]
    code, printed = supernet(*tiny(images, *SMALL, "method=oles", "search.epochs=2", *wrapped))
    assert code == 0, printed
    (run,) = (path.parent for path in tmp_path.glob("runs/*/*/genotype.json"))
    assert logged(run, "search", "early_stopping/stopped") == [0.0, 1.0]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["method=gdas", f"stages=[{{}}, {{wrapper: {PROJECTION}}}]"], "stages[1].wrapper: selection by perturbation"),
        (["method=random_search", f"stages=[{{wrapper: {PROJECTION}}}]"], "stages[0].wrapper: selection by pert"),
        (["method=darts_pt", "stages.1.wrapper.batches=0"], "stages[1].wrapper.batches=0: needs 1 or more"),
        (["method=darts_pt", "stages.1.wrapper.batches=many"], "stages[1].wrapper.batches=many: needs a whole number"),
        (["method=oles", "stages.0.wrapper.threshold=2"], "stages[0].wrapper.threshold=2.0: is a cosine"),
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
