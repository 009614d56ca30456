"""A search from Python under a limit on measured time ends with a network that keeps it. The clock is made up here."""

import logging

import pytest

import supernet
from supernet import asked_search
from supernet.estimation.latency.table import Head, LatencyTable, Row
from supernet.estimation.latency.timing import Latency
from supernet.runtime.errors import InputError
from supernet.search.measuring import MEASURED, read_record

SPACE = supernet.NasBench201(channels=4, cells=1, stages=2, nodes=2)


@pytest.fixture(scope="module")
def data():
    return supernet.data.digits()


@pytest.fixture(scope="module")
def table(data):
    """Milliseconds by the length of a part's key, of no runtime."""
    recorded = supernet.SpaceCosts(SPACE, data.shape, outputs=10).recorded
    return LatencyTable("mine", {key: Row(Latency(len(key) / 10, 0, 0, 0, 10)) for key in recorded.variants})


@pytest.fixture
def clock(monkeypatch, data):
    """Sets the milliseconds that are measured, one measurement after the other; gives the networks measured."""
    taken = []

    def set_times(*times):
        left = list(times)

        def milliseconds(network, shape):
            assert shape == data.shape
            taken.append(network)
            return left.pop(0) if len(left) > 1 else left[0]

        monkeypatch.setattr(asked_search, "measured_as", lambda table: milliseconds)
        return taken

    return set_times


def find(data, table, limit, **more):
    return supernet.find(SPACE, data, epochs=1, limits={"latency": limit}, costs={"latency": table}, **more)


def test_what_breaks_the_limit_when_measured_is_replaced(data, table, clock, tmp_path):
    free = supernet.find(SPACE, data, epochs=1)
    costs = supernet.SpaceCosts(SPACE, data.shape, 10, own={"latency": table})
    taken, limit = clock(1e9, 1.0), costs.of("latency", free)
    found = find(data, table, limit, directory=tmp_path / "kept")
    assert len(taken) == 2
    assert costs.of("latency", found) < limit
    assert found != free
    first, second = read_record(tmp_path / "kept" / MEASURED).trials
    assert (first.architecture, first.kept, second.architecture, second.kept) == (free, False, found, True)
    again = find(data, table, limit, directory=tmp_path / "kept")
    assert (again, len(taken)) == (found, 2)
    clock(1e9, 1.0)
    assert find(data, table, limit) == found  # where nothing is kept, too


def test_what_keeps_the_limit_is_taken_as_it_is(data, table, clock):
    taken = clock(1.0)
    assert find(data, table, 1e6) == supernet.find(SPACE, data, epochs=1)
    assert len(taken) == 1


def test_where_nothing_keeps_the_limit_it_is_said(data, table, clock, caplog):
    clock(1e9)
    with caplog.at_level(logging.WARNING, "supernet"):
        find(data, table, 1e6)
    assert [record.message for record in caplog.records if "no network keeps the limit" in record.message]


def test_progress_tells_what_was_measured(data, table, clock, capsys):
    clock(2.5)
    find(data, table, 1e6, progress=True)
    assert "measured 2.5 ms, predicted" in capsys.readouterr().out


def test_a_table_that_cannot_be_measured_here_is_taken_as_it_is(data, table):
    assert find(data, table, 1e6) == supernet.find(SPACE, data, epochs=1)


@pytest.mark.slow
def test_the_clock_of_a_table_of_this_machine_is_a_real_one(data, table, tmp_path):
    here = LatencyTable("mine", table.rows, Head(runtime={"runtime": "torch", "device": "cpu", "threads": "1"}))
    find(data, here, 1e6, directory=tmp_path)
    (trial,) = read_record(tmp_path / MEASURED).trials
    assert 0 < trial.measured < 1e4
    assert trial.kept


def test_a_damaged_record_is_refused(data, table, clock, tmp_path):
    clock(1.0)
    find(data, table, 1e6, directory=tmp_path)
    (tmp_path / MEASURED).write_text('{"found": {}, "limit": 1, "trials": []}')
    with pytest.raises(InputError, match=r"measured\.json: is not what this run wrote"):
        find(data, table, 1e6, directory=tmp_path)
