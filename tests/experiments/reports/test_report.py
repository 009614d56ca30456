"""supernet-report: made-up runs whose figures are known, a real sweep, and mistakes in one line."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from common import fabricate, finalist, tiny
from PIL import Image
from scipy.stats import kendalltau, spearmanr
from supernet.experiments.reports import report, sweep
from supernet.experiments.reports.figure import draw
from supernet.experiments.reports.report import sections
from supernet.experiments.reports.runs import read_run

from supernet.runtime.errors import InputError


@pytest.fixture
def command(monkeypatch, tmp_path, capfd):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["supernet-report", *map(str, arguments)])
        code = 0
        try:
            report.main()
        except SystemExit as stop:
            code = stop.code
        return code, "".join(capfd.readouterr())

    return run


@pytest.fixture
def made(tmp_path) -> Path:
    """Two methods of three seeds; each run trained its seed's random cell, too."""
    scores = {
        "darts": [(0.90, 0.80, 85.0), (0.95, 0.82, 86.0), (0.92, 0.90, 90.0)],
        "gdas": [(0.97, 0.93, 94.0), (0.96, 0.94, 95.0), (0.98, 0.92, 93.0)],
    }
    for method, runs in scores.items():
        for seed, (valid, test, truth) in enumerate(runs):
            found = finalist("searched", f"{method}{seed}", valid, test, truth=truth)
            chance = finalist("random 0", f"random{seed}", 0.5 + 0.1 * seed, 0.4, truth=70.0 + seed)
            fabricate(tmp_path / "runs" / method / str(seed), method, seed, found, chance)
    (tmp_path / "runs" / "stopped" / ".hydra").mkdir(parents=True)
    return tmp_path / "runs"


def cells_of(text: str, label: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return [line for line in lines if line[0] == label]


def test_names_from_runs_are_text_in_every_file(command, tmp_path):
    hostile = ["=1+1|`</td><script>alert(1)</script>", "method=$\\frac{$", "a\x1b[31m\nb", "[x](http://y)"]
    for seed, word in enumerate(hostile):
        found = finalist("searched", f"g{seed}", 0.9, 0.8)
        changes = {"overrides": [word], "data": word, "settings": word}
        fabricate(tmp_path / "runs" / str(seed), "=cmd", seed, found, **changes)
    code, printed = command("runs", "--output", "out")
    assert code == 0, printed
    text = (tmp_path / "out" / "report.md").read_text()
    assert not any(mark in text for mark in ("<script>", "\x1b", "](http"))
    assert "\x1b" not in printed
    rows = list(csv.reader((tmp_path / "out" / "report.csv").open()))
    assert len({len(row) for row in rows}) == 1
    assert not any(field.startswith(("=", "@")) for row in rows for field in row)


def test_groups_are_compared_best_first(command, made, tmp_path):
    code, printed = command(made, "--output", "out")
    assert code == 0, printed
    text = (tmp_path / "out" / "report.md").read_text()
    assert text in printed
    assert "6 finished runs; 1 unfinished left out." in text
    assert "All runs: `space=micro`" in text
    trained, known = cells_of(text, "method=darts")[:2]
    mean, spread = np.mean([0.80, 0.82, 0.90]), np.std([0.80, 0.82, 0.90], ddof=1)
    assert trained[:3] == ["method=darts", "3", "1,000"]
    assert trained[4] == f"{mean:.4f} ± {spread:.4f}"
    assert trained[5:] == ["0.9500 (seed 1)", "0.8200", "3.00"]  # by validation, although seed 2 tests better
    assert known[4:] == ["87.00 ± 2.65", "8.00 ± 2.65", "3.00"]
    (chance, chance_known) = cells_of(text, "random cells")
    assert chance[1] == "3", "a random cell is the same beside every method"
    assert chance[-1] == "1.50"
    assert chance_known[4:6] == ["71.00 ± 1.00", "24.00 ± 1.00"]
    order = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith(("| method", "| random"))]
    assert order[:3] == ["method=gdas", "method=darts", "random cells"]
    (thought,) = [line for line in cells_of(text, "all") if line[1] == "supernet's validation, table's truth"]
    pairs = [0, 0.1, 0.2, 0, 0.1, 0.2], [85, 86, 90, 94, 95, 93]
    assert thought[2:] == ["6", f"{kendalltau(*pairs)[0]:+.2f}", f"{spearmanr(*pairs)[0]:+.2f}"]
    assert "it is not known" in text

    rows = {row["cells"]: row for row in csv.DictReader((tmp_path / "out" / "report.csv").open())}
    assert float(rows["method=darts"]["test_std"]) == pytest.approx(spread)
    assert float(rows["random cells"]["truth_regret"]) == pytest.approx(24)
    assert {row["score"] for row in rows.values()} == {"accuracy"}
    assert rows["method=gdas"]["best_run"] == str(made / "gdas" / "2")
    picture = np.asarray(Image.open(tmp_path / "out" / "report.png").convert("RGB"))
    assert (picture == (0xD5, 0x5E, 0x00)).all(-1).any(), "the means"


