"""supernet-explore: what it writes of a run and of a table, that it goes on, and that mistakes are one line."""

import csv
import os
import re
import shutil
import signal
import sys

import pytest
import torch
import yaml
from common import slow_but, typed_words
from supernet.experiments import pipeline
from supernet.experiments.commands.explore import main
from supernet.experiments.exploration.picks_file import PicksFile
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from supernet.estimation.benchmark_tables import micro, micro_mobile
from supernet.estimation.latency.table import Head, LatencyTable
from supernet.estimation.latency.table import Row as LatencyRow
from supernet.estimation.latency.timing import Latency
from supernet.estimation.space_costs import CostScore, SpaceCosts
from supernet.estimation.supernet_accuracy import RecalibratedScore, SupernetScore
from supernet.estimation.zero_cost.score import ZeroCostScore
from supernet.runtime.report import RunReport
from supernet.space import spaces
from supernet.space.nasbench201 import from_string
from supernet.space.texts import from_text

QUICK = ["experiment=micro", "retrain=none", "search.epochs=1", "search.warm_up=0", "search.least_steps=0"]
QUICK += ["baseline.random=0", "runtime.threads=1", "monitor=off", "search.batch_size=128"]
SMALL = ["sample=0", "budget.evaluations=3"]


def searched(folder, *words):
    """A finished run of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        patch.setattr(RunReport, "figure", lambda *_: None)
        patch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)
        patch.setattr(sys, "argv", ["supernet", *QUICK, *words, f"hydra.run.dir={folder}"])
        pipeline.main()
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return searched(tmp_path_factory.mktemp("runs") / "run", "method=darts")


@pytest.fixture(scope="module")
def uniform(tmp_path_factory):
    words = ["method=random_search", "strategy.candidates=2", "strategy.finalists=1", "table=none"]
    return searched(tmp_path_factory.mktemp("runs") / "uniform", *words)


@pytest.fixture
def explore(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    return lambda *words: typed_words(main, "supernet-explore", monkeypatch, capsys, *words)


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def picks_of(folder):
    """All that has to be the same again: seconds are not."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(folder / "picks.csv")]


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_finished_run_is_explored_and_stays_as_it_was(explore, finished, tmp_path):
    before, out = files_of(finished), tmp_path / "out"
    words = ["explorer=spos,local", "score=supernet,recalibrated", "discretiser=argmax,limit_skips"]
    code, said, err = explore(finished, *words, "budget.evaluations=6", "sample=60", f"output={out}")
    assert code == 0, err
    assert files_of(finished) == before
    rows = rows_of(out / "explore.csv")
    asked = [(row["picked_by"], row["score"]) for row in rows]
    every = [(e, s) for e in ("random", "spos", "local") for s in ("supernet", "recalibrated")]
    single = ["the run's own answer", "discretiser argmax", "discretiser limit_skips"]
    assert sorted(asked) == sorted([*every, ("random", "parameters"), *((name, "") for name in single)])
    table, count = micro(["digits_test"]), CostScore(spaces.micro(), (1, 8, 8), 10)
    for row in rows:
        cell = from_string(row["pick"])
        truth = table(cell).values["digits_test"]
        assert float(row["truth_digits_test"]) == truth
        assert float(row["regret"]) == pytest.approx(max(known for (known,) in table.rows.values()) - truth)
        worse = sum(values[0] < truth for values in table.rows.values())
        assert float(row["better_than_percent"]) == pytest.approx(worse / 1.25)
        assert {"parameters": float(row["parameters"]), "macs": float(row["macs"])} == count(cell).values
    tried = rows_of(next((out / "evaluations").glob("spos_supernet_*.csv")))
    chosen = next(row for row in rows if (row["picked_by"], row["score"]) == ("spos", "supernet"))
    assert len(tried) == 6
    assert max(float(row["accuracy"]) for row in tried) == float(chosen["its_score"])
    assert all(table.rows.values())
    assert tried[0]["truth/digits_test"]
    events = EventAccumulator(str(next((out / "tb").glob("spos_supernet_*"))))
    events.Reload()
    assert [e.value for e in events.Scalars("explore/accuracy")] == pytest.approx([float(r["accuracy"]) for r in tried])
    text = (out / "explore.md").read_text()
    assert text.rstrip() in said
    assert "a random architecture (60 drawn)" in text
    assert "| macs | 60 | +" in text
    assert "| recalibrated | 60 | " in text
    assert (out / "explore.png").read_bytes()[:4] == b"\x89PNG"


