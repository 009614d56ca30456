"""Zero-cost proxies made of the gradient of the loss on one or a few batches: g = dL/dw of each layer's weights w."""

from __future__ import annotations

import torch
from torch import Tensor

from supernet.estimation.zero_cost.probe import Probe


def snip(probe: Probe) -> float:
    """Sums |w g| over all weights: how much the loss would change if each weight were left out (SNIP).

    Args:
        probe: the network and a batch with labels.

    Returns:
        The sum, larger for a better network.

    Example:
        >>> from supernet.data.batches import Batch
        >>> layer = torch.nn.Linear(1, 2, bias=False)
        >>> layer.weight.data = torch.tensor([[1.0], [1.0]])
        >>> probe = Probe(layer, [Batch(torch.ones(1, 1), torch.tensor([0]))])
        >>> probe.gradients[0].flatten().tolist()
        [-0.5, 0.5]
        >>> snip(probe)
        1.0

    Source: Lee, Ajanthan and Torr 2019; as a score of networks Abdelfattah et al. 2021, equation 1.
    """
    return float(sum(terms.abs().sum() for terms in _weights_times(probe, probe.gradients)))


def plain(probe: Probe) -> float:
    """Sums w g over all weights, with its sign.

    Its published correlations with accuracy are negative; it is reported as it is defined.

    Args:
        probe: the network and a batch with labels.

    Returns:
        The sum.

    Example:
        >>> from supernet.data.batches import Batch
        >>> layer = torch.nn.Linear(1, 2, bias=False)
        >>> layer.weight.data = torch.tensor([[1.0], [1.0]])
        >>> probe = Probe(layer, [Batch(torch.ones(1, 1), torch.tensor([0]))])
        >>> probe.gradients[0].flatten().tolist()
        [-0.5, 0.5]
        >>> plain(probe)
        0.0

    Source: Abdelfattah et al. 2021, their code's "plain".
    """
    return float(sum(terms.sum() for terms in _weights_times(probe, probe.gradients)))


def grad_norm(probe: Probe) -> float:
    """Sums the Euclidean norms of the layers' gradients.

    Args:
        probe: the network and a batch with labels.

    Returns:
        The sum, larger for a better network.

    Example:
        >>> from supernet.data.batches import Batch
        >>> layer = torch.nn.Linear(1, 2, bias=False)
        >>> layer.weight.data = torch.tensor([[1.0], [1.0]])
        >>> probe = Probe(layer, [Batch(torch.ones(1, 1), torch.tensor([0]))])
        >>> probe.gradients[0].flatten().tolist()
        [-0.5, 0.5]
        >>> round(grad_norm(probe), 4)
        0.7071

    Source: Abdelfattah et al. 2021, section 3.1.
    """
    return float(sum(gradient.double().norm() for gradient in probe.gradients))


def grasp(probe: Probe) -> float:
    """Sums -w (H g) over all weights, where H is the Hessian of the loss (GraSP).

    The published code for pruning keeps the smallest -w (H g); as a score of networks the sum correlates positively
    with accuracy with this sign.

    Args:
        probe: the network and a batch with labels.

    Returns:
        The sum, larger for a better network.

    Example:
        >>> from supernet.data.batches import Batch
        >>> layer = torch.nn.Linear(1, 2, bias=False)
        >>> layer.weight.data = torch.tensor([[1.0], [-1.0]])
        >>> probe = Probe(layer, [Batch(torch.ones(1, 1), torch.tensor([0]))])
        >>> round(grasp(probe), 4)
        0.0501

    Source: Wang, Zhang and Grosse 2020; as a score Abdelfattah et al. 2021, equation 1.
    """
    return -float(sum(terms.sum() for terms in _weights_times(probe, probe.hessian_gradients)))


def fisher(probe: Probe, *, copied: bool = True) -> float:
    """Sums 1/2 mean_n (sum_hw a dL/da)^2 over the channels a of what the layers give, before any norm.

    The published code copies the number of a channel to each weight of its filter before it sums: a channel counts as
    often as its filter has weights. The published correlations are of that sum.

    Args:
        probe: the network and a batch of n images with labels.
        copied: whether channels count as in the published code; otherwise each counts once, as in the formula.

    Returns:
        The sum, larger for a better network.

    Example:
        >>> from supernet.data.batches import Batch
        >>> layer = torch.nn.Linear(1, 2, bias=False)
        >>> layer.weight.data = torch.tensor([[1.0], [1.0]])
        >>> probe = Probe(layer, [Batch(torch.ones(1, 1), torch.tensor([0]))])
        >>> probe.gradients[0].flatten().tolist()
        [-0.5, 0.5]
        >>> fisher(probe)  # 1/2 (1 x -0.5)^2 + 1/2 (1 x 0.5)^2
        0.25

    Source: Theis et al. 2018; Turner et al. 2020; Abdelfattah et al. 2021, equation 2.
    """
    total = 0.0
    for layer, output, gradient in zip(probe.graph.layers, probe.graph.outputs, probe.output_gradients, strict=True):
        per_image = (output.detach() * gradient).flatten(2).sum(2) if output.dim() > 2 else output.detach() * gradient
        times = layer.weight[0].numel() if copied else 1
        total += times * float(0.5 * per_image.double().square().mean(0).sum())
    return total


def zico(probe: Probe, *, absolute: bool = False) -> float:
    """Sums over the layers log(sum over weights of mean |g| / std g), mean and deviation over the batches (ZiCo).

    The paper takes the standard deviation of |g|, its code that of g, and the published correlations are of the code.
    Weights whose gradient is the same in all batches are left out, and so is a layer of such weights alone.

    Args:
        probe: the network and two batches or more with labels.
        absolute: whether the deviation is that of |g|.

    Returns:
        The sum, larger for a better network.

    Example:
        >>> from supernet.data.batches import Batch
        >>> layer = torch.nn.Linear(1, 2, bias=False)
        >>> layer.weight.data = torch.tensor([[1.0], [1.0]])
        >>> probe = Probe(layer, [Batch(torch.ones(1, 1), torch.tensor([label])) for label in (0, 1)])
        >>> [gradient.flatten().tolist() for (gradient,) in probe.gradients_of_batches]
        [[-0.5, 0.5], [0.5, -0.5]]
        >>> round(zico(probe), 4)  # log 2: mean |g| and std g are 0.5 for both weights
        0.6931

    Source: Li et al. 2023, equation 12, and its code.
    """
    return float(sum(_log_ratio(torch.stack(each), absolute) for each in zip(*probe.gradients_of_batches, strict=True)))


def _log_ratio(gradients: Tensor, absolute: bool) -> Tensor:
    """log sum mean |g| / std g of one layer; (batches, ...) -> scalar, 0 where no weight's gradient varies."""
    gradients = gradients.double()
    size = gradients.abs()
    deviation = (size if absolute else gradients).std(0, correction=0)
    varies = deviation > 0
    total = (size.mean(0)[varies] / deviation[varies]).sum()
    return total.log() if bool(varies.any()) else total


def _weights_times(probe: Probe, others: tuple[Tensor, ...]) -> list[Tensor]:
    """The weights of each layer times a tensor of their shape, in float64: their sums of both signs cancel."""
    weights = (layer.weight.detach().double() for layer in probe.layers)
    return [weight * other.double() for weight, other in zip(weights, others, strict=True)]
