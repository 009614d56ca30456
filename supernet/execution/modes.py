"""How a built network runs for a while: by another executor, in another mode, or with its norms otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from supernet.space.cells import Cell, Executor
from supernet.space.choices import OperationChoice
from supernet.space.supernet import Supernet


def running(network: nn.Module, executor: Executor) -> AbstractContextManager[None]:
    """Within it all cells of `network` are evaluated by `executor`: same parameters, same function."""
    return holding([module for module in network.modules() if isinstance(module, Cell)], "execute", executor)


def frozen_statistics(network: nn.Module) -> AbstractContextManager[None]:
    """Within it batch norms in training mode use the batch's statistics, as always, but remember nothing."""
    return holding(_remembering(network), "track_running_stats", False)


def _remembering(network: nn.Module) -> list[nn.modules.batchnorm._NormBase]:
    modules = network.norms if isinstance(network, Supernet) else network.modules()
    return [m for m in modules if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats]


@contextmanager
def recalibrated(network: nn.Module, batches: Iterable[Tensor], forward: Callable[[Tensor], object]) -> Iterator[None]:
    """Within it all batch norms remember the mean statistics of `batches`, as `forward` meets them, and nothing else.

    Afterwards every buffer of `network`, which is in training mode, is what it was. It is how a supernet's weights are
    judged under architecture weights that they have not been trained with.
    """
    norms = _remembering(network)
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    momenta = [norm.momentum for norm in norms]
    try:
        with torch.no_grad():
            for number, batch in enumerate(batches, start=1):
                for norm in norms:
                    norm.momentum = 1 / number  # the first batch replaces what there was, the others average
                forward(batch)
        yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@contextmanager
def holding(modules: Sequence[nn.Module], attribute: str, value: object) -> Iterator[None]:
    """Within it a plain attribute of all modules has this value; then each has its own again."""
    places = [vars(module) for module in modules]  # a module's `setattr` is slow, and there are thousands
    before = [place[attribute] for place in places]
    for place in places:
        place[attribute] = value
    try:
        yield
    finally:
        for place, own in zip(places, before, strict=True):
            place[attribute] = own


def single_paths(network: nn.Module) -> AbstractContextManager[None]:
    """Within it all mixed operations of `network` run only what is on (`single_path`)."""
    choices = [module for module in network.modules() if isinstance(module, OperationChoice)]
    return holding(choices, "single", True)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Puts a network into evaluation mode, and each of its modules back into its own mode at the end."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
