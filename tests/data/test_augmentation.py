from dataclasses import replace

import pytest
import torch
import torchvision.transforms.functional as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.data.augmentation import Augmentation, Draws
from supernet.data.box_changes import BoxChanges
from supernet.data.preparation import Preparation
from supernet.runtime.errors import InputError

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def one_by_one(image: torch.Tensor, augmentation: Augmentation, draws: Draws, i: int) -> torch.Tensor:
    """The per-image transform: pad with zeros, crop, flip, scale, normalise, cut out as the DARTS code does."""
    _, height, width = image.shape
    padded = reference.pad(image, [augmentation.crop_padding] * 4)
    cropped = reference.crop(padded, int(draws.top[i]), int(draws.left[i]), height, width)
    if augmentation.flip and draws.flip[i]:
        cropped = reference.hflip(cropped)
    result = reference.normalize(cropped.float() / 255, list(augmentation.mean), list(augmentation.std))
    half, y, x = augmentation.cutout // 2, int(draws.centre_y[i]), int(draws.centre_x[i])
    result[:, max(0, y - half) : max(0, min(height, y + half)), max(0, x - half) : max(0, min(width, x + half))] = 0.0
    return result


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 12), st.integers(2, 12), st.integers(0, 4), st.booleans(), st.integers(0, 9), st.integers(0, 2**31)
)
def test_equals_the_per_image_transform(height, width, padding, flip, cutout, seed):
    images = pictures(5, height, width)
    augmentation = Augmentation(MEAN, STD, padding, flip, cutout)
    draws = augmentation.draw(5, height, width, torch.Generator().manual_seed(seed))
    batch = augmentation.apply(images, draws)
    for i in range(5):
        torch.testing.assert_close(batch[i], one_by_one(images[i], augmentation, draws, i), rtol=1e-6, atol=1e-6)


def test_each_image_has_its_own_uniform_draw():
    draws = Augmentation(MEAN, STD, 4, True, 16).draw(6000, 32, 32, torch.Generator().manual_seed(0))
    for values, count in ((draws.top, 9), (draws.left, 9), (draws.flip, 2), (draws.centre_y, 32), (draws.centre_x, 32)):
        frequency = torch.bincount(values, minlength=count)
        assert len(frequency) == count
        assert (frequency - 6000 / count).abs().max() < 5 * (6000 / count) ** 0.5


def test_same_generator_same_batch():
    augmentation, images = Augmentation(MEAN, STD, 2, True, 4), pictures(8, 9, 7)
    one, again, other = (augmentation(images, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(images, pictures(8, 9, 7))


def test_switched_off_it_only_normalises():
    augmentation, images = Augmentation(MEAN, STD), pictures(4, 5, 6)
    expected = (images.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(augmentation(images, torch.Generator()), expected)
    torch.testing.assert_close(augmentation.normalise(images), expected)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"mean": (0.5,)}, "one number per channel"),
        ({"mean": (), "std": ()}, "one number per channel"),
        ({"std": (0.1, 0.0, 0.1)}, "above 0"),
        ({"crop_padding": -1}, "^crop_padding=-1: needs 0 or more"),
        ({"cutout": -2}, "^cutout=-2: needs 0 or more"),
    ],
)
def test_nonsense_is_refused(settings, says):
    with pytest.raises(InputError, match=says):
        Augmentation(**{"mean": MEAN, "std": STD, **settings})


BORDERED = Preparation(fit="crop", border=3)


def resized_box(image, box, size, flip):
    """The same part of an image by torchvision, at whole pixels."""
    top, left, high, wide = box
    part = reference.resized_crop(image.float(), top, left, high, wide, size, antialias=False)
    return reference.hflip(part) if flip else part


def test_the_whole_image_is_the_image():
    images = pictures(2, 12, 12)
    augmentation = Augmentation((0.0,) * 3, (1.0,) * 3, scale=(1.0, 1.0))
    draws = replace(augmentation.draw(2, 12, 12, torch.Generator()), box=torch.full((4, 2), 0.5))
    torch.testing.assert_close(augmentation.apply(images, draws) * 255, images.float(), rtol=0, atol=1e-2)


