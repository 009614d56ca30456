"""A table is built by a runtime whose times are known, so that what has to come out is known, too."""

import dataclasses

import pytest
from clockwork import Clock, Clockwork, watch
from torch import nn

from supernet.estimation.latency import building
from supernet.estimation.latency.building import Builder, Measurement
from supernet.estimation.latency.calibration import Line
from supernet.estimation.latency.reading import read_latencies
from supernet.estimation.latency.table import Row
from supernet.estimation.latency.timing import Latency
from supernet.estimation.parts import record
from supernet.runtime.errors import InputError
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.nasbench201 import NasBench201

SPACE = NasBench201(channels=4, cells=1, stages=1, nodes=2)
SHAPE = (3, 8, 8)
CONVOLUTIONS = 0.001  # milliseconds of each weight


def weights(module):
    return sum(p.numel() for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear) for p in m.parameters())


def cost(name, module, shapes):
    """Milliseconds: of parts by their weights; a whole network takes half as much again, and one more."""
    own = CONVOLUTIONS * weights(module)
    return 1.0 + 1.5 * own if name.startswith("network/") else own


def builder(clock, runtime=None, **settings):
    journal = settings.pop("journal", None)
    progress = settings.pop("progress", lambda *_: None)
    measurement = Measurement(**{"rounds": 6, "networks": 8, "held_out": 5, "stopwatch": watch(clock), **settings})
    return Builder(SPACE, SHAPE, 10, runtime or Clockwork(clock, cost), measurement, journal=journal, progress=progress)


def test_networks_that_were_held_out_are_predicted():
    clock = Clock()
    built = builder(clock).build()
    recorded = record(SPACE, SHAPE, 10)
    assert set(built.table.rows) == set(recorded.variants)
    assert [each.fitted for each in built.networks] == 8 * [True] + 5 * [False]
    assert built.after.networks == 5
    assert built.before.mape > 20
    assert built.after.mape < 0.01
    for each in built.networks:
        assert built.table.form(recorded).of(each.architecture) == pytest.approx(each.predicted)
        assert each.predicted == pytest.approx(each.latency.median, rel=1e-3)
    assert built.table.head.line.factor == pytest.approx(1.5, rel=1e-3)
    assert built.table.head.measurement["drift"] == 0.0


def test_a_drift_of_the_machine_is_refused_and_says_the_way_out(tmp_path):
    clock = Clock()

    def tire(clock):
        clock.speed = 1.0 / (1.0 + 0.3 * min(1.0, clock.now / 2))

    clock.on_run = tire
    journal = tmp_path / "t.csv.rounds"
    with pytest.raises(InputError, match=r"^drift=0.05: the machine's speed drifted by 0\.\d\d") as told:
        builder(clock, journal=journal, drift=0.05).build()
    assert str(journal) in str(told.value)
    made = Clockwork(clock, cost)
    built = builder(clock, made, journal=journal, drift=0.5).build()
    assert made.made == []  # the rounds that are there serve
    assert built.table.head.measurement["drift"] > 0.05
    assert built.after.mape < 1.0  # ratios to the sentinel do not drift


def test_a_build_that_was_stopped_goes_on(tmp_path):
    class Stop(Exception):
        pass

    def stop(done, total, what):
        if what == "rounds" and done == 4:
            raise Stop

    whole = builder(Clock()).build()
    clock, journal = Clock(), tmp_path / "t.rounds"
    with pytest.raises(Stop):
        builder(clock, journal=journal, progress=stop).build()
    seen = []
    built = builder(clock, journal=journal, progress=lambda *told: seen.append(told)).build()
    assert [told for told in seen if told[2] == "rounds"] == [(5, 6, "rounds"), (6, 6, "rounds")]
    assert built.table.rows.keys() == whole.table.rows.keys()
    for key, row in whole.table.rows.items():
        assert built.table.rows[key].latency.median == pytest.approx(row.latency.median, abs=1e-6)


def test_the_journal_of_another_space_is_refused(tmp_path):
    journal = tmp_path / "t.rounds"
    builder(Clock(), journal=journal, networks=0, held_out=0).build()
    other = dataclasses.replace(builder(Clock(), journal=journal, networks=0, held_out=0), classes=11)
    with pytest.raises(InputError, match="is of another measurement"):
        other.build()


