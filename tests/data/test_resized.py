import pytest
import torch
import torch.nn.functional as F

from supernet.data.batches import Resident
from supernet.data.resized import Resized
from supernet.runtime.errors import InputError


def images(count: int = 6) -> Resident:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 2, 8, 12), dtype=torch.uint8, generator=generator)
    return Resident(pixels, torch.arange(count) % 3)


def test_it_is_a_set_of_images_of_that_size():
    small = Resized(images(), 4, 6).to(torch.device("cpu"))
    some = small.subset(torch.tensor([4, 1]))
    assert (small.shape, len(small), len(some), some.labels.tolist()) == ((2, 4, 6), 6, 2, [1, 1])
    everything = small.raw(torch.arange(6))
    assert everything.dtype == torch.uint8
    assert torch.equal(some.raw(torch.tensor([1, 0])), everything[[1, 4]])
    batches = [torch.tensor([0, 5]), torch.tensor([2])]
    assert all(torch.equal(b, everything[i]) for b, i in zip(small.fetch(batches), batches, strict=True))


def test_halving_weighs_four_pixels_one_three_three_one():
    """The triangle filter of a bilinear reduction by two, written out as a convolution; borders left aside."""
    given = images()
    weights = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = (weights[:, None] * weights).expand(2, 1, 4, 4)
    by_hand = F.conv2d(given.images.float(), kernel, stride=2, padding=1, groups=2)[..., 1:-1, 1:-1]
    halved = Resized(given, 4, 6).raw(torch.arange(6))[..., 1:-1, 1:-1]
    assert (halved - by_hand).abs().max() <= 0.5 + 1e-4


def test_its_digest_tells_sizes_and_sets_apart():
    small = Resized(images(), 4, 6)
    assert small.digest() == Resized(images(), 4, 6).digest()
    assert len({small.digest(), Resized(images(), 4, 5).digest(), Resized(images(5), 4, 6).digest()}) == 3


@pytest.mark.parametrize(("sides", "says"), [((0, 4), "^height=0"), ((4, -1), "^width=-1")])
def test_refuses_nonsense(sides, says):
    with pytest.raises(InputError, match=says):
        Resized(images(), *sides)
