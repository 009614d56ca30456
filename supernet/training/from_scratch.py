"""Builds the plain network of a genotype and trains it from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source
from supernet.data.reading import hashed
from supernet.execution.engines import Engine, engine
from supernet.runtime.checkpoint import CELL
from supernet.runtime.run import Run
from supernet.runtime.seeding import seed_initial_weights
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided
from supernet.space.heads import Outputs
from supernet.space.operations import OPERATIONS, Operation
from supernet.training.lengths import length_in_words
from supernet.training.loop import Recipe, Trained, train
from supernet.training.tasks import CLASSIFICATION, Task


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

    Returns:
        The trained network, and how the training went.

    Raises:
        InputError, NotFinite, Interrupted: as `train` does.
    """
    network = final.build(architecture)
    run = replace(run, fingerprint={**run.fingerprint, CELL: hashed((architecture.to_json(),))[:12]})
    learnt = sum(p.numel() for key, p in network.named_parameters() if not key.startswith("auxiliary."))
    run.report.line(f"{name}: {learnt:,} parameters")
    if length := length_in_words(recipe, train_images):
        run.report.line(
            f"{name}: {length}" + ("" if valid_images is None else f", {len(valid_images)} more to choose by")
        )
    return network, train(network, train_images, valid_images, augmentation, recipe, run=run, task=task)