def test_the_time_box_ends_after_five_rounds():
    built = builder(Clock(), rounds=50, seconds=1e-9).build()
    assert built.table.head.measurement["rounds"] == 5


def test_without_networks_milliseconds_are_plain_sums():
    built = builder(Clock(), networks=0, held_out=0).build()
    assert (built.networks, built.before, built.after) == ((), None, None)
    line = built.table.head.line
    assert (line.constant, line.factor, line.megabyte) == (0.0, 1.0, 0.0)


def test_a_small_space_gives_the_networks_that_it_has_and_says_so(caplog):
    clock = Clock()
    small = dataclasses.replace(builder(clock), space=NasBench201(channels=4, cells=1, stages=1, nodes=1))
    built = small.build()
    assert len(built.networks) == 5  # its five cells
    assert built.table.head.calibration["fitted on"] == 5
    [line] = [entry.getMessage() for entry in caplog.records]
    assert line == (
        "networks=8, held_out=5: found only 5 different networks of nasbench201: 5 to calibrate the table and 0 to "
        "check it"
    )


@pytest.mark.parametrize("seed", range(4))
def test_as_many_networks_as_are_asked_for(seed, caplog):
    space = Mobile((Stage((8, 12), depths=(1, 2), kernels=(3, 5), expansions=(3, 6)),), stem=8, head=16)
    made = dataclasses.replace(builder(Clock(), networks=30, held_out=8, rounds=5, seed=seed), space=space)
    drawn, fitted = made._draw(record(space, SHAPE, 10))  # of forty that there are, ten of them spread
    assert (len(drawn), len(set(drawn)), fitted) == (38, 38, 30)
    assert not caplog.records


def test_a_line_that_gives_the_cheapest_network_no_time_goes_through_the_origin(monkeypatch):
    monkeypatch.setattr(building, "fit", lambda *_: Line(constant=-100.0))
    built = builder(Clock()).build()
    assert built.table.head.line.constant == 0.0
    assert built.table.head.line.factor > 1.0
    assert built.table.form(record(SPACE, SHAPE, 10)).base > 0


def test_parts_too_short_to_be_measured_make_no_table(monkeypatch):
    monkeypatch.setattr(building, "_row", lambda *_: Row(Latency(0.0, 0.0, 0.0, 0.0, 6)))
    with pytest.raises(InputError, match=r"nasbench201: the parts of its cheapest network take no time .* 3x8x8"):
        builder(Clock(), networks=0, held_out=0).build()


def test_networks_get_images_of_the_resolution_that_they_chose():
    clock, given = Clock(), {}

    def by_size(name, module, shapes):
        if name.startswith("network/"):
            given[int(name.split("/")[1])] = shapes
        return 1.0 + 0.001 * shapes[0][-1] * weights(module)

    space = Mobile((Stage((8,), depths=(1, 2)),), stem=8, head=16, resolutions=(16, 32))
    made = dataclasses.replace(builder(clock, Clockwork(clock, by_size)), space=space, shape=(3, 24, 24))
    built = made.build()
    sides = {int(each.architecture["resolution"][0]) for each in built.networks}
    assert sides == {16, 32}
    for number, each in enumerate(built.networks):
        side = int(each.architecture["resolution"][0])
        assert given[number] == ((1, 3, side, side),)


def test_the_file_has_all(tmp_path):
    built = builder(Clock()).build()
    built.table.save(tmp_path / "t.csv")
    read = read_latencies(tmp_path / "t.csv", here=built.table.head.machine)
    assert read.head.space["settings"]["nodes"] == 2
    assert read.head.space["shape"] == [3, 8, 8]
    assert read.head.calibration["after"]["networks"] == 5
    assert read.head.runtime["runtime"] == "clockwork"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rounds": 4}, "rounds=4"),
        ({"networks": 3}, "networks=3"),
        ({"held_out": -1}, "held_out=-1"),
        ({"seconds": 0.0}, "seconds=0.0"),
        ({"drift": float("nan")}, "drift=nan"),
    ],
)
def test_numbers_out_of_range_are_one_line(settings, says):
    with pytest.raises(InputError, match=says):
        Measurement(**settings)