def test_what_is_finished_is_not_run_again(explore, finished, tmp_path, monkeypatch):
    words = [finished, "explorer=spos", *SMALL, f"output={tmp_path / 'out'}"]
    assert explore(*words)[0] == 0
    before = picks_of(tmp_path / "out")

    def never(*_):
        raise AssertionError("is judged again")

    monkeypatch.setattr(SupernetScore, "__call__", never)
    code, _out, err = explore(*words)
    assert code == 0, err
    assert picks_of(tmp_path / "out") == before
    code, _out, err = explore(*words, "explorer.probability=0.2")  # another setting is another exploration
    assert code == 2
    assert "failed, the last one with AssertionError: is judged again" in err


@pytest.mark.parametrize("after", slow_but([1, 8], [0, 1, 4, 8]))
def test_a_stopped_exploration_goes_on_bitwise(explore, finished, tmp_path, monkeypatch, after):
    words = [finished, "explorer=aging", "explorer.population=2", "budget.evaluations=5", "sample=0"]
    assert explore(*words, f"output={tmp_path / 'whole'}")[0] == 0
    own, calls = SupernetScore.__call__, []

    def killed(self, architecture):
        calls.append(architecture)
        if len(calls) == after + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return own(self, architecture)

    with monkeypatch.context() as patch:
        patch.setattr(SupernetScore, "__call__", killed)
        code, _, err = explore(*words, f"output={tmp_path / 'parts'}")
    assert code == 143
    assert err.startswith("supernet-explore: stopped by SIGTERM; all is saved. Go on with: supernet-explore ")
    assert err.count("\n") == 1
    code, _, err = explore(*words, f"output={tmp_path / 'parts'}")
    assert code == 0, err
    assert picks_of(tmp_path / "parts") == picks_of(tmp_path / "whole")
    for path in (tmp_path / "whole" / "evaluations").iterdir():
        assert path.read_text() == (tmp_path / "parts" / "evaluations" / path.name).read_text()


def test_proxies_share_passes_over_the_sample(explore, uniform, tmp_path, monkeypatch):
    asked, own = [], ZeroCostScore.__call__
    monkeypatch.setattr(ZeroCostScore, "__call__", lambda self, a: asked.append(self.proxies) or own(self, a))
    code, _, err = explore(uniform, "score=naswot,synflow", "sample=4", "budget.evaluations=2", "output=out")
    assert code == 0, err
    assert asked == [("naswot",)] * 2 + [("synflow",)] * 2 + [("naswot", "synflow")] * 4


def test_several_objectives_and_a_limit(explore, uniform, tmp_path):
    words = ["explorer=nsga2", "explorer.population=4", "objectives=[-parameters,accuracy]", "limits.parameters=900"]
    code, _, err = explore(uniform, *words, "budget.evaluations=12", "sample=0", "output=out")
    assert code == 0, err
    tried = rows_of(next((tmp_path / "out" / "evaluations").glob("nsga2_*.csv")))
    sizes = [float(row["parameters"]) for row in tried]
    assert max(sizes) <= 900
    row = next(row for row in rows_of(tmp_path / "out" / "explore.csv") if row["picked_by"] == "nsga2")
    assert float(row["its_score"]) == min(sizes) == float(row["parameters"])
    assert row["truth"] == ""


def test_a_table_of_its_own_gives_the_truth_to_a_run_without_one(explore, uniform, tmp_path):
    code, _, err = explore(uniform, *SMALL, "table=micro", "truth=digits_valid", "output=out")
    assert code == 0, err
    assert all(row["truth_digits_valid"] for row in rows_of(tmp_path / "out" / "explore.csv"))


