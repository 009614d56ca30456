import math

import pytest
import torch
from common import edge_decision, node_decision

from supernet.search.collapse.curvature import lambda_max
from supernet.search.collapse.monitor import risen
from supernet.search.statistics import entropy, groups, parametric, share, skip_count, weight_table
from supernet.space.architecture import Architecture
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet

DECISIONS = {
    d.name: d
    for d in (
        node_decision("normal/2", ("0", "1"), 2),
        edge_decision("normal/2/0", ("a", "b")),
        edge_decision("normal/2/1", ("a", "c")),
        edge_decision("reduce/2/0", ("a", "b")),
    )
}
WEIGHTS = {
    "normal/2/0": torch.tensor([0.5, 0.5]),
    "normal/2/1": torch.tensor([0.25, 0.75]),
    "reduce/2/0": torch.tensor([1.0, 0.0]),
}


def test_groups():
    assert groups(DECISIONS) == ["normal", "reduce"]


def test_entropy_is_relative_to_the_uniform():
    mixed = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(2)
    assert entropy(DECISIONS, WEIGHTS, "normal") == pytest.approx((1 + mixed) / 2)
    assert entropy(DECISIONS, WEIGHTS, "reduce") == pytest.approx(0, abs=1e-9)
    assert entropy(DECISIONS, {}, "normal") == 0.0


def test_skip_count():
    kept = {
        "normal/2": ("0", "1"),
        "normal/2/0": ("skip_connect",),
        "normal/2/1": ("a",),
        "reduce/2/0": ("skip_connect",),
    }
    assert skip_count(Architecture("toy", kept), DECISIONS, "normal") == 1


def test_shares_are_of_the_edges_that_are_kept():
    kept = {
        "normal/2": ("0", "1"),
        "normal/2/0": ("skip_connect",),
        "normal/2/1": ("sep_conv_3x3",),
        "reduce/2/0": ("none",),
        "normal/output": ("skip_connect",),  # no decision of the search: not counted
    }
    architecture = Architecture("toy", kept)
    assert share(architecture, DECISIONS, "normal", {"skip_connect"}) == 0.5
    assert share(architecture, DECISIONS, "normal", {"sep_conv_3x3", "skip_connect"}) == 1.0
    assert share(architecture, DECISIONS, "reduce", {"skip_connect", "none"}) == 0.0


def test_what_learns_weights_is_read_off_the_supernet():
    """A skip connection of stride 2 has convolutions, one of stride 1 has none: it is not parametric."""
    operations = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "noise", "nor_conv_1x1")
    space = Darts(channels=2, cells=3, nodes=2, operations=operations)
    assert parametric(Supernet(space.network(Undecided(), (1, 6, 6), 3))) == {"sep_conv_3x3", "nor_conv_1x1"}


def test_risen_compares_local_means():
    """By hand: windows of 5, four values apart, 1.5 / 1.2; shorter windows at the start, as in RobustDARTS' code."""
    values = [1.0, 1.0, 1.0, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5]
    assert risen(values, 5, 4) == pytest.approx(1.5 / 1.2)
    assert risen(values[:8], 5, 4) == pytest.approx(1.5 / 1.125)  # the older mean has four values
    assert risen(values[:7], 5, 4) == pytest.approx(1.4 / 1.0)  # and three
    assert risen(values[:6], 5, 4) is None
    assert risen([1.0, 3.0], 1, 1) == 3.0


def test_few_products_find_lambda_max():
    """Where power iteration would go to -5 first: a tenth of the products that there are dimensions."""
    spectrum = [3.0, -5.0, *torch.linspace(-1, 1, 98).tolist()]
    matrix = hessian(spectrum)
    alphas = torch.ones(100, dtype=torch.float64, requires_grad=True)
    assert lambda_max(alphas @ matrix @ alphas / 2, [alphas], 10, 0.0) == pytest.approx(3.0, rel=1e-2)


