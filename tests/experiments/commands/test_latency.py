"""supernet-latency: the file it makes serves, and mistakes are one line and write nothing."""

import pytest
from common import typed_words
from supernet.experiments.commands import latency as command

from supernet.estimation.latency.reading import read_latencies
from supernet.estimation.parts import record
from supernet.space.spaces import micro

QUICK = ("rounds=5", "networks=4", "held_out=3", "drift=100", "runtime=torch")
MICRO = ("space=micro", "resolution=8", "channels=1", "classes=10")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    return lambda *words: typed_words(command.main, "supernet-latency", monkeypatch, capsys, *words)


def test_makes_a_table_and_nothing_else(run, tmp_path):
    code, out, err = run(*MICRO, *QUICK)
    assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == ["latency.csv"]
    assert "networks" in out
    assert "Spearman" in out
    table = read_latencies("latency.csv")
    recorded = record(micro(), (1, 8, 8), 10)
    assert set(table.rows) == set(recorded.variants)
    assert table.form(recorded).decisions == recorded.decisions
    assert table.head.runtime["runtime"] == "torch"
    code, out, err = run(*MICRO, *QUICK)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("supernet-latency: output=latency.csv: is there already")


def test_help_lists_settings_and_spaces(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "held_out: 20" in out
    assert "mobilenet_v3" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("rounds=5",), "space: needs one"),
        (("space=micr",), "space=micr"),
        (("spac=micro",), "did you mean space?"),
        (("space",), "space: no such setting"),
        (("--space=micro",), "no such flag"),
        (("space=micro", "rounds=2"), "rounds=2: needs 5 or more"),
        (("space=micro", "networks=few"), "networks=few: needs a whole number"),
        (("space=micro", "threads=0"), "threads=0: needs 1 or more"),
        (("space=micro", "runtime=tensorrt"), "runtime=tensorrt: no such runtime"),
        (("space=micro", "device=cuda"), "device=cuda"),
        (("space=micro", "resolution=0"), "resolution=0: needs a number from 1"),
        (("space=micro", "space.channels=-1"), "space.channels=-1"),
        (("space=micro", "output="), "output=: needs the name of a file"),
        (("space=micro", "output=absent/t.csv"), "the folder absent does not exist"),
        (("space=micro", "drift=-1"), "drift=-1"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(run, tmp_path, words, says):
    code, out, err = run(*words)
    assert (code, err.count("\n"), out) == (2, 1, "")
    assert says in err
    assert list(tmp_path.iterdir()) == []


def test_a_drift_is_one_line_and_the_rounds_serve_again(run, tmp_path, monkeypatch):
    words = (*MICRO, *(word for word in QUICK if not word.startswith("drift=")))
    code, _, err = run(*words, "drift=1e-9")
    assert (code, err.count("\n")) == (2, 1)
    assert "drift=1e-09: the machine's speed drifted by" in err
    assert [path.name for path in tmp_path.iterdir()] == ["latency.csv.rounds"]
    monkeypatch.setattr(command.Builder, "_measure", lambda *_: pytest.fail("measured again"))
    code, _, err = run(*words, "drift=100")
    assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == ["latency.csv"]


def test_a_stop_says_how_to_go_on(run, tmp_path, monkeypatch):
    import os
    import signal

    real = command.Builder._measure

    def stopped(self, *given):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(command.Builder, "_measure", stopped)
        code, _, err = run(*MICRO, *QUICK)
    assert code == 128 + signal.SIGTERM
    assert "Go on with: supernet-latency space=micro" in err
    assert not (tmp_path / "latency.csv").exists()
    code, _, err = run(*MICRO, *QUICK)
    assert code == 0, err
