"""Under a latency limit a search ends with a network that keeps it when it is measured. The clock is made up here."""

import json

import pytest
from common import composed, tiny
from supernet.experiments import job as job_module
from supernet.experiments.job import prepare
from supernet.experiments.latencies import Latencies
from supernet.experiments.measuring import MEASURED, measured_for_summary, winner_of
from supernet.experiments.searching import search_cell

from supernet.estimation.latency.table import LatencyTable, Row
from supernet.estimation.latency.timing import Latency
from supernet.estimation.limits import Limits
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.runtime.report import Silent
from supernet.search.loop import Searched
from supernet.space.architecture import Architecture
from supernet.space.survey import candidates_of, random_cell

SAMPLED = [
    "space=micro",
    "method=random_search",
    "strategy.candidates=40",
    "strategy.finalists=4",
    "strategy.batches=1",
]
GRADIENT = ["space=micro", "method=darts"]


@pytest.fixture
def silent(monkeypatch):
    """Pictures and event files take longer than the searches."""
    monkeypatch.setattr(job_module, "RunReport", lambda directory, name, console: Silent())


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """The machine is the table's."""
    monkeypatch.setattr(Latencies, "why_not_measured", lambda self: "")


@pytest.fixture
def table(tmp_path, images):
    """Milliseconds by the length of a part's key."""
    final = prepare(composed(*tiny(images), "space=micro"), tmp_path, Interruption()).final
    path, recorded = tmp_path / "latency.csv", SpaceCosts(final.space, final.shape, final.outputs).recorded
    LatencyTable("mine", {key: Row(Latency(len(key) / 10, 0, 0, 0, 10)) for key in recorded.variants}).save(path)
    return path


@pytest.fixture
def clock(monkeypatch, silent):
    """What a network takes: so many times what was predicted, for each measurement in turn."""
    taken, ratios = [], []

    def milliseconds(self, network, shape):
        predicted = SpaceCosts.of(limits_of[0].costs, "latency", asked[-1])
        taken.append(predicted * (ratios.pop(0) if len(ratios) > 1 else ratios[0]))
        return taken[-1]

    own, asked, limits_of = SpaceCosts.network, [], []

    def network(self, architecture):
        asked.append(architecture)
        return own(self, architecture)

    def set_ratios(job, *given):
        limits_of[:] = [job.limits]
        ratios[:] = given
        taken.clear()
        return taken

    monkeypatch.setattr(Latencies, "milliseconds", milliseconds)
    monkeypatch.setattr(SpaceCosts, "network", network)
    return set_ratios


def job_of(directory, images, table, limit, *more):
    words = ["runtime.progress=false", f"costs.latency={table}", f"limits.latency={limit}", *more]
    settings = composed(*tiny(images), *words)
    directory.mkdir(exist_ok=True)
    return prepare(settings, directory, Interruption())


def test_what_keeps_the_limit_is_taken_as_it_is(tmp_path, images, table, clock):
    job = job_of(tmp_path / "run", images, table, 1e6, *GRADIENT)
    taken = clock(job, 1.0)
    found = search_cell(job, "")
    free = prepare(composed(*tiny(images), "runtime.progress=false", *GRADIENT), tmp_path, Interruption())
    assert found == search_cell(free, "")
    assert len(taken) == 1
    assert [row["taken"] for row in measured_for_summary(job.directory)["measured"]] == [True]
    assert measured_for_summary(tmp_path) == {}


@pytest.mark.parametrize("ratio", [1.02, 1.2])
def test_a_gradient_method_chooses_again_under_a_tighter_limit(tmp_path, images, table, clock, ratio, capsys):
    job = job_of(tmp_path / "run", images, table, 1e6, *GRADIENT)
    clock(job, 1.0)
    free = search_cell(job, "")
    limit = job.limits.costs.of("latency", free)  # it keeps the limit by the table, and breaks it by the clock
    job = job_of(tmp_path / "again", images, table, limit, *GRADIENT)
    taken = clock(job, ratio)
    found = search_cell(job, "")
    costs = job.limits.costs
    assert len(taken) == 2
    assert taken[0] == pytest.approx(ratio * limit)
    assert costs.of("latency", found) * ratio <= limit
    closest = Limits(costs, {"latency": limit / ratio})
    assert closest.fits(found)
    assert "breaks the limit" in capsys.readouterr().out


