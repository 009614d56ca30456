"""A measurement that was stopped goes on from its journal, and from no other."""

import errno
import json
import os
from dataclasses import replace

import pytest

from supernet.estimation.latency.journal import Journal
from supernet.estimation.latency.timing import Visit
from supernet.runtime.errors import InputError

ABOUT = {"machine": {"processor": "A", "frequency": "2000 MHz"}, "names": ["a", "b"]}
ROUNDS = [[Visit(n, "b", 1.5 + n, 2.0), Visit(n, "a", 0.5, 2.25)] for n in range(3)]


@pytest.fixture
def path(tmp_path):
    journal = Journal(tmp_path / "x.rounds", ABOUT)
    for each in ROUNDS:
        journal.add(each)
    return tmp_path / "x.rounds"


def test_rounds_come_back(path):
    assert Journal(path, ABOUT).visits() == ROUNDS


def test_the_clock_of_the_moment_does_not_count(path):
    other = {**ABOUT, "machine": {"processor": "A", "frequency": "3100 MHz"}}
    assert Journal(path, other).visits() == ROUNDS


@pytest.mark.parametrize(
    "other", [{**ABOUT, "names": ["a", "c"]}, {**ABOUT, "machine": {"processor": "B", "frequency": "2000 MHz"}}]
)
def test_another_measurement_is_refused(path, other):
    with pytest.raises(InputError, match="is of another measurement"):
        Journal(path, other).visits()


def test_a_line_that_was_cut_off_is_measured_again(path):
    text = path.read_text()
    path.write_text(text[:-10])
    journal = Journal(path, ABOUT)
    assert journal.visits() == ROUNDS[:2]
    journal.add(ROUNDS[2])
    assert path.read_text() == text


@pytest.mark.parametrize(
    "line",
    [
        "[[0, 1.0]]",
        "[[9, 1.0, 1.0]]",
        "[[-1, 1.0, 1.0]]",
        '[["0", 1, 1]]',
        "[[0, NaN, 1.0]]",
        "[[0, -1, 1.0]]",
        f"[[0, {10**400}, 1.0]]",
        "{}x",
        "7",
    ],
)
def test_damage_is_one_line(path, line):
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match="line 5 is damaged"):
        Journal(path, ABOUT).visits()


@pytest.mark.parametrize("kept", [0, 1, 20])
def test_a_file_without_a_whole_first_line_is_begun_anew(path, kept):
    text = path.read_text()
    path.write_text(text[:kept])
    journal = Journal(path, ABOUT)
    assert journal.visits() == []
    for each in ROUNDS:
        journal.add(each)
    assert path.read_text() == text


@pytest.mark.parametrize("line", ["[]", "[[1, 1.5, 2.0]]", "[[1, 1.5, 2.0], [1, 0.5, 2.25]]"])
def test_a_round_that_is_not_whole_is_measured_again(path, line):
    first, *rounds = path.read_text().splitlines()
    path.write_text("\n".join([first, rounds[0], line, rounds[2]]) + "\n")
    journal = Journal(path, ABOUT)
    whole = [[replace(visit, round=number) for visit in ROUNDS[place]] for number, place in enumerate([0, 2])]
    assert journal.visits() == whole
    journal.add(ROUNDS[1])
    assert [len(each) for each in journal.visits()] == [2, 2, 2]


def test_the_first_line_is_written_with_a_whole_round_or_not_at_all(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "x.rounds"
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            Journal(path, ABOUT).add(ROUNDS[0])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_kept_without_a_file():
    journal = Journal(None, ABOUT)
    journal.add(ROUNDS[0])
    assert journal.visits() == []


def test_each_round_is_one_line_of_json(path):
    first, *lines = path.read_text().splitlines()
    assert set(json.loads(first)) == {"measurement"}
    assert json.loads(lines[0]) == [[1, 1.5, 2.0], [0, 0.5, 2.25]]
