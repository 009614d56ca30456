"""Nested sizes: the mixture, the slice and the plain network of one architecture are the same function."""

from dataclasses import replace

import pytest
import torch

from supernet.execution.modes import single_paths
from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator
from supernet.search.progressive.weight_inheritance import weights_of
from supernet.space.architecture import Decision, one_path, random_architecture
from supernet.space.choices import NumberChoice
from supernet.space.choosers import Decided, Undecided
from supernet.space.elastic import Kernel, Number, Size, norm_of_first
from supernet.space.inverted_residual import Style
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.supernet import Supernet
from supernet.space.survey import candidates_of, decisions_of

SHAPE, CLASSES = (3, 12, 12), 5
SPACE = Mobile(  # every kind of decision is open somewhere
    stages=(
        Stage(
            channels=(8, 16),
            depths=(1, 2),
            kernels=(3, 5),
            expansions=(2.0, 3.0),
            squeeze=(False, True),
            activations=("relu", "hardswish"),
        ),
        Stage(channels=(16, 24), depths=(1, 2, 3), stride=2, kernels=(3, 5, 7), expansions=(2.0, 4.0), squeeze=(True,)),
        Stage(channels=(24,), depths=(1, 2), expansions=(3.0,)),
    ),
    stem=8,
    stem_stride=1,
    head=32,
    hidden=16,
    dropout=0.0,
    style=Style(kernel_transforms=True),
)
STYLES = (SPACE.style, Style(squeeze_from="input", gate="sigmoid", squeeze_activation="silu"))


def supernet_of(space, *, single=False, seed=0):
    made = Supernet(space.network(Undecided(single=single), SHAPE, CLASSES)).double()
    stream = generator(seed)
    for parameter in made.parameters():  # also those that begin with zeros and ones
        parameter.data = torch.randn(parameter.shape, generator=stream, dtype=torch.float64) / 3
    return made


def images(seed, count=4):
    return torch.randn(count, *SHAPE, generator=generator(seed), dtype=torch.float64)


def drawn(supernet, seed):
    return random_architecture("mobile", supernet.decisions, generator(seed))


def learnt(supernet, x, weights):
    """Logits of a pass in training mode, all gradients after it, and all statistics."""
    supernet.zero_grad()
    out = supernet(x, weights)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in supernet.named_parameters()}
    return out.detach(), gradients, {n: b.clone() for n, b in supernet.named_buffers()}


@pytest.mark.parametrize("style", STYLES, ids=["once_for_all", "efficientnet"])
@pytest.mark.parametrize("seed", range(6))
def test_the_slice_is_the_mixture_of_one_hot_weights_with_gradients_and_statistics(seed, style):
    space = replace(SPACE, style=style)
    mixture, slices = supernet_of(space), supernet_of(space, single=True)
    architecture, x = drawn(mixture, seed), images(seed)
    weights = one_path(architecture, mixture.decisions, dtype=torch.float64)
    first, second = learnt(mixture, x, weights), learnt(slices, x, weights)
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=1e-10)
    for name, gradient in first[1].items():
        torch.testing.assert_close(gradient, second[1][name], rtol=0, atol=1e-9, msg=name)
    plain = weights_of(slices, architecture)
    for name, buffer in weights_of(mixture, architecture).items():  # channels that nobody reads have other statistics
        torch.testing.assert_close(buffer, plain[name], rtol=0, atol=1e-10, msg=name)
    torch.testing.assert_close(mixture.eval()(x, weights), slices.eval()(x, weights), rtol=0, atol=1e-10)


