"""The plain network of a genotype, built and trained."""

from dataclasses import replace

import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.execution.engines import engine
from supernet.execution.fused.executor import fused
from supernet.genotypes.literature import published
from supernet.runtime.errors import InputError
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.space.architecture import Architecture
from supernet.space.cells import reference
from supernet.space.choices import Choice
from supernet.space.darts import Darts
from supernet.space.operations import OPERATIONS
from supernet.training.from_scratch import FinalNetwork, train_from_scratch
from supernet.training.loop import Recipe, train
from supernet.training.schedules import Cosine

AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=1)
RECIPE = Recipe(epochs=1, batch_size=8, schedule=Cosine(0.05), drop_path=0.0, cutout=0)
SPACE = Darts(channels=4, cells=1, auxiliary=True)
FINAL = FinalNetwork(SPACE, (1, 6, 6), 3)
CELL = published("darts_v2")


class Lines(Silent):
    def __init__(self):
        self.lines = []

    def line(self, message):
        self.lines.append(message)


def images(seed: int, count: int = 16) -> Resident:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=generator)
    return Resident(pixels, torch.arange(count) % 3)


def same(one, other) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_seed_gives_the_weights_whatever_was_drawn_before():
    one = FINAL.build(CELL)
    torch.rand(7)
    assert same(one, FINAL.build(CELL))
    assert not same(one, replace(FINAL, seed=1).build(CELL))


def test_the_network_is_a_plain_one_and_runs_on_its_engine():
    for name, executor in (("fused", fused), ("reference", reference)):
        network = replace(FINAL, engine=engine(name)).build(CELL)
        assert not [module for module in network.modules() if isinstance(module, Choice)]
        assert network.cells[0].execute is executor
        assert network.eval()(torch.zeros(2, 1, 6, 6)).shape == (2, 3)


def test_operations_are_built_by_the_given_factories():
    built = []
    counting = {name: lambda site, make=make: [built.append(site), make(site)][1] for name, make in OPERATIONS.items()}
    replace(FINAL, factories=counting).build(CELL)
    assert len(built) == 8  # two edges into each of four nodes


def test_a_genotype_that_does_not_answer_is_refused():
    without = {name: kept for name, kept in CELL.items() if name != "reduce/2/0"}
    with pytest.raises(InputError, match="no operation for reduce/2/0"):
        FINAL.build(Architecture("darts", without))


def test_it_is_the_training_of_the_built_network():
    network, result = train_from_scratch(FINAL, CELL, images(1), images(2), AUGMENTATION, RECIPE, run=Run())
    twin = FINAL.build(CELL)
    assert train(twin, images(1), images(2), AUGMENTATION, RECIPE, run=Run()) == result
    assert same(network, twin)


def test_the_report_counts_parameters_without_the_auxiliary_head():
    report = Lines()
    train_from_scratch(FINAL, CELL, images(1), images(2, 5), AUGMENTATION, RECIPE, run=Run(report=report), name="found")
    without = replace(FINAL, space=SPACE.resized(auxiliary=False)).build(CELL)
    assert report.lines[0] == f"found: {sum(p.numel() for p in without.parameters()):,} parameters"
    assert report.lines[1] == "found: 16 images: 1 epoch of 2 steps in batches of 8, 5 more to choose by"


def test_a_checkpoint_of_another_genotype_is_refused(tmp_path):
    run = Run(checkpoint=tmp_path / "retrain.pt")
    train_from_scratch(FINAL, CELL, images(1), None, AUGMENTATION, RECIPE, run=run)
    before = run.checkpoint.read_bytes()
    with pytest.raises(InputError, match="cell is") as error:
        train_from_scratch(FINAL, published("darts_v1"), images(1), None, AUGMENTATION, RECIPE, run=run)
    assert "\n" not in str(error.value)
    assert run.checkpoint.read_bytes() == before
