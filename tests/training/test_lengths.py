"""The size of a batch that goes with few images."""

import pytest

from supernet.training.lengths import batch_size_for


@pytest.mark.parametrize("images", [1294, 1438, 719, 5000])
def test_many_images_have_batches_of_64(images):
    assert batch_size_for(images, 11 if images == 719 else 20) == 64


@pytest.mark.parametrize(("images", "size"), [(5, 5), (2, 2), (9, 9), (17, 9), (36, 9), (50, 9), (360, 18)])
def test_few_images_have_small_batches_of_about_a_size(images, size):
    assert batch_size_for(images, 20) == size
    assert images % size not in (1, 2), "norms of one or two images would be noise"