def test_the_next_finalist_that_keeps_the_limit_by_what_was_measured(tmp_path, images, table, clock):
    job = job_of(tmp_path / "run", images, table, 1e6, *SAMPLED)
    costs, by_latency = job.limits.costs, {}
    for cell in candidates_of(job.space).all():
        by_latency.setdefault(costs.of("latency", cell), cell)
    slow, near, fast = (by_latency[ms] for ms in sorted(by_latency)[:0:-1][:3])
    limit = costs.of("latency", slow)
    job = job_of(tmp_path / "again", images, table, limit, *SAMPLED)
    taken = clock(job, 1.0001 * limit / costs.of("latency", near), 1.0)
    found = winner_of(job, Searched(slow, None, None, (near, fast)))
    assert found == fast  # `near` would break the limit, too, if it took longer than predicted by as much
    assert len(taken) == 2


def test_the_finalists_of_a_search_are_ranked(tmp_path, images, table, clock):
    job = job_of(tmp_path / "run", images, table, 1e6, *SAMPLED)
    clock(job, 1.0)
    free = search_cell(job, "")
    limit = job.limits.costs.of("latency", free)
    job = job_of(tmp_path / "again", images, table, limit, *SAMPLED)
    taken = clock(job, 1.02, 1.0)
    found = search_cell(job, "")
    rows = json.loads((job.directory / MEASURED).read_text())["trials"]
    names = [Architecture.from_json(json.dumps(row["genotype"])) for row in rows]
    assert len(set(names)) == len(taken)
    assert names[-1] == found
    assert taken[-1] <= limit


def test_a_run_that_goes_on_takes_the_same_network_without_a_clock(tmp_path, images, table, clock, monkeypatch):
    job = job_of(tmp_path / "run", images, table, 1e6, *SAMPLED)
    clock(job, 1e9)
    found = search_cell(job, "")
    monkeypatch.setattr(Latencies, "milliseconds", lambda *_: 1 / 0)
    assert search_cell(job_of(tmp_path / "run", images, table, 1e6, *SAMPLED), "") == found
    (job.directory / MEASURED).write_text('{"found": "x", "limit": true, "trials": []}')
    with pytest.raises(InputError, match=r"measured\.json: is not what this run wrote"):
        search_cell(job, "")


def test_where_nothing_keeps_the_limit_the_fastest_is_taken_and_it_is_said(tmp_path, images, table, clock, capsys):
    job = job_of(tmp_path / "run", images, table, 1e6, *GRADIENT)
    clock(job, 1e9)
    found = search_cell(job, "")
    rows = measured_for_summary(job.directory)["measured"]
    assert not any(row["kept"] for row in rows)
    fastest = min(rows, key=lambda row: row["measured"])
    assert fastest["taken"]
    assert job.limits.cheapest("latency")[1] == pytest.approx(fastest["predicted"])
    assert job.limits.costs.of("latency", found) == fastest["predicted"]
    assert "no network keeps the limit" in capsys.readouterr().out


def test_what_cannot_be_measured_is_said_once(tmp_path, images, table, monkeypatch, capsys, silent):
    monkeypatch.setattr(Latencies, "why_not_measured", lambda self: "it was made by hand")
    monkeypatch.setattr(Latencies, "milliseconds", lambda *_: 1 / 0)
    search_cell(job_of(tmp_path / "run", images, table, 1e6, *GRADIENT), "")
    assert "the found network is not measured: it was made by hand" in capsys.readouterr().out


