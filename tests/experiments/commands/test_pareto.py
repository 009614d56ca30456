"""supernet-pareto: what it writes of a run, that it goes on, its one network, and that mistakes are one line."""

import csv
import hashlib
import json
import os
import shutil
import signal
import sys
from functools import partial

import pytest
import torch
from common import slow_but, typed_words
from supernet.experiments import pipeline
from supernet.experiments.commands.pareto import main
from supernet.experiments.latencies import Latencies, latencies_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import supernet
from supernet.estimation.latency.table import Head, LatencyTable, Row
from supernet.estimation.latency.timing import Latency, Stopwatch
from supernet.estimation.space_costs import SpaceCosts
from supernet.estimation.supernet_accuracy import SupernetScore
from supernet.runtime.report import RunReport
from supernet.search.black_box.pareto import hypervolume
from supernet.space.architecture import Architecture

QUICK = ["experiment=micro", "retrain=none", "search.epochs=1", "search.warm_up=0", "search.least_steps=0"]
QUICK += ["baseline.random=0", "runtime.threads=1", "monitor=off", "search.batch_size=128"]
QUICK += ["method=random_search", "strategy.candidates=2", "strategy.finalists=1", "table=none"]
SPACE, SHAPE = supernet.spaces.micro(), (1, 8, 8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        patch.setattr(RunReport, "figure", lambda *_: None)
        patch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)
        patch.setattr(sys, "argv", ["supernet", *QUICK, f"hydra.run.dir={folder}"])
        pipeline.main()
    return folder


