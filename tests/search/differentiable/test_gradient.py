import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from supernet.data.batches import Batch
from supernet.estimation.limits import Limits
from supernet.estimation.space_costs import SpaceCosts
from supernet.execution.modes import frozen_statistics, running
from supernet.runtime.errors import InputError
from supernet.search.differentiable.architects import conjugate_gradient, first_order, neumann, unrolled, unrolled_exact
from supernet.search.differentiable.discretisers import argmax
from supernet.search.differentiable.gradient import GradientStrategy, uniform
from supernet.search.differentiable.objectives import BetaDecay, CostTerm, shares
from supernet.search.differentiable.optimizers import ExponentiatedGradient
from supernet.search.differentiable.relaxations import BinaryGates, Dirichlet, Gumbel, Sigmoid, Simplex, Softmax
from supernet.search.differentiable.weight_transforms import (
    Adversarial,
    AuxiliarySkip,
    RandomSmoothing,
    TransformContext,
    _uniform_noise,
)
from supernet.search.loop import search_step
from supernet.search.strategy import Step
from supernet.space.architecture import Decision
from supernet.space.cells import reference
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet
from supernet.training.tasks import Classification

ADAM = partial(torch.optim.Adam, lr=3e-3, betas=(0.5, 0.999), weight_decay=1e-3)


@pytest.fixture
def supernet():
    return made()


def made(**chooser):
    torch.manual_seed(0)
    return Supernet(Darts(channels=2, cells=3, nodes=2).network(Undecided(**chooser), (1, 6, 6), 3)).double()


