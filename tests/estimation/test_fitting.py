import numpy as np
import pytest
import torch

from supernet.estimation.fitting import calibrated, fitted
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.space.architecture import Decision, random_architecture
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.nasbench201 import NasBench201
from supernet.space.survey import decisions_of


def cells(space, number, seed=0):
    decisions, stream = decisions_of(space), torch.Generator().manual_seed(seed)
    return decisions, [random_architecture(space.name, decisions, stream) for _ in range(number)]


def test_an_additive_cost_is_found_from_few_networks():
    space = NasBench201(channels=4, cells=1)
    costs = SpaceCosts(space, (3, 8, 8), 10)
    decisions, drawn = cells(space, 60)
    form = fitted(decisions, drawn, [costs.of("macs", one) for one in drawn])
    _, others = cells(space, 30, seed=1)
    assert [form.of(one) for one in others] == pytest.approx([costs.of("macs", one) for one in others], rel=1e-6)


def test_errors_are_relative():
    """One number for all: the least squares of the relative errors are at sum(1 / y) / sum(1 / y^2)."""
    decisions = {"edge": Decision("edge", ("a",))}
    values = np.array([1.0, 2.0, 8.0])
    _, drawn = {}, [random_architecture("mine", decisions, torch.Generator()) for _ in values]
    form = fitted(decisions, drawn, values.tolist())
    assert form.of(drawn[0]) == pytest.approx((1 / values).sum() / (1 / values**2).sum())


def test_blocks_that_are_left_out_cost_nothing():
    space = Mobile((Stage((8,), depths=(1, 2), kernels=(3, 5), expansions=(2,)),), stem=8, head=16)
    decisions, drawn = cells(space, 40)
    truth = [10.0 + 3 * (a["stage1/1/kernel"] == ("5",)) + (a.get("stage1/2/kernel") == ("5",)) for a in drawn]
    form = fitted(decisions, drawn, truth)
    assert [form.of(one) for one in drawn] == pytest.approx(truth)


def test_calibration():
    space = NasBench201(channels=4, cells=1, nodes=2)
    form = SpaceCosts(space, (3, 8, 8), 10).form("macs")
    _, drawn = cells(space, 20)
    predicted = [form.of(one) for one in drawn]
    changed = calibrated(form, predicted, [7.0 + 0.5 * value for value in predicted])
    assert [changed.of(one) for one in drawn] == pytest.approx([7.0 + 0.5 * value for value in predicted])
    weights = {n: torch.full((5,), 0.2) for n, d in form.decisions.items() if d.role == "operation"}
    assert float(changed(weights)) == pytest.approx(7.0 + 0.5 * float(form(weights)), rel=1e-6)


def test_bad_input():
    space = NasBench201(channels=4, cells=1)
    decisions, drawn = cells(space, 24)
    with pytest.raises(InputError, match="architectures: measured were 24, and 25 numbers are to be found"):
        fitted(decisions, drawn, [1.0] * 24)
    with pytest.raises(InputError, match=r"values=-1.0: costs are numbers above 0"):
        fitted(decisions, drawn, [-1.0] * 24)
    with pytest.raises(InputError, match="values: 2 numbers for 24 networks"):
        fitted(decisions, drawn, [1.0, 2.0])
    form = SpaceCosts(space, (3, 8, 8), 10).form("macs")
    with pytest.raises(InputError, match="predicted: 1 different prediction;"):
        calibrated(form, [2.0, 2.0], [1.0, 3.0])