@pytest.mark.parametrize("style", STYLES, ids=["once_for_all", "efficientnet"])
@pytest.mark.parametrize("seed", range(6))
def test_the_slice_is_the_plain_network_that_has_its_weights(seed, style):
    space = replace(SPACE, style=style)
    slices = supernet_of(space, single=True)
    architecture, x = drawn(slices, 10 + seed), images(seed)
    weights = one_path(architecture, slices.decisions, dtype=torch.float64)
    plain = space.network(Decided(architecture), SHAPE, CLASSES).double()
    plain.load_state_dict(weights_of(slices, architecture))
    assert not any(isinstance(module, NumberChoice) for module in plain.modules())
    for _ in range(2):  # the second pass has the statistics of the first
        torch.testing.assert_close(slices(x, weights), plain(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(slices.eval()(x, weights), plain.eval()(x), rtol=0, atol=1e-10)


def test_the_mixture_follows_the_weights_as_finite_differences_say():
    supernet = supernet_of(SPACE)
    x, names = images(0), list(supernet.decisions)
    stream = generator(3)
    logits = [torch.randn(len(supernet.decisions[n].options), generator=stream, dtype=torch.float64) for n in names]

    def loss(values):
        weights = {name: value.softmax(0) for name, value in zip(names, values, strict=True)}
        return supernet(x, weights).square().mean()

    leaves = [value.clone().requires_grad_() for value in logits]
    gradients = torch.autograd.grad(loss(leaves), leaves)
    moved = 0
    for number, (value, gradient) in enumerate(zip(logits, gradients, strict=True)):
        step = torch.zeros_like(value)
        step[0] = 1e-6
        ends = [
            loss([other + sign * step if place == number else other for place, other in enumerate(logits)])
            for sign in (1, -1)
        ]
        expected = (ends[0] - ends[1]) / 2e-6
        torch.testing.assert_close(gradient[0], expected, rtol=1e-4, atol=1e-7, msg=names[number])
        moved += abs(gradient[0]) > 1e-6
    assert moved > len(names) // 2  # the decisions do something


def test_single_paths_with_weights_that_learn_compute_the_derivative_of_the_mixture():
    mixture, slices = supernet_of(SPACE), supernet_of(SPACE, single=True)
    architecture, x = drawn(mixture, 5), images(1)
    gradients = []
    for supernet in (mixture, slices):
        weights = one_path(architecture, supernet.decisions, dtype=torch.float64)
        leaves = {name: weight.requires_grad_() for name, weight in weights.items()}
        gradients.append(torch.autograd.grad(supernet(x, leaves).square().sum(), list(leaves.values())))
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_within_single_paths_a_mixing_supernet_slices():
    supernet = supernet_of(SPACE).eval()
    weights = one_path(drawn(supernet, 1), supernet.decisions, dtype=torch.float64)
    shapes = []
    norms = [norm.num_features for norm in supernet.norms]
    original = torch.nn.functional.batch_norm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "supernet.space.elastic.F.batch_norm", lambda x, *rest: shapes.append(x.shape[1]) or original(x, *rest)
        )
        supernet(images(2), weights)
        mixed = list(shapes)
        with single_paths(supernet):
            supernet(images(2), weights)
    assert set(mixed) <= set(norms)
    assert sum(shapes[len(mixed) :]) < sum(mixed)  # fewer channels in all


def test_a_slice_after_a_mixture_and_a_mixture_after_a_slice_have_the_channels_that_they_need():
    supernet = supernet_of(SPACE, single=True)
    x, weights = images(4), one_path(drawn(supernet, 2), supernet.decisions, dtype=torch.float64)
    for group in ("stage1", "stage2"):
        mixed = {
            name: torch.full_like(weight, 1 / len(weight)) if name.startswith(group) else weight
            for name, weight in weights.items()
        }
        reference = supernet_of(SPACE)
        torch.testing.assert_close(supernet(x, mixed), reference(x, mixed), rtol=0, atol=1e-10)


def test_a_block_beyond_the_depth_is_no_question():
    candidates = candidates_of(SPACE)
    assert candidates.decisions
    third = next(d for d in candidates.decisions if d.name == "stage2/3/kernel")
    assert third.when == (("stage2/depth", ("3",)),)
    for seed in range(20):
        architecture = random_architecture("mobile", decisions_of(SPACE), generator(seed))
        depth = int(architecture["stage2/depth"][0])
        asked = {
            int(name.split("/")[1]) for name in architecture if name.startswith("stage2/") and name.count("/") == 2
        }
        assert asked == set(range(1, depth + 1))


def test_the_number_of_architectures_is_the_product_of_stages():
    first = 2 * sum((2 * 2 * 2 * 2) ** depth for depth in (1, 2))
    second = 2 * sum((3 * 2) ** depth for depth in (1, 2, 3))
    assert candidates_of(SPACE).count == first * second * 2


def test_mutations_change_what_matters_and_nothing_else():
    from random import Random

    candidates, rng = candidates_of(SPACE), Random(0)
    parent = candidates.random(rng)
    for _ in range(100):
        child = candidates.mutate(parent, rng)
        assert child != parent
        assert candidates.architecture(candidates.genes(child)) == child  # no answer without a question
        parent = child


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("frozen", [True, False])
def test_the_norm_of_the_first_channels_is_a_norm_of_these(training, momentum, frozen):
    large, small = torch.nn.BatchNorm2d(6, momentum=momentum), torch.nn.BatchNorm2d(4, momentum=momentum)
    torch.nn.init.normal_(large.weight)
    small.weight.data = large.weight.data[:4].clone()
    for norm in (large, small):
        norm.train(training)
        norm.track_running_stats = not frozen
    for seed in range(3):
        x = torch.randn(5, 4, 3, 3, generator=generator(seed))
        torch.testing.assert_close(norm_of_first(large, x), small(x))
    torch.testing.assert_close(large.running_mean[:4], small.running_mean)
    torch.testing.assert_close(large.running_var[:4], small.running_var)
    assert large.running_mean[4:].eq(0).all()
    assert large.num_batches_tracked == small.num_batches_tracked


def test_transformed_kernels_are_maps_of_the_middle_of_the_next_larger_one():
    choice = NumberChoice(Decision("kernel", ("3", "5", "7"), role="number"), single=True)
    maps = {str(size): torch.nn.Linear(size * size, size * size, bias=False).double() for size in (3, 5)}
    kernel = Kernel(Number({"3": 3, "5": 5, "7": 7}, choice), maps)
    weight = torch.randn(4, 1, 7, 7, dtype=torch.float64)
    five = (weight[:, 0, 1:6, 1:6].reshape(4, 25) @ maps["5"].weight.T).view(4, 1, 5, 5)
    three = (five[:, 0, 1:4, 1:4].reshape(4, 9) @ maps["3"].weight.T).view(4, 1, 3, 3)
    for place, expected in enumerate((three, five, weight)):
        choice.weights, choice.on = torch.eye(3, dtype=torch.float64)[place], [p == place for p in range(3)]
        torch.testing.assert_close(kernel.now(weight), expected)


def test_a_size_of_two_decisions_is_bilinear_in_their_weights():
    wide = NumberChoice(Decision("wide", ("1", "2"), role="number"))
    ratio = NumberChoice(Decision("ratio", ("1", "3"), role="number"))
    size = Size.of_choice(wide, {"1": 1, "2": 2}).combined(Size.of_choice(ratio, {"1": 1, "3": 3}), lambda a, b: a * b)
    wide.weights, ratio.weights = torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5])
    expected = [
        sum(w * r for w, a in ((0.25, 1), (0.75, 2)) for r, b in ((0.5, 1), (0.5, 3)) if c < a * b) for c in range(6)
    ]
    torch.testing.assert_close(size.mask(), torch.tensor(expected))
    assert size.of({"wide": "1", "ratio": "3"}) == 3


