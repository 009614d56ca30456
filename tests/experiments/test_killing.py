"""The driver of random kills: what it plans, what it counts, and that it sees what is wrong."""

import os
import random
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from experiments.benchmarks import killed_ranks as ranks
from experiments.benchmarks.killing import Job, fault
from experiments.benchmarks.processes import Spent, metered
from supernet.runtime.processes import ALONE


def test_each_phase_has_as_many_kills_and_a_job_takes_them_in_order():
    rng = random.Random(0)
    hits = ranks.deck(20, rng)
    assert Counter(hit.phase for hit in hits if hit.kills) == dict.fromkeys(ranks.PHASES, 5)
    assert sum(not hit.kills for hit in hits) == 5
    whole = list(hits)
    while hits:
        held = ranks.hand(hits, rng)
        later = [ranks.PHASES.index(hit.phase) for hit in held if hit.phase != "start"]
        assert later == sorted(later)
        assert 1 <= len(held) <= 3
        assert all(hit in whole for hit in held)


def test_kills_are_counted_by_what_came_of_them():
    hits = [ranks.Hit("SIGKILL", "search", 0, 0, 0, came, 1.0, "restarted and equal") for came in ("start", "search")]
    hits.append(ranks.Hit("SIGKILL", "end", 0, 0, 1, "end", 1.0, "restarted and equal, and different"))
    hits.append(ranks.Hit("SIGTERM", "end", 0, 0, 1, "end", 1.0, "saved"))
    found = ranks.record(hits)
    assert found["summary"] == "2 of 3 restarted and equal"
    assert found["kills_by_phase"] == {"start": 1, "search": 1, "retraining": 0, "end": 1}
    assert found["stops_by_phase"]["end"] == 1
    assert found["by_rank"] == {"rank 0": 2, "rank 1": 2}


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize(
    ("code", "text", "child", "line"),
    [
        (0, "done", False, None),
        (1, "done", False, "exit code 1: done"),
        (0, "Traceback (most recent call last):", False, "exit code 0: Traceback"),
        pytest.param(0, "done", True, "processes outlive the command", marks=pytest.mark.slow),
    ],
)
def test_what_is_wrong_is_said(code, text, child, line, tmp_path):
    job = Job("any", [], tmp_path / "run")
    job.output.write_text(text)
    more = "import subprocess; subprocess.Popen(['sleep', '60']); " if child else ""
    command = [sys.executable, "-S", "-c", f"{more}raise SystemExit({code})"]
    job.process = subprocess.Popen(command, start_new_session=True)
    found = fault(job, job.wait(), {0})
    assert found is None if line is None else line in found


def test_time_within_another_meeting_counts_once(monkeypatch):
    clock = iter(range(10))
    monkeypatch.setattr("experiments.benchmarks.processes.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    spent = Spent()
    with spent.counted(), spent.counted():  # at 0 and 1, over at 2
        pass
    assert spent.seconds == 2
    assert metered(ALONE, spent, synchronised=True).largest([3]) == [3]
    assert spent.seconds == 3
    assert metered(ALONE, spent, synchronised=True).synchronised