def strategy_of(supernet, relaxation=None, inputs=None, architect=first_order, seed=0, optimizer=ADAM, **settings):
    strategy = GradientStrategy(
        "darts",
        supernet.decisions,
        operations=relaxation or Softmax(),
        inputs=inputs,
        architect=architect,
        optimizer=optimizer,
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


def test_inputs_are_chosen_by_the_relaxations_strength(supernet):
    """DrNAS' authors rank by softmax(alpha); by the Dirichlet mean node 3 would take inputs 0 and 2."""
    strategy = strategy_of(supernet, Dirichlet())
    with torch.no_grad():
        for source, three in (("0", [5.0, -9.0, -9.0]), ("1", [0.5, 1.5, -1.0]), ("2", [-0.5, -1.0, 0.5])):
            strategy.logits[f"normal/3/{source}"].fill_(-9.0)[1:4] = torch.tensor(three)
    assert strategy.finish()["normal/3"] == ("0", "1")
    assert argmax("darts", supernet.decisions, strategy.expected())["normal/3"] == ("0", "2")


def logits(strategy):
    return torch.cat([p.detach() for p in strategy.logits.values()])


@pytest.mark.parametrize("architect", [first_order, unrolled, unrolled_exact, neumann, conjugate_gradient])
@pytest.mark.parametrize("relaxation", [Softmax(), Gumbel(hard=True), Dirichlet(), Sigmoid()])
def test_update_moves_the_alphas_and_nothing_else(supernet, architect, relaxation):
    """Weights, their gradients, batch-norm statistics and the global random state stay as they are, bit for bit."""
    strategy, step = strategy_of(supernet, relaxation, architect=architect), step_of(supernet)
    supernet(step.train.images, strategy.sample(step)).sum().backward()
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
    step = step_of(supernet, progress=0.5)
    first, second = strategy.sample(step), strategy.sample(step)
    name = next(iter(first))
    assert not torch.equal(first[name], second[name])
    torch.manual_seed(99)  # the global generator has no say
    assert torch.equal(again.sample(step)[name], first[name])
    assert torch.equal(strategy.relax(0.5, 7)[name], strategy.relax(0.5, 7)[name])
    assert not torch.equal(strategy_of(supernet, Gumbel(), seed=1).sample(step)[name], first[name])


def test_inputs_are_relaxed_only_where_asked(supernet):
    assert not any(supernet.decisions[n].role == "inputs" for n in strategy_of(supernet).sample(step_of(supernet)))
    both = strategy_of(supernet, inputs=Softmax())
    assert set(both.sample(step_of(supernet))) == set(supernet.decisions)
    both.update(step_of(supernet))
    assert both.logits["normal/3"].grad.abs().sum() > 0


def test_terms_join_the_validation_loss(supernet):
    name = "normal/2/0"
    strategy = strategy_of(supernet, terms={"some": lambda at: 1e6 * at.weights[name][3]})
    strategy.update(step_of(supernet))
    assert strategy.logits[name].grad.argmax() == 3
    assert strategy.logits[name].grad[3] > 1e4


def test_terms_see_logits_weights_decisions_and_progress(supernet):
    seen = []

    def term(at):
        seen.append(at)
        torch.testing.assert_close(at.weights["normal/2/0"], at.logits["normal/2/0"].softmax(0))
        return 0.0 * at.logits["normal/2/0"].sum()

    strategy = strategy_of(supernet, terms={"some": term})
    strategy.update(step_of(supernet, progress=0.25))
    (at,) = seen
    assert at.progress == 0.25
    assert set(at.operations()) == set(strategy.logits)


def test_a_term_can_multiply_the_loss(supernet):
    """Twice the loss has twice the gradient: the term is given the loss, with its graph."""
    gradients = []
    for terms in ({}, {"double": lambda at: at.loss}):
        strategy = strategy_of(supernet, terms=terms)
        strategy.update(step_of(supernet))
        gradients.append(torch.cat([alphas.grad for alphas in strategy.logits.values()]))
    torch.testing.assert_close(gradients[1], 2.0 * gradients[0])


def test_a_cost_term_lowers_the_expected_cost(supernet):
    costs = SpaceCosts(Darts(channels=2, cells=3, nodes=2), (1, 6, 6), 3)
    limits, form = Limits(costs, {"macs": 1.5 * Limits(costs, {}).cheapest("macs")[1]}), costs.form("macs")
    expected = {}
    for weight in (0.0, 100.0):
        term = CostTerm("macs", weight=weight, kind="absolute")
        strategy = strategy_of(supernet, terms={"cost": term}, limits=limits)
        for _ in range(20):
            strategy.update(step_of(supernet))
        expected[weight] = float(form(shares(strategy.expected(), supernet.decisions), supernet.decisions))
    assert expected[100.0] < expected[0.0]


def test_the_search_ends_within_limits(supernet):
    costs = SpaceCosts(Darts(channels=2, cells=3, nodes=2), (1, 6, 6), 3)
    free = strategy_of(supernet)
    with torch.no_grad():
        for name in free.logits:
            free.logits[name][5] = 3.0  # sep_conv_5x5
    limits = Limits(costs, {"parameters": 0.9 * costs.of("parameters", free.finish())})
    strategy = strategy_of(supernet, limits=limits)
    strategy.load_state_dict(free.state_dict())
    assert not limits.fits(free.finish())
    assert limits.fits(strategy.finish())
    assert strategy_of(supernet, limits=Limits(costs, {"parameters": 1e9})).finish() == strategy_of(supernet).finish()


def test_a_discretiser_that_cannot_keep_limits_is_refused(supernet):
    costs = SpaceCosts(Darts(channels=2, cells=3, nodes=2), (1, 6, 6), 3)
    settings = {
        "operations": Softmax(),
        "inputs": None,
        "architect": first_order,
        "optimizer": ADAM,
        "discretiser": lambda space, decisions, weights: argmax(space, decisions, weights),
    }
    with pytest.raises(InputError, match="limits: this discretiser cannot keep parameters=1,000,000; use argmax"):
        GradientStrategy("darts", supernet.decisions, limits=Limits(costs, {"parameters": 1e6}), **settings)
    GradientStrategy("darts", supernet.decisions, limits=Limits(costs, {}), **settings)


def test_single_level_learns_from_training_data_alone(supernet):
    moved = []
    for train, valid in ((1, 2), (1, 9), (3, 2)):
        strategy = strategy_of(supernet, single_level=True)
        strategy.update(step_of(supernet, train, valid))
        moved.append(logits(strategy))
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])


def test_gaea_stays_on_the_simplex_and_is_mirror_descent_on_the_validation_loss(supernet):
    strategy = strategy_of(supernet, Simplex(), optimizer=ExponentiatedGradient, start=uniform)
    assert torch.equal(strategy.logits["normal/2/0"], torch.full((8,), 1 / 8, dtype=torch.float64))
    theta = {n: p.detach().clone().requires_grad_() for n, p in strategy.logits.items()}
    with frozen_statistics(supernet):
        loss = (step := step_of(supernet)).loss(step.valid, theta)
    for name, gradient in zip(theta, torch.autograd.grad(loss, theta.values()), strict=True):
        theta[name] = theta[name].detach() * (-0.1 * gradient).exp()
    strategy.update(step_of(supernet))
    for name, expected in theta.items():
        torch.testing.assert_close(strategy.logits[name].detach(), expected / expected.sum())