def test_images_are_resized_to_one_side_that_no_gradient_learns():
    space = replace(SPACE, resolutions=(8, 16))
    supernet = supernet_of(space, single=True)
    weights = one_path(drawn(supernet, 0), supernet.decisions, dtype=torch.float64)
    sizes = []
    supernet.network.stem.register_forward_pre_hook(lambda _, given: sizes.append(tuple(given[0].shape[2:])))
    for place, side in enumerate((8, 16)):
        supernet(images(0), {**weights, "resolution": torch.eye(2, dtype=torch.float64)[place]})
        assert sizes[-1] == (side, side)
    supernet(images(0), {**weights, "resolution": torch.full((2,), 0.5, dtype=torch.float64)})
    assert sizes[-1] == (16, 16)
    with pytest.raises(InputError, match="resolutions: several cannot be mixed"):
        supernet(images(0), {**weights, "resolution": torch.tensor([0.0, 1.0], dtype=torch.float64).requires_grad_()})
    with pytest.raises(InputError, match="resolutions: several cannot be mixed"):
        supernet_of(space)(images(0), weights)


def test_expansion_one_beside_others_needs_separate_weights():
    space = Mobile((Stage((8,), expansions=(1.0, 2.0)),), stem=8, head=16)
    with pytest.raises(InputError, match="sharing='separate'"):
        space.network(Undecided(), SHAPE, CLASSES)