def test_table_leaves_gaps_where_an_edge_lacks_an_operation():
    edges, options, values = weight_table(DECISIONS, WEIGHTS, "normal")
    assert edges == ["c(k-2) → 0", "c(k-1) → 0"]
    assert options == ["a", "b", "c"]
    assert values.nan_to_num(-1).tolist() == [[0.5, 0.5, -1], [0.25, -1, 0.75]]


def hessian(spectrum, seed=0):
    """A symmetric matrix with these eigenvalues."""
    noise = torch.randn(
        len(spectrum), len(spectrum), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    basis, _ = torch.linalg.qr(noise)
    return basis @ torch.diag(torch.tensor(spectrum, dtype=torch.float64)) @ basis.T


@pytest.mark.parametrize(
    ("spectrum", "largest"),
    [
        ([3.0, 1.0, 0.5, -1.0, 0.0], 3.0),
        ([1.0, -5.0, 0.2, -0.5, 0.0], 1.0),  # the largest in size is negative: not the one that is asked for
        ([-1.0, -2.0, -3.0, -4.0, -5.0], -1.0),
        ([0.0, 0.0, 0.0, 0.0, 0.0], 0.0),
    ],
)
def test_lambda_max_of_a_quadratic(spectrum, largest):
    matrix = hessian(spectrum)
    alphas = [
        torch.ones(2, dtype=torch.float64, requires_grad=True),
        torch.ones(3, dtype=torch.float64).requires_grad_(),
    ]
    both = torch.cat(alphas)
    idle = torch.ones(4, dtype=torch.float64, requires_grad=True)
    found = lambda_max(both @ matrix @ both / 2, alphas, 1000, 1e-12)
    assert found == pytest.approx(largest, abs=1e-5)
    if largest > 0:  # parameters that play no part add eigenvalues of zero
        both = torch.cat(alphas)
        with_idle = lambda_max(both @ matrix @ both / 2, [*alphas, idle], 1000, 1e-12)
        assert with_idle == pytest.approx(largest, abs=1e-5)


def test_lambda_max_is_that_of_the_dense_hessian():
    """Of a softmax mixture, as in a supernet, against torch's own Hessian and its eigenvalues."""
    data = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss(alpha):
        return ((data @ alpha.softmax(0)).tanh() ** 2).sum() + (data * alpha).sin().sum()

    alpha = torch.tensor([0.3, -1.0, 0.5, 0.1], dtype=torch.float64, requires_grad=True)
    exact = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, alpha)).max().item()
    assert lambda_max(loss(alpha), [alpha], 1000, 1e-12) == pytest.approx(exact, rel=1e-5)
    assert alpha.grad is None
    assert lambda_max((alpha * 3).sum(), [alpha]) == 0.0


def test_lambda_max_of_a_supernet_is_that_of_differences_of_its_gradient():
    """Of a supernet's whole Hessian, by central differences."""
    torch.manual_seed(0)
    space = Darts(channels=2, cells=1, nodes=2, operations=("skip_connect", "sep_conv_3x3"))
    supernet = Supernet(space.network(Undecided(), (1, 6, 6), 3)).double()
    images, labels = torch.randn(6, 1, 6, 6, dtype=torch.float64), torch.arange(6) % 3
    names = [n for n, d in supernet.decisions.items() if d.role == "operation"]
    alphas = [torch.randn(2, dtype=torch.float64, requires_grad=True) for _ in names]

    def loss(values):
        weights = {n: a.softmax(0) for n, a in zip(names, values, strict=True)}
        return torch.nn.functional.cross_entropy(supernet(images, weights), labels)

    def slope(flat):
        leaves = [f.clone().requires_grad_() for f in flat.split(2)]
        return torch.cat(torch.autograd.grad(loss(leaves), leaves))

    at = torch.cat([a.detach() for a in alphas])
    steps = 1e-5 * torch.eye(len(at), dtype=torch.float64)
    dense = torch.stack([(slope(at + e) - slope(at - e)) / 2e-5 for e in steps])
    exact = torch.linalg.eigvalsh((dense + dense.T) / 2).max().item()
    assert lambda_max(loss(alphas), alphas, 100, 1e-6) == pytest.approx(exact, rel=1e-2)
