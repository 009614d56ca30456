"""Zero-cost proxies that look at no image, only at the weights and the graph."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from supernet.estimation.zero_cost.probe import Probe, hooked, layers_of

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def synflow(probe: Probe) -> float:
    """Log of the sum over all weights of |w dR/dw|, R the sum of the logits of an image of ones under |weights|.

    Norms are left out, and everything is computed in float64: without norms the sum grows with every layer (1e61 in
    NAS-Bench-201), which is why its logarithm is given; the order is the same.

    Args:
        probe: the network and a batch, for the shape of its images.

    Returns:
        The score, larger for a better network; -inf where no path leads from the image to the logits.

    Example:
        >>> from supernet.data.batches import Batch
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> layer.weight.data = torch.tensor([[3.0, -1.0]])
        >>> probe = Probe(nn.Sequential(nn.Flatten(), layer), [Batch(torch.zeros(1, 1, 1, 2), torch.tensor([0]))])
        >>> round(synflow(probe), 6) == round(torch.tensor(4.0).log().item(), 6)  # |3| + |-1|
        True

    Source: Tanaka et al. 2020, equation 2; as a score Abdelfattah et al. 2021.
    """
    network = copy.deepcopy(probe.network).double().eval()
    for parameter in network.parameters():
        parameter.data.abs_()
    weights = [layer.weight for layer in layers_of(network)]
    norms = [module for module in network.modules() if isinstance(module, _NORMS)]
    with hooked(norms, _given):
        ones = torch.ones(1, *probe.batch.images.shape[1:], dtype=torch.float64, device=probe.batch.images.device)
        total = probe.logits(network(ones)).sum()
    gradients = torch.autograd.grad(total, weights, allow_unused=True, materialize_grads=True)
    terms = [(weight.detach() * gradient).abs().sum() for weight, gradient in zip(weights, gradients, strict=True)]
    return float(torch.stack(terms).sum().log())


def l2_norm(probe: Probe) -> float:
    """Sums the Euclidean norms of the layers' initial weights.

    It looks at no image: it is a count of layers and channels, a baseline as parameters and multiply-adds are.

    Args:
        probe: the network.

    Returns:
        The sum.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> layer.weight.data = torch.tensor([[3.0, -4.0]])
        >>> l2_norm(Probe(layer, []))
        5.0

    Source: Abdelfattah et al. 2021, their code's "l2_norm".
    """
    return float(sum(layer.weight.detach().double().norm() for layer in probe.layers))


def _given(_: object, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """What a module was given, in place of what it made of it."""
    return inputs[0]
