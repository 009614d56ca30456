"""Scores architectures by zero-cost proxies: their networks are built, looked at and thrown away, without training."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from supernet.data.batches import Batch
from supernet.data.targets import kind_of
from supernet.estimation.scores import Measured
from supernet.estimation.zero_cost.activations import naswot, zen
from supernet.estimation.zero_cost.gradients import fisher, grad_norm, grasp, plain, snip, zico
from supernet.estimation.zero_cost.jacobians import epe, jacov
from supernet.estimation.zero_cost.probe import Probe
from supernet.estimation.zero_cost.weights import l2_norm, synflow
from supernet.execution.engines import Engine
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import random_states_kept, seed_initial_weights
from supernet.space import Space
from supernet.space.architecture import Architecture
from supernet.space.cells import reference
from supernet.space.choosers import Decided
from supernet.space.operations import OPERATIONS, Operation
from supernet.training.tasks import CLASSIFICATION, Task

_LOG = logging.getLogger("supernet")
_STREAM = 0x2C05


@dataclass(frozen=True)
class Proxy:
    """A zero-cost proxy, and what it needs.

    Args:
        measure: gives its value, larger for a better network.
        labels: whether it looks at the labels of the images, by the loss of the task.
        classes: whether it compares images of one class, so that each needs a class.
        images: how many a batch has at least.
        batches: how many it needs.
        second_order: whether it differentiates the gradient again.
    """

    measure: Callable[[Probe], float]
    labels: bool = False
    classes: bool = False
    images: int = 2
    batches: int = 1
    second_order: bool = False


PROXIES: dict[str, Proxy] = {
    "synflow": Proxy(synflow, images=1),
    "snip": Proxy(snip, labels=True),
    "plain": Proxy(plain, labels=True),
    "grad_norm": Proxy(grad_norm, labels=True),
    "grasp": Proxy(grasp, labels=True, second_order=True),
    "fisher": Proxy(fisher, labels=True),
    "jacov": Proxy(jacov),
    "naswot": Proxy(naswot),
    "zen": Proxy(zen),
    "zico": Proxy(zico, labels=True, batches=2),
    "epe": Proxy(epe, labels=True, classes=True),
    "l2_norm": Proxy(l2_norm, images=1),
}
"""The proxies by name."""


@dataclass(frozen=True)
class ZeroCostScore:
    """Judges an architecture by proxies of its network before any training. It is a `Score`.

    The plain network is built with PyTorch's own initialisation, from the same seed at every call: a score depends on
    the architecture alone and not on the calls before. Passes are shared: one gradient serves snip, plain, grad_norm,
    fisher, grasp and zico, one Jacobian jacov and epe. A value that is not finite, such as that of a network whose
    logits do not depend on the image, becomes -inf, the worst there is, and a warning names it.

    Args:
        space: what is built, in the size in which it is judged.
        shape: of an image: channels, height, width.
        classes: how many there are.
        batches: of normalised training images, on the device to compute on. All proxies look at the first; zico needs
            a second one.
        proxies: which ones, by the names of `PROXIES`.
        seed: of the initial weights, and of what a proxy draws.
        factories: the operations by name.
        task: what is learnt: its loss is that of the proxies that look at labels, and the network ends in what it
            needs. Only epe is for one label an image alone.

    Raises:
        InputError: a proxy is unknown or cannot do this task; and, when called, where the network lacks what a proxy
            looks at.

    Example:
        >>> from supernet.space.nasbench201 import NasBench201, from_string
        >>> space = NasBench201(channels=4, cells=1, stages=1, nodes=1)
        >>> batch = Batch(torch.linspace(-1, 1, 128).view(2, 1, 8, 8), torch.tensor([0, 1]))
        >>> score = ZeroCostScore(space, (1, 8, 8), 2, (batch,), ("synflow", "snip"))
        >>> wide, narrow = score(from_string("|nor_conv_3x3~0|")), score(from_string("|nor_conv_1x1~0|"))
        >>> list(wide.values), wide.values["synflow"] > narrow.values["synflow"], wide.cost
        (['synflow', 'snip'], True, {'images': 3.0})
    """

    space: Space
    shape: tuple[int, int, int]
    classes: int
    batches: Sequence[Batch]
    proxies: Sequence[str] = ("synflow",)
    seed: int = 0
    factories: Mapping[str, Operation] = field(default_factory=lambda: OPERATIONS)
    task: Task = CLASSIFICATION

    def __post_init__(self) -> None:
        chosen = {name: _proxy(name) for name in self.proxies}
        if not chosen or len(chosen) != len(self.proxies):
            raise InputError(f"proxies={list(self.proxies)}: needs different ones, such as synflow, naswot")
        if not self.batches:
            raise InputError("batches=0: needs one batch of images or more")
        for number, batch in enumerate(self.batches):
            if tuple(batch.images.shape[1:]) != tuple(self.shape):
                given = tuple(batch.images.shape[1:])
                raise InputError(f"batches: number {number} has images of {given}, and shape={tuple(self.shape)}")
        for name, proxy in chosen.items():
            self._check(name, proxy)

    def __call__(self, architecture: Architecture) -> Measured:
        """Builds the network of an architecture and measures it; all random states are afterwards as they were.

        Args:
            architecture: of the space.

        Returns:
            The proxies' values by name, larger ones for better networks, and the images that the network looked at.

        Raises:
            InputError: the architecture is not of the space, or the network lacks what a proxy looks at.
        """
        with random_states_kept():
            probe = self.probe(architecture)
            images = _count_images(probe.network)
            values = {name: PROXIES[name].measure(probe) for name in self.proxies}
        if unknown := [name for name, value in values.items() if not math.isfinite(value)]:
            _LOG.warning("%s: not finite, counted as -inf, for %s", ", ".join(unknown), dict(architecture))
        known = {name: value if math.isfinite(value) else -math.inf for name, value in values.items()}
        return Measured(known, {"images": float(sum(images))})

    def probe(self, architecture: Architecture) -> Probe:
        """Builds the network of an architecture, for proxies to be measured one by one.

        The global random states change; `random_states_kept` keeps them.

        Args:
            architecture: of the space.

        Returns:
            The network, which the seed initialises, and the batches.

        Raises:
            InputError: the architecture is not of the space.
        """
        if architecture.space != self.space.name:
            raise InputError(f"architecture: is of space {architecture.space!r}, and the space is {self.space.name!r}")
        seed_initial_weights(self.seed, _STREAM)
        outputs = self.task.outputs([str(number) for number in range(self.classes)])
        network = self.space.network(Decided(architecture, self.factories), self.shape, outputs)
        images = self.batches[0].images
        layout = torch.channels_last if images.device.type == "cpu" else torch.contiguous_format  # the faster one
        network = Engine(reference, layout).apply(network).to(images.device, images.dtype)
        second_order = any(PROXIES[name].second_order for name in self.proxies)
        return Probe(network, self.batches, self.seed, second_order, self.task)

    def _check(self, name: str, proxy: Proxy) -> None:
        """Raises InputError where a proxy cannot be measured with these batches and classes."""
        if len(self.batches) < proxy.batches:
            raise InputError(
                f"proxies={name}: compares {proxy.batches} batches or more, and there is one; make them "
                "smaller, or give more images"
            )
        for number, batch in enumerate(self.batches):
            if len(batch.images) < proxy.images:
                raise InputError(
                    f"proxies={name}: needs {proxy.images} images or more in a batch, number {number} has "
                    f"{len(batch.images)}; give larger batches"
                )
            if proxy.labels and (reason := self._useless(batch, proxy.classes)):
                free = [other for other, p in PROXIES.items() if not (p.classes if proxy.classes else p.labels)]
                needed = "no classes" if proxy.classes else "none"
                raise InputError(f"proxies={name}: needs labels, {reason}; these need {needed}: {', '.join(free)}")

    def _useless(self, batch: Batch, one_class: bool) -> str:
        """Why the labels of a batch are none of the task, or none of one class an image; empty where they are."""
        kind = "classes" if one_class else self.task.kind
        if kind == "classes":
            return _no_classes(batch, self.classes)
        if kind_of(batch.labels) != kind or (kind == "labels" and batch.labels.shape[1] != self.classes):
            wanted = f"{self.classes} an image" if kind == "labels" else "boxes of objects"
            return f"{wanted}, and these are of shape {tuple(batch.labels.shape)}"
        return ""


def _proxy(name: str) -> Proxy:
    if name not in PROXIES:
        raise InputError(f"proxies={str(name)[:60]}: no such proxy; known: {', '.join(PROXIES)}")
    return PROXIES[name]


def _no_classes(batch: Batch, classes: int) -> str:
    """Why the labels of a batch are none of a classification; empty where they are."""
    labels = batch.labels
    if labels.dtype != torch.int64 or labels.shape != batch.images.shape[:1]:
        return f"one class number an image, and these are {labels.dtype} of shape {tuple(labels.shape)}"
    if classes < 2:
        return f"and classes={classes}: of one class the loss is always 0"
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        return f"from 0 to {classes - 1}, and these go from {int(labels.min())} to {int(labels.max())}"
    return ""


def _count_images(network: nn.Module) -> list[int]:
    """A list that grows by the size of every batch that the network, or a copy of it, is given."""
    seen: list[int] = []

    def count(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(len(inputs[0]))

    network.register_forward_pre_hook(count)
    return seen
