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
RECORDED = record(SPACE, (3, 8, 8), outputs=10)
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


def test_blanks_around_keys_do_not_count(write):
    rows = "\n".join(f'" {key}  ", 1.5 ' for key in RECORDED.variants)
    table = read_latencies(write(f" key ,milliseconds, low\n{rows}\n".replace(" \n", " , \n")))
    assert set(table.rows) == set(RECORDED.variants)
    assert table.rows[next(iter(ROWS))].latency.low == 1.5


@pytest.mark.parametrize(
    ("constant", "says"),
    [
        (-0.001, ""),
        (-5.0, r"cheapest network of nasbench201 takes -3.5 ms.*correct the constant -5 of its line"),
        (-1.5, "takes 0 ms, and each takes more than 0"),
    ],
)
def test_the_cheapest_network_has_to_take_time(constant, says):
    rows = {key: Row(Latency(0.0 if key.startswith("Zero") else 0.5, 0, 0, 0, 1)) for key in RECORDED.variants}
    assert LatencyTable("mine", rows).least(RECORDED) == 1.5  # three parts are in each network
    table = LatencyTable("latency=t.csv", rows, Head(line=Line(constant)))
    if not says:
        assert table.form(RECORDED).base > 0
        return
    with pytest.raises(InputError, match=says) as told:
        cost_of(table, RECORDED)
    assert str(told.value).startswith("latency=t.csv: ")
    assert "\n" not in str(told.value)


def test_the_least_is_that_of_the_cheapest_of_all():
    line = Line(-100.0, 1.5, 0.125)
    table = LatencyTable("mine", ROWS, Head(line=line))
    operations = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    form = TABLE.form(RECORDED)
    cheapest = min(form.of(from_string(f"|{each}~0|")) for each in operations)
    assert table.least(RECORDED) == pytest.approx(cheapest - 0.25 - 100)
    assert 0 < TABLE.least(RECORDED) <= cheapest


def test_parts_that_take_nothing_or_no_number_are_refused():
    zeros = {key: Row(Latency(0.0, 0, 0, 0, 1)) for key in RECORDED.variants}
    with pytest.raises(InputError, match="takes 0 ms, and each takes more than 0; measure it anew"):
        LatencyTable("mine", zeros).form(RECORDED)
    with pytest.raises(InputError, match="takes nan ms"):
        LatencyTable("mine", {**zeros, next(iter(zeros)): Row(Latency(float("inf"), 0, 0, 0, 1))}).form(RECORDED)


def test_a_drift_without_bounds_is_a_short_line(tmp_path, caplog):
    for drift in (1e308, 10**400):
        head = dataclasses.replace(HEAD, runtime={}, measurement={"drift": drift})
        dataclasses.replace(TABLE, head=head).save(tmp_path / "t.csv")
        [line] = warnings_of(caplog, tmp_path / "t.csv")
        assert line.endswith("speed drifted by 1000000 %")


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
        ("key,median\na,1\nb\n", "row 2 has 1 field"),
        ("key,median\na,1\na ,2\n", r"row 2 \('a'\) is there twice"),
        ("key,median\nb,1\na,-1\n", r"row 2 \('a'\): median='-1' is no number of 0 or more"),
        ("key,median\na,nan\n", r"row 1 \('a'\): median='nan' is no number of 0 or more"),
        ("key,median,low\na,1,x\n", r"row 1 \('a'\): low='x' is no number"),
        ("key,median\nb,1\n ,2\n", "row 2 has no key"),
        ("key,median\na,0\nb,0.0\n", "all of its 2 parts take 0 milliseconds"),
        ("arch,median\n|none~0|,-1\n", r"row 1 \('\|none~0\|'\): median='-1' is no number"),
        ("arch,median\n|none~0|,0\n", "median=0; a network takes more than 0"),
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
        (GOOD.replace('"constant": 0.25', '"constant": 1e308'), "line is damaged: constant=1e.308: needs"),
        (GOOD.replace('"constant": 0.25', f'"constant": {10**400}'), "line is damaged: constant=10{39}: needs"),
        (GOOD.replace('"factor": 1.5', '"factor": -1.5'), "line is damaged: factor=-1.5: needs a number above 0"),
        (GOOD.replace('"factor": 1.5', '"factor": 0'), "line is damaged: factor=0: needs a number above 0"),
        (GOOD.replace('"megabyte": 0.125}}', '"megabyte": 0.125}'), "its head is damaged; no JSON object"),
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
