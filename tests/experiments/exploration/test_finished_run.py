"""What becomes of a run's file of measured times: used, replaced, done without, or missed in one line."""

import pytest
from supernet.experiments.exploration.finished_run import Times, _with_times

from supernet.runtime.errors import InputError

PARETO, EXPLORE = Times(False, True, "--latency FILE"), Times(False, False, "costs.latency=FILE")
NOTHING = {"costs": {"latency": None}, "limits": {"latency": None}}


def settings(path="gone.csv", limit=None, reward=None):
    return {"costs": {"latency": path}, "limits": {"latency": limit}, "strategy": {"reward": {"costs": reward}}}


@pytest.mark.parametrize("times", [PARETO, EXPLORE, Times(True, True, "")])
def test_what_is_given_takes_its_place_and_it_is_not_read(times):
    given = {"costs": {"latency": "other.csv"}, "limits": {}}
    assert _with_times(settings(limit=3, reward="latency"), given, times) == settings("other.csv", 3, "latency")


@pytest.mark.parametrize("times", [PARETO, EXPLORE])
def test_what_nothing_needs_is_done_without(times, capsys):
    assert _with_times(settings(), NOTHING, times) == settings(None)
    err = " ".join(capsys.readouterr().err.split())
    shown = "supernet: costs.latency=gone.csv: no such file, so that no milliseconds are shown; --latency FILE"
    assert err == (shown if times is PARETO else "")


def test_a_limit_that_is_not_kept_is_said(capsys):
    assert _with_times(settings(limit=3), NOTHING, PARETO) == settings(None)
    assert "and the run's limits.latency=3 is not kept" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("known", "given", "times"),
    [
        (settings(), NOTHING, Times(True, True, "a way")),
        (settings(limit=3), NOTHING, Times(False, False, "a way")),
        (settings(), {"costs": {}, "limits": {"latency": 3}}, Times(False, False, "a way")),
        (settings(reward="latency"), NOTHING, Times(False, True, "a way")),
        (settings(reward="latency"), NOTHING, Times(False, False, "a way")),
    ],
)
def test_what_is_needed_and_gone_is_one_line_with_a_way_out(known, given, times):
    with pytest.raises(InputError, match=r"^costs\.latency=gone\.csv: no such file; a way$"):
        _with_times(known, given, times)


def test_functions_of_ones_own_stay():
    own = settings({"_target_": "mine.cost"}, 3)
    assert _with_times(own, NOTHING, EXPLORE) == own
