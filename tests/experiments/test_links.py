"""The way between processes: what is measured fits, and a ring of more of them follows from it."""

import json

import pytest
import torch
from supernet.experiments import links as module
from supernet.experiments.links import Link, Links, fitted, measured, sizes_up_to
from supernet.experiments.rehearsal import HOSTS, Meeting

from supernet.runtime.errors import InputError


def test_a_link_is_found_again():
    link = Link(bandwidth=2e9, latency=5e-5)
    times = {size: link.seconds(Meeting("weights", size, 2), 2) for size in sizes_up_to(10_000_000)}
    found = fitted(times)
    assert found.bandwidth == pytest.approx(2e9)
    assert found.latency == pytest.approx(5e-5)


def test_times_that_say_nothing_of_a_latency_leave_it_out():
    assert fitted({1000: 2.0, 2000: 1.0}) == Link(bandwidth=2000.0, latency=0.0)


def test_a_ring_of_many_sends_all_but_its_own_part_once_or_twice():
    meeting, link = Meeting("weights", 1000, 2), Link(bandwidth=100.0, latency=0.5)
    assert link.seconds(meeting, 1) == 0
    assert link.seconds(meeting, 4) == 2 * 750 / 100 + 6 * 0.5
    both = Links(devices=link, hosts=Link(bandwidth=1.0, latency=0.0))
    assert both.seconds([meeting, Meeting(HOSTS, 8, 2)], 2) == 10 + 1 + 8


def test_sizes_have_a_largest():
    assert sizes_up_to(0) == [4096]
    assert sizes_up_to(10**12)[-1] == 1 << 26


@pytest.mark.slow
def test_two_processes_are_measured():
    link = measured("gloo", [4096, 1 << 20])
    assert link.bandwidth > 0
    assert link.latency >= 0


def test_processes_that_cannot_be_joined_are_one_line(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("-- Process 0 terminated\n\nRuntimeError: no network\n")

    monkeypatch.setattr(module, "start_processes", fail)
    with pytest.raises(InputError, match=r"cannot be measured here \(RuntimeError: no network\); give plan.bandwidth="):
        measured("gloo", [4096])


def test_one_of_two_processes(tmp_path, monkeypatch):
    """The other one is not there: one process is a group, too."""
    own = module.dist.init_process_group
    monkeypatch.setattr(module.dist, "init_process_group", lambda *a, **k: own(*a, **{**k, "world_size": 1}))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    module._reduce(0, str(tmp_path), "gloo", [4096])
    assert list(json.loads((tmp_path / "taken").read_text())) == ["4096"]
