"""What the monitor finds, against hand-made references."""

import copy
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident, evaluation_batches
from supernet.estimation.problem import SearchProblem
from supernet.estimation.supernet_accuracy import RecalibratedScore
from supernet.execution.engines import engine
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator
from supernet.search.collapse.curvature import lambda_max
from supernet.search.collapse.measurements import sharpness
from supernet.search.differentiable.architects import first_order
from supernet.search.differentiable.discretisers import argmax
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.relaxations import Softmax, Uniform
from supernet.search.loop import search
from supernet.search.recipe import SearchRecipe
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet
from supernet.training.schedules import Cosine
from supernet.training.tasks import Classification

AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=1)
SPACE = Darts(channels=4, cells=3, nodes=2, operations=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"))
RECIPE = SearchRecipe(epochs=2, batch_size=8, schedule=Cosine(0.1, 0.01))


def half(seed: int, count: int = 16) -> Resident:
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=stream)
    return Resident(images, torch.arange(count) % 3)


def made(space=SPACE, used="reference"):
    torch.manual_seed(0)
    used = engine(used)
    supernet = Supernet(used.apply(space.network(Undecided(), (1, 6, 6), 3)))
    strategy = GradientStrategy(
        space.name,
        supernet.decisions,
        operations=Softmax(),
        inputs=None,
        architect=first_order,
        optimizer=partial(torch.optim.Adam, lr=0.05),
        discretiser=argmax,
    )
    return supernet, strategy


def problem(supernet) -> SearchProblem:
    return SearchProblem(supernet.train(), half(1), half(2), AUGMENTATION, Run())


def test_lambda_max_is_that_of_the_whole_hessian():
    """In float64, against torch's own Hessian of the loss that is written down here."""
    supernet, strategy = made(replace(SPACE, cells=1, operations=("skip_connect", "sep_conv_3x3")))
    supernet.double().train()
    for name in list(strategy.logits):
        stream = torch.Generator().manual_seed(len(name))
        strategy.logits[name] = nn.Parameter(torch.randn(2, dtype=torch.float64, generator=stream))
    at = problem(supernet)
    (batch,) = evaluation_batches(at.valid, 16, AUGMENTATION)
    images = batch.images.double()
    task = Doubled()
    found = sharpness(replace(at, task=task), strategy, 16, 100, 0.0)
    names = list(strategy.logits)
    flat = torch.cat([strategy.logits[n].detach() for n in names])
    twin = copy.deepcopy(supernet)

    def loss(values):
        weights = {n: v.softmax(0) for n, v in zip(names, values.split(2), strict=True)}
        return nn.functional.cross_entropy(twin(images, weights), batch.labels)

    exact = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat)).max().item()
    assert exact > 0
    assert found == pytest.approx(exact, rel=1e-8)


class Doubled(Classification):
    """In float64, whatever the images are."""

    def inputs(self, batch):
        return batch.images.double()


def test_nothing_is_sharp_in_alphas_without_a_say():
    supernet, strategy = made()
    strategy._relaxations = dict.fromkeys(strategy.logits, Uniform())
    assert sharpness(problem(supernet), strategy, 4, 8, 0.0) is None


def test_second_derivatives_that_overflow_are_not_a_number():
    alpha = torch.ones(4, dtype=torch.float64, requires_grad=True)
    assert math.isnan(lambda_max((alpha * 1e200).pow(2).mul(1e200).sum(), [alpha]))


@pytest.mark.parametrize("used", ["reference", "fused"])
def test_the_gap_is_that_of_the_derived_network_with_fresh_statistics(used):
    """Against a plain network with copied weights, whose norms PyTorch averages over the same batches."""
    supernet, strategy = made(used=used)
    run_search_on(supernet, strategy)
    at = problem(supernet)
    architecture, buffers = strategy.finish(), copy.deepcopy(dict(supernet.named_buffers()))
    found = RecalibratedScore(at, 8, 2)(architecture).values["accuracy"]
    assert all(torch.equal(value, buffers[name]) for name, value in supernet.named_buffers())
    network = SPACE.network(Decided(architecture, searching=True), (1, 6, 6), 3)
    mapped = {}
    for name in network.state_dict():
        parts = name.split(".")
        if parts[2:3] == ["edges"]:
            kind = "reduce" if network.cells[int(parts[1])].reduction else "normal"
            source, node = parts[3].split("-")
            parts[4:4] = ["candidates", architecture[f"{kind}/{node}/{source}"][0]]
        mapped[name] = supernet.state_dict()["network." + ".".join(parts)]
    network.load_state_dict(mapped)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's word for the plain average
    network.train()
    everything = half(1)  # two batches of eight are all of it, in an order that the average does not depend on
    order = torch.randperm(16, generator=generator(0, 0xD0C2))
    with torch.no_grad():
        for batch in evaluation_batches(everything.subset(order), 8, AUGMENTATION):
            network(batch.images)
        network.eval()
        right = [
            (network(b.images).argmax(1) == b.labels).float() for b in evaluation_batches(half(2), 8, AUGMENTATION)
        ]
    assert found == pytest.approx(torch.cat(right).mean().item(), abs=1e-9)


def run_search_on(supernet, strategy):
    search(SearchProblem(supernet, half(1), half(2), AUGMENTATION, Run()), strategy, RECIPE)
