"""Which candidate is taken when measurements differ from predictions, with measurements that are made up."""

import pytest

from supernet.runtime.errors import InputError
from supernet.search.measured_winner import MeasuredWinner, Trial, in_order, measured_winner, then, tightened
from supernet.space.architecture import Architecture


def net(width):
    return Architecture("mine", {"width": (str(width),)})


def width(architecture):
    return float(architecture["width"][0])


def measured(ratio):
    """Each network takes so many times as long as predicted; what is asked is noted."""
    asked = []

    def measure(architecture):
        asked.append(width(architecture))
        return ratio * width(architecture)

    return measure, asked


def test_the_first_is_taken_where_it_keeps_the_limit():
    measure, asked = measured(1.0)
    found = measured_winner(in_order(map(net, [30, 20])), width, measure, 30.0, cheapest=net(1))
    assert (found.winner.architecture, found.rejected, asked) == (net(30), (), [30.0])


def test_the_next_of_a_ranking_that_keeps_it():
    real = {30: 31.0, 29: 30.5, 10: 10.0}
    ranking = map(net, [30, 29, 10])
    found = measured_winner(in_order(ranking), width, lambda a: real[int(width(a))], 30.0)
    assert [t.architecture for t in found.rejected] == [net(30), net(29)]
    assert found.winner == Trial(net(10), 10.0, 10.0, 30.0)


def test_a_ranking_passes_over_what_would_break_the_limit_by_what_was_measured():
    measure, asked = measured(1.1)
    found = measured_winner(in_order(map(net, [30, 29, 28, 27, 5]), width), width, measure, 30.0)
    assert asked == [30.0, 27.0]  # 30 / 1.1 = 27.3
    assert found.winner.architecture == net(27)


@pytest.mark.parametrize("ratio", [1.02, 1.1, 1.37, 3.0])
def test_a_tightened_limit_finds_the_best_that_fits_in_two_measurements(ratio):
    """The ratio is the same for all here, so that the second choice is the largest network that keeps the limit."""
    measure, asked = measured(ratio)
    found = measured_winner(tightened(lambda most: net(int(most)), 30.0), width, measure, 30.0)
    assert len(asked) == 2
    assert width(found.winner.architecture) == max(w for w in range(31) if ratio * w <= 30)


def test_the_limit_falls_with_each_proposal_so_that_nothing_comes_twice():
    """Each network takes longer the smaller its prediction: the ratio alone would not tighten enough."""
    limits = []

    def choose(most):
        limits.append(most)
        return net(int(most)) if most >= 26 else None

    found = measured_winner(tightened(choose, 30.0, first=net(30)), width, lambda a: 30.01, 30.0, tries=50)
    widths = [width(t.architecture) for t in found.trials]
    assert widths == sorted(set(widths), reverse=True)
    assert limits == sorted(limits, reverse=True)
    assert max(limits) < 30.0
    assert not found.winner.kept


def test_no_more_than_the_tries_and_the_cheapest_last():
    measure, asked = measured(2.0)
    found = measured_winner(in_order(map(net, range(30, 0, -1))), width, measure, 30.0, tries=3, cheapest=net(4))
    assert asked == [30.0, 29.0, 28.0, 4.0]
    assert (found.winner.architecture, found.winner.kept) == (net(4), True)


def test_where_nothing_keeps_it_the_fastest_is_taken_and_says_so():
    measure, _ = measured(100.0)
    found = measured_winner(in_order([net(30), net(7), net(9)]), width, measure, 30.0, cheapest=net(8))
    assert (found.winner.architecture, found.winner.kept) == (net(7), False)
    assert len(found.rejected) == 3


def test_the_cheapest_is_measured_once():
    measure, asked = measured(100.0)
    measured_winner(in_order([net(7)]), width, measure, 30.0, cheapest=net(7))
    assert asked == [7.0]


def test_one_proposer_after_the_other_without_what_is_known():
    propose = then(in_order([net(3)]), in_order([net(3), net(2)]), tightened(lambda most: net(1), 9.0))
    trials = []
    for expected in (3, 2, 1):
        assert propose(trials) == net(expected)
        trials.append(Trial(net(expected), 8.0, 10.0, 9.0))
    assert propose(trials) is None  # the last one proposes the same for ever


def test_a_prediction_of_zero_breaks_nothing():
    found = measured_winner(tightened(lambda most: net(0), 1.0), lambda a: 0.0, lambda a: 2.0, 1.0, tries=2)
    assert isinstance(found, MeasuredWinner)


def test_mistakes():
    with pytest.raises(InputError, match="tries=0: needs 1 or more"):
        measured_winner(in_order([net(1)]), width, width, 1.0, tries=0)
    with pytest.raises(InputError, match="gave no candidate"):
        measured_winner(in_order([]), width, width, 1.0)
