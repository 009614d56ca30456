from itertools import islice

import pytest
import torch
from PIL import Image

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident, evaluation_batches, steps_per_epoch, training_batches
from supernet.data.files import Files
from supernet.runtime.errors import InputError

AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=1, flip=True, cutout=2)
PLAIN = Augmentation((0.0,), (1.0,))


def resident(count: int) -> Resident:
    """Image i is filled with the number i."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return Resident(images, torch.arange(count) % 3)


@pytest.fixture
def files(tmp_path) -> Files:
    source = resident(11)
    for i, image in enumerate(source.images):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{i:02}.png")
    return Files(tuple(str(p) for p in sorted(tmp_path.iterdir())), source.labels, (1, 4, 4))


def numbers(batch) -> list[int]:
    return (batch.images[:, 0, 0, 0] * 255).round().int().tolist()


def test_every_pass_shows_every_image_once_in_a_new_order():
    batches = list(islice(training_batches(resident(11), 4, PLAIN, seed=0), 6))
    passes = [[n for b in batches[i : i + 3] for n in numbers(b)] for i in (0, 3)]
    assert [len(b) for b in batches] == [4, 4, 3] * 2
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(11))
    assert passes[0] != passes[1]
    assert all(b.labels.tolist() == [n % 3 for n in numbers(b)] for b in batches)


@pytest.mark.parametrize("start", [0, 1, 3, 5, 8])
def test_batch_k_depends_on_seed_and_k_alone(start):
    whole = list(islice(training_batches(resident(11), 4, AUGMENTATION, seed=5), 10))
    part = list(islice(training_batches(resident(11), 4, AUGMENTATION, seed=5, start=start), 10 - start))
    for a, b in zip(whole[start:], part, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
    other = next(training_batches(resident(11), 4, AUGMENTATION, seed=6, start=start))
    assert not torch.equal(other.images, part[0].images)


def test_global_generator_has_no_say():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = next(training_batches(resident(11), 4, AUGMENTATION, seed=5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(next(training_batches(resident(11), 4, AUGMENTATION, seed=5)).images, one.images)


@pytest.mark.parametrize("workers", [0, 1])
def test_files_give_the_batches_of_a_resident_set(files, workers):
    lazy = Files(files.paths, files.labels, files.shape, workers=workers)
    a = islice(training_batches(resident(11), 4, AUGMENTATION, seed=3, start=2), 4)
    b = islice(training_batches(lazy, 4, AUGMENTATION, seed=3, start=2), 4)
    for one, other in zip(a, b, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
    assert torch.equal(
        torch.cat([x.images for x in evaluation_batches(lazy.subset(torch.tensor([3, 1])), 1, PLAIN)]),
        torch.cat([x.images for x in evaluation_batches(resident(11).subset(torch.tensor([3, 1])), 1, PLAIN)]),
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_is_named(files, tmp_path, workers):
    (tmp_path / "05.png").write_bytes(b"not a picture")
    lazy = Files(files.paths, files.labels, files.shape, workers=workers)
    with pytest.raises(InputError, match=r"05\.png: not a readable image"):
        list(islice(training_batches(lazy, 4, AUGMENTATION, seed=3), 3))


def test_evaluation_is_one_ordered_pass():
    batches = list(evaluation_batches(resident(11), 4, PLAIN))
    assert [n for b in batches for n in numbers(b)] == list(range(11))


def test_a_single_image_at_the_end_is_dropped():
    assert steps_per_epoch(resident(9), 4) == 2
    assert steps_per_epoch(resident(10), 4) == 3
    assert steps_per_epoch(resident(1), 4) == 1
    assert [len(b) for b in islice(training_batches(resident(9), 4, PLAIN, seed=0), 4)] == [4, 4, 4, 4]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: next(training_batches(resident(4), 0, PLAIN, seed=0)), "batch_size=0"),
        (lambda: next(training_batches(resident(4), 2, PLAIN, seed=0, start=-1)), "start=-1"),
        (lambda: next(evaluation_batches(resident(4).subset(torch.tensor([], dtype=torch.long)), 2, PLAIN)), "without"),
        (lambda: Resident(torch.zeros(2, 1, 4, 4), torch.zeros(2).long()), "^images: must be uint8"),
        (
            lambda: Resident(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3).long()),
            "^labels: of 3",
        ),
    ],
)
def test_nonsense_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()
