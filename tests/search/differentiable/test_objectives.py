"""Each term against its formula written out in another way, and its gradient's direction."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from common import edge_decision, node_decision
from waiting import waits

from supernet.estimation.forms import Form
from supernet.estimation.forms import Term as Table
from supernet.estimation.limits import Limits
from supernet.estimation.space_costs import SpaceCosts
from supernet.runtime.errors import InputError
from supernet.search.differentiable.objectives import (
    BetaDecay,
    CostTerm,
    DirichletAnchor,
    Entropy,
    ExpectedCost,
    RelaxedWeights,
    ZeroOne,
    shares,
)
from supernet.space.architecture import Decision
from supernet.space.nasbench201 import NasBench201

DECISIONS = {
    d.name: d
    for d in (
        node_decision("normal/2", ("0", "1"), 2),
        edge_decision("normal/2/0", ("skip", "conv", "pool")),
        edge_decision("normal/2/1", ("skip", "conv")),
    )
}
LOGITS = {
    "normal/2": torch.tensor([5.0, -5.0], dtype=torch.float64),
    "normal/2/0": torch.tensor([0.3, -1.0, 1.2], dtype=torch.float64),
    "normal/2/1": torch.tensor([-0.5, 2.0], dtype=torch.float64),
}
EDGES = ("normal/2/0", "normal/2/1")


def relaxed(relax=lambda x: x.softmax(-1), progress=0.5, logits=None, epochs=100) -> RelaxedWeights:
    logits = logits or LOGITS
    return RelaxedWeights(DECISIONS, logits, {n: relax(x) for n, x in logits.items()}, progress, epochs)


def gradient(term, relax=lambda x: x.softmax(-1), progress=0.5):
    leaves = {n: x.clone().requires_grad_() for n, x in LOGITS.items()}
    value = term(relaxed(relax, progress, leaves))
    return dict(zip(leaves, torch.autograd.grad(value, leaves.values(), materialize_grads=True), strict=True))


def test_zero_one():
    values = [1 / (1 + math.exp(-x)) for n in EDGES for x in LOGITS[n].tolist()]
    l2 = -10 * sum((v - 0.5) ** 2 for v in values) / 5
    l1 = -2 * sum(abs(v - 0.5) for v in values) / 5
    assert ZeroOne()(relaxed(torch.sigmoid)).item() == pytest.approx(l2)
    assert ZeroOne(2.0, "l1")(relaxed(torch.sigmoid)).item() == pytest.approx(l1)
    # as hard on each of the five as in a space of 20
    assert ZeroOne(among=20)(relaxed(torch.sigmoid)).item() == pytest.approx(l2 * 5 / 20)
    assert ZeroOne(2.0, "l1", among=20)(relaxed(torch.sigmoid)).item() == pytest.approx(l1 * 5 / 20)
    assert ZeroOne(among=5)(relaxed(torch.sigmoid)).item() == pytest.approx(l2)
    with pytest.raises(InputError, match="among=0: needs 1 operation or more"):
        ZeroOne(among=0)


@pytest.mark.parametrize("form", ["l2", "l1"])
def test_zero_one_drives_sigmoids_apart(form):
    """A descent step takes each logit away from 0: the known mistake, a + sign, would pull all to 1/2."""
    slopes = gradient(ZeroOne(form=form), torch.sigmoid)
    for name in EDGES:
        assert torch.equal(slopes[name].sign(), -LOGITS[name].sign())
    assert not slopes["normal/2"].any()
    with pytest.raises(InputError, match="use l2 or l1"):
        ZeroOne(form="l3")


def test_beta_decay():
    mean = sum(math.log(sum(math.exp(x) for x in LOGITS[n].tolist())) for n in EDGES) / 2
    assert BetaDecay()(relaxed(progress=0.5)).item() == pytest.approx(25 * mean)
    assert BetaDecay()(relaxed(progress=0.0)).item() == 0
    # the authors' factor is 50 epoch / 100, however long the search is: after 30 of 50 epochs 15
    assert BetaDecay()(relaxed(progress=0.6, epochs=50)).item() == pytest.approx(15 * mean)
    # without a span it ends at the weight, however long the search is
    for epochs in (8, 100):
        assert BetaDecay(2.0, span=None)(relaxed(progress=0.75, epochs=epochs)).item() == pytest.approx(1.5 * mean)
    assert BetaDecay(2.0, span=40)(relaxed(progress=0.5, epochs=20)).item() == pytest.approx(0.5 * mean)
    with pytest.raises(InputError, match="span=0: needs 1 epoch or more"):
        BetaDecay(span=0)


def test_beta_decay_pulls_each_logit_by_its_softmax():
    """d logsumexp / d alpha = softmax(alpha): the larger, the stronger, which plain weight decay is not."""
    slopes = gradient(BetaDecay(weight=1.0), progress=0.5)
    for name in EDGES:
        torch.testing.assert_close(slopes[name], 0.5 * LOGITS[name].softmax(0) / 2)
    assert not slopes["normal/2"].any()


def test_dirichlet_anchor_is_torchs_divergence():
    total = 0.0
    for name in EDGES:
        c = torch.nn.functional.elu(LOGITS[name]) + 1
        p, q = torch.distributions.Dirichlet(c), torch.distributions.Dirichlet(torch.ones_like(c))
        total += torch.distributions.kl_divergence(p, q).item()
    assert DirichletAnchor()(relaxed()).item() == pytest.approx(1e-3 * total)
    flat = {n: torch.zeros_like(x) for n, x in LOGITS.items()}
    assert DirichletAnchor()(relaxed(logits=flat)).item() == pytest.approx(0, abs=1e-12)
    assert gradient(DirichletAnchor())["normal/2/1"][1] > 0  # back to a concentration of 1


def test_entropy():
    values = {n: LOGITS[n].softmax(0).tolist() for n in EDGES}
    mean = sum(-sum(p * math.log(p) for p in values[n]) for n in EDGES) / 2
    assert Entropy(2.0)(relaxed()).item() == pytest.approx(2 * mean)
    decided = relaxed(lambda x: torch.zeros_like(x).index_fill(0, x.argmax(), 1.0))
    assert Entropy()(decided).item() == 0
    one = gradient(Entropy())["normal/2/1"]
    assert one[1] < 0 < one[0]  # a descent step strengthens the stronger


def test_expected_cost():
    costs = {"skip": 0.0, "conv": 2.0, "pool": 0.5}
    p, q = (LOGITS[n].softmax(0).tolist() for n in EDGES)
    assert ExpectedCost(costs, 3.0)(relaxed()).item() == pytest.approx(3 * (2 * p[1] + 0.5 * p[2] + 2 * q[1]))
    assert not waits(ExpectedCost(costs, 3.0), relaxed())
    with pytest.raises(InputError, match=r"none for 'pool'; give each of skip, conv, pool one"):
        ExpectedCost({"skip": 0.0, "conv": 1.0})(relaxed())


EDGE = Decision("edge", ("none", "a", "b"))
FORM = Form({"edge": EDGE}, 1.0, (Table(("edge",), (), np.array([2.0, 6.0]), (("a", "b"),)),))


def at_weights(values, **more) -> RelaxedWeights:
    weights = {"edge": torch.tensor(values, dtype=torch.float64, requires_grad=True)}
    return RelaxedWeights({"edge": EDGE}, weights, weights, 0.5, 100, **more)


def test_cost_terms_by_hand():
    even = [0.2, 0.4, 0.4]  # of what can be kept each has a half: 1 + (2 + 6) / 2 = 5
    loss = torch.tensor(3.0, dtype=torch.float64)
    assert CostTerm(FORM, 4.0, 0.5, "hinge")(at_weights(even)).item() == pytest.approx(0.5 * 0.25)
    assert CostTerm(FORM, 8.0, 0.5, "hinge")(at_weights(even)).item() == 0.0
    assert CostTerm(FORM, 8.0, 0.5, "absolute")(at_weights(even)).item() == pytest.approx(0.5 * 0.375)
    assert CostTerm(FORM, 8.0, 0.5, "linear")(at_weights(even)).item() == pytest.approx(-0.5 * 0.375)
    multiplied = loss + CostTerm(FORM, 8.0, 0.6)(at_weights(even, loss=loss))
    assert multiplied.item() == pytest.approx(3.0 * (math.log(1 + 5 / 8) / math.log(2)) ** 0.6)


def test_the_multiplied_loss_stays_positive_and_grows_with_the_cost():
    """The logarithm of the cost itself would be negative below one unit, as small networks in milliseconds are."""
    at = at_weights([0.0, 0.5, 0.5], loss=torch.tensor(2.0))
    factors = [2.0 + CostTerm(FORM, target)(at).item() for target in (1e6, 100.0, 5.0, 0.01)]
    assert factors == sorted(factors)
    assert 0.0 < factors[0] < 2.0 < factors[-1]


def test_both_factors_of_the_multiplied_loss_have_a_gradient():
    at = at_weights([0.0, 0.5, 0.5])
    loss = (at.weights["edge"] * torch.tensor([0.0, 1.0, 3.0])).sum()
    at = replace(at, loss=loss)
    whole = loss + CostTerm(FORM, 5.0, 2.0)(at)
    (gradient,) = torch.autograd.grad(whole, at.weights["edge"])

    def value(x):
        shares = x[1:] / x[1:].sum()
        cost = 1.0 + 2.0 * shares[0] + 6.0 * shares[1]
        return (x[1] + 3.0 * x[2]) * (math.log(1 + cost / 5.0) / math.log(2)) ** 2.0

    for place in (1, 2):
        up, down = (np.array([0.0, 0.5, 0.5]) + sign * 1e-6 * np.eye(3)[place] for sign in (1, -1))
        assert gradient[place].item() == pytest.approx((value(up) - value(down)) / 2e-6, rel=1e-6)


def test_the_cost_term_can_do_without_what_was_drawn():
    """A path that is drawn has no gradient for the others, and none at all where it is left out (ProxylessNAS)."""
    drawn = {"edge": torch.tensor([0.0, 1.0, 0.0])}
    alphas = torch.zeros(3, requires_grad=True)
    at = RelaxedWeights({"edge": EDGE}, {"edge": alphas}, drawn, 0.5, 100, expected={"edge": alphas.softmax(-1)})
    assert CostTerm(FORM, 5.0, 1.0, "linear")(at).item() == pytest.approx(-0.4)
    term = CostTerm(FORM, 5.0, 1.0, "linear", drawn=False)(at)
    term.backward()
    assert term.item() == pytest.approx(0.0)
    assert alphas.grad[2] > 0.0 > alphas.grad[1]


def test_costs_and_targets_are_those_of_the_limits():
    costs = SpaceCosts(NasBench201(channels=4, cells=1, nodes=2), (3, 8, 8), 10)
    weights = {n: torch.full((5,), 0.2) for n, d in costs.decisions.items() if d.role == "operation"}
    at = RelaxedWeights(costs.decisions, weights, weights, 0.5, 100, limits=Limits(costs, {"params": 2000.0}))
    expected = float(costs.form("parameters")(weights))
    assert CostTerm("parameters", weight=1.0, kind="linear")(at).item() == pytest.approx(expected / 2000 - 1)
    with pytest.raises(InputError, match="target=None: needs a number, or a limit on this cost"):
        CostTerm("macs")(at)
    with pytest.raises(InputError, match="cost=watts: no cost has this name"):
        CostTerm("watts", 1.0)(at)
    with pytest.raises(InputError, match="cost=memory: is known of whole networks alone"):
        CostTerm("memory", 1.0)(at)
    with pytest.raises(InputError, match="cost=macs: nothing is known of costs here"):
        CostTerm("macs", 1.0)(replace(at, limits=None))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": 0.0}, r"target=0.0: needs a number above 0"),
        ({"weight": -1.0}, r"weight=-1.0: needs 0 or more"),
        ({"kind": "sum"}, "kind=sum: use log_multiplicative, hinge, absolute or linear"),
    ],
)
def test_cost_terms_that_cannot_be(settings, words):
    with pytest.raises(InputError, match=words):
        CostTerm(FORM, **settings)


def test_shares_of_sigmoids_and_of_inputs():
    node = node_decision("n", ("0", "1", "2"), 2)
    weights = {"n": torch.tensor([0.5, 0.25, 0.25]), "edge": torch.tensor([0.9, 0.9, 0.3]), "off": torch.zeros(2)}
    every = {"n": node, "edge": EDGE, "off": Decision("off", ("a", "b"))}
    made = shares(weights, every)
    torch.testing.assert_close(made["n"], torch.tensor([1.0, 0.5, 0.5]))
    torch.testing.assert_close(made["edge"], torch.tensor([0.0, 0.75, 0.25]))
    assert made["off"].tolist() == [0.0, 0.0]  # does not matter in a drawn path