def test_the_last_of_several_stages_is_explored(explore, tmp_path):
    run = searched(
        tmp_path / "staged", "method=darts", "search.epochs=2", "stages=[{length: 0.5, keep: 2}, {length: 0.5}]"
    )
    code, _, err = explore(run, "sample=0", "budget.evaluations=50")
    assert code == 0, err
    row = next(r for r in rows_of(run / "explore" / "explore.csv") if r["score"] == "supernet")
    assert int(row["evaluations"]) <= 8, "two operations are left on each of three edges"
    assert row["ended"].startswith("nothing new is left")


# The tabular benchmark

BENCHMARK = ["space=micro", "explorer=aging,local", "score=table", "budget.evaluations=12", "sample=40"]


def test_the_tabular_benchmark_of_many_seeds(explore, tmp_path):
    code, said, err = explore(*BENCHMARK, "seed=range(6)", "explorer.population=4")
    assert code == 0, err
    rows = rows_of(tmp_path / "explore" / "explore.csv")
    assert len(rows) == 4 * 6
    table = micro(["digits_test", "digits_valid"])
    for row in rows[:12]:
        values = table(from_string(row["pick"])).values
        assert float(row["truth_digits_test"]) == values["digits_test"]
    random = [float(r["truth_digits_test"]) for r in rows if (r["picked_by"], r["score"]) == ("random", "table")]
    mean = sum(random) / 6
    deviation = (sum((v - mean) ** 2 for v in random) / 5) ** 0.5
    assert f"{mean:.2f} ± {deviation:.2f} | {deviation / 6**0.5:.3f}" in said
    assert sorted(path.name for path in (tmp_path / "explore").iterdir()) == [
        ".lock",
        "explore.csv",
        "explore.md",
        "explore.png",
        "picks.csv",
    ]


def test_the_tabular_benchmark_of_a_mobile_space(explore, tmp_path):
    words = ["space=micro_mobile", "explorer=aging", "explorer.population=4", "score=table", "budget.evaluations=12"]
    code, _said, err = explore(*words, "sample=20", "seed=0,1")
    assert code == 0, err
    table = micro_mobile(["digits_test", "digits_valid"])
    rows = rows_of(tmp_path / "explore" / "explore.csv")
    for row in (row for row in rows if row["score"] == "table"):
        values = table(from_text(row["pick"], "mobile")).values
        assert (float(row["truth_digits_test"]), float(row["its_score"])) == tuple(values.values())


def test_limits_of_a_space_alone_count_the_images_that_are_said(explore, tmp_path):
    """Multiply-adds as the digits' own table has them, for images of 1 x 8 x 8."""
    words = ["space=micro_mobile", "score=table", "resolution=8", "channels=1", "limits.macs=20000", "sample=0"]
    code, _, err = explore(*words, "budget.evaluations=40", "seed=0,1")
    assert code == 0, err
    table = micro_mobile(["macs"])
    picks = [row["pick"] for row in rows_of(tmp_path / "explore" / "explore.csv") if row["picked_by"] == "random"]
    counted = [table(from_text(pick, "mobile")).values["macs"] for pick in picks]
    assert len(counted) >= 2
    assert max(counted) <= 20000
    code, _, err = explore(*words[:2], "limits.macs=20000", "sample=0", "output=large")
    assert (code, err.count("\n")) == (2, 1)
    assert "limits.macs=20,000: no architecture keeps it" in err
    for word in ("resolution=0", "channels=x", "classes=true"):
        code, _, err = explore(*words[:2], word, "output=none")
        assert (code, err.count("\n")) == (2, 1)
        assert f"{word.partition('=')[0]}=" in err


def test_a_stopped_benchmark_goes_on(explore, tmp_path, monkeypatch):
    words = [*BENCHMARK, "seed=0,1,2", "explorer.population=4"]
    assert explore(*words, "output=whole")[0] == 0
    own, done = PicksFile.add, []

    def killed(self, pick):
        own(self, pick)
        done.append(pick)
        if len(done) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(PicksFile, "add", killed)
        code, _, err = explore(*words, "output=parts")
    assert (code, len(done)) == (130, 5), err
    path = tmp_path / "parts" / "picks.csv"
    path.write_text(path.read_text()[:-7])  # as if the machine had failed while the last row was written
    assert explore(*words, "output=parts")[0] == 0
    assert picks_of(tmp_path / "parts") == picks_of(tmp_path / "whole")