def test_the_same_run_counts_once_and_other_spaces_have_their_own_section(command, made, tmp_path):
    other = finalist("searched", "x", 0.7, 0.6)
    fabricate(tmp_path / "runs" / "z", "darts", 0, other, space="nasbench201", settings="s-other", training="u")
    code, printed = command(made, made / "gdas", made / "gdas" / "0", made / "gdas" / "0" / "summary.json")
    assert code == 0
    assert "7 finished runs" in printed
    assert [line for line in printed.splitlines() if line.startswith("## ")] == [
        "## digits, micro",
        "## digits, nasbench201",
    ]


def test_one_cell_trained_with_several_seeds_says_how_large_the_noise_is(command, tmp_path):
    for seed, test in enumerate((0.90, 0.92, 0.97)):
        run = finalist("searched", "same", 0.9, test)
        given = {"settings": "g", "search_seconds": None, "search_valid_score": None}
        fabricate(tmp_path / "runs" / str(seed), "", seed, run, **given)
    code, printed = command("runs")
    assert code == 0
    deviation = np.std([0.90, 0.92, 0.97], ddof=1)
    assert "1 cell trained with several seeds (3 trainings)" in printed
    assert f"{deviation:.4f} of test accuracy" in printed
    assert f"{2 * deviation:.4f} (test) say nothing" in printed


