import numpy as np
import pytest
import torch
from PIL import Image

import supernet
from supernet.data.dataset import held_out
from supernet.data.windows import asked_window, chosen_for_measuring, levels, measured_window, told_window
from supernet.runtime.errors import InputError


def test_levels_are_rounded_shares_of_the_window():
    values = np.linspace(-500, 5000, 999)
    expected = [round(min(max((v - 100) / 3900, 0), 1) * 255) for v in values.tolist()]
    assert np.abs(levels(values, (100, 4000)).astype(int) - expected).max() == 0
    assert levels(np.array([[7]], np.uint16), (-1000.5, 400)).shape == (1, 1)


def test_a_ramp_of_twelve_bits_keeps_more_than_200_levels():
    ramp = np.arange(4096, dtype=np.uint16)
    assert len(np.unique(levels(ramp, measured_window([ramp])))) > 200
    assert len(np.unique(levels(ramp, (0, 65535)))) == 17  # what the whole range of 16 bits leaves of it


def test_the_window_is_that_of_all_images_together():
    images = [np.random.default_rng(n).normal(n * 100, 20, (90, 80)) for n in range(4)]
    assert measured_window(images) == pytest.approx(np.percentile(np.stack(images), (0.5, 99.5)))
    large = np.random.default_rng(5).normal(1000, 50, (1000, 1000))
    assert measured_window([large]) == pytest.approx(np.percentile(large, (0.5, 99.5)), abs=10)
    assert measured_window([]) is measured_window([np.full(9, 3)]) is None
    assert len(chosen_for_measuring(range(10_000))) == 500


@pytest.mark.parametrize("window", ["wide", [1], [1, 2, 3], [2, 1], [0, "9"], [True, 9], [0, float("inf")], 7, {}])
def test_other_windows_are_refused(window):
    with pytest.raises(InputError, match=r"^window="):
        asked_window(window)


def test_a_window_in_words():
    assert told_window((0, 4095)) == told_window((0.0, 4095.0)) == "0 to 4,095 become 256 levels"


def bright_where_held_out(labels: torch.Tensor) -> np.ndarray:
    """Films of 16 bits below 1,000, but those that are held out to test: far brighter."""
    pixels = np.random.default_rng(0).integers(0, 1000, (len(labels), 8, 8)).astype(np.uint16)
    _, held = held_out(labels, ("no", "yes"))
    pixels[held.numpy()] += 60_000
    return pixels


def test_films_that_are_held_out_have_no_part_in_the_window_of_an_array(tmp_path):
    labels = torch.arange(20) % 2
    np.savez(tmp_path / "films.npz", train_images=bright_where_held_out(labels), train_labels=labels.numpy())
    low, high = supernet.data.npz(tmp_path / "films.npz").augmentation.preparation.window
    assert 0 <= low < high < 1000


def test_films_that_are_held_out_have_no_part_in_the_window_of_a_folder(tmp_path):
    labels = torch.arange(20) // 10  # a folder has class after class
    for place, image in enumerate(bright_where_held_out(labels)):
        path = tmp_path / ("no", "yes")[place // 10] / f"{place:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    low, high = supernet.data.image_folder(tmp_path).augmentation.preparation.window
    assert 0 <= low < high < 1000
