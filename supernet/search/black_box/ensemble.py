"""An ensemble of small networks that predicts how good architectures are; all members are trained as one."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

_BETA, _GAMMA, _EPSILON = 0.9, 0.99, 1e-7  # Adam's, as in the authors' code


class Ensemble:
    """Fully connected networks with one output, of which each has its own initial weights and order of examples.

    They are one batched network, so that the ensemble takes hardly longer than a member. The gradient of the mean
    absolute error is written out for the same reason. Weights begin as Glorot's uniform ones, biases at 0.

    Args:
        features: of an example.
        members: how many networks.
        layers: hidden ones, with ReLU.
        width: of a hidden layer.
        generator: draws the initial weights and the orders of examples.
        dtype: of all numbers.

    Attributes:
        parameters: of all members behind each other, layer by layer: weights, then biases.

    Example:
        >>> ensemble = Ensemble(2, members=3, layers=2, width=8, generator=torch.Generator().manual_seed(0))
        >>> inputs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> ensemble.fit(inputs, inputs.sum(1), epochs=200)
        >>> (ensemble.predict(inputs).mean(0) - inputs.sum(1)).abs().max().item() < 0.2
        True
    """

    def __init__(
        self,
        features: int,
        *,
        members: int,
        layers: int,
        width: int,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        sizes = [features, *[width] * layers, 1]
        shapes = [(members, below, above) for below, above in pairwise(sizes)]
        self._members, self._generator = members, generator
        self.parameters = torch.zeros(sum(m * (below + 1) * above for m, below, above in shapes), dtype=dtype)
        self._gradient = torch.zeros_like(self.parameters)
        self._layers, self._gradients = _split(self.parameters, shapes), _split(self._gradient, shapes)
        for weights, _ in self._layers:
            limit = math.sqrt(6.0 / (weights.shape[1] + weights.shape[2]))
            weights.uniform_(-limit, limit, generator=generator)

    def fit(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        epochs: int,
        batch_size: int = 32,
        learning_rate: float = 0.01,
    ) -> None:
        """Trains all members by Adam on the mean absolute error.

        Args:
            inputs: (examples, features).
            targets: (examples,).
            epochs: passes over the examples.
            batch_size: examples of a step; an epoch's last step has the rest.
            learning_rate: of Adam.
        """
        first, second, step = torch.zeros_like(self.parameters), torch.zeros_like(self.parameters), 0
        for _ in range(epochs):
            # Sorting random numbers makes an order of the examples for each member.
            order = torch.rand(self._members, len(inputs), generator=self._generator).argsort(1)
            for places in order.split(batch_size, 1):
                step += 1
                gradient = self.gradient(inputs[places], targets[places])
                first.lerp_(gradient, 1.0 - _BETA)
                second.mul_(_GAMMA).addcmul_(gradient, gradient, value=1.0 - _GAMMA)
                denominator = second.sqrt().div_(math.sqrt(1.0 - _GAMMA**step)).add_(_EPSILON)
                self.parameters.addcdiv_(first, denominator, value=-learning_rate / (1.0 - _BETA**step))

    def predict(self, inputs: Tensor) -> Tensor:
        """Predicts.

        Args:
            inputs: (examples, features).

        Returns:
            (members, examples).
        """
        return self._activations(inputs.expand(self._members, *inputs.shape))[-1].squeeze(2)

    def gradient(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The gradient of the sum over the members of their mean absolute errors.

        Args:
            inputs: (members, examples, features).
            targets: (members, examples).

        Returns:
            As `parameters`; the next call overwrites it.
        """
        activations = self._activations(inputs)
        slope = (activations[-1] - targets.unsqueeze(2)).sign_().div_(targets.shape[1])
        for number in range(len(self._layers) - 1, -1, -1):
            (weights, _), (of_weights, of_biases) = self._layers[number], self._gradients[number]
            below = activations[number]
            torch.bmm(below.transpose(1, 2), slope, out=of_weights)
            torch.sum(slope, 1, keepdim=True, out=of_biases)
            if number:
                slope = torch.bmm(slope, weights.transpose(1, 2)).mul_(below > 0)
        return self._gradient

    def _activations(self, inputs: Tensor) -> list[Tensor]:
        """The input of each layer, and the output: (members, examples, width)."""
        activations = [inputs]
        for weights, biases in self._layers[:-1]:
            activations.append(torch.baddbmm(biases, activations[-1], weights).relu_())
        weights, biases = self._layers[-1]
        return [*activations, torch.baddbmm(biases, activations[-1], weights)]


def _split(flat: Tensor, shapes: list[tuple[int, int, int]]) -> list[tuple[Tensor, Tensor]]:
    """Weights (members, below, above) and biases (members, 1, above) of each layer, as views."""
    views, start = [], 0
    for members, below, above in shapes:
        middle, end = start + members * below * above, start + members * (below + 1) * above
        views.append((flat[start:middle].view(members, below, above), flat[middle:end].view(members, 1, above)))
        start = end
    return views