def test_simulated_seconds_are_charged(explore, tmp_path):
    code, _, err = explore(
        "space=micro", "score=table", "score.seconds=cifar10", "budget.simulated_seconds=600", "sample=0"
    )
    assert code == 0, err
    row = rows_of(tmp_path / "explore" / "explore.csv")[0]
    assert 600 <= float(row["simulated_seconds"]) < 750
    assert rows_of(tmp_path / "explore" / "explore.csv")[-1]["evaluations"] == row["evaluations"]


# Mistakes

MISTAKES = [
    (["explorer=spoz"], "explorer=spoz: no such option; did you mean spos"),
    (["score=supernet,parametres"], "score=parametres: no such option; did you mean parameters"),
    (["discretiser=argmin"], "discretiser=argmin: no such option; did you mean argmax"),
    (["budget.evaluations=0"], "budget.evaluations=0: needs a number above 0"),
    (["budget.evaluations=many"], "budget.evaluations=many: needs a whole number"),
    (["budget.evaluation=5"], "budget.evaluation"),
    (["explorer=spos", "explorer.populations=5"], "explorer.populations=5: explorer=spos has no populations; did you"),
    (["explorer=spos", "explorer.population=0"], "explorer.spos.population=0: needs 1 or more"),
    (["score.batches=0"], "score.supernet.batches=0: needs 1 or more"),
    (["sample=-1"], "sample=-1: needs a whole number"),
    (["seed=x"], "seed=x: needs whole numbers"),
    (["seed=1,1"], "seed=1,1: needs 1 to 100,000 different seeds"),
    (["limits.parameters=10"], "limits.parameters=10: no architecture keeps it; the cheapest has"),
    (
        ["limits.latency=3"],
        "limits.latency=3: needs a table of measured times, costs.latency=FILE; supernet-latency makes one",
    ),
    (["+limits.watts=3"], "limits.watts: no cost has this name; known: bytes, macs, memory, parameters"),
    (["limits.parameters=-1"], "limits.parameters=-1: needs a number above 0"),
    (["objectives=[speed]"], "objectives=speed: the score gives accuracy"),
    (["bugdet.evaluations=3"], "bugdet"),
    (["space=micro"], "space=...: the run has its own"),
    (["resolution=8"], "resolution=...: the run has its own"),
    (
        ["limits.foo=3"],
        "limits.foo=3: no such setting; known: limits.latency, limits.macs, limits.parameters, limits.m",
    ),
    (["limits=5"], "limits=5: has settings with names, and no value of its own; give one of those, such as limits.lat"),
    (["limits=null"], "limits=null: has settings with names"),
    (["costs.foo=x"], "costs.foo=x: no such setting; known: costs.latency; +costs.foo=... is for a cost of your own"),
    (["budget=5"], "budget=5: has settings with names"),
    (["budget.foo=5"], "budget.foo=5: no such setting; known: budget.evaluations"),
    (["objectives=accuracy"], "objectives=accuracy: needs a list, such as objectives=[accuracy,-parameters]"),
    (["--explorer=spos"], "--explorer=spos: no such flag"),
    (["score=table"], "score=table: needs a table, such as table=micro"),
    (["discretiser=argmax"], "discretiser=argmax: this run's strategy ranks no operations"),
    (["score=training"], "score=training: this run has no recipe of a training (retrain=none)"),
    (["score=zico", "score.batch_size=1"], "needs"),
    (["budget.simulated_seconds=5"], "simulated_seconds=5"),
    (["truth=accuracy", "table=micro"], "truth=accuracy: no column of the table that is read"),
    (["other"], "other: one run at a time"),
]