def test_the_summary_says_what_was_measured_and_rejected(supernet, images, table, monkeypatch, tmp_path):
    times = iter([1e9, 0.5])
    monkeypatch.setattr(Latencies, "milliseconds", lambda *_: next(times))
    words = [*tiny(images), *SAMPLED, f"costs.latency={table}", "limits.latency=1e6", "baseline.random=0"]
    code, said = supernet(*words, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 0, said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    rejected, taken = summary["measured"]
    assert (rejected["kept"], rejected["taken"], rejected["measured"]) == (False, False, 1e9)
    assert (taken["kept"], taken["taken"], taken["measured"]) == (True, True, 0.5)
    assert taken["genotype"] == summary["genotype"]


@pytest.mark.parametrize("method", ["darts_pt", "darts_pt_fixed"])
def test_a_projection_that_decided_under_a_looser_limit_chooses_again(tmp_path, images, table, clock, method):
    """Some decisions were made while the limit was wider than what the measurement leaves of it."""
    words = ["space=micro", f"method={method}"]
    job = job_of(tmp_path / "run", images, table, 1e6, *words)
    clock(job, 1.0)
    free = search_cell(job, "")
    least, costs = job.limits.cheapest("latency")[1], job.limits.costs
    limit = costs.of("latency", free)
    assert limit > least
    job = job_of(tmp_path / "again", images, table, limit, *words)
    taken = clock(job, limit / least * 0.9999, 1.0)  # hardly more than the cheapest is left
    found = search_cell(job, "")
    assert len(taken) == 2
    assert costs.of("latency", found) == pytest.approx(least)


def test_where_stages_left_nothing_within_the_limit_the_cheapest_of_all_is_taken(tmp_path, images, table, clock):
    words = ["space=micro", "method=darts", "search.epochs=2"]
    words += ["stages=[{length: 0.5, keep: 2}, {length: 0.5}]"]
    job = job_of(tmp_path / "run", images, table, 1e6, *words)
    clock(job, 1.0)
    free = search_cell(job, "")
    least, costs = job.limits.cheapest("latency")[1], job.limits.costs
    limit = costs.of("latency", free)
    assert limit > least
    job = job_of(tmp_path / "again", images, table, limit, *words)
    taken = clock(job, limit / least * 0.9999, 1.0)
    assert costs.of("latency", search_cell(job, "")) == pytest.approx(least)
    assert len(taken) == 2


def test_far_more_than_predicted_is_no_limit_below_nothing(tmp_path, images, table, clock):
    job = job_of(tmp_path / "run", images, table, 1e6, *GRADIENT)
    clock(job, 1e300)
    assert job.limits.fits(search_cell(job, ""))


def test_a_given_network_is_measured_and_stays(supernet, images, table, monkeypatch, tmp_path):
    monkeypatch.setattr(Latencies, "milliseconds", lambda *_: 2e6)
    genotype = tmp_path / "given.json"
    space = prepare(composed(*tiny(images), "space=micro"), tmp_path, Interruption()).space
    random_cell(space, 0).save(genotype)
    words = [*tiny(images), "space=micro", f"genotype={genotype}", f"costs.latency={table}", "limits.latency=1e6"]
    code, said = supernet(*words, "baseline.random=0", f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 0, said
    assert "the given network: measured 2e+06 ms, predicted" in said
    assert "breaks the limit of 1e+06 ms" in said


def test_a_run_goes_on_with_its_own_table_alone(supernet, images, table, monkeypatch, tmp_path):
    monkeypatch.setattr(Latencies, "milliseconds", lambda *_: 0.5)
    words = [*tiny(images), *GRADIENT, f"costs.latency={table}", "limits.latency=1e6"]
    words += ["baseline.random=0", f"hydra.run.dir={tmp_path / 'run'}"]
    assert supernet(*words)[0] == 0
    for name in ("summary.json", "test.json"):
        (tmp_path / "run" / name).unlink()  # as if it had been stopped before its end
    text = table.read_text()
    table.write_text(text.replace(",10,", ",11,", 1))
    assert table.read_text() != text
    code, said = supernet(f"resume={tmp_path / 'run'}")
    assert code == 2, said
    assert f"costs.latency={table}: is another table than the run began with" in said
