"""Takes the network of an architecture out of a trained supernet, ready for use: nothing is trained again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supernet.data.batches import evaluation_batches
from supernet.estimation.problem import SearchProblem
from supernet.execution.modes import recalibrated
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator
from supernet.search.progressive.restoring import Restored
from supernet.search.progressive.weight_inheritance import weights_of
from supernet.space.architecture import Architecture
from supernet.space.choices import PartialChannels
from supernet.space.choosers import Decided
from supernet.space.heads import Outputs
from supernet.space.operations import OPERATIONS, Operation
from supernet.training.evaluation import evaluate
from supernet.training.meters import Averages

_STREAM = 0x5B0E


@dataclass(frozen=True)
class Subnetwork:
    """The plain network of an architecture, with a supernet's weights.

    Args:
        network: in evaluation mode, on the supernet's device.
        architecture: of which.
        valid: its averages on the half of the images that architectures are judged by. Where it was chosen by them,
            its accuracy on other images is lower.
        images: of how many training images the norms have the statistics.
    """

    network: nn.Module
    architecture: Architecture
    valid: Averages
    images: int


def subnetwork(
    restored: Restored,
    architecture: Architecture,
    *,
    outputs: Outputs,
    factories: Mapping[str, Operation] | None = None,
    images: int = 2000,
    batch_size: int = 100,
) -> Subnetwork:
    """Builds the network of an architecture with the weights that it has in the supernet.

    The statistics of its norms are measured anew: those of the supernet are of all architectures together. The mean
    over the batches is taken, of 2,000 images by default, as once-for-all does (Cai et al. 2020). How accurate the
    network is depends on how the supernet was trained: one whose steps were of single paths or of sandwiches has made
    its subnetworks for use, one of mixtures has not.

    Args:
        restored: the trained supernet (`supernet.restore`).
        architecture: of its space.
        outputs: how many classes, or the head that makes something else of the maps.
        factories: what builds each operation, by name; None: the library's own.
        images: training images by which the norms are measured, at most.
        batch_size: images at once.

    Returns:
        The network, and how well it does.

    Raises:
        InputError: no final network has the weights of this supernet: its edges see a part of their channels, or norms
            of the search are missing there. Or a number is below 1.
    """
    for name, number in {"images": images, "batch_size": batch_size}.items():
        if number < 1:
            raise InputError(f"{name}={number}: needs 1 or more")
    problem = restored.problem
    if any(isinstance(module, PartialChannels) for module in problem.supernet.modules()):
        raise InputError(
            "restored: the edges of this supernet see a part of their channels (channel_divisor), so that no plain "
            "network has its weights; train the network"
        )
    chooser = Decided(architecture, factories or OPERATIONS)
    network: nn.Module = restored.space.network(chooser, problem.train.shape, outputs)  # type: ignore[attr-defined]
    _take(network, weights_of(problem.supernet, architecture))
    drawn = torch.randperm(len(problem.train), generator=generator(problem.run.seed, _STREAM))[:images]
    _recalibrate(network.to(problem.run.device), problem, drawn, batch_size)
    valid = evaluate(
        network,
        problem.valid,
        problem.augmentation,
        batch_size=batch_size,
        device=problem.run.device,
        task=problem.task,
    )
    return Subnetwork(network, architecture, valid, len(drawn))


def _recalibrate(network: nn.Module, problem: SearchProblem, drawn: Tensor, batch_size: int) -> None:
    """Gives the norms of a network the mean statistics of some training images, and leaves it in evaluation mode."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):  # what is dropped would be missing from the statistics
            module.eval()
    batches = evaluation_batches(problem.train.subset(drawn), batch_size, problem.augmentation, problem.run.device)
    with recalibrated(network, (problem.task.inputs(batch) for batch in batches), network):
        state = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    network.eval()


def _take(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads the weights. A final network's norms learn scales and shifts, which the supernet's need not: 1 and 0."""
    fresh = {
        f"{path}.{name}"
        for path, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        for name in ("weight", "bias")
    }
    missing = [name for name in network.state_dict() if name not in state]
    if left := [name for name in missing if name not in fresh and not name.startswith("auxiliary.")]:
        raise InputError(f"restored: its supernet has no weights for {left[0]}; train the network")
    own = network.state_dict()
    if more := [name for name in state if name not in own and not name.startswith("auxiliary.")]:
        place = more[0].rpartition(".")[0]
        raise InputError(
            f"restored: its supernet has a norm at {place} that the final network has not, such as that of a pooling "
            "in DARTS; train the network"
        )
    network.load_state_dict({**{name: own[name] for name in missing}, **state})