@pytest.mark.parametrize(("words", "says"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_mistakes_are_one_line(explore, uniform, words, says):
    code, _out, err = explore(uniform, *words, *(["sample=0"] if "sample=-1" not in words else []), "output=out")
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert err.startswith("supernet-explore: ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "usage"),
        (["score=supernet", "space=micro"], "score=supernet: needs a finished run with its checkpoint"),
        (["score=naswot", "space=micro"], "score=naswot: needs a finished run"),
        (["score=table"], "space=...: without a run a space is needed"),
        (["space=nasbench201", "table=micro", "budget.evaluations=3"], "micro: has no cell"),
        (["space=micro", "table=micro_mobile", "budget.evaluations=3"], "only cells of 'mobile' are in the table"),
        (["space=micro", "score.column=accuracy"], "has no column 'accuracy'"),
        (["space=micro", "score.seconds=svhn"], "data=svhn: known: cifar10"),
        (["space=micro", "discretiser=argmax"], "discretiser=argmax: needs a run"),
        (["space=micro", "output=picks"], "output=picks: is no folder"),
        (["nowhere"], "nowhere: no such folder"),
        (["space=micro", "runtime.threads=1"], "runtime.threads=1: is for the run that is explored"),
        (["space=micro", "spce=2"], "spce=2: no such setting; did you mean space"),
    ],
)
def test_mistakes_without_a_run(explore, tmp_path, words, says):
    (tmp_path / "picks").write_text("")
    code, out, err = explore(*words)
    if not words:
        assert code == 0
        assert "supernet-explore RUN" in out
        assert "explorer: aging, " in out
        return
    assert code == 2
    assert says in err
    assert err.count("\n") == 1


def save_times(path, drift=0.0):
    """A table of this machine, of milliseconds that nobody has measured."""
    costs = SpaceCosts(spaces.micro(), (1, 8, 8), 10)
    rows = {key: LatencyRow(Latency(len(key) / 10, 0.0, 0.0, 0.0, 10)) for key in costs.recorded.variants}
    LatencyTable("mine", rows, Head(measurement={"drift": drift})).save(path)


def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def test_a_run_that_is_not_finished_or_lacks_its_checkpoint(explore, uniform, tmp_path):
    run = copied(uniform, tmp_path)
    (run / "checkpoints" / "search.pt").unlink()
    code, _, err = explore(run, *SMALL)
    assert code == 2
    assert "search.pt: no such file" in err
    assert err.count("\n") == 1
    (run / "summary.json").unlink()
    code, _, err = explore(run, *SMALL)
    assert code == 2
    assert "is not finished; supernet resume=" in err
    assert not (run / "explore").exists()


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    """A run under a limit on milliseconds, whose table is gone."""
    folder = tmp_path_factory.mktemp("runs")
    save_times(folder / "latency.csv")
    words = ["method=random_search", "strategy.candidates=2", "strategy.finalists=1", "table=none"]
    run = searched(folder / "timed", *words, "limits.latency=50", "costs.latency=latency.csv")
    (folder / "latency.csv").unlink()
    return run


def test_a_table_that_is_gone_is_replaced(explore, timed, tmp_path):
    code, _, err = explore(timed, *SMALL, "output=out")
    assert code == 2
    assert re.fullmatch(
        r"supernet-explore: costs\.latency=.*latency\.csv: no such file; costs\.latency=FILE gives another one\n", err
    )
    save_times(tmp_path / "new.csv", drift=0.3)
    code, _, err = explore(timed, *SMALL, "output=out", "costs.latency=new.csv")
    assert code == 0, err
    assert err == "supernet-explore: latency=new.csv: was measured while the machine's speed drifted by 30 %\n"


def test_a_table_that_nothing_needs_is_not_read(explore, finished, tmp_path):
    run = copied(finished, tmp_path)
    path = run / ".hydra" / "overrides.yaml"
    path.write_text(yaml.safe_dump([*yaml.safe_load(path.read_text()), "costs.latency=nowhere.csv"]))
    code, _, err = explore(run, *SMALL, "output=out")
    assert (code, err) == (0, "")
    for words in (["objectives=[accuracy,-latency]", "explorer=nsga2"], ["limits.latency=3"]):
        code, _, err = explore(run, *SMALL, *words, "output=out")
        assert (code, err.count("\n")) == (2, 1)
        assert "nowhere.csv: no such file; costs.latency=FILE gives another one" in err


def test_a_folder_that_cannot_be_made_is_one_line(explore, uniform, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = explore(uniform, *SMALL, "output=file/out")
    assert (code, err) == (2, "supernet-explore: file/out: cannot be used (Not a directory)\n")


def test_a_run_that_searched_nothing(explore, tmp_path):
    run = searched(
        tmp_path / "given", "genotype='|none~0|+|none~0|nor_conv_3x3~1|'", "retrain=micro", "retrain.epochs=1"
    )
    code, _, err = explore(run, *SMALL)
    assert code == 2
    assert "searched nothing" in err


@pytest.mark.parametrize(
    "word",
    [
        "space._target_=os.getcwd",
        "+space.x={_target_: os.getcwd}",
        "name=${oc.env:HOME}",
        "hydra.run.dir=/tmp/x",
        "space=../x",
    ],
)
def test_settings_from_a_stranger_run_no_code(explore, uniform, tmp_path, word):
    run = copied(uniform, tmp_path)
    path = run / ".hydra" / "overrides.yaml"
    path.write_text(yaml.safe_dump([*yaml.safe_load(path.read_text()), word]))
    code, _, err = explore(run, *SMALL)
    assert code == 2
    assert "could run code" in err
    assert err.count("\n") == 1


def test_nothing_is_written_out_of_the_directory(explore, uniform, tmp_path):
    run, elsewhere = copied(uniform, tmp_path), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run / "explore").symlink_to(elsewhere)
    code, _, err = explore(run, *SMALL)
    assert code == 2
    assert "is a link to" in err
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("damage", ["[[9,9]]", "x", '"[[0],[0]]"', ""])
def test_a_damaged_record_of_picks_is_one_line(explore, uniform, tmp_path, damage):
    run = copied(uniform, tmp_path)
    assert explore(run, *SMALL)[0] == 0
    path = run / "explore" / "picks.csv"
    head, first, *rest = path.read_text().splitlines(keepends=True)
    fields = next(csv.reader([first]))
    path.write_text(head + ",".join([*fields[:-2], "ended", damage]) + "\n" + "".join(rest))
    code, _, err = explore(run, *SMALL)
    assert code == 2
    assert "picks.csv" in err
    assert err.count("\n") == 1


def test_changed_weights_are_another_exploration_of_the_checkpoint(explore, uniform, tmp_path):
    """Two runs of one setting and other weights do not share picks."""
    run = copied(uniform, tmp_path)
    assert explore(run, *SMALL, "output=out")[0] == 0
    before = {row["settings"] for row in rows_of(tmp_path / "out" / "picks.csv")}
    path = run / "checkpoints" / "search.pt"
    content = torch.load(path, weights_only=True)
    next(value for value in content["parts"]["supernet"].values() if value.dim() == 4).mul_(2.0)
    torch.save(content, path)
    assert explore(run, *SMALL, "output=out")[0] == 0
    assert before < {row["settings"] for row in rows_of(tmp_path / "out" / "picks.csv")}


def test_the_scores_are_those_of_the_library(explore, uniform, tmp_path, monkeypatch):
    seen = []
    for kind in (SupernetScore, RecalibratedScore):
        own = kind.__call__
        monkeypatch.setattr(kind, "__call__", lambda self, a, own=own: seen.append((self, own(self, a))) or seen[-1][1])
    words = ["score=supernet,recalibrated", "score.batch_size=50", "score.supernet.batches=1"]
    code, _, err = explore(uniform, *words, *SMALL, "output=out")
    assert code == 0, err
    settings = {(type(score).__name__, score.batch_size, score.batches) for score, _ in seen}
    assert settings == {("SupernetScore", 50, 1), ("RecalibratedScore", 50, 4)}
    assert {m.cost["images"] for score, m in seen if isinstance(score, SupernetScore)} == {50.0}