@pytest.mark.parametrize("perturbation", [RandomSmoothing(), Adversarial()])
@pytest.mark.parametrize("start", [None, 1.0])
def test_perturbed_samples_leave_network_and_alphas_as_they_were(supernet, perturbation, start):
    """The known mistake writes the perturbed weights into the alphas; modes and statistics must survive, too."""
    skip = {} if start is None else {"skip": AuxiliarySkip(start)}
    supernet = supernet if start is None else made(auxiliary=True)
    strategy = strategy_of(supernet, transforms={"noise": perturbation, **skip})
    plain = strategy_of(supernet, transforms=skip)
    state, before, noise = copy.deepcopy(supernet.state_dict()), logits(strategy), torch.get_rng_state()
    step = step_of(supernet, progress=0.5)
    perturbed, usual = strategy.sample(step), plain.sample(step)
    assert torch.equal(logits(strategy), before)
    assert torch.equal(torch.get_rng_state(), noise)
    assert all(torch.equal(value, state[name]) for name, value in supernet.state_dict().items())
    assert all(module.training for module in supernet.modules())
    assert all(p.grad is None for p in supernet.parameters())
    for name, weight in perturbed.items():
        assert not weight.requires_grad
        assert not torch.equal(weight[:8], usual[name][:8])
        assert torch.equal(weight[8:], usual[name][8:])
        assert weight.sum().item() == pytest.approx(1 if start is None else 1.5)


def test_the_alphas_learn_without_perturbation(supernet):
    """SDARTS perturbs the inner problem only: the outer loss is that of the weights as they are."""
    moved = []
    for transforms in ({}, {"noise": RandomSmoothing(0.3, 0.3)}):
        strategy = strategy_of(supernet, transforms=transforms)
        strategy.update(step_of(supernet))
        moved.append(logits(strategy))
    assert torch.equal(*moved)


def test_the_adversary_raises_the_training_loss_of_a_real_supernet(supernet):
    strategy, step = strategy_of(supernet, transforms={"attack": Adversarial(0.3, 0.3)}), step_of(supernet)
    plain, attacked = strategy.relax(0.25, 1), strategy.sample(step)
    assert max((attacked[n] - plain[n]).abs().max().item() for n in plain) > 0.01
    with torch.no_grad():
        supernet.eval()
        assert step.loss(step.train, attacked) > step.loss(step.train, plain)


def test_the_auxiliary_skip_is_in_both_steps_and_not_in_the_end():
    supernet = made(auxiliary=True)
    strategy = strategy_of(supernet, transforms={"skip": AuxiliarySkip()})
    twin = {n: p.detach().clone().requires_grad_() for n, p in strategy.logits.items()}
    weights = {n: torch.cat([p.softmax(0), torch.tensor([0.75])]).double() for n, p in twin.items()}
    with frozen_statistics(supernet):
        loss = (step := step_of(supernet)).loss(step.valid, weights)
    gradients = torch.autograd.grad(loss, twin.values())
    torch.testing.assert_close(strategy.sample(step_of(supernet))["normal/2/0"], weights["normal/2/0"].detach())
    strategy.update(step_of(supernet))
    for parameter, gradient in zip(strategy.logits.values(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    torch.testing.assert_close(strategy.expected()["normal/2/0"], strategy.logits["normal/2/0"].detach().softmax(0))


def test_the_alphas_gradient_is_clipped_by_its_whole_norm(supernet):
    free, clipped = (strategy_of(supernet, clip=clip) for clip in (None, 1e-3))
    for strategy in (free, clipped):
        strategy.update(step_of(supernet))
    flat = [torch.cat([p.grad for p in strategy.logits.values()]) for strategy in (free, clipped)]
    assert flat[0].norm() > 1e-3
    torch.testing.assert_close(flat[1], flat[0] * 1e-3 / flat[0].norm(), rtol=1e-2, atol=0)
    with pytest.raises(InputError, match=r"^clip=0\.0: needs to be above 0"):
        strategy_of(supernet, clip=0.0)


def test_what_is_left_is_inherited_by_name(supernet):
    edges = [name for name, d in supernet.decisions.items() if d.role == "operation"]
    kept = dict.fromkeys(edges, ("none", "skip_connect", "dil_conv_3x3"))
    small = Supernet(Darts(channels=2, cells=3, nodes=2).network(Undecided(kept=kept), (1, 6, 6), 3)).double()
    before, now = strategy_of(supernet, inputs=Softmax()), strategy_of(small, inputs=Softmax(), seed=1)
    now.inherit(before)
    for name, inherited in now.logits.items():
        places = [0, 3, 6] if name in kept else slice(None)
        assert torch.equal(inherited, before.logits[name][places])
    assert all(p.requires_grad for p in now.logits.values())


def test_state_goes_round(supernet):
    strategy, twin = strategy_of(supernet, Gumbel()), strategy_of(supernet, Gumbel(), seed=0)
    strategy.update(step_of(supernet))
    twin.load_state_dict(copy.deepcopy(strategy.state_dict()))
    for each in (strategy, twin):
        each.update(step_of(supernet, 4, 5))
    assert torch.equal(logits(strategy), logits(twin))
    assert strategy.finish() == twin.finish()


class Noise(nn.Module):
    """Accelerated on nothing of its input."""

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


PROXYLESS_ADAM = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.999), weight_decay=0.0)


