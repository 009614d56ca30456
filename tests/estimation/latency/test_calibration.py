"""The line from parts to networks, against numbers of a known line and numpy's own solution."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from supernet.estimation.latency.calibration import accuracy, fit
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
