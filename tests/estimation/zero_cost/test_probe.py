"""The passes that proxies share: made once, in training mode, without a trace in the network."""

import torch
from torch import nn

from supernet.data.batches import Batch
from supernet.estimation.zero_cost.probe import Probe, as_in_training, layers_of
from supernet.estimation.zero_cost.score import PROXIES
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts


def batches():
    stream = torch.Generator().manual_seed(0)
    return [Batch(torch.randn(4, 1, 5, 5, generator=stream), torch.tensor([0, 1, 1, 0])) for _ in range(2)]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))


def test_each_pass_is_made_once():
    given, passes = network(), []
    given.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    probe = Probe(given, batches(), second_order=True)
    for name in ("snip", "plain", "grad_norm", "fisher", "grasp", "jacov", "epe"):
        PROXIES[name].measure(probe)
    assert passes == [4]
    PROXIES["zico"].measure(probe)
    assert passes == [4, 4]


def test_all_proxies_leave_weights_gradients_statistics_modes_and_images_alone():
    given, own = network().eval(), batches()
    given[2].train()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    for proxy in PROXIES.values():
        proxy.measure(Probe(given, own))
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert [module.training for module in given] == [False, False, True, False, False]
    assert all(parameter.grad is None for parameter in given.parameters())
    assert not any(batch.images.requires_grad for batch in own)
    assert not any(module._forward_hooks for module in given)


def test_values_do_not_depend_on_the_mode_of_the_network_nor_on_what_its_norms_remember():
    one, two = network(), network().eval()
    two[1].running_mean.fill_(5.0)
    for name, proxy in PROXIES.items():
        assert proxy.measure(Probe(one, batches())) == proxy.measure(Probe(two, batches())), name


def test_gradients_are_the_same_with_and_without_what_grasp_needs():
    once, twice = Probe(network(), batches()), Probe(network(), batches(), second_order=True)
    pairs = [(once.gradients, twice.gradients), (once.output_gradients, twice.output_gradients)]
    for ours, theirs in (pair for each in pairs for pair in zip(*each, strict=True)):
        torch.testing.assert_close(ours, theirs)
    assert not any(gradient.requires_grad for gradient in twice.gradients)


def test_a_layer_that_leads_nowhere_has_zero_gradients():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(25, 2), nn.Linear(25, 2)

        def forward(self, x):
            self.idle(x.flatten(1))
            return self.used(x.flatten(1))

    used, idle = Probe(Beside(), batches()).gradients
    assert used.abs().sum() > 0 == idle.abs().sum()


def test_an_auxiliary_head_plays_no_part():
    space = Darts(channels=4, cells=3, nodes=2, operations=("skip_connect", "sep_conv_3x3"), auxiliary=True)
    with torch.device("meta"):
        given = space.network(Undecided(), (3, 8, 8), 10)
    assert given.auxiliary is not None
    own = layers_of(given)
    assert not set(own) & set(given.auxiliary.modules())
    assert given.classifier in own


def test_norms_use_the_batch_and_remember_nothing():
    norm = nn.BatchNorm2d(1).eval()
    x = torch.randn(4, 1, 3, 3)
    with as_in_training(norm):
        assert abs(norm(x).mean().item()) < 1e-6
    assert norm.running_mean.item() == 0.0
    assert not norm.training
    assert norm.track_running_stats
