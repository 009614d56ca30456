"""Tables as files: what was saved comes back, a person's own serve, and anything else is one line."""

import dataclasses
import logging

import pytest

from supernet.estimation.forms import Form
from supernet.estimation.latency.calibration import Line
from supernet.estimation.latency.machine import fingerprint
from supernet.estimation.latency.reading import differences, read_latencies
from supernet.estimation.latency.table import Head, KnownLatencies, LatencyTable, Row, cost_of
from supernet.estimation.latency.timing import Latency
from supernet.estimation.parts import record
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import NasBench201, from_string

SPACE = NasBench201(channels=4, cells=1, stages=1, nodes=1)
RECORDED = record(SPACE, (3, 8, 8), classes=10)
HEAD = Head(
    machine={"processor": "A", "flags": "avx2"},
    runtime={"runtime": "onnxruntime", "torch": "2.0"},
    measurement={"sentinel": 0.5, "drift": 0.02, "rounds": 7},
    space={"name": "nasbench201"},
    calibration={"fitted on": 30},
    line=Line(0.25, 1.5, 0.125),
)
ROWS = {key: Row(Latency(0.5 + n, 0.25 + n, 0.75 + n, 0.125, 7), 0.5 * n) for n, key in enumerate(RECORDED.variants)}
TABLE = LatencyTable("table", ROWS, HEAD)


@pytest.fixture
def write(tmp_path):
    def make(text, name="t.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return make


def test_what_was_saved_comes_back(tmp_path):
    TABLE.save(tmp_path / "t.csv")
    read = read_latencies(tmp_path / "t.csv", here=HEAD.machine)
    assert read.rows == TABLE.rows
    assert read.head == TABLE.head
    assert read.sentinel == 0.5


def test_a_form_from_a_table_is_the_calibrated_sum():
    form = TABLE.form(RECORDED)
    cell = from_string("|avg_pool_3x3~0|")
    keys = [part.variants[cell["cell/1/0"] if part.decisions else ()].key for part in RECORDED.parts]
    total, megabytes = sum(ROWS[k].latency.median for k in keys), sum(ROWS[k].megabytes for k in keys)
    assert form.of(cell) == pytest.approx(0.25 + 1.5 * total + 0.125 * megabytes)


def warnings_of(caplog, path, **here):
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="supernet"):
        read_latencies(path, here={**HEAD.machine, **here})
    return [entry.getMessage() for entry in caplog.records]


def test_a_table_from_elsewhere_is_taken_with_one_warning(tmp_path, caplog):
    import torch

    same = dataclasses.replace(HEAD, runtime={"torch": torch.__version__})
    dataclasses.replace(TABLE, head=same).save(tmp_path / "same.csv")
    assert warnings_of(caplog, tmp_path / "same.csv") == []
    TABLE.save(tmp_path / "old.csv")
    [line] = warnings_of(caplog, tmp_path / "old.csv", processor="B")
    assert "processor A, here B" in line
    assert f"torch 2.0, here {torch.__version__.partition('+')[0]}" in line
    assert "\n" not in line


def test_a_table_of_a_busy_machine_says_so(tmp_path, caplog):
    head = dataclasses.replace(HEAD, runtime={}, measurement={"drift": 0.25})
    dataclasses.replace(TABLE, head=head).save(tmp_path / "t.csv")
    [line] = warnings_of(caplog, tmp_path / "t.csv")
    assert "speed drifted by 25 %" in line


def test_the_fingerprint_of_this_machine_differs_from_itself_in_nothing():
    assert differences(Head(machine=fingerprint()), fingerprint()) == []
    assert set(fingerprint()) == {"processor", "flags", "processors", "governor", "frequency", "system"}


def test_a_persons_own_rows(write):
    rows = "\n".join(f'"{key}",{n}' for n, key in enumerate(RECORDED.variants))
    table = read_latencies(write(f"# measured by hand\nkey,milliseconds\n{rows}\n"))
    cell = from_string("|none~0|")
    keys = [part.variants[cell["cell/1/0"] if part.decisions else ()].key for part in RECORDED.parts]
    form = cost_of(table, RECORDED)
    assert isinstance(form, Form)
    assert form.of(cell) == sum(list(RECORDED.variants).index(key) for key in keys)


