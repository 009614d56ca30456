"""Where a measurement runs."""

import os

import pytest

from supernet.estimation.latency import machine


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux can pin a process")
def test_a_process_is_kept_on_the_last_processors_and_freed_again(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 3, 5})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, chosen: asked.append(sorted(chosen)))
    with machine.pinned(2) as chosen:
        assert chosen == "3, 5"
        assert asked == [[3, 5]]
    assert asked == [[3, 5], [0, 2, 3, 5]]
    with machine.pinned(4) as chosen:
        assert chosen == ""
    assert len(asked) == 2


def test_processors_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 3}, raising=False)
    assert machine.processors() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.processors() == 1


def test_where_nothing_can_be_asked_all_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_CPU", tmp_path)
    monkeypatch.setattr(machine, "_cpuinfo", dict)
    found = machine.fingerprint()
    assert (found["flags"], found["governor"], found["frequency"]) == ("unknown",) * 3
    assert found["processor"]


def test_only_flags_that_choose_kernels_are_kept(monkeypatch):
    rows = {"model name": "A", "flags": "fpu avx2 avx512_vnni amx_int8 mmx fma", "cpu MHz": "2600.1"}
    monkeypatch.setattr(machine, "_cpuinfo", lambda: rows)
    found = machine.fingerprint()
    assert (found["processor"], found["flags"]) == ("A", "amx_int8 avx2 avx512_vnni fma")
