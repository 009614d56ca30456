from functools import partial

import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Resident
from supernet.runtime.precision import Passes
from supernet.runtime.run import Run
from supernet.search.architects import first_order, unrolled
from supernet.search.discretisers import argmax
from supernet.search.gradient import GradientStrategy
from supernet.search.loop import SearchRecipe, search
from supernet.search.relaxations import Softmax
from supernet.space.architecture import random_architecture
from supernet.space.choices import Supernet
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.training.loop import Recipe, train
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
    result = search(supernet, strategy, images(1), images(2), AUGMENTATION, recipe, task=Classification(), run=run)
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


def test_logits_and_losses_are_float32_and_pictures_channels_last():
    supernet = Supernet(Darts(channels=4, cells=1, nodes=2).network(Undecided(), (3, 8, 8), 3))
    weights = {n: torch.full((len(d.options),), 1 / 8) for n, d in supernet.decisions.items() if not d.inputs}
    seen = []
    supernet.network.cells[0].register_forward_hook(lambda _, given, __: seen.extend(given))
    with Passes(supernet, Run(precision="bfloat16")):
        logits = supernet(torch.randn(4, 3, 8, 8), weights)
    assert logits.dtype == torch.float32
    assert {x.dtype for x in seen} == {torch.bfloat16}
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
    batch = Batch(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
    assert Classification().loss(logits, batch).dtype == torch.float32
