"""Zero-cost proxies made of forward passes alone: which ReLUs are on, and how far apart two inputs end."""

from __future__ import annotations

import copy
import math
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from supernet.estimation.zero_cost.probe import Layer, Probe, as_in_training, body_modules, hooked, main_modules
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator

_STREAM, _STRENGTH, _MOMENTUM = 0x2E4, 0.01, 0.1
_ROUNDING = 1e-5  # what a variance of 0 can become in float32


@torch.no_grad()
def naswot(probe: Probe) -> float:
    """Log-determinant of the kernel that counts, for two images, the ReLU outputs that are on or off in both.

    K = sum over all ReLUs of c c^T + (1 - c) (1 - c)^T, c of (images, outputs) being 1 where an output is positive.
    Every ReLU that runs counts, also one on an edge that leads nowhere and one that repeats another's.

    Args:
        probe: the network and a batch of two images or more.

    Returns:
        log |det K|, larger for a better network; -inf where two images have the same outputs on.

    Raises:
        InputError: the network has no ReLU.

    Example:
        >>> from supernet.data.batches import Batch
        >>> network = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
        >>> probe = Probe(network, [Batch(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), torch.tensor([0, 1]))])
        >>> round(math.exp(naswot(probe)), 6)  # K = [[2, 0], [0, 2]]
        4.0

    Source: Mellor et al. 2021 (NASWOT), equations 1 and 2.
    """
    relus = [module for module in main_modules(probe.network) if isinstance(module, nn.ReLU)]
    if not relus:
        raise InputError("proxies=naswot: it counts the outputs of ReLUs, and this network has none; leave it out")
    count = len(probe.batch)
    kernel = torch.zeros(count, count, dtype=torch.float64, device=probe.batch.images.device)
    known: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}  # the edges from one state have the same codes

    def add(_: object, inputs: tuple[Tensor], output: Tensor) -> None:
        given = inputs[0]
        if id(given) not in known or known[id(given)][0]() is not given:
            known[id(given)] = weakref.ref(given), _agreements(output)
        kernel.add_(known[id(given)][1])

    with as_in_training(probe.network), hooked(relus, add):
        probe.network(probe.batch.images)
    return float(torch.linalg.slogdet(kernel).logabsdet)


def _agreements(outputs: Tensor) -> Tensor:
    """How many outputs of each two images are on in both or off in both: (images, ...) -> (images, images)."""
    signs = torch.where(outputs.flatten(1) > 0, 1.0, -1.0)
    return ((signs @ signs.T).double() + signs.shape[1]) / 2  # whole numbers that float32 holds exactly


def zen(probe: Probe) -> float:
    """Log of how far the features of two near inputs are apart, before pooling, with the norms' scaling put back (Zen).

    With N(0, 1) weights and inputs x and x' = x + 0.01 e of N(0, 1): log mean ||f(x) - f(x')||_1 + sum over the norms
    of log sqrt(mean over channels of the variance). As in the published code, from which the published correlations
    are, the variance is the one that the norms remember after both passes, 0.81 + 0.09 v + 0.1 v'; `zen_terms` has that
    of the passes, too. The random numbers are drawn once.

    Args:
        probe: the network and a batch; the inputs that are drawn have the shape of its images.

    Returns:
        The score, larger for a better network; -inf where the features do not depend on the input.

    Raises:
        InputError: no module of the network gives features (batch, channels, height, width).

    Example:
        >>> from supernet.data.batches import Batch
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2))  # without norms
        >>> probe = Probe(network, [Batch(torch.zeros(4, 1, 3, 3), torch.zeros(4, dtype=torch.int64))])
        >>> zen(probe) == zen_terms(probe).distance
        True

    Source: Lin et al. 2021 (Zen-NAS), algorithm 1. Its author calls it not meaningful in NAS-Bench-201.
    """
    terms = zen_terms(probe)
    return terms.distance + terms.remembered


@dataclass(frozen=True)
class ZenTerms:
    """What the Zen score is a sum of.

    Args:
        distance: log mean ||f(x) - f(x')||_1.
        remembered: sum over the norms of log sqrt(mean of the variance that they remember).
        passes: the same of the variance in both passes, without norms that are given the same everywhere.
    """

    distance: float
    remembered: float
    passes: float


@torch.no_grad()
def zen_terms(probe: Probe) -> ZenTerms:
    """Computes the terms of `zen`.

    Args:
        probe: as there.

    Returns:
        The terms.

    Raises:
        InputError: as there.
    """
    network, draws = copy.deepcopy(probe.network).train(), generator(probe.seed, _STREAM)
    norms = _initialise(network, draws)
    like = probe.batch.images
    first = torch.randn(like.shape, generator=draws).to(like)
    second = first + _STRENGTH * torch.randn(like.shape, generator=draws).to(like)
    distance = (_features(network, first) - _features(network, second)).abs().flatten(1).sum(1).mean()
    kept = (1 - _MOMENTUM) ** 2  # of the ones that the norms began with
    variances = [float(norm.running_var.double().mean()) for norm in norms]  # type: ignore[union-attr]
    remembered = sum(math.log(variance) / 2 for variance in variances)
    of_passes = [(variance - kept) / (1 - kept) for variance in variances]
    passes = sum(math.log(variance) / 2 for variance in of_passes if variance > _ROUNDING)
    return ZenTerms(float(distance.log()), remembered, passes)


def _initialise(network: nn.Module, draws: torch.Generator) -> list[nn.BatchNorm2d]:
    """Draws all weights from N(0, 1), and lets the norms begin anew; these are returned."""
    norms = []
    for module in body_modules(network):
        if isinstance(module, Layer):
            module.weight.copy_(torch.randn(module.weight.shape, generator=draws))
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            module.reset_parameters()
            module.momentum = _MOMENTUM
            norms.append(module)
    return norms


def _features(network: nn.Module, images: Tensor) -> Tensor:
    """The last picture (batch, channels, height, width) that a module gives before the classifier or the head."""
    last: list[Tensor] = []

    def keep(_: object, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            last[:] = [output]

    with hooked(body_modules(network), keep):
        network(images)
    if not last:
        raise InputError(
            "proxies=zen: no module of this network gives features of (batch, channels, height, width); leave it out"
        )
    return last[0]
