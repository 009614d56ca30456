"""Zero-cost proxies made of the Jacobian of the logits with respect to the images: how alike images are treated."""

from __future__ import annotations

import torch
from torch import Tensor

from supernet.estimation.zero_cost.probe import Probe

_SMALL = 1e-5  # of both published codes
_MANY_CLASSES = 100  # up to so many classes EPE-NAS adds what each class gives; above, it compares classes


def jacov(probe: Probe) -> float:
    """Says how different the Jacobians of the images are: -sum (log(v + k) + 1 / (v + k)), k = 1e-5.

    v are the eigenvalues of the correlation matrix of the images' Jacobians. The published code takes `eig`, whose
    rounding can make them complex; the matrix is symmetric, so here they are real.

    Args:
        probe: the network and a batch of two images or more.

    Returns:
        The score, larger for a better network; NaN where the logits do not depend on an image.

    Example:
        >>> from supernet.data.batches import Batch
        >>> layer = torch.nn.Linear(3, 2)  # it treats all images alike: the eigenvalues are 2 and 0
        >>> round(jacov(Probe(layer, [Batch(torch.randn(2, 3), torch.tensor([0, 1]))])), -3)
        -100000.0

    Source: Mellor et al. 2020, version 1, section 3; Abdelfattah et al. 2021 call it jacob_cov.
    """
    correlations = correlations_of(probe.jacobian)
    if not bool(correlations.isfinite().all()):
        return float("nan")
    shifted = torch.linalg.eigvalsh(correlations) + _SMALL
    return -float((shifted.log() + 1 / shifted).sum())


def epe(probe: Probe) -> float:
    """Sums over the classes of a batch |sum of log(|c| + 1e-5)|, c the correlations of their images' Jacobians.

    Over more than 100 classes the code averages within a class and sums the differences between classes instead.

    Args:
        probe: the network and a batch with labels, of two images or more.

    Returns:
        The score, larger for a better network; NaN where the logits do not depend on an image.

    Example:
        >>> from supernet.data.batches import Batch
        >>> layer = torch.nn.Linear(3, 2)  # all correlations are 1: |log(1 + 1e-5)| for each
        >>> round(epe(Probe(layer, [Batch(torch.randn(4, 3), torch.tensor([0, 1, 1, 1]))])), 6)
        0.0001

    Source: Lopes, Alirezazadeh and Alexandre 2021 (EPE-NAS), equations 4 to 6.
    """
    labels, many = probe.batch.labels, probe.graph.output.shape[1] > _MANY_CLASSES
    sums = []
    for label in labels.unique():
        logs = (correlations_of(probe.jacobian[labels == label]).abs() + _SMALL).log()
        sums.append(logs.sum() / len(logs) if many else logs.sum())
    of_classes = torch.stack(sums)
    if many:
        return float((of_classes[:, None] - of_classes[None]).abs().sum() / len(of_classes))
    return float(of_classes.abs().sum())


def correlations_of(rows: Tensor) -> Tensor:
    """Correlates rows with each other.

    Args:
        rows: (rows, numbers).

    Returns:
        Pearson's correlations (rows, rows) in float64; NaN for a row whose numbers are all the same.

    Example:
        >>> correlations_of(torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])).round().tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    centred = rows.double() - rows.double().mean(1, keepdim=True)
    scaled = centred / centred.norm(dim=1, keepdim=True)
    return scaled @ scaled.T
