"""Dropout of skip connections (P-DARTS) and of whole edges (drop path), and functions that set their rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supernet.space.operations import Operation, Site


@dataclass
class _Batch:
    """Which rows of a joined batch of `total` images the images are that networks are given now."""

    total: int
    rows: slice


_NOW = _Batch(0, slice(0, 0))


def draw_for(total: int, rows: slice = slice(None)) -> None:
    """Lets all dropout be drawn for a joined batch of which the networks of this process are given some rows.

    So the processes that share a batch drop what one process with all of it would drop, and their generators stay
    alike.

    Args:
        total: images of the joined batch; 0: the images are all that there are.
        rows: those of this process.
    """
    _NOW.total, _NOW.rows = total, rows


def drawn_for() -> tuple[int, int, int]:
    """The joined batch for which dropout is drawn now: its images, and where those of this process begin and end."""
    return _NOW.total, _NOW.rows.start or 0, _NOW.rows.stop or 0


def _drawn(shape: Sequence[int], kept: float, like: Tensor) -> Tensor:
    """Ones with the probability `kept` and zeros, (images, ...)."""
    rows = _NOW.rows
    if not _NOW.total or shape[0] != rows.stop - rows.start:  # not images of the joined batch
        return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(kept)
    return torch.empty((_NOW.total, *shape[1:]), dtype=like.dtype, device=like.device).bernoulli_(kept)[rows]


def _thinned(x: Tensor, shape: Sequence[int], probability: float) -> Tensor:
    """`x` times a mask of `shape` that is 0 with `probability`, and otherwise so large that the mean stays."""
    return x * (_drawn(shape, 1.0 - probability, x) / (1.0 - probability))


def _set_probability(network: nn.Module, kind: type[SkipDropout] | type[DropPath], probability: float) -> None:
    for module in network.modules():
        if isinstance(module, kind):
            module.probability = probability


class SkipDropout(nn.Module):
    """An identity whose values are dropped one by one while training, the rest rescaled (P-DARTS, Chen et al. 2019).

    So the operations beside a skip connection have to learn, too. `probability` in [0, 1) is set from outside
    (`set_skip_dropout`): it is a function of the epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.probability = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0.0:
            return x
        # Drawn in the order of the values, not of their places in memory: all executors drop the same.
        return _thinned(x, x.shape, self.probability)


def dropped(skip: Operation) -> Operation:
    """`skip` with dropout where it is an identity; where it has convolutions (stride 2), as it is.

    Args:
        skip: makes a skip connection for a site.

    Returns:
        Makes the same with dropout.

    Example:
        >>> from supernet.space.operations import OPERATIONS
        >>> dropped(OPERATIONS["skip_connect"])(Site(8, 8))
        SkipDropout()
    """

    def build(site: Site) -> nn.Module:
        operation = skip(site)
        return SkipDropout() if isinstance(operation, nn.Identity) else operation

    return build


def set_skip_dropout(network: nn.Module, probability: float) -> None:
    """Sets the probability of every SkipDropout in a network.

    Args:
        network: any module.
        probability: of a value to be dropped, in [0, 1).
    """
    _set_probability(network, SkipDropout, probability)


class Dropout(nn.Dropout):
    """PyTorch's dropout of values, drawn for the joined batch where processes share one (`draw_for`)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0 or not _NOW.total:
            return super().forward(x)
        return _thinned(x, x.shape, self.p)


class DropPath(nn.Module):
    """Zeroes its input for a random part of the batch while training and rescales the rest (FractalNet; DARTS 4.1).

    `probability` in [0, 1) is set from outside (`set_drop_path`): it is a function of the epoch.

    Args:
        share: multiplies the probability, in [0, 1]: deeper parts of a network can be dropped more often.
    """

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        self.probability, self.share = 0.0, share

    def forward(self, x: Tensor) -> Tensor:
        probability = self.probability * self.share
        if not self.training or probability == 0.0:
            return x
        return _thinned(x, (x.shape[0], 1, 1, 1), probability)


def set_drop_path(network: nn.Module, probability: float) -> None:
    """Sets the probability of every DropPath in a network.

    Args:
        network: any module.
        probability: of an image to do without an edge, in [0, 1).
    """
    _set_probability(network, DropPath, probability)


class Dropouts:
    """All dropout of a network: of values, of skip connections and of whole paths. It is found once.

    Args:
        network: any module, whose structure must not change any more.

    Example:
        >>> network = nn.Sequential(nn.Dropout(0.5), SkipDropout())
        >>> dropouts = Dropouts(network)
        >>> with dropouts.off():
        ...     dropouts.active, network(torch.ones(2)).tolist()
        (False, [1.0, 1.0])
        >>> dropouts.active
        True
    """

    def __init__(self, network: nn.Module) -> None:
        self._own = [m for m in network.modules() if isinstance(m, SkipDropout | DropPath)]
        self._torch = [m for m in network.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]

    @property
    def active(self) -> bool:
        """Whether a pass now would drop anything."""
        own = any(module.training and module.probability > 0.0 for module in self._own)
        return own or any(module.training and module.p > 0.0 for module in self._torch)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within it nothing is dropped; then the rates are what they were."""
        before = [m.probability for m in self._own], [m.p for m in self._torch]
        self._set([0.0 for _ in self._own], [0.0 for _ in self._torch])
        try:
            yield
        finally:
            self._set(*before)

    def _set(self, own: Sequence[float], of_torch: Sequence[float]) -> None:
        for module, rate in zip(self._own, own, strict=True):
            module.probability = rate
        for dropout, rate in zip(self._torch, of_torch, strict=True):
            dropout.p = rate
