"""The record of the networks in 8 bits has the form that its script writes."""

import json
from dataclasses import fields
from pathlib import Path

from supernet.experiments.benchmarks import int8
from supernet.experiments.exporting import Row

RECORD = Path(__file__).parents[2] / "experiments" / "results" / "int8.json"


def test_the_rows_are_those_of_the_script():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert list(record["networks"]) == record["settings"]["networks"] == [*int8._UNTRAINED, *int8._TRAINED]
    for name, runs in record["networks"].items():
        assert len(runs) == (record["settings"]["seeds"] if name in int8._TRAINED else 1)
        for row in (row for rows in runs for row in rows):
            assert list(row) == [field.name for field in fields(Row)]
            read = Row(**row)
            assert (read.score is None) == (name in int8._UNTRAINED)
            assert read.measure == "accuracy"
            assert read.low <= read.milliseconds <= read.high
