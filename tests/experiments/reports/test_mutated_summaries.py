"""Damaged and made-up summaries, by seed: a report leaves them out in one line each and shows the others."""

import copy
import csv
import json
import random
import sys

import pytest
from common import fabricate, finalist
from supernet.experiments.reports import report

pytestmark = pytest.mark.slow

VALUES = [None, [], {}, "x", -1, 0, 2.5, 1e308, float("nan"), float("inf"), True, "1" * 5000, "\ud800", [[]], {"a": []}]
VALUES += ["\x1b[31m", "<script>alert(1)</script>", "=1+1", "$\\frac{$", "|`", 10**30]


def mutated(node, rng: random.Random):
    """A copy with one to three places changed, added or taken away."""
    node = copy.deepcopy(node)
    for _ in range(rng.choice([1, 1, 2, 3])):
        at, value = node, rng.choice(VALUES)
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = rng.choice(keys) if keys else None
            if key is None or not isinstance(at[key], dict | list) or rng.random() < 0.3:
                break
            at = at[key]
        if key is None or rng.random() < 0.1:
            at.update({str(value)[:20]: value}) if isinstance(at, dict) else at.append(value)
        elif rng.random() < 0.2:
            del at[key]
        else:
            at[key] = value
    return node


def bytes_of(node, rng: random.Random) -> bytes:
    text = json.dumps(node).encode()
    if rng.random() < 0.2:
        place = rng.randrange(len(text))
        return text[:place] + bytes([rng.randrange(256)]) + text[place + rng.randrange(30) :]
    return text


def test_what_cannot_be_read_is_left_out(monkeypatch, tmp_path, capfd):
    good = fabricate(tmp_path / "runs" / "good", "darts", 0, finalist("searched", "g", 0.9, 0.8, truth=90.0))
    base = json.loads((good / "summary.json").read_text())
    other = tmp_path / "runs" / "other" / "summary.json"
    other.parent.mkdir()
    rng, refused = random.Random(5), 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["supernet-report", "runs", "--output", "out"])
    monkeypatch.setattr(report, "draw", draw_seldom(report.draw, rng))
    contents = [bytes_of(mutated(base, rng), rng) for _ in range(200)]
    contents += [b"", b"[]", b"null", b"[" * 100_000, bytes(range(256)), b'{"version": 2}']
    for number, content in enumerate(contents):
        other.write_bytes(content)
        report.main()
        out, err = capfd.readouterr()
        assert "darts" in out
        assert "\x1b" not in out + err
        assert "<script" not in out
        assert len(err.splitlines()) <= 1, f"{number}: {err}"
        refused += bool(err)
        rows = list(csv.reader((tmp_path / "out" / "report.csv").open(encoding="utf-8")))
        assert 2 <= len(rows) <= 3
    assert refused > 60


def draw_seldom(draw, rng):
    """The picture takes most of a report's time: one in ten is drawn, of the others an empty one."""
    return lambda made: draw(made if rng.random() < 0.1 else [])


def test_nothing_left_is_an_error(monkeypatch, tmp_path, capfd):
    fabricate(tmp_path / "runs" / "bad", "darts", 0, finalist("searched", "g", 0.9, 8.0))
    monkeypatch.setattr(sys, "argv", ["supernet-report", str(tmp_path / "runs"), "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        report.main()
    assert stop.value.code == 2
    assert "test=8.0: a score lies between 0 and 1" in capfd.readouterr().err
