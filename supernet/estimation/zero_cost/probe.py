"""A network before any training, a few batches of images, and the passes over them that zero-cost proxies share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from supernet.data.batches import Batch
from supernet.execution.modes import frozen_statistics, holding
from supernet.training.tasks import CLASSIFICATION, Output, Task
from supernet.training.tasks.task import logits_of

Layer = nn.Conv2d | nn.Linear
"""The layers whose weights proxies look at; biases and norms play no part."""

_AUXILIARY, _HEAD = "auxiliary.", "prediction."


@dataclass(frozen=True)
class Graph:
    """A forward pass in training mode that can be differentiated.

    Args:
        images: (batch, channels, height, width), a leaf that wants gradients.
        output: what the network gave, which the loss is of: logits (batch, classes), or what a task's head makes.
        outputs: what each layer gave, in the order in which they ran.
        layers: which layer it was.
    """

    images: Tensor
    output: Tensor
    outputs: tuple[Tensor, ...]
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Probe:
    """A network and batches of images, and what several proxies need of them: each pass is made once.

    A proxy is a function of a probe. The network runs in training mode, with each batch's own statistics in its norms;
    it stays as it was. An auxiliary head plays no part.

    Args:
        network: maps images to what the task's loss takes, such as logits (batch, classes), without any training.
        batches: of normalised images and their labels; only ZiCo looks at more than the first.
        seed: of the random numbers of proxies that draw some (Zen).
        second_order: the gradient can be differentiated again, as grasp wants; it takes several times the memory.
        task: whose loss it is.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> probe = Probe(network, [Batch(torch.ones(3, 1, 2, 2), torch.tensor([0, 1, 1]))])
        >>> [gradient.shape for gradient in probe.gradients]
        [torch.Size([2, 4])]
    """

    network: nn.Module
    batches: Sequence[Batch]
    seed: int = 0
    second_order: bool = False
    task: Task = CLASSIFICATION

    @property
    def batch(self) -> Batch:
        """The first batch."""
        return self.batches[0]

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The convolutions and linear layers of the network."""
        return layers_of(self.network)

    @cached_property
    def graph(self) -> Graph:
        """The forward pass on the first batch."""
        return self._forward(self.batch)

    @cached_property
    def gradients(self) -> tuple[Tensor, ...]:
        """The gradient of the first batch's loss with respect to the weights of each layer, of their shapes."""
        return tuple(gradient.detach() for gradient in self._of_loss[: len(self.layers)])

    @cached_property
    def output_gradients(self) -> tuple[Tensor, ...]:
        """The gradient of the first batch's loss with respect to what each layer gave, as in `graph.outputs`."""
        return tuple(gradient.detach() for gradient in self._of_loss[len(self.layers) :])

    @cached_property
    def hessian_gradients(self) -> tuple[Tensor, ...]:
        """The Hessian of the first batch's loss times its gradient, of the shapes of the layers' weights."""
        weights = [layer.weight for layer in self.layers]
        gradients = self._of_loss[: len(weights)]
        if not self.second_order:
            loss = self.task.loss(self.graph.output, self.batch)
            gradients = _gradients(loss, weights, create_graph=True)
        product = torch.stack([(g * g.detach()).sum() for g in gradients]).sum()
        return _gradients(product, weights, retain_graph=True)

    @cached_property
    def gradients_of_batches(self) -> tuple[tuple[Tensor, ...], ...]:
        """What `gradients` are, of every batch."""
        further = []
        for batch in self.batches[1:]:
            loss = self.task.loss(self._forward(batch).output, batch)
            further.append(_gradients(loss, [layer.weight for layer in self.layers]))
        return (self.gradients, *further)

    @cached_property
    def jacobian(self) -> Tensor:
        """The gradient of the sum of the first batch's logits with respect to each image: (batch, numbers of an image).

        Norms mix the images of a batch, so that it holds the influence of an image on the others' logits, too.
        """
        (gradient,) = _gradients(self.logits(self.graph.output).sum(), [self.graph.images], retain_graph=True)
        return gradient.flatten(1)

    def logits(self, output: Output) -> Tensor:
        """The logits of the classes in what the network gave, (batch, ...).

        Of a detector nothing else: the sides of its boxes lie to the left and to the right of a place, and their sum
        says nothing.
        """
        return self.task.logits(output)

    @cached_property
    def _of_loss(self) -> tuple[Tensor, ...]:
        """The gradients of the loss: of all layers' weights, then of all outputs."""
        loss = self.task.loss(self.graph.output, self.batch)
        wanted = [*(layer.weight for layer in self.layers), *self.graph.outputs]
        return _gradients(loss, wanted, retain_graph=True, create_graph=self.second_order)

    def _forward(self, batch: Batch) -> Graph:
        """Runs the network and keeps what its layers gave."""
        seen: list[tuple[Layer, Tensor]] = []

        def keep(layer: Any, _: object, output: Tensor) -> None:
            seen.append((layer, output))

        images = batch.images.detach().requires_grad_()
        with as_in_training(self.network), hooked(self.layers, keep):
            output = logits_of(self.network(images))
        return Graph(images, output, tuple(output for _, output in seen), tuple(layer for layer, _ in seen))


def layers_of(network: nn.Module) -> tuple[Layer, ...]:
    """Finds the layers whose weights proxies look at.

    Args:
        network: any module.

    Returns:
        Its convolutions and linear layers, without those of an auxiliary head.

    Example:
        >>> layers_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2)))
        (Linear(in_features=2, out_features=2, bias=True),)
    """
    return tuple(module for module in main_modules(network) if isinstance(module, Layer))


def main_modules(network: nn.Module) -> list[nn.Module]:
    """Lists all modules of a network but those of an auxiliary head.

    Args:
        network: any module.

    Returns:
        The modules, the network itself first.
    """
    return [module for name, module in network.named_modules() if not f"{name}.".startswith(_AUXILIARY)]


def body_modules(network: nn.Module) -> list[nn.Module]:
    """Lists the modules of a network that make its features: without a task's head and an auxiliary one.

    Args:
        network: any module.

    Returns:
        The modules, the network itself first; of one that ends in a classifier those of `main_modules`.
    """
    names = {id(module) for name, module in network.named_modules() if f"{name}.".startswith(_HEAD)}
    return [module for module in main_modules(network) if id(module) not in names]


@contextmanager
def as_in_training(network: nn.Module) -> Iterator[None]:
    """Within it a network is in training mode, but its norms remember nothing of what it sees.

    Args:
        network: any module.

    Example:
        >>> norm = nn.BatchNorm2d(1).eval()
        >>> with as_in_training(norm):
        ...     norm(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)).flatten().round().tolist()
        [-1.0, 1.0]
        >>> norm.training, norm.running_mean.item()
        (False, 0.0)
    """
    with holding(list(network.modules()), "training", True), frozen_statistics(network):
        yield


@contextmanager
def hooked(modules: Sequence[nn.Module], hook: Callable[[Any, Any, Any], Tensor | None]) -> Iterator[None]:
    """Within it `hook(module, inputs, output)` is called after every pass of these modules.

    What it returns takes the place of the output, unless it is None.
    """
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(hook).remove)
        yield


def _gradients(
    of: Tensor, with_respect_to: Sequence[Tensor], *, retain_graph: bool = False, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """Gradients of a scalar; zeros where it does not depend on a tensor."""
    retain = retain_graph or create_graph
    return torch.autograd.grad(
        of, with_respect_to, retain_graph=retain, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
