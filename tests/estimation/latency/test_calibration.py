"""The line from parts to networks, against numbers of a known line and numpy's own solution."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from supernet.estimation.latency.calibration import Line, accuracy, fit, through_origin
from supernet.runtime.errors import InputError

DRAW = np.random.default_rng(5)
SUMS, MEGABYTES = DRAW.uniform(1, 5, 40), DRAW.uniform(2, 20, 40)


def test_a_known_line_is_found_exactly():
    line = fit(SUMS, MEGABYTES, 0.3 + 1.2 * SUMS + 0.05 * MEGABYTES)
    assert (line.constant, line.factor, line.megabyte) == pytest.approx((0.3, 1.2, 0.05))
    assert line(2.0, 10.0) == pytest.approx(3.2)


def test_megabytes_count_only_where_they_help():
    noise = 1 + 0.05 * DRAW.standard_normal(40)
    without = fit(SUMS[:8], MEGABYTES[:8], (0.3 + 1.2 * SUMS[:8]) * noise[:8])
    assert without.megabyte == 0.0
    with_them = fit(SUMS, MEGABYTES, (0.3 + 1.2 * SUMS + 0.2 * MEGABYTES) * noise)
    assert with_them.megabyte == pytest.approx(0.2, rel=0.2)


def test_relative_errors_are_made_small():
    measured = np.array([1.0, 2.0, 3.0, 100.0, 90.0])
    sums = np.array([1.1, 1.9, 3.2, 80.0, 95.0])
    line = fit(sums, [1.0] * 5, measured)
    steps = [(0.01, 0.0), (-0.01, 0.0), (0.0, 0.001), (0.0, -0.001)]

    def squares(constant, factor):
        return (((constant + factor * sums) / measured - 1) ** 2).sum()

    best = squares(line.constant, line.factor)
    assert all(squares(line.constant + a, line.factor + b) > best for a, b in steps)


def test_a_line_that_falls_goes_through_the_origin():
    sums, measured = [1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]
    line = fit(sums, [1.0, 1.0, 2.0, 2.0], measured)
    ratios = np.array(sums) / np.array(measured)
    assert (line.constant, line.megabyte) == (0.0, 0.0)
    assert line.factor == pytest.approx(ratios.sum() / (ratios**2).sum())
    assert line == through_origin(sums, measured)


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"factor": 0.0}, "factor=0.0: needs a number above 0"),
        ({"factor": -1.0}, "factor=-1.0"),
        ({"factor": float("nan")}, "factor=nan"),
        ({"factor": 1e9}, "and below 1e"),
        ({"constant": 1e308}, r"constant=1e\+308: needs a number above -1e\+09 and below 1e\+09"),
        ({"constant": float("-inf")}, "constant=-inf"),
        ({"megabyte": -0.1}, "megabyte=-0.1: needs a number of 0 or more"),
        ({"megabyte": 10**400}, "megabyte=10{39}: needs"),
    ],
)
def test_numbers_that_no_line_has(numbers, says):
    assert Line(constant=-0.5).factor == 1.0
    with pytest.raises(InputError, match=says):
        Line(**numbers)


@pytest.mark.parametrize(
    ("sums", "says"), [([1.0, 2.0, 3.0], "measured: 3 networks"), ([2.0, 2.0, 2.0, 2.0], "sums: all networks")]
)
def test_too_little_to_fit_is_one_line(sums, says):
    with pytest.raises(InputError, match=says):
        fit(sums, [1.0] * len(sums), [float(n + 1) for n in range(len(sums))])


def test_accuracy_by_hand():
    predicted, measured = [1.1, 1.8, 3.0, 4.8], [1.0, 2.0, 3.0, 4.0]
    found = accuracy(predicted, measured)
    assert found.mape == pytest.approx(100 * (0.1 + 0.1 + 0 + 0.2) / 4)
    assert found.bias == pytest.approx(100 * (0.1 - 0.1 + 0 + 0.2) / 4)
    assert (found.networks, found.within) == (4, 75.0)
    assert accuracy([2.0, 1.0, 3.0], [1.0, 2.0, 3.0]).spearman == pytest.approx(
        spearmanr([2.0, 1.0, 3.0], [1.0, 2.0, 3.0]).statistic
    )
    assert accuracy([1.0, 2.0], [1.0, 2.0]).spearman is None
