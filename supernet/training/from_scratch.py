"""Builds the plain network of a genotype and trains it, from scratch or from the weights of another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source
from supernet.data.reading import hashed
from supernet.execution.engines import Engine, engine
from supernet.runtime.checkpoint import CELL, INIT
from supernet.runtime.run import Run
from supernet.runtime.seeding import seed_initial_weights
from supernet.runtime.text import quantity
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided
from supernet.space.heads import Outputs
from supernet.space.operations import OPERATIONS, Operation
from supernet.training.fine_tuning import FineTuning
from supernet.training.lengths import length_in_words
from supernet.training.loop import Recipe, Trained, train
from supernet.training.tasks import CLASSIFICATION, Task
from supernet.training.transfer import (
    Taken,
    Transfer,
    check_taken,
    class_tensors,
    differences,
    fine_tuning,
    head_tensors,
    how_used,
    take_over,
)


@dataclass(frozen=True)
class FinalNetwork:
    """Builds the plain networks of genotypes, all with the same settings.

    Args:
        space: in the size of the final network.
        shape: of an image: channels, height, width.
        outputs: how many classes, or the head that makes something else of the maps.
        factories: what builds each operation, by name.
        engine: how the networks are run.
        seed: of the initial weights.
    """

    space: Any
    shape: tuple[int, int, int]
    outputs: Outputs
    factories: Mapping[str, Operation] = field(default_factory=lambda: OPERATIONS)
    engine: Engine = field(default_factory=lambda: engine("fused"))
    seed: int = 0

    def build(self, architecture: Architecture) -> nn.Module:
        """The untrained network of a genotype; the same weights for the same seed.

        Raises:
            InputError: where the genotype does not answer what the space asks.

        Example:
            >>> from supernet import Darts, published
            >>> network = FinalNetwork(Darts(channels=4, cells=3), (3, 32, 32), 10).build(published("darts_v2"))
            >>> sum(p.numel() for p in network.parameters())
            2858
        """
        seed_initial_weights(self.seed, 1)
        return self.engine.apply(self.space.network(Decided(architecture, self.factories), self.shape, self.outputs))


def train_from_scratch(
    final: FinalNetwork,
    architecture: Architecture,
    train_images: Source,
    valid_images: Source | None,
    augmentation: Augmentation,
    recipe: Recipe,
    *,
    run: Run,
    task: Task = CLASSIFICATION,
    name: str = "network",
    transfer: Transfer | None = None,
    classes: Sequence[str] = (),
) -> tuple[nn.Module, Trained]:
    """Builds the plain network of a genotype and trains it.

    Args:
        final: how the network is built.
        architecture: the genotype.
        train_images: the images that the network learns from.
        valid_images: the images that it is judged by after each epoch; None: it is not.
        augmentation: what is done to the images of a training batch.
        recipe: epochs, batches, learning rate, regularisation.
        run: device, seed, report, checkpoint; a checkpoint of another genotype is refused.
        task: what is learnt and judged.
        name: what the report's lines call the network.
        transfer: what the network begins with; None: it is trained from scratch. Its normalisation is that of
            `augmentation` already, where that is wanted (`Transfer.normalised`).
        classes: their names, by which those are found that the donor knows.

    Returns:
        The trained network, and how the training went.

    Raises:
        InputError, NotFinite, Interrupted: as `train` does.
    """
    network = final.build(architecture)
    run = replace(run, fingerprint={**run.fingerprint, CELL: hashed((architecture.to_json(),))[:12]})
    learnt = sum(p.numel() for key, p in network.named_parameters() if not key.startswith("auxiliary."))
    run.report.line(f"{name}: {quantity(learnt, 'parameter')}")
    if length := length_in_words(recipe, train_images):
        run.report.line(
            f"{name}: {length}" + ("" if valid_images is None else f", {len(valid_images)} more to choose by")
        )
    if transfer is None:
        return network, train(network, train_images, valid_images, augmentation, recipe, run=run, task=task)
    run = replace(run, fingerprint={**run.fingerprint, INIT: transfer.fingerprint})
    taken, tuning = begin_with(transfer, network, final, architecture, classes, task)
    told = told_of(transfer, taken, final.space, architecture)
    for line in told:
        run.report.line(f"{name}: {line}")
    run.report.text("init", "\n".join(f"    {line}" for line in told))
    result = train(network, train_images, valid_images, augmentation, recipe, run=run, task=task, tuning=tuning)
    return network, replace(result, taken=taken)


def begin_with(
    transfer: Transfer,
    network: nn.Module,
    final: FinalNetwork,
    architecture: Architecture,
    classes: Sequence[str],
    task: Task,
) -> tuple[Taken, FineTuning]:
    """Gives a network the weights of a donor where they fit.

    Args:
        transfer: the donor, and what is frozen.
        network: untrained; it is written to.
        final: how it was built.
        architecture: its genotype.
        classes: their names.
        task: what it will learn; it knows what a network of more classes ends in.

    Returns:
        What was taken, and what of the network learns.

    Raises:
        InputError: nothing of the donor fits.
    """

    def make(outputs: Outputs) -> nn.Module:
        plain: nn.Module = final.space.network(Decided(architecture, final.factories), final.shape, outputs)
        return plain

    donor = transfer.donor
    # Two classes more: a head of one class may have a row to spare.
    more = final.outputs + 2 if isinstance(final.outputs, int) else task.outputs((*classes, "", ""))
    rows = class_tensors(make, final.outputs, more)
    head = head_tensors(make, final.outputs, rows)
    state = donor.network.state_dict()
    sides = {"channels": (donor.shape[0], final.shape[0]), "classes": (donor.classes, classes)}
    taken = take_over(network, state, **sides, rows=rows)  # type: ignore[arg-type]
    check_taken(taken, transfer.name)
    return taken, fine_tuning(taken, transfer.freeze, transfer.rate, rows=rows, head=head)


def told_of(transfer: Transfer, taken: Taken, space: Any, architecture: Architecture) -> list[str]:
    """Tells in a few lines what a network begins with, and in what it is another one than the donor."""
    donor = transfer.donor
    lines = [f"begins with {transfer.name}, {how_used(transfer)}", *taken.lines()]
    if donor.architecture != architecture:
        lines.append("the donor's cell is another one: tensors of one name and shape may have served otherwise there")
    return lines + [f"the donor's space has other settings: {each}" for each in differences(donor.space, space)]