def test_alphas_take_one_step_in_every_five_of_the_network():
    supernet = made(single=True, gates=True)
    strategy = strategy_of(supernet, BinaryGates(), optimizer=PROXYLESS_ADAM, every=5)
    moved = []
    for _ in range(10):
        before = logits(strategy)
        strategy.update(step_of(supernet))
        moved.append(not torch.equal(before, logits(strategy)))
    assert moved == 2 * [False, False, False, False, True]
    twin = strategy_of(supernet, BinaryGates(), optimizer=PROXYLESS_ADAM, every=5)
    for each in (strategy, twin):
        each.update(step_of(supernet))
    twin.load_state_dict(copy.deepcopy(strategy.state_dict()))
    for _ in range(4):
        for each in (strategy, twin):
            each.update(step_of(supernet))
    assert torch.equal(logits(strategy), logits(twin))
    with pytest.raises(InputError, match=r"^every=0"):
        strategy_of(supernet, every=0)


def test_options_that_are_not_among_two_paths_stay_as_probable_as_they_were():
    supernet = made(single=True, gates=True)
    strategy = strategy_of(supernet, BinaryGates("two"), optimizer=PROXYLESS_ADAM)
    for _ in range(3):
        before = {name: own.detach().clone() for name, own in strategy.logits.items()}
        strategy.update(step_of(supernet))
        for name, own in strategy.logits.items():
            still = own == before[name]
            assert still.sum() == len(own) - 2
            torch.testing.assert_close(own.softmax(-1)[still], before[name].softmax(-1)[still], rtol=1e-12, atol=0)


def test_the_gradient_of_gates_cannot_be_unrolled_exactly():
    supernet = made(single=True, gates=True)
    strategy = strategy_of(supernet, BinaryGates(), architect=unrolled_exact)
    with pytest.raises(InputError, match=r"^gates: their gradient cannot be differentiated again"):
        strategy.update(step_of(supernet))


def test_gates_are_unrolled_by_differences_as_the_whole_mixture_is():
    """The operations that are not drawn run in the backward pass with the virtual weights, not with the network's."""
    found = []
    for chooser in ({}, {"single": True, "gates": True}):
        supernet = made(**chooser)
        strategy = strategy_of(supernet, BinaryGates(), architect=unrolled)
        strategy.update(step_of(supernet))
        found.append(torch.cat([own.grad for own in strategy.logits.values()]))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-9)


def test_the_host_counts_and_seeds_a_replayed_step_as_the_step_does(supernet, monkeypatch):
    monkeypatch.setattr("supernet.search.differentiable.noise._instead", lambda own, device: torch.random.fork_rng([]))
    strategy = strategy_of(supernet, Gumbel(), architect=unrolled, every=2)
    taken, step = [], step_of(supernet)

    def state():
        return strategy.state_dict()["draws"], strategy.state_dict()["steps"]

    for _ in range(4):
        key, host = strategy.recording(step, learn_alphas=True)
        search_step(step, strategy, 5.0)
        taken.append((key, host.streams, state()))
    assert taken[0][0] == taken[2][0] != taken[1][0] == taken[3][0]
    assert [streams for _, streams, _ in taken] == [1, 5, 1, 5]  # second order relaxes four times, the network once
    before = state()
    with host.recording([None] * 5) as advance:
        search_step(step, strategy, 5.0)  # the fifth step, in which the alphas do not learn
    assert state() == before
    seeds = [advance(), advance()]
    assert state() == (before[0] + 2, before[1] + 2)
    draws = [before[0] + 1, before[0] + 2]
    assert seeds == [[strategy._noise.seed_of(draw)] for draw in draws]


