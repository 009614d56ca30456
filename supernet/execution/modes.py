"""Changes for a while how a network runs: by another executor, in another mode, or with other batch norms.

All of these are context managers: at the end of the block the network is what it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from supernet.space.cells import Cell, Executor
from supernet.space.choices import NumberChoice, OperationChoice
from supernet.space.supernet import Supernet


def running(network: nn.Module, executor: Executor) -> AbstractContextManager[None]:
    """Within it all cells of `network` are evaluated by `executor`: same parameters, same function.

    Args:
        network: any module; its cells are found at the call.
        executor: such as `reference`, which can be differentiated twice.

    Example:
        >>> from supernet.execution.fused.executor import fused
        >>> from supernet.space.choosers import Undecided
        >>> from supernet.space.darts import Darts
        >>> network = Darts(channels=4, cells=1, nodes=2).network(Undecided(), (3, 8, 8), 10)
        >>> with running(network, fused):
        ...     network.cells[0].execute is fused
        True
        >>> network.cells[0].execute is fused
        False
    """
    return holding([module for module in network.modules() if isinstance(module, Cell)], "execute", executor)


def frozen_statistics(network: nn.Module) -> AbstractContextManager[None]:
    """Within it batch norms use the batch's statistics, as they do in training mode, but do not remember them.

    For passes that are no step of the training, such as those that the architecture's gradient takes.

    Args:
        network: any module in training mode.

    Example:
        >>> norm = nn.BatchNorm2d(1)
        >>> with frozen_statistics(norm):
        ...     out = norm(torch.ones(2, 1, 4, 4))
        >>> norm.running_mean.item()
        0.0
    """
    return holding(_remembering(network), "track_running_stats", False)


def _remembering(network: nn.Module) -> list[nn.modules.batchnorm._NormBase]:
    modules = network.norms if isinstance(network, Supernet) else network.modules()
    return [m for m in modules if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats]


@contextmanager
def recalibrated(network: nn.Module, batches: Iterable[Tensor], forward: Callable[[Tensor], object]) -> Iterator[None]:
    """Within it all batch norms remember the mean statistics of `batches`, as `forward` meets them, and nothing else.

    So a supernet's weights are judged under architecture weights that they have not been trained with. At the end every
    buffer is what it was.

    Args:
        network: any module in training mode.
        batches: images (batch, channels, height, width), in any number.
        forward: runs the network on one of them; what it returns is not used.

    Example:
        >>> norm = nn.BatchNorm2d(1)
        >>> with recalibrated(norm, [torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)], norm):
        ...     norm.running_mean.item()
        0.5
        >>> norm.running_mean.item()
        0.0
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
    """Within it a plain attribute of all modules has this value; then each has its own again.

    Args:
        modules: that all have the attribute in their `__dict__`: no parameter, buffer or child.
        attribute: its name.
        value: for all of them.
    """
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
    """Within it all mixed operations of `network` run only the operations whose weights are not zero (`single_path`).

    Open sizes of one-hot weights are as small as they say (`NumberChoice.place`).

    Args:
        network: any module; its open decisions are found at the call.

    Example:
        >>> from supernet.space.choosers import Undecided
        >>> from supernet.space.darts import Darts
        >>> from supernet.space.supernet import Supernet
        >>> supernet = Supernet(Darts(channels=4, cells=1, nodes=2).network(Undecided(), (3, 8, 8), 10))
        >>> first = {name: torch.eye(len(d.options))[0] for name, d in supernet.decisions.items()}
        >>> with single_paths(supernet):  # everywhere "none", the first option
        ...     supernet(torch.randn(2, 3, 8, 8), first).shape
        torch.Size([2, 10])
    """
    choices = [*network.operations, *network.numbers] if isinstance(network, Supernet) else network.modules()
    return holding([module for module in choices if isinstance(module, OperationChoice | NumberChoice)], "single", True)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Within it `network` is in evaluation mode; at the end each of its modules is in its own mode again.

    `network.train()` would put modules into training mode that were not, such as frozen norms.

    Args:
        network: any module.

    Example:
        >>> network = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(1).eval())
        >>> with evaluating(network):
        ...     [module.training for module in network]
        [False, False]
        >>> [module.training for module in network]
        [True, False]
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
