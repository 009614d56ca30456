"""supernet-latency: the file it makes serves, and mistakes are one line and write nothing."""

import contextlib
import errno
import os
import re
import signal
import time

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
    steady = read_latencies("latency.csv").head.measurement["drift"] <= 0.05
    assert ("for steadier times" in out) is not steady
    fastest, slowest = map(float, re.search(r"fastest .* took (\S+) ms, the slowest (\S+) ms", out).groups())
    assert 0 < fastest <= slowest
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
        (("space=micro", "threads=0"), "threads=0: needs "),
        (("space=micro", "threads=99999"), "threads=99999: needs "),
        (("space=micro", "threads=99999", "runtime=torch"), "threads=99999: needs "),
        (("space=micro", "runtime=tensorrt"), "runtime=tensorrt: no such runtime"),
        (("space=micro", "device=cuda"), "device=cuda"),
        (("space=micro", "resolution=0"), "resolution=0: needs a number from 1"),
        (("space=micro", "space.channels=-1"), "space.channels=-1"),
        (("space=micro", "output="), "output=: needs the name of a file"),
        (("space=micro", "output=absent/t.csv"), "the folder absent does not exist"),
        (("space=micro", f"output={'a' * 240}.csv"), "the folder . cannot be written to (File name too long)"),
        (("space=micro", f"output={'a' * 300}.csv"), "the folder . cannot be written to (File name too long)"),
        (("space=micro", "output=t.csv.gz"), "output=t.csv.gz: a table is written as plain text; output=t.csv"),
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


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOENT])
def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_measured(run, monkeypatch, number):
    real = command.Path.open

    def refuse(self, *given, **named):
        if self.suffix == ".partial":
            raise OSError(number, os.strerror(number), str(self))
        return real(self, *given, **named)

    monkeypatch.setattr(command.Builder, "build", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(command.Path, "open", refuse)
    code, out, err = run(*MICRO, *QUICK)
    assert (code, err.count("\n"), out) == (2, 1, "")
    assert f"output=latency.csv: the folder . cannot be written to ({os.strerror(number)}); output=ELSEWHERE" in err


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="Linux has this folder, in which nobody can write")
def test_a_folder_in_which_nobody_can_write(run):
    code, out, err = run(*MICRO, *QUICK, "output=/proc/x.csv")
    assert (code, err.count("\n"), out) == (2, 1, "")
    assert "output=/proc/x.csv: the folder /proc cannot be written to" in err


@pytest.mark.parametrize(
    ("number", "way"),
    [(errno.ENOSPC, "make room"), (errno.ENOENT, "let it be written to"), (errno.EISDIR, "let it be written to")],
)
@pytest.mark.parametrize("place", [(command.Builder, "build"), (command.Path, "unlink")])
def test_what_cannot_be_written_later_is_one_line_and_the_way_to_go_on(run, monkeypatch, number, way, place):
    def refuse(self, **_):
        raise OSError(number, os.strerror(number), "latency.csv.rounds")

    monkeypatch.setattr(command, "_output", command.Path)
    monkeypatch.setattr(*place, refuse)
    monkeypatch.setattr(command, "_show", lambda *_: pytest.fail("made"))
    code, _, err = run(*MICRO, "rounds=5", "networks=0", "held_out=0", "drift=100", "runtime=torch")
    assert code == 2
    told = f"supernet-latency: {os.strerror(number)}: latency.csv.rounds; {way}, then: supernet-latency space=micro"
    assert [line for line in err.splitlines() if line.startswith(told)] == err.splitlines()


def test_rounds_of_a_file_without_content_are_begun_anew(run, tmp_path):
    (tmp_path / "latency.csv.rounds").touch()
    code, _, err = run(*MICRO, *QUICK)
    assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == ["latency.csv"]


def test_a_space_with_fewer_networks_says_so(run, caplog):
    words = [word for word in (*MICRO, *QUICK) if not word.startswith("networks=")]
    code, _, err = run(*words, "networks=5", "held_out=4", "space.nodes=1")
    assert code == 0, err
    assert "networks=5, held_out=4: found only 5 different networks" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_what_asks_no_loop(run, monkeypatch, number):
    def exporting(self):
        with contextlib.suppress(Exception):  # as the exporter does
            signal.raise_signal(number)
        pytest.fail("went on")

    before = signal.getsignal(number)
    monkeypatch.setattr(command.Builder, "build", exporting)
    code, _, err = run(*MICRO, *QUICK)
    assert (code, err.count("\n")) == (128 + number, 1)
    assert f"stopped by {signal.Signals(number).name}; finished rounds are saved. Go on with: supernet-latency" in err
    assert signal.getsignal(number) is before


def test_a_signal_in_the_end_of_an_object_is_not_lost(run, monkeypatch):
    class Ends:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def building(self):
        Ends()
        for _ in range(1500):
            time.sleep(0.01)
        pytest.fail("went on")

    monkeypatch.setattr(command.Builder, "build", building)
    code, _, err = run(*MICRO, *QUICK)
    assert (code, err.count("\n")) == (128 + signal.SIGTERM, 1)
    assert "Go on with: supernet-latency space=micro" in err


def test_a_stop_says_how_to_go_on(run, tmp_path, monkeypatch):
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
