from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from common import slow_but
from replay import Replay

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Resident
from supernet.estimation.problem import SearchProblem
from supernet.execution.precision import Accelerated, settle_numerics
from supernet.runtime.run import Run
from supernet.search.differentiable.architects import (
    Bilevel,
    conjugate_gradient,
    first_order,
    neumann,
    unrolled,
    unrolled_exact,
)
from supernet.search.differentiable.discretisers import argmax
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.relaxations import Softmax
from supernet.search.loop import search
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Step
from supernet.space.architecture import random_architecture
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet
from supernet.training.loop import Recipe, train
from supernet.training.sgd import SgdStep
from supernet.training.tasks import Classification

AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=1)
SPACE = Darts(channels=4, cells=2, nodes=2, auxiliary=True)


def images(seed):
    torch.manual_seed(seed)
    labels = torch.arange(24) % 3
    return Resident((torch.rand(24, 1, 8, 8) * 100 + 50 * labels[:, None, None, None]).byte(), labels)


def found(run, architect=first_order):
    torch.manual_seed(0)
    supernet = Supernet(Darts(channels=4, cells=2, nodes=2).network(Undecided(), (1, 8, 8), 3))
    strategy = GradientStrategy(
        "darts", supernet.decisions, operations=Softmax(), inputs=None, architect=architect,
        optimizer=partial(torch.optim.Adam, lr=0.01), discretiser=argmax,
    )  # fmt: skip
    recipe = SearchRecipe(epochs=1, batch_size=8)
    result = search(SearchProblem(supernet, images(1), images(2), AUGMENTATION, run), strategy, recipe)
    return result, supernet, torch.cat([p.detach() for p in strategy.logits.values()])


@pytest.mark.parametrize("architect", [first_order, unrolled])
def test_a_search_in_bfloat16_is_near_one_in_float32(architect):
    exact, _, alphas = found(Run(), architect)
    near, supernet, others = found(Run(precision="bfloat16"), architect)
    assert near.train.loss == pytest.approx(exact.train.loss, rel=0.05)
    assert near.train.loss != exact.train.loss
    assert others.dtype == torch.float32
    assert (others - alphas).abs().max() < 0.07  # three steps of Adam at 0.01, either way
    assert all(p.dtype == torch.float32 and p.grad.dtype == torch.float32 for p in supernet.parameters())


def test_a_training_in_bfloat16_is_near_one_in_float32():
    decisions = Supernet(SPACE.network(Undecided(), (1, 8, 8), 3)).decisions
    cell = random_architecture("darts", decisions, torch.Generator().manual_seed(0))
    results = []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        network = SPACE.network(Decided(cell), (1, 8, 8), 3)
        recipe = Recipe(epochs=2, batch_size=8, cutout=2)
        results.append(train(network, images(1), images(2), AUGMENTATION, recipe, run=Run(precision=precision)))
    exact, near = results
    assert near.train.loss == pytest.approx(exact.train.loss, rel=0.05)
    assert near.train.loss != exact.train.loss
    assert near.valid.count == 24


def hypergradient(architect, run, capture=None, cells=2):
    """What the alphas learn from in a step of a small search, in float64, and the passes of that search."""
    torch.manual_seed(0)
    supernet = Supernet(Darts(channels=4, cells=cells, nodes=2).network(Undecided(), (3, 8, 8), 3))
    batches = [Batch(torch.randn(8, 3, 8, 8), torch.arange(8) % 3) for _ in range(2)]
    optimizer = torch.optim.SGD(supernet.parameters(), 0.025, 0.9, weight_decay=3e-4)
    accelerated = Accelerated(supernet, run, capture)
    step = Step(supernet, *batches, Classification(), optimizer, 0.5, accelerated=accelerated)
    strategy = GradientStrategy(
        "darts", supernet.decisions, operations=Softmax(), inputs=None, architect=architect,
        optimizer=partial(torch.optim.SGD, lr=0.0), discretiser=argmax,
    )  # fmt: skip
    with accelerated:
        for _ in range(5):
            strategy.update(step)
    return torch.cat([logits.grad for logits in strategy.logits.values()]).double()


def second_term(problem):
    """Of `unrolled`: what is left when the part without differences is taken away."""

    def independent(inner):  # of the alphas, at both ends of the difference
        loss = problem.train_loss(inner)
        return loss if any(w.requires_grad for w in inner) else loss.detach()

    direct = unrolled(replace(problem, train_loss=independent))
    return [whole - part for whole, part in zip(unrolled(problem), direct, strict=True)]