def test_a_persons_own_mobile_networks_in_one_line_each(write):
    path = write("arch,milliseconds\nstage1/depth=2 stage1/1/kernel=3,1.5\n")
    network = Architecture("mobile", {"stage1/1/kernel": ("3",), "stage1/depth": ("2",)})
    assert read_latencies(path)(network) == 1.5


def test_a_persons_own_architectures(write):
    cell = from_string("|nor_conv_3x3~0|")
    whole = cell.to_json().replace("\n", "").replace('"', '""')
    path = write(f'architecture,milliseconds\n|none~0|,2.5\n"{whole}",4\n')
    table = read_latencies(path)
    assert isinstance(table, KnownLatencies)
    assert cost_of(table, RECORDED)(cell) == 4.0
    with pytest.raises(InputError, match="has no row of"):
        table(from_string("|skip_connect~0|"))


def test_a_table_that_lacks_an_entry_names_it_and_the_way_out():
    first = next(iter(ROWS))
    fewer = {key: row for key, row in ROWS.items() if key != first}
    with pytest.raises(InputError) as told:
        LatencyTable("latency=t.csv", fewer).form(RECORDED)
    assert str(told.value).startswith(f"latency=t.csv: has no row {first!r}")
    assert "supernet-latency" in str(told.value)


@pytest.mark.parametrize("name", ["mobile", "nasbench201", None])
def test_a_table_of_another_space_is_one_line(name):
    table = LatencyTable("latency=t.csv", {"x": next(iter(ROWS.values()))}, Head(space={"name": name} if name else {}))
    says = "is of mobile" if name == "mobile" else "is of other sizes or of another space"
    with pytest.raises(InputError, match=says):
        table.form(RECORDED)


GOOD = TABLE.text()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no rows"),
        ("key,median\n", "has no rows"),
        ("\x00\x00", "has no rows|not a CSV file"),
        ("cell,ms\na,1\n", "has no column 'key' or 'architecture'; its columns: cell, ms"),
        ("key,ms\na,1\n", "has no column 'median' or 'milliseconds'"),
        ("key,median\na,1\nb\n", "row 2 has 1 fields"),
        ("key,median\na,1\na,2\n", "'a' is there twice"),
        ("key,median\na,-1\n", "is no number of 0 or more"),
        ("key,median\na,nan\n", "is no number of 0 or more"),
        ("key,median\na,1e99\n", "is no number of 0 or more"),
        ("key,median\na,\n", "has no median"),
        ("key,key,median\na,b,1\n", "has two columns 'key'"),
        ('key,median\n"a,1\n', "not a CSV file"),
        ("architecture,median\n{x,1\n", "row 1: not JSON"),
        ("arch,median\nx,1\n", "row 1: genotype 'x': 'x' is no answer"),
        ("architecture,median\n|none~0|,1\n|none~0|,2\n", "is there twice"),
        (GOOD.replace("supernet.latency", "other"), "its head is of other 1"),
        (GOOD.replace('"version": 1', '"version": 2'), "its head is of supernet.latency 2"),
        ("\n".join(GOOD.splitlines()[:-2]) + "\n", "is cut off"),
        (GOOD.replace('"constant": 0.25', '"constant": "x"'), "line is damaged"),
        (GOOD.replace('"constant": 0.25', '"constant": NaN'), "line is damaged"),
        (GOOD.replace('"constant"', '"const"'), "line is damaged"),
        (GOOD.replace('{"machine": {"processor": "A", "flags": "avx2"}}', '{"machine": 7}'), "machine in its head"),
    ],
)
def test_anything_else_is_one_line(write, text, says):
    with pytest.raises(InputError, match=says) as told:
        read_latencies(write(text))
    assert "\n" not in str(told.value)
    assert str(told.value).startswith("latency=")


def test_no_such_file():
    with pytest.raises(InputError, match="no such file"):
        read_latencies("absent.csv")


def test_a_table_of_zeros_names_no_speed_of_the_sentinel():
    assert LatencyTable("t", {}, Head(measurement={"sentinel": "fast"})).sentinel is None
