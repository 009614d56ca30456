import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from supernet.data.batches import Batch
from supernet.search.architects import conjugate_gradient, first_order, neumann, unrolled, unrolled_exact
from supernet.search.discretisers import argmax
from supernet.search.gradient import GradientStrategy
from supernet.search.loop import search_step
from supernet.search.relaxations import Dirichlet, Gumbel, Sigmoid, Softmax
from supernet.search.strategy import Step, frozen_statistics
from supernet.space.cells import reference, running
from supernet.space.choices import Supernet
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.training.tasks import Classification

ADAM = partial(torch.optim.Adam, lr=3e-3, betas=(0.5, 0.999), weight_decay=1e-3)


@pytest.fixture
def supernet():
    torch.manual_seed(0)
    return Supernet(Darts(channels=2, cells=3, nodes=2).network(Undecided(), (1, 6, 6), 3)).double()


def strategy_of(supernet, relaxation=None, inputs=None, architect=first_order, seed=0, **settings):
    strategy = GradientStrategy(
        "darts",
        supernet.decisions,
        operations=relaxation or Softmax(),
        inputs=inputs,
        architect=architect,
        optimizer=ADAM,
        discretiser=argmax,
        seed=seed,
        **settings,
    )
    strategy.logits.double()
    return strategy


def batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 1, 6, 6, dtype=torch.float64, generator=generator)
    return Batch(images, torch.randint(3, (6,), generator=generator))


def step_of(supernet, train=1, valid=2, progress=0.25):
    optimizer = torch.optim.SGD(supernet.parameters(), 0.05, momentum=0.9, weight_decay=3e-4)
    return Step(supernet, batch(train), batch(valid), Classification(), optimizer, progress)


def logits(strategy):
    return torch.cat([p.detach() for p in strategy.logits.values()])


@pytest.mark.parametrize("architect", [first_order, unrolled, unrolled_exact, neumann, conjugate_gradient])
@pytest.mark.parametrize("relaxation", [Softmax(), Gumbel(hard=True), Dirichlet(), Sigmoid()])
def test_update_moves_the_alphas_and_nothing_else(supernet, architect, relaxation):
    """Weights, their gradients, batch-norm statistics and the global random state stay as they are, bit for bit."""
    strategy, step = strategy_of(supernet, relaxation, architect=architect), step_of(supernet)
    supernet(step.train.images, strategy.sample(0.0)).sum().backward()
    state = copy.deepcopy(supernet.state_dict())
    gradients = [None if p.grad is None else p.grad.clone() for p in supernet.parameters()]
    before, noise = logits(strategy), torch.get_rng_state()
    strategy.update(step)
    assert not torch.equal(logits(strategy), before)
    assert torch.equal(torch.get_rng_state(), noise)
    for name, value in supernet.state_dict().items():
        assert torch.equal(value, state[name]), name
    for parameter, gradient in zip(supernet.parameters(), gradients, strict=True):
        assert (parameter.grad is None and gradient is None) or torch.equal(parameter.grad, gradient)
    assert all(m.track_running_stats for m in supernet.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_frozen_statistics_still_normalises_by_the_batch():
    norm = torch.nn.BatchNorm2d(3)
    x = torch.randn(8, 3, 4, 4) * 5 + 2
    with frozen_statistics(norm):
        inside = norm(x)
    torch.testing.assert_close(inside, norm(x))
    assert norm.num_batches_tracked == 1


def test_first_order_learns_from_validation_data_alone(supernet):
    moved = []
    for train, valid in ((1, 2), (9, 2), (1, 3)):
        strategy = strategy_of(supernet)
        strategy.update(step_of(supernet, train, valid))
        moved.append(logits(strategy))
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])


def test_update_is_adam_along_the_gradient_of_the_validation_loss(supernet):
    strategy, step = strategy_of(supernet), step_of(supernet)
    twin = {n: p.detach().clone().requires_grad_() for n, p in strategy.logits.items()}
    optimizer = ADAM(twin.values())
    weights = {n: p.softmax(0) for n, p in twin.items()}
    with frozen_statistics(supernet):
        F.cross_entropy(supernet(step.valid.images, weights), step.valid.labels).backward()
    optimizer.step()
    strategy.update(step)
    torch.testing.assert_close(logits(strategy), torch.cat([p.detach() for p in twin.values()]), rtol=1e-12, atol=0)
    measures = strategy.measures()
    assert measures["lr/alpha"] == 3e-3
    norm = torch.cat([p.grad for p in twin.values()]).norm().item()
    assert measures["alpha/grad_norm"] == pytest.approx(norm)


