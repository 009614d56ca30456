"""Proxies of the gradient against closed forms, finite differences in float64 and loops written out by hand."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from supernet.data.batches import Batch
from supernet.estimation.zero_cost.gradients import fisher, grad_norm, grasp, plain, snip, zico
from supernet.estimation.zero_cost.probe import Probe

STEP = 1e-6


def batch(seed=0, count=6, classes=3):
    stream = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 2, 5, 5, dtype=torch.float64, generator=stream)
    return Batch(images, torch.randint(classes, (count,), generator=stream))


def network():
    """Convolution, norm, a smooth nonlinearity, pooling, classifier: twice differentiable everywhere."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(3, 3)]
    return nn.Sequential(*layers).double()


def weights_of(given):
    return [module.weight for module in given if isinstance(module, nn.Conv2d | nn.Linear)]


def loss_of(given, images):
    return float(cross_entropy(given(images.images), images.labels).detach())


@torch.no_grad()
def numeric_gradients(given, images):
    """Central differences of the loss in every weight."""
    found = []
    for weight in weights_of(given):
        gradient, flat = torch.zeros_like(weight), weight.view(-1)
        for place in range(flat.numel()):
            before, ends = flat[place].item(), []
            for step in (STEP, -STEP):
                flat[place] = before + step
                ends.append(loss_of(given, images))
            flat[place] = before
            gradient.view(-1)[place] = (ends[0] - ends[1]) / (2 * STEP)
        found.append(gradient)
    return found


def exact_gradients(given, images):
    return torch.autograd.grad(cross_entropy(given(images.images), images.labels), weights_of(given))


def test_gradient_proxies_are_sums_of_numeric_gradients():
    given, images = network(), batch()
    numeric = numeric_gradients(given, images)
    weights = [weight.detach() for weight in weights_of(given)]
    products = [w * g for w, g in zip(weights, numeric, strict=True)]
    probe = Probe(given, [images])
    assert snip(probe) == pytest.approx(sum(float(p.abs().sum()) for p in products), rel=1e-6)
    assert plain(probe) == pytest.approx(sum(float(p.sum()) for p in products), rel=1e-5)
    assert grad_norm(probe) == pytest.approx(sum(float(g.square().sum().sqrt()) for g in numeric), rel=1e-6)


@pytest.mark.parametrize("second_order", [False, True])
def test_grasp_is_minus_the_weights_times_a_numeric_derivative_of_the_gradient(second_order):
    """H g is the derivative of the gradient in the direction g."""
    given, images = network(), batch()
    direction = exact_gradients(given, images)
    ends = []
    for sign in (1, -1):
        moved = copy.deepcopy(given)
        with torch.no_grad():
            for weight, g in zip(weights_of(moved), direction, strict=True):
                weight += sign * 1e-5 * g
        ends.append(exact_gradients(moved, images))
    product = [(a - b) / 2e-5 for a, b in zip(*ends, strict=True)]
    expected = -sum(float((w.detach() * hg).sum()) for w, hg in zip(weights_of(given), product, strict=True))
    assert abs(expected) > 1e-4
    assert grasp(Probe(given, [images], second_order=second_order)) == pytest.approx(expected, rel=1e-6)


def test_a_linear_network_in_closed_form():
    """One layer, no bias: dL/dW = (softmax - one hot)^T x / n."""
    given = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).double()
    x = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.0, 1.0, -1.0, 2.0]], dtype=torch.float64)
    images = Batch(x.view(2, 1, 2, 2), torch.tensor([0, 1]))
    weight = given[1].weight.detach()
    probabilities = (x @ weight.T).softmax(1)
    error = probabilities - torch.eye(2, dtype=torch.float64)
    gradient = error.T @ x / 2
    probe = Probe(given, [images])
    assert snip(probe) == pytest.approx(float((weight * gradient).abs().sum()), rel=1e-12)
    assert plain(probe) == pytest.approx(float((weight * gradient).sum()), rel=1e-12)
    assert grad_norm(probe) == pytest.approx(float(gradient.norm()), rel=1e-12)
    outputs = x @ weight.T
    per_channel = 0.5 * (outputs * error / 2).square().mean(0)
    assert fisher(probe) == pytest.approx(4 * float(per_channel.sum()), rel=1e-12)
    assert fisher(probe, copied=False) == pytest.approx(float(per_channel.sum()), rel=1e-12)
    # The Hessian of the loss is that of softmax: sum over images of (diag p - p p^T) (x) x x^T / n.
    hessian = torch.zeros(8, 8, dtype=torch.float64)
    for p, row in zip(probabilities, x, strict=True):
        hessian += torch.kron(torch.diag(p) - torch.outer(p, p), torch.outer(row, row)) / 2
    expected = -float(weight.flatten() @ hessian @ gradient.flatten())
    assert grasp(probe) == pytest.approx(expected, rel=1e-12)


def test_fisher_is_a_loop_over_channels_and_images():
    given, images = network(), batch()
    convolution, rest, head = given[0], given[1:5], given[5]
    a = convolution(images.images)
    a.retain_grad()
    b = head(rest(a))
    b.retain_grad()
    cross_entropy(b, images.labels).backward()
    once = copied = 0.0
    for output, filter_size in ((a, 2 * 3 * 3), (b, 3)):
        for channel in range(output.shape[1]):
            per_image = [
                float((output[n, channel] * output.grad[n, channel]).detach().sum()) for n in range(len(output))
            ]
            number = 0.5 * sum(value**2 for value in per_image) / len(per_image)
            once, copied = once + number, copied + filter_size * number
    assert fisher(Probe(network(), [images]), copied=False) == pytest.approx(once, rel=1e-10)
    assert fisher(Probe(network(), [images])) == pytest.approx(copied, rel=1e-10)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("count", [2, 3])
def test_zico_is_a_loop_over_weights_with_numpys_deviation(absolute, count):
    given, batches = network(), [batch(seed) for seed in range(count)]
    of_batches = [exact_gradients(given, each) for each in batches]
    expected = 0.0
    for layer in range(2):
        total = 0.0
        for values in zip(*(gradients[layer].flatten().tolist() for gradients in of_batches), strict=True):
            size = np.abs(values)
            total += size.mean() / np.std(size if absolute else values)
        expected += math.log(total)
    assert zico(Probe(given, batches), absolute=absolute) == pytest.approx(expected, rel=1e-9)


def test_zico_leaves_out_weights_whose_gradient_does_not_vary():
    """The second layer's first input is always zero, so half of its weights never get a gradient."""

    class Half(nn.Module):
        def forward(self, x):
            return torch.stack((0 * x[:, 0], x[:, 1]), 1)

    torch.manual_seed(0)
    given = nn.Sequential(nn.Flatten(), nn.Linear(50, 2), Half(), nn.Linear(2, 3)).double()
    batches = [batch(0), batch(1)]
    expected = 0.0
    for one, two in zip(*(exact_gradients(given, each) for each in batches), strict=True):
        ratio = ((one.abs() + two.abs()) / 2 / ((one - two).abs() / 2))[one != two]
        assert 0 < len(ratio) < one.numel()
        expected += float(ratio.sum().log())
    value = zico(Probe(given, batches))
    assert value == pytest.approx(expected, rel=1e-9)
    assert math.isfinite(value)
    assert zico(Probe(given, [batch(0), batch(0)])) == 0.0
