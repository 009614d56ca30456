"""Each term against its formula written out in another way, and its gradient's direction."""

import math

import pytest
import torch
from common import edge_decision, node_decision
from waiting import waits

from supernet.runtime.errors import InputError
from supernet.search.differentiable.objectives import (
    BetaDecay,
    DirichletAnchor,
    Entropy,
    ExpectedCost,
    RelaxedWeights,
    ZeroOne,
)

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