def test_the_virtual_step_uses_the_optimizers_own_momentum(supernet):
    """With momentum buffers in the optimizer the second-order update differs from that without."""
    results = []
    for fill in (False, True):
        strategy, step = strategy_of(supernet, architect=unrolled_exact), step_of(supernet)
        if fill:
            for p in supernet.parameters():
                step.optimizer.state[p]["momentum_buffer"] = torch.ones_like(p)
        strategy.update(step)
        results.append(strategy.measures()["alpha/grad_norm"])
    assert results[0] != pytest.approx(results[1], rel=1e-3)


@pytest.mark.parametrize(("architect", "losses"), [(first_order, 1), (unrolled_exact, 2), (neumann, 1)])
def test_what_is_differentiated_twice_runs_on_the_reference_executor(supernet, architect, losses):
    """The cells' own executor sees the other losses only, and has its place back at the end."""
    seen = []

    def fast(cell, inputs):
        seen.append(cell)
        return reference(cell, inputs)

    with running(supernet, fast):
        strategy_of(supernet, architect=architect).update(step_of(supernet))
        assert len(seen) == 3 * losses
        assert all(cell.execute is fast for cell in seen)


def test_noise_is_one_draw_an_update_and_new_every_step(supernet):
    strategy = strategy_of(supernet, Gumbel())
    again = strategy_of(supernet, Gumbel())
    first, second = strategy.sample(0.5), strategy.sample(0.5)
    name = next(iter(first))
    assert not torch.equal(first[name], second[name])
    torch.manual_seed(99)  # the global generator has no say
    assert torch.equal(again.sample(0.5)[name], first[name])
    assert torch.equal(strategy.relax(0.5, 7)[name], strategy.relax(0.5, 7)[name])
    assert not torch.equal(strategy_of(supernet, Gumbel(), seed=1).sample(0.5)[name], first[name])


def test_inputs_are_relaxed_only_where_asked(supernet):
    assert not any(supernet.decisions[n].inputs for n in strategy_of(supernet).sample(0.0))
    both = strategy_of(supernet, inputs=Softmax())
    assert set(both.sample(0.0)) == set(supernet.decisions)
    both.update(step_of(supernet))
    assert both.logits["normal/3"].grad.abs().sum() > 0


def test_terms_join_the_validation_loss(supernet):
    name = "normal/2/0"
    strategy = strategy_of(supernet, terms=[lambda weights: 1e6 * weights[name][3]])
    strategy.update(step_of(supernet))
    assert strategy.logits[name].grad.argmax() == 3
    assert strategy.logits[name].grad[3] > 1e4


def test_state_goes_round(supernet):
    strategy, twin = strategy_of(supernet, Gumbel()), strategy_of(supernet, Gumbel(), seed=0)
    strategy.update(step_of(supernet))
    twin.load_state_dict(copy.deepcopy(strategy.state_dict()))
    for each in (strategy, twin):
        each.update(step_of(supernet, 4, 5))
    assert torch.equal(logits(strategy), logits(twin))
    assert strategy.finish() == twin.finish()


class Noise(nn.Module):
    """Passes on nothing of its input."""

    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        return torch.randn_like(x[..., :: self.stride, :: self.stride])


def test_prefers_the_operation_that_helps():
    """Where one of two operations destroys its input, every edge comes to prefer the other."""
    torch.manual_seed(0)
    factories = {
        "noise": lambda site: Noise(site.stride),
        "pass": lambda site: nn.Identity() if site.stride == 1 else nn.AvgPool2d(2),
    }
    space = Darts(channels=4, cells=3, nodes=2, operations=("noise", "pass"))
    supernet = Supernet(space.network(Undecided(factories), (1, 8, 8), 2))
    strategy = GradientStrategy(
        "darts",
        supernet.decisions,
        operations=Softmax(),
        inputs=None,
        architect=first_order,
        optimizer=partial(torch.optim.Adam, lr=0.05),
        discretiser=argmax,
    )
    optimizer = torch.optim.SGD(supernet.parameters(), 0.05, momentum=0.9)
    for number in range(60):
        generator = torch.Generator().manual_seed(number)
        labels = torch.randint(2, (64,), generator=generator)
        images = torch.randn(64, 1, 8, 8, generator=generator) + (labels - 0.5).view(-1, 1, 1, 1)
        halves = Batch(images[:32], labels[:32]), Batch(images[32:], labels[32:])
        search_step(Step(supernet, *halves, Classification(), optimizer, number / 60), strategy, 5.0)
    preferences = {name: weights[1].item() for name, weights in strategy.expected().items()}
    assert min(preferences.values()) > 0.55, preferences
    assert {kept for name, kept in strategy.finish().items() if name.count("/") == 2} == {("pass",)}
