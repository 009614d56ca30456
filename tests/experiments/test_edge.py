"""The end-to-end experiment of networks within a limit: what it compares, and its way of going on."""

import math

import pytest

import supernet
from experiments.benchmarks import edge
from supernet.estimation.costs import macs
from supernet.space.choosers import Decided


def test_what_has_a_line_is_not_made_again(tmp_path):
    made = []

    def task(seed):
        def make():
            made.append(seed)
            return "a=1", 10, 5, 90.0 + seed

        return edge.Task("digits", 35_000, "evolution", seed, make)

    file = tmp_path / "edge.csv"
    edge.run((task(seed) for seed in range(2)), file, math.inf)
    edge.run((task(seed) for seed in range(3)), file, math.inf)
    edge.run((task(seed) for seed in range(9)), file, 0.0)
    assert made == [0, 1, 2]
    assert [row["value"] for row in edge.rows(file)] == ["90.0000", "91.0000", "92.0000"]


@pytest.mark.slow
@pytest.mark.parametrize("limit", edge.DIGITS_LIMITS)
def test_the_narrow_mobilenet_v3_is_the_published_one_within_the_limit(limit):
    data, genotype = supernet.data.digits(), supernet.published("mobilenet_v3_small")
    space = edge.narrow_v3(data, limit)
    network = space.network(Decided(genotype), data.shape, 10)
    assert 0.8 * limit < macs(network, data.shape) <= limit
    assert [len(stage.blocks) for stage in network.stages] == [1, 2, 3, 2, 3]


@pytest.mark.slow
def test_random_networks_are_not_smaller_than_what_is_found():
    space, shape, limit = edge.SPACE(width=0.5), (3, 16, 16), edge.CIFAR_LIMIT
    drawn = edge.near_the_limit(space, shape, limit)
    costs = [macs(space.network(Decided(one), shape, 10), shape) for one in drawn]
    assert len(set(drawn)) == len(drawn) == edge.CIFAR_RANDOM
    assert all(edge.NEAR * limit <= cost <= limit for cost in costs)


def test_the_report_counts_by_the_table(tmp_path):
    table = supernet.tables.micro_mobile(["digits_test", "macs"])
    limit = edge.DIGITS_LIMITS[0]
    within = {one: table(one).values["digits_test"] for one in table if table(one).values["macs"] <= limit}
    best = max(within, key=lambda one: within[one])
    file = tmp_path / "edge.csv"
    values = iter([within[best], within[best] - 3.0])

    def make():
        return "", 1, 1, next(values)

    edge.run((edge.Task("digits", limit, "evolution", seed, make) for seed in range(2)), file, math.inf)
    text = "\n".join(edge.report(file))
    line = next(line for line in text.splitlines() if line.startswith("| evolution"))
    assert f"| {within[best] - 1.5:.2f} | {3.0 / math.sqrt(2):.2f} | 1.50 |" in line
    assert f"{len(within)} networks, best {within[best]:.2f}" in text
