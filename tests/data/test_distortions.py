"""Rotation, zoom and contrast: against torchvision, image by image."""

from dataclasses import replace

import pytest
import torch
import torchvision.transforms.functional as reference
from torchvision.transforms import InterpolationMode

from supernet.data.augmentation import Augmentation
from supernet.data.distortions import contrasted, turned
from supernet.runtime.errors import InputError

PLAIN = Augmentation((0.0,), (1.0,), crop_padding=1, flip=True)
CHANGED = replace(PLAIN, rotation=10.0, zoom=0.15, contrast=0.3)


def pictures(count: int = 4, height: int = 17, width: int = 26) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 1, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize(("degrees", "factor"), [(10.0, 1.0), (-35.0, 1.0), (0.0, 1.25), (20.0, 0.8)])
def test_turned_as_torchvision_does_where_sides_differ(degrees, factor):
    images = pictures()
    own = turned(images, torch.full((4,), degrees), torch.full((4,), factor))
    # torchvision counts degrees clockwise here
    wanted = reference.affine(images.float(), -degrees, [0, 0], factor, [0.0], InterpolationMode.BILINEAR)
    torch.testing.assert_close(own, wanted, rtol=0, atol=2e-2)


def test_contrast_and_brightness():
    images = pictures().float() * 0.2 + 100  # far from both ends
    own = contrasted(images, torch.full((4,), 1.3), torch.full((4,), 0.1))
    wanted = (images - images.mean((1, 2, 3), keepdim=True)) * 1.3 + images.mean((1, 2, 3), keepdim=True) + 25.5
    torch.testing.assert_close(own, wanted)
    assert contrasted(images, torch.full((4,), 50.0), torch.zeros(4)).aminmax() == (0, 255)


def test_switched_off_all_bits_are_what_they_were():
    """The draws of crops and flips do not know whether images are distorted, too."""
    plain, changed = (a.draw(5, 8, 8, torch.Generator().manual_seed(3)) for a in (PLAIN, CHANGED))
    assert plain.changes is None
    for name in ("top", "left", "flip", "centre_y", "centre_x"):
        assert torch.equal(getattr(plain, name), getattr(changed, name))
    after = torch.Generator().manual_seed(3)
    PLAIN.draw(5, 8, 8, after)
    before = torch.Generator().manual_seed(3)
    for limit in (3, 3, 2, 8, 8):
        torch.randint(limit, (5,), generator=before)
    assert torch.equal(after.get_state(), before.get_state())


def test_changes_have_the_range_that_was_asked_for():
    draws = CHANGED.draw(4000, 8, 8, torch.Generator().manual_seed(0))
    assert draws.changes.shape == (4, 4000)
    assert draws.changes.min() < -0.99
    assert draws.changes.max() > 0.99
    assert draws.changes.mean(1).abs().max() < 0.05
    still = replace(draws, changes=torch.zeros(4, 4000))
    images = pictures(4000, 8, 8)
    torch.testing.assert_close(CHANGED.apply(images, still), PLAIN.apply(images, still), rtol=0, atol=1e-5)


def test_each_change_acts_by_itself():
    images = pictures(1)
    draws = replace(CHANGED.draw(1, 17, 26, torch.Generator()), flip=torch.tensor([0]), changes=torch.ones(4, 1))
    plain = replace(PLAIN, crop_padding=0)
    draws = replace(draws, top=torch.tensor([0]), left=torch.tensor([0]))
    turn = replace(plain, rotation=10.0).apply(images, draws) * 255
    torch.testing.assert_close(turn, turned(images, torch.tensor([10.0]), torch.tensor([1.0])))
    zoomed = replace(plain, zoom=0.25).apply(images, draws) * 255
    torch.testing.assert_close(zoomed, turned(images, torch.tensor([0.0]), torch.tensor([1.25])))
    strong = replace(plain, contrast=0.2).apply(images, draws) * 255
    torch.testing.assert_close(strong, contrasted(images, torch.tensor([1.2]), torch.tensor([0.1])))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rotation": -1}, "^rotation=-1: needs 0 to 180"),
        ({"zoom": 1.0}, "^zoom=1.0"),
        ({"contrast": -0.1}, "^contrast"),
    ],
)
def test_nonsense_is_refused(settings, says):
    with pytest.raises(InputError, match=says):
        replace(PLAIN, **settings)