def test_settings_that_words_do_not_tell_apart_stay_apart(command, tmp_path):
    for settings in ("one", "two"):
        fabricate(tmp_path / "runs" / settings, "darts", 0, finalist("searched", "g", 0.5, 0.5), settings=settings)
    _, printed = command("runs")
    assert cells_of(printed, "darts")
    assert cells_of(printed, "darts [two]")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no finished run in it (a finished one has a summary.json)"),
        ("{", "not a readable summary (JSONDecodeError); leave this run out"),
        ("[]", "not a readable summary"),
        ("\udcff", "not a readable summary (UnicodeDecodeError)"),
        ('{"seed": 0, "finalists": []}', "summary of version None, this is 2; run it again or leave it out"),
        ('{"version": 3}', "summary of version 3, this is 2"),
        ('{"version": 1, "finalists": [{"name": "searched"}]}', "a summary without 'overrides'"),
    ],
)
def test_mistakes_are_one_line(command, tmp_path, content, says):
    (tmp_path / "runs").mkdir()
    if content is not None:
        (tmp_path / "runs" / "summary.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    code, printed = command("runs")
    assert (code, printed.count("\n")) == (2, 1), printed
    assert printed.startswith("supernet-report: runs")
    assert says in printed


def test_a_missing_folder_and_an_output_that_is_a_file(command, made, tmp_path):
    assert command("absent") == (
        2,
        "supernet-report: absent: no such folder; give runs, sweeps or folders of them\n",
    )
    (tmp_path / "file").write_text("")
    code, printed = command(made, "--output", "file")
    assert (code, printed.count("\n")) == (2, 1)
    assert "--output file: cannot be written to" in printed


def figures(cell: str) -> list[float]:
    return [float(number) for number in cell.split(" ± ")]


@pytest.mark.slow
def test_a_real_sweep(supernet, command, images, tmp_path):
    """The table at the end of a sweep and the report agree with the runs' own summaries."""
    words = tiny(images, "space=micro", "method=darts,gdas", "seed=range(2)")
    code, printed = supernet("-m", *words, "hydra.sweep.dir=runs/sweep")
    assert code == 0, printed
    summaries = [json.loads(path.read_text()) for path in (tmp_path / "runs" / "sweep").glob("*/summary.json")]
    found = [s["finalists"][0] for s in summaries if s["method"] == "gdas"]
    truths = [f["table"]["digits_test"] for f in found]
    tests = [f["test_score"] for f in found]
    (line,) = [c for c in cells_of(printed, "method=gdas") if c[1:3] == ["searched", "2"]]
    assert figures(line[4]) == pytest.approx([np.mean(tests), np.std(tests, ddof=1)], abs=1e-4)
    assert figures(line[6]) == pytest.approx([np.mean(truths), np.std(truths, ddof=1)], abs=0.01)
    assert cells_of(printed, "random cells")[0][2] == "2"
    rows = list(csv.DictReader((tmp_path / "runs" / "sweep" / "sweep.csv").open()))
    assert len(rows) == 4 * 2
    logged = [float(r["digits_test"]) for r in rows if r["network"] == "searched" and "gdas" in r["settings"]]
    assert sorted(logged) == sorted(truths)

    code, printed = command("runs")
    assert code == 0, printed
    assert "4 finished runs." in printed
    assert "## toy, micro" in printed
    trained, known = [c for c in cells_of(printed, "method=gdas") if c[1] == "2"]
    assert figures(trained[4]) == figures(line[4])
    assert figures(known[6]) == figures(line[6])
    regrets = [s["table_regret"]["digits_test"] for s in summaries if s["method"] == "gdas"]
    assert figures(known[7])[0] == pytest.approx(np.mean(regrets), abs=0.01)
    assert [c[2] for c in cells_of(printed, "all") if c[1] == "supernet's validation, table's digits_test"] == ["4"]


@pytest.mark.parametrize("name", ["absent", "x" * 300])
def test_a_place_that_is_not_there(name):
    with pytest.raises(InputError, match="no such folder"):
        report.find_runs([Path(name)])


def test_random_cells_of_two_trainings_are_told_apart(command, tmp_path):
    for method, recipe in (("darts", "a"), ("gdas", "a"), ("darts", "b")):
        words = ["space=micro", f"method={method}", f"retrain={recipe}"]
        given = {"overrides": words, "settings": method + recipe, "training": recipe}
        cells = finalist("searched", method, 0.5, 0.5), finalist("random 0", "r", 0.4, 0.4)
        fabricate(tmp_path / "runs" / f"{method}{recipe}", method, 0, *cells, **given)
    _, printed = command("runs")
    assert len(cells_of(printed, "random cells, retrain=a")) == 1
    assert len(cells_of(printed, "random cells, method=darts retrain=b")) == 1


def test_summaries_of_version_1_are_read_whose_only_score_was_accuracy(tmp_path):
    path = fabricate(tmp_path / "run", "darts", 1, finalist("searched", "g", 0.9, 0.8))
    written = json.loads((path / "summary.json").read_text())
    old = {name.replace("_score", "_accuracy"): value for name, value in written.items() if name != "score"}
    finalists = [{n.replace("_score", "_accuracy"): v for n, v in each.items()} for each in written["finalists"]]
    (path / "summary.json").write_text(json.dumps({**old, "version": 1, "finalists": finalists}))
    (read,) = read_run(path / "summary.json")
    assert (read.score, read.valid, read.test, read.search_valid) == ("accuracy", 0.9, 0.8, 0.1)


def of_scores(folder):
    """A run that was judged by accuracy, and better numbers of runs that were judged by something else."""
    for number, (score, valid) in enumerate((("accuracy", 0.7), ("auroc", 0.9), ("accuracy", 0.8))):
        words = ["space=micro", f"task.score={score}", f"retrain.epochs={number}"]
        given = {"overrides": words, "settings": f"s{number}", "training": "t", "score": score}
        fabricate(folder / str(number), "darts", 0, finalist("searched", f"g{number}", valid, valid), **given)
    return [network for number in range(3) for network in read_run(folder / str(number) / "summary.json")]


def test_a_sweep_names_scores_and_ranks_within_each(tmp_path):
    networks = of_scores(tmp_path)
    runs, groups = sweep.markdown(networks, tmp_path).strip().split("\n\n")[-2:]
    assert [line.split(" | ")[5] for line in runs.splitlines()] == ["score", "---", "accuracy", "auroc", "accuracy"]
    told = [line.strip("| ").split(" | ")[3:5] for line in groups.splitlines()[2:]]
    assert told == [["accuracy", "0.8000 ± n/a"], ["accuracy", "0.7000 ± n/a"], ["auroc", "0.9000 ± n/a"]]
    assert "score |" not in sweep.markdown([n for n in networks if n.score == "accuracy"], tmp_path)


def test_a_picture_has_shares_in_percent_and_other_scores_as_they_are(tmp_path):
    made = sections(of_scores(tmp_path))
    drawn = draw([(section.title, section.groups) for section in made])
    assert [axes.get_xlabel() for axes in drawn.axes] == ["test accuracy in percent", "test auroc"]
    assert [max(axes.lines[0].get_xdata()) for axes in drawn.axes] == [80.0, 0.9]
    assert drawn.axes[1].get_xlim()[1] <= 1.01


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("change", [{"score": "s" * 5000}, {"data": "d" * 5000}, {"overrides": ["w" * 5000]}])
def test_names_of_any_length_leave_room_for_the_plot(change, tmp_path):
    fabricate(tmp_path / "run", "darts", 0, finalist("searched", "g", 0.9, 0.8), **change)
    fabricate(tmp_path / "other", "gdas", 0, finalist("searched", "g", 0.9, 0.8), **{"score": "s", **change})
    networks = [network for name in ("run", "other") for network in read_run(tmp_path / name / "summary.json")]
    drawn = draw([(section.title, section.groups) for section in sections(networks)])
    drawn.savefig(tmp_path / "report.png")
    assert all(axes.get_position().width > 0.3 for axes in drawn.axes)
