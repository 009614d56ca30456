"""Proxies of the Jacobian against PyTorch's full Jacobian and NumPy's correlations."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from supernet.data.batches import Batch
from supernet.estimation.zero_cost.jacobians import correlations_of, epe, jacov
from supernet.estimation.zero_cost.probe import Probe

LABELS = [0, 1, 0, 2, 1, 0]  # three images, two, and one alone


def images():
    stream = torch.Generator().manual_seed(0)
    return Batch(torch.randn(6, 2, 5, 5, dtype=torch.float64, generator=stream), torch.tensor(LABELS))


def network(classes=3):
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, classes)]
    return nn.Sequential(*layers).double()


def full_jacobian(given, batch):
    """From the whole Jacobian (images, classes, images, ...): all logits of all images, summed."""
    whole = torch.autograd.functional.jacobian(given, batch.images)
    return whole.sum((0, 1)).flatten(1).numpy()


def test_the_jacobian_is_the_sum_of_the_full_one():
    assert np.allclose(Probe(network(), [images()]).jacobian.numpy(), full_jacobian(network(), images()), atol=1e-12)


def test_jacov_is_numpys_correlations_and_eigenvalues():
    eigenvalues = np.linalg.eigvals(np.corrcoef(full_jacobian(network(), images()))).real
    expected = -sum(math.log(v + 1e-5) + 1 / (v + 1e-5) for v in eigenvalues)
    assert jacov(Probe(network(), [images()])) == pytest.approx(expected, rel=1e-8)


def test_images_that_are_treated_alike_are_worse():
    batch = images()
    same = Batch(torch.cat((batch.images[:3], batch.images[:3])), batch.labels)
    assert jacov(Probe(network(), [same])) < -1e5 < jacov(Probe(network(), [batch]))


def test_epe_is_numpys_correlations_of_each_class():
    jacobian, expected = full_jacobian(network(), images()), 0.0
    for label in range(3):
        own = jacobian[[place for place, other in enumerate(LABELS) if other == label]]
        expected += abs(np.sum(np.log(np.abs(np.corrcoef(own)) + 1e-5)))
    assert epe(Probe(network(), [images()])) == pytest.approx(expected, rel=1e-9)


def test_over_a_hundred_classes_epe_compares_the_classes():
    given = network(101)
    jacobian, means = full_jacobian(given, images()), []
    for label in range(3):
        own = jacobian[[place for place, other in enumerate(LABELS) if other == label]]
        correlations = np.atleast_2d(np.corrcoef(own))
        means.append(np.sum(np.log(np.abs(correlations) + 1e-5)) / len(correlations))
    expected = sum(abs(one - two) for one in means for two in means) / 3
    assert epe(Probe(given, [images()])) == pytest.approx(expected, rel=1e-9)


def test_logits_that_do_not_depend_on_the_images_have_no_value():
    given = nn.Sequential(nn.Flatten(), nn.Linear(50, 3)).double()
    nn.init.zeros_(given[1].weight)
    assert math.isnan(jacov(Probe(given, [images()])))
    assert math.isnan(epe(Probe(given, [images()])))


def test_correlations_are_numpys():
    rows = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    assert np.allclose(correlations_of(rows).numpy(), np.corrcoef(rows.double().numpy()), atol=1e-14)
