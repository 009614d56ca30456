"""Measured times in a job: what is read, in what a network is measured, and when it is not."""

import logging
import os

import pytest
from supernet.experiments.latencies import latencies_of
from torch import nn

from supernet.estimation.latency.machine import fingerprint
from supernet.estimation.latency.runtimes import EagerTorch
from supernet.estimation.latency.table import Head, LatencyTable, Row
from supernet.estimation.latency.timing import Latency
from supernet.runtime.errors import InputError

HERE = {"runtime": "torch", "threads": "1", "device": "cpu"}


def saved(path, runtime=HERE, machine=None):
    LatencyTable("mine", {"a": Row(Latency(1.0, 0, 0, 0, 1))}, Head(machine or {}, runtime, {"sentinel": 0.125})).save(
        path
    )
    return latencies_of(path)


def test_a_network_is_measured_in_the_runtime_of_the_table_at_its_speed(tmp_path, monkeypatch):
    latencies, network, asked = saved(tmp_path / "t.csv", machine=fingerprint()), nn.Conv2d(3, 4, 3), []

    def measured(*given, **named):
        asked.append((given, named))
        return Latency(0.25, 0.2, 0.3, 0.2, 5)

    monkeypatch.setattr("supernet.estimation.latency.measuring.measure", measured)
    assert latencies.why_not_measured() == ""
    assert latencies.milliseconds(network, (3, 8, 8)) == 0.25
    assert asked == [((network, (3, 8, 8), EagerTorch("cpu", threads=1)), {"speed": 0.125})]


@pytest.mark.parametrize(
    ("runtime", "machine", "reason"),
    [
        ({}, None, "does not say in which runtime"),
        ({"runtime": "tflite"}, None, "was measured in tflite, which is not known here"),
        ({**HERE, "threads": "many"}, None, "says threads 'many'"),
        ({**HERE, "threads": "0"}, None, "says threads '0'"),
        ({**HERE, "torch": "0.1"}, None, "was measured elsewhere (torch 0.1, here"),
        (HERE, {"processor": "another"}, "was measured elsewhere (processor another, here"),
    ],
)
def test_where_it_is_not_measured_there_is_a_reason(tmp_path, runtime, machine, reason):
    assert reason in saved(tmp_path / "t.csv", runtime, machine).why_not_measured()


def test_one_warning_of_a_table_from_elsewhere_until_the_file_changes(tmp_path, caplog):
    path = tmp_path / "t.csv"
    with caplog.at_level(logging.WARNING, "supernet"):
        saved(path, machine={"processor": "another"})
        latencies_of(path)
        assert len(caplog.records) == 1
        os.utime(path, ns=(0, 1))
        latencies_of(path)
        assert len(caplog.records) == 2


def test_what_is_no_table(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        latencies_of(tmp_path / "nowhere.csv")
