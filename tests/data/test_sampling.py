from collections import Counter

import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident, training_batches
from supernet.data.sampling import balanced_order, class_groups
from supernet.data.targets import padded

PLAIN = Augmentation((0.0,), (1.0,))


def numbered(labels):
    """Images of which each pixel is the image's number."""
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
    return Resident(images, labels)


def passes(source, count, steps, **settings):
    """The numbers of the images in so many passes of so many steps each."""
    batches = training_batches(source, 10, PLAIN, seed=3, **settings)
    drawn = [(next(batches).images[:, 0, 0, 0] * 255).round().long() for _ in range(count * steps)]
    return [torch.cat(drawn[steps * n : steps * (n + 1)]).tolist() for n in range(count)]


def test_classes_come_alike_and_so_do_the_images_of_each():
    labels = torch.tensor([0] * 3 + [1] * 40 + [2] * 17)
    for drawn in passes(numbered(labels), 3, 6, balanced=True):
        assert Counter(labels[drawn].tolist()) == {0: 20, 1: 20, 2: 20}
        counts = Counter(drawn)
        assert sorted(counts[n] for n in range(3)) == [6, 7, 7]
        assert max(counts[n] for n in range(3, 43)) == 1
        assert sorted({counts[n] for n in range(43, 60)}) == [1, 2]


def test_passes_differ_and_what_does_not_divide_goes_to_a_drawn_class():
    labels = torch.tensor([0] * 5 + [1] * 45 + [2] * 10 + [3] * 11)
    drawn = passes(numbered(labels[:62]), 4, 7, balanced=True)
    assert len({tuple(each) for each in drawn}) == 4
    counts = [Counter(labels[each].tolist()) for each in drawn]
    assert all(sorted(each.values()) == [15, 15, 16, 16] for each in counts)
    assert len({tuple(sorted(each.items())) for each in counts}) > 1


def test_batch_k_depends_on_the_seed_and_on_k_alone():
    source = numbered(torch.tensor([0] * 5 + [1] * 30))
    settings = {"seed": 1, "balanced": True}
    batches = training_batches(source, 8, PLAIN, **settings)
    for number, batch in zip(range(12), batches, strict=False):
        again = next(training_batches(source, 8, PLAIN, start=number, **settings))
        assert torch.equal(again.images, batch.images)
        assert torch.equal(again.labels, batch.labels)
    other = next(training_batches(source, 8, PLAIN, seed=2, balanced=True))
    assert not torch.equal(other.images, next(training_batches(source, 8, PLAIN, **settings)).images)


def test_each_image_comes_once_where_classes_are_left_as_they_are():
    (drawn,) = passes(numbered(torch.tensor([0] * 3 + [1] * 37)), 1, 4)
    assert sorted(drawn) == list(range(40))


def test_several_labels_and_boxes_go_by_what_images_show():
    labels = torch.tensor([[1, 0], [0, 1], [-1, -1], [1, 1], [0, 0]])
    expected = [[0, 3], [1, 3], [2, 4]]  # the last group shows nothing, as far as is known
    assert [places.tolist() for places in class_groups(labels).classes] == expected
    box = torch.tensor([[0.0, 0, 0, 2, 2, 0, 4]])
    groups = class_groups(padded([box, torch.cat([box, box]), box + torch.eye(7)[0], box[:0]]))
    assert [places.tolist() for places in groups.classes] == [[0, 1], [2]]
    assert groups.empty.tolist() == [3]  # no class: a detector sees background in every picture


def boxed(*classes):
    """Labels of pictures that show an object each, of these classes; None: nothing."""
    box = torch.tensor([[0.0, 0, 0, 2, 2, 0, 4]])
    return padded([box[:0] if number is None else box + number * torch.eye(7)[0] for number in classes])


@pytest.mark.parametrize(("empty", "shown"), [(0, 0), (2, 2), (10, 10), (200, 20)])
def test_pictures_without_objects_come_once_at_most_and_are_no_more_than_a_class(empty, shown):
    """Two among forty are no third of what a detector learns from, and two hundred no more than one."""
    count, labels = 60, boxed(*[0] * 3, *[1] * 37, *[None] * empty)
    order = balanced_order(class_groups(labels), count, torch.Generator().manual_seed(0)).tolist()
    places = Counter(order)
    assert sum(places[n] for n in range(40, 40 + empty)) == shown
    assert max((places[n] for n in range(40, 40 + empty)), default=1) == 1
    assert abs(sum(places[n] for n in range(3)) - (count - shown) / 2) <= 1
    assert len(order) == count


def test_pictures_none_of_which_shows_an_object_come_alike():
    (drawn,) = passes(numbered(boxed(*[None] * 20)), 1, 2, balanced=True)
    assert sorted(drawn) == list(range(20))


def test_a_class_of_which_no_image_is_there_has_no_place():
    order = balanced_order(class_groups(torch.tensor([0, 2, 2, 2])), 8, torch.Generator().manual_seed(0))
    assert Counter(order.tolist())[0] == 4


def test_one_image_of_a_class_among_very_many_is_quick():
    labels = torch.zeros(100_000, dtype=torch.int64)
    labels[7] = 1
    order = balanced_order(class_groups(labels), len(labels), torch.Generator().manual_seed(0))
    assert (order == 7).sum() == 50_000