def test_the_differences_of_second_order_are_float32_in_a_bfloat16_run():
    """Both ends are near each other: rounded to bfloat16, little of their difference is left."""

    def careless(problem):
        return second_term(replace(problem, exact=nullcontext))

    exact, run = hypergradient(second_term, Run()), Run(precision="bfloat16")
    near, noise = hypergradient(second_term, run), hypergradient(careless, run)
    assert torch.cosine_similarity(near, exact, dim=0) > 0.95
    assert torch.cosine_similarity(noise, exact, dim=0) < 0.8


@pytest.mark.parametrize("architect", slow_but([neumann], [unrolled, unrolled_exact, neumann, conjugate_gradient]))
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_architect_gets_with_graphs_what_it_gets_without(architect, precision):
    """Also those that differentiate twice, which a graph cannot: that pass is a plain one."""
    capture = Replay()
    with_graphs = hypergradient(architect, Run(graphs=True, precision=precision), capture, cells=1)
    assert torch.equal(with_graphs, hypergradient(architect, Run(precision=precision), cells=1))
    assert capture.replayed > 0


def test_one_pass_runs_otherwise_within_the_others():
    network, x = torch.nn.Linear(4, 4), torch.randn(2, 4)
    accelerated = Accelerated(network, Run(precision="bfloat16"))
    rounded, plain = lambda: torch.equal(network(x), network(x).bfloat16().float()), network(x)
    with accelerated.exact():  # outside, the network is itself
        assert torch.equal(network(x), plain)
    with accelerated:
        assert rounded()
        with accelerated.exact():
            assert torch.equal(network(x), plain)
        with accelerated.unrecorded():
            assert rounded()
        assert rounded()
    assert "forward" not in vars(network)


@pytest.fixture
def numerics():
    """Puts PyTorch's settings back."""
    fill, cudnn = torch.utils.deterministic.fill_uninitialized_memory, torch.backends.cudnn
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns, matmul = torch.is_deterministic_algorithms_warn_only_enabled(), torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    yield
    torch.use_deterministic_algorithms(deterministic, warn_only=warns)
    torch.utils.deterministic.fill_uninitialized_memory = fill
    cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


@pytest.mark.parametrize("deterministic", [True, False])
def test_float32_is_float32_and_no_memory_is_filled(numerics, deterministic):
    torch.backends.cudnn.allow_tf32 = torch.utils.deterministic.fill_uninitialized_memory = True
    settle_numerics(deterministic)
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert torch.backends.cudnn.benchmark is not deterministic
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.isnan(torch.empty(1000)).all()


def test_logits_and_losses_are_float32_and_pictures_channels_last():
    supernet = Supernet(Darts(channels=4, cells=1, nodes=2).network(Undecided(), (3, 8, 8), 3))
    weights = {n: torch.full((len(d.options),), 1 / 8) for n, d in supernet.decisions.items() if d.role == "operation"}
    seen = []
    supernet.network.cells[0].register_forward_hook(lambda _, given, __: seen.extend(given))
    with Accelerated(supernet, Run(precision="bfloat16")):
        logits = supernet(torch.randn(4, 3, 8, 8), weights)
    assert logits.dtype == torch.float32
    assert {x.dtype for x in seen} == {torch.bfloat16}
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    batch = Batch(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
    assert Classification().loss(logits, batch).dtype == torch.float32


def test_tf32_is_on_while_steps_are_taken_and_off_where_they_are_to_be_exact(numerics):
    def flags():
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    seen = []

    class Watched(torch.nn.Linear):
        def forward(self, images):
            seen.append(flags())
            return super().forward(images)

    settle_numerics(deterministic=True)
    settled, network = flags(), Watched(2, 2)
    passes, images = Accelerated(network, Run(precision="tf32")), torch.randn(3, 2)
    for _ in range(2):
        with passes:
            network(images)
            with passes.exact():
                network(images)
            assert flags() == (True, True)  # of the backward pass
    assert flags() == settled == (False, False)
    assert seen == [(True, True), (False, False)] * 2


def test_second_order_computes_its_differences_without_tf32(numerics):
    """The two ends of a difference are a hundredth of a per cent apart: 10 bits leave nothing of it."""
    seen = []

    def loss(inner):
        seen.append(torch.backends.cudnn.allow_tf32)
        return (inner[0] - alpha) ** 2 / 2

    w, alpha = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (3.0, 1.0))
    passes = Accelerated(torch.nn.Linear(1, 1), Run(precision="tf32"))
    settle_numerics(deterministic=True)
    with passes:
        unrolled(Bilevel([w], [alpha], loss, lambda inner: inner[0] ** 2, SgdStep(0.5), exact=passes.exact))
    assert seen == [True, False, False]  # the virtual step, and both ends
