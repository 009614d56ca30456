import pytest
import torch

from supernet.data.box_changes import BoxChanges, BoxDraws
from supernet.data.targets import CORNERS, padded
from supernet.runtime.errors import InputError

HEIGHT, WIDTH = 60, 90


def drawn(count=16, channels=3, seed=0):
    """Black images with a bright rectangle in each channel, which do not touch, and their boxes."""
    random = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, channels, HEIGHT, WIDTH, dtype=torch.uint8)
    boxes = []
    for image in images:
        rows = []
        for number in range(channels):
            width, height = torch.randint(9, 26, (2,), generator=random).tolist()
            x1, y1 = number * 30 + int(torch.randint(0, 30 - width, (1,), generator=random)), HEIGHT // 2 - height // 2
            image[number, y1 : y1 + height, x1 : x1 + width] = 255
            rows.append([number, x1, y1, x1 + width, y1 + height, 0, width * height])
        boxes.append(torch.tensor(rows).float())
    return images, padded(boxes)


def around(channel):
    """The box around the bright pixels."""
    rows, columns = (channel > 127).any(1).nonzero(), (channel > 127).any(0).nonzero()
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


def fixed(count, **given):
    ones = torch.ones(count)
    plain = {
        name: ones * (name not in ("mirrored", "upended", "shift_x", "shift_y")) for name in BoxDraws.__annotations__
    }
    return BoxDraws(**plain | {name: ones * value for name, value in given.items()})


@pytest.mark.parametrize("scale", [(1, 1), (0.5, 1.0), (1.0, 1.6)])
def test_boxes_follow_the_pixels(scale):
    images, labels = drawn()
    changed, boxes = BoxChanges(True, True, scale, 0)(images, labels, torch.Generator().manual_seed(3))
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    kept = [
        (image[int(row[0])], row) for image, rows in zip(changed, boxes, strict=True) for row in rows if row[0] >= 0
    ]
    for channel, row in kept:
        torch.testing.assert_close(row[CORNERS], around(channel), atol=1.0, rtol=0)
    assert (len(kept) < labels.shape[0] * labels.shape[1]) == (scale[1] > 1)
    assert len(kept) > 20
    assert not torch.equal(boxes, labels)


@pytest.mark.parametrize("flip", [{"mirrored": 1}, {"upended": 1}, {"mirrored": 1, "upended": 1}])
def test_two_flips_are_none(flip):
    changes = BoxChanges(True, True, (1, 1), 0)
    images, labels = drawn()
    draws = fixed(len(images), **flip)
    once, boxes = changes.apply(images, labels, draws)
    assert not torch.equal(once, images.float())
    assert not torch.equal(boxes, labels)
    twice, again = changes.apply(once, boxes, draws)
    assert torch.equal(twice, images.float())
    assert torch.equal(again, labels)


def test_what_is_left_of_too_little_is_dropped():
    changes = BoxChanges(scale=(0.5, 2.0), colour=0)
    rows = [[1, 0, 0, 40, 30, 0, 1200], [2, 40, 20, 50, 40, 0, 200], [0, 0, 0, 24, 60, 1, 1440], [-1, 0, 0, 0, 0, 0, 0]]
    images, labels = torch.zeros(1, 1, HEIGHT, WIDTH, dtype=torch.uint8), torch.tensor([rows]).float()
    _, boxes = changes.apply(images, labels, fixed(1, scale=2.0))  # the middle quarter is seen
    assert boxes[0, :, 0].tolist() == [-1, 2, 0, -1]
    assert boxes[0, 0].tolist() == [-1, 0, 0, 0, 0, 0, 0]
    assert boxes[0, 1, CORNERS].tolist() == [35, 10, 55, 50]
    assert boxes[0, 2].tolist() == [0, 0, 0, 3, 60, 1, 1440], "an ignored region stays however little is left"
    _, sliver = changes.apply(images, labels, fixed(1, scale=2.0, shift_x=0.1))
    assert sliver[0, :, 0].tolist() == [-1, 2, -1, -1]


def test_a_batch_depends_on_its_generator_alone():
    images, labels = drawn(4)
    first, again, other = (BoxChanges()(images, labels, torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].min() >= 0
    assert first[0].max() <= 255
    draws, with_all = BoxChanges(False, False, (1, 1), 0), BoxChanges(True, True)
    one, two = (each.draw(4, torch.Generator().manual_seed(5)) for each in (draws, with_all))
    assert torch.equal(one.shift_x, two.shift_x)
    assert one.mirrored.sum() == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_stay_around_what_they_were(channels):
    images, labels = drawn(64, channels=channels)
    changed, boxes = BoxChanges(False, False, (1, 1), 0.3)(images, labels, torch.Generator().manual_seed(0))
    assert torch.equal(boxes, labels)
    ratio = changed.mean((1, 2, 3)) / images.float().mean((1, 2, 3))
    assert 0.65 < ratio.min() < 0.8
    assert 1.15 < ratio.max() < 1.35


def test_images_without_boxes_and_without_rows():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    changed, boxes = BoxChanges()(images, torch.zeros(2, 0, 7), torch.Generator())
    assert changed.shape == (2, 3, 8, 8)
    assert boxes.shape == (2, 0, 7)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"scale": (1.6, 0.6)}, r"scale=\[1.6, 0.6\]: needs"), ({"scale": (0, 1)}, "scale"), ({"colour": 1}, "colour=1:")],
)
def test_nonsense_is_refused(settings, says):
    with pytest.raises(InputError, match=says):
        BoxChanges(**settings)
