"""The benchmark's comparison of ways to predict latency, on numbers whose answer is known."""

import numpy as np

from experiments.benchmarks.latency_prediction import compared
from supernet.estimation.latency.networks import Checked
from supernet.estimation.latency.timing import Latency
from supernet.space.architecture import Architecture


def test_each_way_is_fitted_on_some_and_judged_on_the_others():
    draw = np.random.default_rng(0)
    sums, megabytes, macs = draw.uniform(1, 2, 20), draw.uniform(5, 9, 20), draw.uniform(5e7, 9e7, 20)
    truth = 0.1 + 1.3 * sums + 0.05 * megabytes
    networks = [
        Checked(Architecture("mine", {}), n < 10, s, m, t, Latency(t, t, t, t, 5))
        for n, (s, m, t) in enumerate(zip(sums, megabytes, truth, strict=True))
    ]
    found = compared(networks, list(macs))
    assert found["as the table has it"].startswith("error 0.0 % (+0.0 %), within 10 %: 100 %, Spearman 1.000 (10 ")
    plain = 100 * np.abs(sums[10:] / truth[10:] - 1).mean()
    assert found["plain sum of the parts"].startswith(f"error {plain:.1f} %")
    assert not found["a + b * multiply-adds"].startswith("error 0.")