def test_gradients_of_a_replayed_step_stay_until_the_alphas_learn_again(supernet, monkeypatch):
    monkeypatch.setattr("supernet.search.differentiable.noise._instead", lambda own, device: torch.random.fork_rng([]))
    strategy, step, advances = strategy_of(supernet, every=2), step_of(supernet), []
    for _ in range(2):
        search_step(step, strategy, 5.0)
    for _ in range(2):  # the third step, in which the alphas do not learn, and the fourth, in which they do
        _, host = strategy.recording(step, learn_alphas=True)
        with host.recording([None] * 2) as advance:
            search_step(step, strategy, 5.0)
        advance()
        advances.append(advance)
    recorded = strategy.measures()["alpha/grad_norm"]
    search_step(step, strategy, 5.0)
    search_step(step, strategy, 5.0)
    assert strategy.measures()["alpha/grad_norm"] != recorded
    for advance in reversed(advances):
        advance()
        assert strategy.measures()["alpha/grad_norm"] == recorded


def test_what_is_read_on_the_host_cannot_be_recorded():
    single = made(single=True)
    assert strategy_of(single, Gumbel(hard=True)).recording(step_of(single), learn_alphas=True) is None


@pytest.mark.parametrize("hook", ["update", "relax", "sample", "samples", "backward"])
def test_a_subclass_that_takes_steps_in_its_own_way_says_itself_whether_they_can_be_recorded(supernet, hook):
    strategy, step = strategy_of(supernet), step_of(supernet)
    assert strategy.recording(step, learn_alphas=True) is not None
    real, calls = getattr(GradientStrategy, hook), []

    def counted(self, *args, **kwargs):
        calls.append(args)
        return real(self, *args, **kwargs)

    strategy.__class__ = type("Counted", (GradientStrategy,), {hook: counted})
    assert strategy.recording(step, learn_alphas=True) is None
    said = {hook: counted, "recording": lambda self, *args, **kwargs: GradientStrategy.recording(self, *args, **kwargs)}
    strategy.__class__ = type("Said", (GradientStrategy,), said)
    assert strategy.recording(step, learn_alphas=True) is not None


@pytest.mark.parametrize(
    ("parts", "relaxation"),
    [
        ({}, Gumbel()),
        ({}, Gumbel(start=5.0, end=0.1, decay="exponential")),
        ({"transforms": {"skip": AuxiliarySkip()}}, Softmax()),
        ({"transforms": {"skip": AuxiliarySkip(decay="cosine")}}, Softmax()),
        ({"terms": {"beta": BetaDecay()}}, Softmax()),
    ],
)
def test_progress_may_be_a_tensor_on_the_device(parts, relaxation):
    supernet = made(auxiliary="transforms" in parts)
    ends = []
    for progress in (0.25, torch.tensor(0.25)):
        torch.manual_seed(0)
        strategy = strategy_of(copy.deepcopy(supernet), relaxation, **parts)
        step = step_of(supernet, progress=progress)
        strategy.update(step)
        ends.append([*strategy.sample(step).values(), *strategy.logits.values()])
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other)


def test_uniform_noise_of_a_tensor_is_as_wide_as_that_of_a_number():
    weights = {"edge": torch.full((2000,), 0.5)}
    moved = RandomSmoothing(start=0.1, end=0.3)
    at = TransformContext({"edge": Decision("edge", ("a", "b"))}, torch.tensor(0.5))
    unsummed = _uniform_noise(weights, moved.start + (moved.end - moved.start) * at.progress)["edge"] - 0.5
    assert 0.19 < unsummed.max() <= 0.2
    assert -0.2 <= unsummed.min() < -0.19
    assert moved(weights, at)["edge"].sum() == pytest.approx(1.0, abs=1e-4)
