"""Values, and whole edges, that are dropped while training; the mean stays."""

import pytest
import torch
from torch import nn

from supernet.space.dropout import DropPath, SkipDropout, dropped, set_drop_path, set_skip_dropout
from supernet.space.operations import OPERATIONS, FactorizedReduce, Site

KINDS = [(SkipDropout, set_skip_dropout), (DropPath, set_drop_path)]


@pytest.mark.parametrize("kind", [SkipDropout, DropPath])
def test_nothing_is_dropped_at_rest_or_in_evaluation(kind):
    module, x = kind(), torch.randn(4, 2, 3, 3)
    state = torch.get_rng_state()
    assert module(x) is x
    module.probability = 0.5
    assert module.eval()(x) is x
    assert torch.equal(torch.get_rng_state(), state)  # nor is anything drawn
    assert not torch.equal(module.train()(x), x)


@pytest.mark.parametrize("kind", [SkipDropout, DropPath])
@pytest.mark.parametrize("probability", [0.2, 0.75])
def test_what_stays_is_so_large_that_the_mean_stays(kind, probability):
    torch.manual_seed(0)
    module = kind()
    module.probability = probability
    values = module(torch.ones(20_000, 1, 1, 1, dtype=torch.float64))
    assert values.unique().tolist() == [0.0, pytest.approx(1 / (1 - probability), rel=1e-12)]
    assert (values == 0).double().mean().item() == pytest.approx(probability, abs=0.02)
    assert values.mean().item() == pytest.approx(1.0, abs=0.05)


def test_a_path_is_dropped_for_whole_images_and_a_skip_value_by_value():
    torch.manual_seed(0)
    x, path, skip = torch.ones(64, 3, 4, 4), DropPath(), SkipDropout()
    path.probability = skip.probability = 0.5
    kept, values = path(x), skip(x)
    assert {len(image.unique()) for image in kept} == {1}
    assert kept.unique().tolist() == [0.0, 2.0]
    assert {len(image.unique()) for image in values} == {2}


def test_a_gradient_goes_where_the_values_went():
    torch.manual_seed(0)
    module, x = SkipDropout(), torch.randn(5, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    module.probability = 0.25
    out = module(x)
    slope = torch.autograd.grad(out.sum(), x)[0]
    assert torch.equal(slope * x, out)


def test_the_order_in_memory_does_not_decide_what_is_dropped():
    module, x = SkipDropout(), torch.randn(2, 3, 4, 5)
    module.probability, outs = 0.5, []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        outs.append(module(x.contiguous(memory_format=layout)))
    assert torch.equal(*outs)


@pytest.mark.parametrize(("kind", "setter"), KINDS)
def test_a_rate_reaches_all_of_a_kind_and_no_other(kind, setter):
    network = nn.Sequential(SkipDropout(), nn.Sequential(DropPath(), SkipDropout()), DropPath(), nn.Dropout(0.1))
    setter(network, 0.3)
    rates = {type(m): m.probability for m in network.modules() if isinstance(m, SkipDropout | DropPath)}
    assert rates == {SkipDropout: 0.0, DropPath: 0.0, kind: 0.3}
    assert [m.probability for m in network.modules() if isinstance(m, kind)] == [0.3, 0.3]
    assert network[3].p == 0.1


def test_only_identities_get_dropout():
    build = dropped(OPERATIONS["skip_connect"])
    assert isinstance(build(Site(4, 4)), SkipDropout)
    assert isinstance(build(Site(4, 4, 2)), FactorizedReduce)
    assert isinstance(build(Site(4, 6)), nn.Sequential)
