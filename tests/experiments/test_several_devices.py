"""What several devices need is worked out from one of them: figures by hand, words, and lines that say what is what."""

import pytest
import torch
from rich.console import Console
from supernet.experiments import several_devices as module
from supernet.experiments.links import Link, Links
from supernet.experiments.rehearsal import HOSTS, Meeting
from supernet.experiments.several_devices import Asked, Known, Share, asked, links_for, show_shares

from supernet.runtime.errors import InputError

MEETINGS = (Meeting("weights", 800, 2), Meeting(HOSTS, 16, 2))
SHARE = Share("search", 4, 16, 2e9, compute=1.0, compare=0.5, meetings=MEETINGS, images=128, steps=10, alone=100.0)
LINKS = Links(devices=Link(bandwidth=1200.0, latency=0.0), hosts=Link(bandwidth=24.0, latency=0.25))
CPU = torch.device("cpu")


def test_a_step_is_compute_and_waiting_and_a_job_is_its_steps(capsys):
    assert SHARE.communication(LINKS) == 2 * 600 / 1200 + (2 * 12 / 24 + 6 * 0.25) + 0.5
    assert SHARE.whole(LINKS) == 10 * (1 + 4.0)
    show_shares(Console(width=150), [SHARE], Known(LINKS, ("between devices: so",)), CPU)
    out = capsys.readouterr().out
    assert "4.0 s (80%) │    2.00 (50%) │     50.0 s" in out
    assert "search on 4: a device sends in a step: weights 1 x 1.2 kB; 1 meeting of hosts. All read 26 images" in out
    assert "between devices: so" in out
    assert "a ring is extrapolated" in " ".join(out.split())


def test_what_is_given_is_not_measured(monkeypatch):
    monkeypatch.setattr(module, "measured", lambda backend, sizes: Link(1e9, 1e-4))
    known = links_for(Asked((4,), bandwidth=100.0, latency=5.0), CPU, [SHARE])
    assert known.links == Links(devices=Link(1e11, 5e-6), hosts=Link(1e9, 1e-4))
    assert known.said[0] == "between devices: 100 GB/s and 5 microseconds a message, as given"
    assert "measured between two processes" in known.said[1]
    (said, _) = links_for(Asked((4,), bandwidth=100.0), CPU, [SHARE]).said
    assert "bandwidth as given, latency measured" in said
    (said,) = links_for(Asked((4,)), CPU, [SHARE]).said
    assert said.endswith("measured between two processes of this machine (gloo)")


def test_the_number_of_devices_is_that_of_the_job_or_those_that_are_asked_for():
    assert Asked().with_devices_of({"devices": 1}) == Asked()
    assert Asked().with_devices_of({"devices": 8}).devices == (8,)
    assert asked(["plan.devices=64, 8"])[0].with_devices_of({"devices": 2}).devices == (8, 64)
    with pytest.raises(InputError, match="devices=0: needs a whole number, 1 or more"):
        Asked().with_devices_of({"devices": 0})


def test_one_gpu_has_no_way_to_another(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    Asked((8,), bandwidth=100.0).check(torch.device("cuda"))
    with pytest.raises(InputError, match="has one GPU, so that"):
        Asked((8,)).check(torch.device("cuda"))


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("plan.devices=1", "plan.devices=1: needs whole numbers from 2 on"),
        ("plan.devices=", "plan.devices=: needs whole numbers"),
        ("plan.devices=8,²", "needs whole numbers"),
        ("plan.bandwidth=fast", "plan.bandwidth=fast: needs a number above 0"),
        ("plan.latency=-1", "plan.latency=-1: needs a number above 0"),
        ("plan.bandwidth=inf", "needs a number above 0"),
        ("plan.speed=3", "plan.speed=3: no such setting of the plan; known: plan.devices, plan.bandwidth"),
    ],
)
def test_words_that_cannot_be_read(word, line):
    with pytest.raises(InputError, match=line):
        asked([word])
