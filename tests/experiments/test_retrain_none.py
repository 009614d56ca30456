"""retrain=none: the job ends with the cell."""

import json
import sys

import pytest
from common import tiny
from supernet.experiments.commands import plan, show

from supernet.estimation.benchmark_tables import micro
from supernet.space.architecture import Architecture


def searching(images, *more: str) -> list[str]:
    words = [word for word in tiny(images) if not word.startswith("retrain.")]
    return [*words, "retrain=none", "hydra.run.dir=run", *more]


def test_leaves_the_cell_and_what_is_known_of_it(supernet, images, tmp_path, monkeypatch, capfd):
    code, printed = supernet(*searching(images, "space=micro", "method=gdas", "seed=4", "search.epochs=2"))
    assert code == 0, printed
    run = tmp_path / "run"
    for name in ("genotype.json", "genotype.svg", "summary.json", "tb/search"):
        assert (run / name).exists(), name
    for name in ("model.safetensors", "test.json", "metrics/retrain.csv", "tb/retrain", "tb/random_0"):
        assert not (run / name).exists(), name
    assert "Found, not trained" in printed
    assert "supernet-show run" in printed
    assert "supernet-predict" not in printed

    table, found = micro(), Architecture.load(run / "genotype.json")
    costs = micro(["params", "macs"])(found).values
    summary = json.loads((run / "summary.json").read_text())
    cell = summary["finalists"][0]
    assert (cell["parameters"], cell["test_score"], cell["table"]) != (0, 0, {})
    assert cell["table"] == pytest.approx(table(found).values)
    assert cell["test_score"] is None
    # one image channel instead of three would change both; the toy images are grey as the digits are, with 3 classes
    assert costs["params"] - cell["parameters"] == (10 - 3) * (8 + 1)
    best = {column: max(table(a).values[column] for a in table) for column in table.columns}
    assert summary["table_best"] == pytest.approx(best)
    assert summary["table_regret"] == pytest.approx({c: best[c] - table(found).values[c] for c in best})
    assert (summary["version"], summary["method"], summary["space"], summary["seed"]) == (2, "gdas", "micro", 4)
    assert summary["search_epochs"] == 2
    assert summary["search_seconds"] > 0
    rows = [line.split(",") for line in (run / "metrics" / "search.csv").read_text().splitlines()]
    last = [float(row[2]) for row in rows if row[1] == "search/accuracy/valid"][-1]
    assert summary["search_valid_score"] == last

    monkeypatch.setattr(sys, "argv", ["supernet-show", "run", "--output", "drawn"])
    show.main()
    shown = capfd.readouterr().out
    assert f"  parameters  {cell['parameters']:,} " in shown
    assert f"  MACs        {cell['macs']:,} " in shown
    assert "images of 1 x 6 x 6" in shown
    assert supernet("resume=run") == (0, "run is finished already; its figures are in run/summary.json\n")


def test_goes_on_after_the_search_was_done(supernet, images, tmp_path):
    """The time of the first attempt stays counted."""
    code, printed = supernet(*searching(images, "space=micro", "table=none"))
    assert code == 0, printed
    run = tmp_path / "run"
    first = json.loads((run / "summary.json").read_text())
    for name in ("summary.json", "genotype.json"):
        (run / name).unlink()
    code, printed = supernet("resume=run")
    assert code == 0, printed
    assert "search   1/1" not in printed
    again = json.loads((run / "summary.json").read_text())
    assert again["search_seconds"] > first["search_seconds"]
    assert {**again, "search_seconds": 0} == {**first, "search_seconds": 0}


def test_with_a_genotype_nothing_is_left_to_do(supernet, images, tmp_path):
    code, printed = supernet(*searching(images, "genotype=darts_v2"))
    assert (code, printed.count("\n")) == (2, 1)
    assert "retrain=none: with genotype=darts_v2 nothing is left to do; leave out one" in printed


def test_an_experiment_of_ones_own_that_sets_the_training_is_told(supernet, images, tmp_path):
    (tmp_path / "my" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults: [quick]\nretrain: {epochs: 3}\n"
    (tmp_path / "my" / "experiment" / "mine.yaml").write_text(text)
    words = [word.replace("experiment=quick", "experiment=mine") for word in searching(images)]
    code, printed = supernet("--config-dir", "my", *words)
    assert (code, printed.count("\n")) == (2, 1), printed
    assert "retrain: has settings and no recipe; leave out retrain=none" in printed


def test_a_table_that_lacks_a_cell_says_so_before_the_training(supernet, images, tmp_path):
    lacking = "|avg_pool_3x3~0|+|none~0|none~1|"
    rows = [f"{cell},1" for cell in micro().rows if cell != lacking]
    (tmp_path / "t.csv").write_text("\n".join(["arch,x", *rows]))
    words = tiny(images, "space=micro", "table=nasbench201", "table.path=t.csv", "table.columns=[x]")
    code, printed = supernet(*words, f"genotype='{lacking}'", "baseline.random=0")
    assert code == 2, printed
    assert f"has no cell {lacking}" in printed
    assert "searched:" not in printed


def test_plan_needs_nothing_for_the_training(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["supernet-plan", "experiment=quick", "retrain=none", "runtime.threads=1"])
    plan.main()
    out = capsys.readouterr().out
    assert [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")] == ["search"]