def test_boxes_at_whole_pixels_equal_torchvisions():
    images = pictures(1, 16, 16)
    for flip in (False, True):
        augmentation = Augmentation((0.0,) * 3, (1.0,) * 3, flip=flip, scale=(0.25, 0.25))  # 8 x 8 of 16 x 16
        draws = augmentation.draw(1, 16, 16, torch.Generator().manual_seed(0))
        draws = replace(draws, flip=torch.tensor([1]), box=torch.tensor([[0.0], [0.5], [0.25], [0.75]]))
        expected = resized_box(images, (6, 2, 8, 8), [16, 16], flip)
        given = augmentation.apply(images, draws) * 255
        inside = slice(1, -1)  # at the box's rim ours looks at the image's next pixels, torchvision repeats the last
        torch.testing.assert_close(given[..., inside, inside], expected[..., inside, inside], rtol=0, atol=1e-2)


def test_the_border_is_for_training_alone():
    images = pictures(4, 18, 22)
    augmentation = Augmentation(MEAN, STD, flip=True, preparation=BORDERED, scale=(0.08, 1.0))
    assert augmentation.output((3, 18, 22)) == (3, 12, 16)
    assert augmentation(images, torch.Generator().manual_seed(0)).shape == (4, 3, 12, 16)
    plain = Augmentation(MEAN, STD, preparation=BORDERED)
    assert torch.equal(augmentation.normalise(images), plain.normalise(images[:, :, 3:-3, 3:-3]))
    assert plain.normalise(images).shape == images.shape


def test_areas_and_aspects_are_within_their_limits():
    augmentation = Augmentation(MEAN, STD, scale=(0.08, 1.0))
    ramp = torch.arange(100, dtype=torch.uint8).expand(500, 3, 100, 100).contiguous()
    draws = augmentation.draw(500, 100, 100, torch.Generator().manual_seed(1))
    assert draws.box is not None
    result = replace(augmentation, mean=(0.0,) * 3, std=(1.0,) * 3).apply(ramp, draws) * 255
    spans = (result[:, 0, 50, -1] - result[:, 0, 50, 0]) / 0.99
    assert 20 < spans.min() < 35
    assert 85 < spans.max() <= 101
    other = augmentation.draw(500, 100, 100, torch.Generator().manual_seed(1))
    assert torch.equal(other.box, draws.box)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.5,), (0.9, 0.1), (0.5, 2.0)])
def test_nonsense_scales_are_refused(scale):
    with pytest.raises(InputError, match="two shares of the area"):
        Augmentation(MEAN, STD, scale=scale)
    with pytest.raises(InputError, match="use one of them"):
        Augmentation(MEAN, STD, crop_padding=2, scale=(0.5, 1.0))


def test_boxes_are_changed_with_their_images():
    images = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8)
    boxes = torch.tensor([[[0.0, 2, 3, 9, 12, 0, 63]]]).expand(4, 1, 7)
    changes = BoxChanges(True, True)
    augmentation = Augmentation((0.5,), (0.25,), boxes=changes)
    changed, moved = augmentation.change(images, boxes, torch.Generator().manual_seed(0))
    pixels, expected = changes(images, boxes, torch.Generator().manual_seed(0))
    assert torch.equal(moved, expected)
    torch.testing.assert_close(changed, (pixels / 255 - 0.5) / 0.25)
    with pytest.raises(InputError, match="do not follow"):
        Augmentation((0.5,), (0.25,), flip=True).change(images, boxes, torch.Generator())
    with pytest.raises(InputError, match="do not follow"):
        Augmentation((0.5,), (0.25,), flip=True, boxes=changes)
    plain, same = Augmentation((0.5,), (0.25,)).change(images, boxes, torch.Generator())
    assert torch.equal(same, boxes)
    torch.testing.assert_close(plain, (images / 255 - 0.5) / 0.25)