@pytest.fixture
def pareto(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    hasty = partial(Stopwatch, runs=3, seconds=0.0, warm_up=0)
    monkeypatch.setattr("supernet.estimation.latency.measuring.Stopwatch", hasty)

    return lambda *words: typed_words(main, "supernet-pareto", monkeypatch, capsys, *words)


@pytest.fixture
def table(tmp_path):
    return save_times(tmp_path / "latency.csv")


def save_times(path, drift=0.0):
    """A table of milliseconds: the letters of each part's key, such as a machine has that reads slowly."""
    costs = SpaceCosts(SPACE, SHAPE, 10)
    rows = {key: Row(Latency(len(key) / 10, 0.0, 0.0, 0.0, 10)) for key in costs.recorded.variants}
    runtime = {"runtime": "torch", "threads": "1", "device": "cpu"}
    LatencyTable("mine", rows, Head(runtime=runtime, measurement={"drift": drift})).save(path)
    return path


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def front_of(folder):
    head, _, rest = (folder / "front.csv").read_text().partition("\n")
    return json.loads(head.removeprefix("# ")), list(csv.DictReader(rest.splitlines()))


def test_the_front_of_a_run_which_stays_as_it_was(pareto, finished, tmp_path):
    before, out = files_of(finished), tmp_path / "out"
    code, said, err = pareto(finished, "--evaluations", 40, "--output", out)
    assert code == 0, err
    assert files_of(finished) == before
    head, rows = front_of(out)
    points = [(float(row["accuracy"]), -float(row["macs"])) for row in rows]
    assert points == sorted(points, key=lambda p: (-p[1], p[0]))  # from the cheapest to the best
    assert head["hypervolume"] == hypervolume(points, (head["reference"]["accuracy"], -head["reference"]["macs"]))
    every = SpaceCosts(SPACE, SHAPE, 10)
    cells = [Architecture.from_json(row["architecture"]) for row in rows]
    for row, cell in zip(rows, cells, strict=True):
        for cost in ("macs", "parameters", "memory", "bytes"):
            assert float(row[cost]) == every.of(cost, cell)
    candidates = supernet.explore(SPACE, lambda c: supernet.Measured({"macs": every.of("macs", c)}), evaluations=500)
    assert head["reference"] == {"accuracy": 0.1, "macs": max(e.values["macs"] for e in candidates.evaluations)}
    assert f"{head['hypervolume']:.6g}" in said
    assert "above the reference point (accuracy 0.1, 115.3 k MACs)" in " ".join(said.split())
    assert (out / "front.svg").read_text().startswith("<?xml")
    events = EventAccumulator(str(out / "tb" / "front"), size_guidance={"images": 0})
    events.Reload()
    curve = [e.value for e in events.Scalars("pareto/hypervolume")]
    assert curve == sorted(curve)
    assert curve[-1] == pytest.approx(head["hypervolume"])
    assert len(events.Images("pareto/front")) == 1


def test_what_is_judged_is_not_judged_again_and_more_evaluations_go_on(pareto, finished, tmp_path, monkeypatch):
    own, calls = SupernetScore.__call__, []

    def counted(self, architecture):
        calls.append(architecture)
        return own(self, architecture)

    monkeypatch.setattr(SupernetScore, "__call__", counted)
    words = [finished, "--population", 5, "--output", tmp_path / "out"]
    assert pareto(*words, "--evaluations", 8)[0] == 0
    first = front_of(tmp_path / "out")
    assert pareto(*words, "--evaluations", 8, "--at-most", "5e4")[0] == 0
    assert len(calls) == 8
    assert front_of(tmp_path / "out") == first
    assert pareto(*words, "--evaluations", 12)[0] == 0
    assert len(calls) == len(set(calls)) == 12
    whole = tmp_path / "whole"
    assert pareto(finished, "--population", 5, "--output", whole, "--evaluations", 12)[0] == 0
    assert front_of(whole) == front_of(tmp_path / "out")


@pytest.mark.parametrize("after", slow_but([6], [0, 1, 6]))
def test_a_stopped_command_goes_on(pareto, finished, tmp_path, monkeypatch, after):
    words = [finished, "--evaluations", 8, "--population", 4]
    assert pareto(*words, "--output", tmp_path / "whole")[0] == 0
    own, calls = SupernetScore.__call__, []

    def killed(self, architecture):
        calls.append(architecture)
        if len(calls) == after + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return own(self, architecture)

    with monkeypatch.context() as patch:
        patch.setattr(SupernetScore, "__call__", killed)
        code, _, err = pareto(*words, "--output", tmp_path / "parts")
    assert code == 143
    assert "all is saved. Go on with: supernet-pareto" in err
    assert not (tmp_path / "parts" / "front.csv").exists()
    assert pareto(*words, "--output", tmp_path / "parts")[0] == 0
    assert front_of(tmp_path / "parts") == front_of(tmp_path / "whole")


def test_one_network_within_a_limit_with_its_weights(pareto, finished, tmp_path):
    code, _, err = pareto(finished, "--evaluations", 30, "--at-most", "5e4", "--weights", "--output", tmp_path / "out")
    folder = tmp_path / "out" / "at_most_50000"
    assert code == 0, err
    known = json.loads((folder / "network.json").read_text())
    cell = Architecture.load(folder / "genotype.json")
    assert known["costs"]["macs"] == SpaceCosts(SPACE, SHAPE, 10).of("macs", cell) <= 5e4
    _, rows = front_of(tmp_path / "out")
    within = [float(row["accuracy"]) for row in rows if float(row["macs"]) <= 5e4]
    assert known["accuracy by the supernet"] == max(within)
    model, data = supernet.load(folder), supernet.data.digits()
    assert supernet.judge(model, data).score == pytest.approx(known["test accuracy"])
    assert model.provenance["weights"] == "of the supernet, not trained on"


def test_no_weights_of_a_supernet_of_another_size(pareto, finished, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    monkeypatch.setattr("supernet.experiments.pareto.choosing._plain", lambda space: object())
    words = ["--evaluations", 10, "--at-most", "5e4", "--weights", "--output", tmp_path / "out"]
    code, _, err = pareto(run, *words)
    assert code == 2
    assert "--weights: the networks of this run's supernet are of another size" in err
    assert not (tmp_path / "out").exists()


def test_the_next_one_is_taken_where_a_measurement_breaks_the_limit(pareto, finished, tmp_path, table, monkeypatch):
    """By the clock each network takes a tenth longer than by the table."""
    costs, asked = SpaceCosts(SPACE, SHAPE, 10, made={"latency": latencies_of(table).cost}), []
    monkeypatch.setattr(Latencies, "why_not_measured", lambda self: "")
    monkeypatch.setattr(Latencies, "milliseconds", lambda *_: 1.1 * costs.of("latency", asked[-1]))
    own = SpaceCosts.network

    def network(self, architecture):
        asked.append(architecture)
        return own(self, architecture)

    words = [finished, "--evaluations", 200, "--latency", table, "--output", tmp_path / "out"]
    assert pareto(*words)[0] == 0
    head, rows = front_of(tmp_path / "out")
    assert set(head["reference"]) == {"accuracy", "latency"}
    for row in rows:
        assert float(row["latency"]) == costs.of("latency", Architecture.from_json(row["architecture"]))
    limit = float(rows[-1]["latency"])
    monkeypatch.setattr(SpaceCosts, "network", network)
    code, said, err = pareto(*words, "--at-most", limit)
    assert code == 0, err
    known = json.loads((tmp_path / "out" / f"at_most_{limit:g}" / "network.json").read_text())
    first, second = known["measured"]
    assert (first["kept"], second["kept"]) == (False, True)
    assert first["predicted"] <= limit < first["measured"]
    assert known["costs"]["latency"] == second["predicted"] <= limit / 1.1
    tried = list(csv.DictReader(next((tmp_path / "out" / "evaluations").glob("*.csv")).open()))
    fitting = [float(row["accuracy"]) for row in tried if float(row["latency"]) <= limit / 1.1]
    assert known["accuracy by the supernet"] == max(fitting)
    assert said.count("breaks the limit") == 1


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    """A finished run under a limit on milliseconds, whose table is gone."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(RunReport, "figure", lambda *_: None)
        patch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)
        save_times(folder / "latency.csv")
        words = ["limits.latency=50", "costs.latency=latency.csv", f"hydra.run.dir={folder / 'run'}"]
        patch.setattr(sys, "argv", ["supernet", *QUICK, *words])
        pipeline.main()
    (folder / "latency.csv").unlink()
    return folder / "run"


@pytest.mark.slow
def test_another_table_takes_the_place_of_one_that_is_gone(pareto, timed, table, tmp_path):
    code, _, err = pareto(timed, "--evaluations", 4, "--latency", table, "--output", tmp_path / "out")
    assert (code, err) == (0, "")
    assert set(front_of(tmp_path / "out")[0]["reference"]) == {"accuracy", "latency"}


def test_a_cost_without_milliseconds_needs_no_table(pareto, timed, tmp_path):
    code, _, err = pareto(timed, "--evaluations", 4, "--cost", "macs", "--output", tmp_path / "out")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("supernet-pareto: costs.latency=")
    assert "the run's limits.latency=50 is not kept; --latency FILE gives another one" in err
    assert "latency" not in front_of(tmp_path / "out")[1][0]
    for words in ([], ["--cost", "latency"]):
        code, _, err = pareto(timed, *words, "--output", tmp_path / "none")
        assert (code, err.count("\n")) == (2, 1)
        assert "latency.csv: no such file; --latency FILE gives another one, and --cost macs needs none" in err
    assert not (tmp_path / "none").exists()


def test_warnings_about_a_table_have_the_name_in_front(pareto, finished, tmp_path):
    save_times(tmp_path / "odd.csv", drift=0.3)
    code, _, err = pareto(finished, "--evaluations", 2, "--latency", "odd.csv", "--output", tmp_path / "out")
    assert code == 0
    assert err == "supernet-pareto: latency=odd.csv: was measured while the machine's speed drifted by 30 %\n"


def test_a_front_of_other_settings_is_not_replaced_silently(pareto, finished, table, tmp_path):
    out = tmp_path / "out"
    words = [finished, "--population", 4, "--latency", table, "--output", out, "--at-most", 1000]
    assert "is replaced" not in pareto(*words, "--evaluations", 6)[1]
    files = {name: (out / name).read_bytes() for name in ("front.csv", "front.svg", "at_most_1000/genotype.json")}
    digest = hashlib.sha256(table.read_bytes()).hexdigest()[:12]
    network = json.loads((out / "at_most_1000" / "network.json").read_text())
    for settings in (front_of(out)[0]["settings"], network["settings"]):
        assert settings["table"] == f"latency.csv, sha256 {digest}"
        assert (settings["seed"], settings["population"], settings["evaluations"]) == (0, 4, 6)
    assert "is replaced" not in pareto(*words, "--evaluations", 6)[1]
    assert {name: (out / name).read_bytes() for name in files} == files
    _, said, _ = pareto(*words, "--evaluations", 7)
    for name in ("front.csv", "at_most_1000/network.json"):
        assert f"{out / name} is replaced (evaluations 6, now 7); --output FOLDER keeps both" in said
    _, said, _ = pareto(*words, "--evaluations", 7, "--seed", 3)
    assert "(seed 0, now 3)" in said
    table.write_bytes(table.read_bytes().replace(b"mine", b"mine") + b"# another\n")
    assert (
        f"(table latency.csv, sha256 {digest}, now latency.csv, sha256 "
        in pareto(*words, "--seed", 3, "--evaluations", 7)[1]
    )
    (out / "front.csv").write_text("year,income\n")
    code, _, err = pareto(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "front.csv: is there already, and is no front that could be replaced; --output FOLDER" in err
    assert (out / "front.csv").read_text() == "year,income\n"


@pytest.mark.slow
def test_a_genotype_does_not_come_beside_the_model_of_another_network(pareto, finished, tmp_path):
    words = [finished, "--evaluations", 12, "--at-most", 60000, "--output", tmp_path / "out"]
    assert pareto(*words, "--weights")[0] == 0
    folder = tmp_path / "out" / "at_most_60000"
    assert pareto(*words)[0] == 0
    other = next(
        a
        for a in (supernet.random_cell(SPACE, 0, n) for n in range(9))
        if a != Architecture.load(folder / "genotype.json")
    )
    other.save(folder / "genotype.json")
    code, _, err = pareto(*words)
    assert (code, err.count("\n")) == (2, 1)
    assert "model.safetensors: is of another network than the one that is chosen now; --weights replaces it" in err
    assert pareto(*words, "--weights")[0] == 0


def test_a_limit_that_restricts_nothing_is_said(pareto, finished, table, tmp_path):
    words = [finished, "--evaluations", 4, "--output", tmp_path / "out"]
    said = pareto(*words, "--latency", table, "--at-most", 20000)[1]
    assert "--at-most 20,000, read as milliseconds, restricts nothing: the costliest network of the front has" in said
    assert "At most 20,000 ms" in said
    dearest = max(float(row["macs"]) for row in front_of(tmp_path / "out")[1])
    words += ["--cost", "macs", "--output", tmp_path / "macs"]
    assert "read as multiply-adds, restricts nothing" in pareto(*words, "--at-most", 1e9)[1]
    dearest = float(front_of(tmp_path / "macs")[1][-1]["macs"])
    assert "restricts nothing" not in pareto(*words, "--at-most", dearest)[1]


def test_a_table_from_elsewhere_is_not_measured(pareto, finished, tmp_path, monkeypatch):
    path, costs = tmp_path / "theirs.csv", SpaceCosts(SPACE, SHAPE, 10)
    path.write_text("key,milliseconds\n" + "".join(f'"{key}",0.5\n' for key in costs.recorded.variants))
    monkeypatch.setattr(Latencies, "milliseconds", lambda *_: 1 / 0)
    words = [finished, "--evaluations", 5, "--latency", path, "--at-most", 50, "--output", tmp_path / "out"]
    code, said, err = pareto(*words)
    assert code == 0, err
    assert "not measured, because" in said
    assert json.loads((tmp_path / "out" / "at_most_50" / "network.json").read_text())["measured"] == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--cost", "watts"], "--cost watts: no cost has this name; known: bytes, macs, memory, parameters"),
        (["--cost", "latency"], "--cost latency: needs --latency FILE"),
        (["--at-most", "1"], "--at-most 1: no architecture costs so little (macs); the cheapest has 4688"),
        (["--at-most", "-3"], "--at-most -3: needs a number above 0"),
        (["--at-most", "nan"], "--at-most nan: needs a number above 0"),
        (["--weights"], "--weights: of which network? --at-most X says it"),
        (["--evaluations", "0"], "--evaluations 0: needs 1 or more"),
        (["--population", "0"], "--population 0: needs 1 or more"),
        (["--seed", "-1"], "--seed -1: needs to lie"),
        (["--latency", "nowhere.csv"], "--latency nowhere.csv: no such file"),
        (["another"], "another: one run at a time"),
        (["--at-most", "abc"], "--at-most: invalid float value: 'abc'; see --help"),
        (["--output", "file/out"], "--output file/out: cannot be made (Not a directory); give another folder"),
        (["search.epochs=3"], "leave out search.epochs=3"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
    ],
)
def test_mistakes_are_one_line(pareto, finished, tmp_path, words, line):
    (tmp_path / "file").write_text("")
    code, _, err = pareto(finished, "--evaluations", 2, "--output", tmp_path / "out", *words)
    assert code == 2
    assert line in err
    assert err.count("\n") == 1
    assert not list((tmp_path / "out").glob("at_most*"))


def test_other_mistakes(pareto, finished, tmp_path):
    assert pareto() == (2, "", "supernet-pareto: the following arguments are required: run; see --help\n")
    code, _, err = pareto("nowhere")
    assert (code, err) == (2, "supernet-pareto: nowhere: no such folder; give the folder of a finished run\n")
    (tmp_path / "file").write_text("")
    code, _, err = pareto(finished, "--output", "file")
    assert code == 2
    assert "--output file: is no folder" in err
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "summary.json").unlink()
    code, _, err = pareto(run)
    assert code == 2
    assert "is not finished" in err
    shutil.rmtree(run)
    shutil.copytree(finished, run)
    torch.save({}, run / "checkpoints" / "search.pt")
    code, _, err = pareto(run, "--evaluations", 2)
    assert code == 2
    assert err.count("\n") == 1
    (tmp_path / "o").mkdir()
    os.symlink("/etc/hostname", tmp_path / "o" / "front.csv")
    code, _, err = pareto(finished, "--output", tmp_path / "o")
    assert code == 2
