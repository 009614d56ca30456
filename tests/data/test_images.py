import numpy as np
import pytest
import torch
from PIL import Image

from supernet.data.images import read_header, read_image
from supernet.runtime.errors import InputError


def save(tmp_path, array, name="a.png"):
    Image.fromarray(array).save(tmp_path / name)
    return tmp_path / name


def image_shape(path):
    header = read_header(path)
    return header.channels, header.height, header.width


def test_colour_and_grey(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = save(tmp_path, colour)
    assert image_shape(path) == (3, 5, 7)
    assert torch.equal(read_image(path, (3, 5, 7)), torch.from_numpy(colour).permute(2, 0, 1))
    grey = read_image(path, (1, 5, 7))
    luma = (colour @ np.array([0.299, 0.587, 0.114])).round()
    assert np.abs(grey[0].numpy() - luma).max() <= 1
    path = save(tmp_path, colour[:, :, 0], "grey.png")
    assert image_shape(path) == (1, 5, 7)
    assert torch.equal(read_image(path, (3, 5, 7)), torch.from_numpy(colour[:, :, 0]).expand(3, 5, 7))


def test_sixteen_bits_are_scaled(tmp_path):
    path = save(tmp_path, np.array([[0, 257, 65535], [32768, 128, 129]], dtype=np.uint16))
    assert read_image(path, (1, 2, 3)).flatten().tolist() == [0, 1, 255, 128, 0, 1]


def test_other_sizes_are_resized_or_refused(tmp_path):
    path = save(tmp_path, np.full((8, 6), 77, dtype=np.uint8))
    assert read_image(path, (1, 4, 4)).unique().tolist() == [77]
    with pytest.raises(InputError, match=r"8 x 6 pixels where others have 4 x 4; set data.size"):
        read_image(path, (1, 4, 4), resize=False)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 20])
def test_what_is_no_image_is_one_line(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    for call in (lambda: image_shape(path), lambda: read_image(path, (1, 4, 4))):
        with pytest.raises(InputError, match=r"x\.png: not a readable image") as error:
            call()
        assert "\n" not in str(error.value)


def test_floating_point_images_are_refused(tmp_path):
    path = tmp_path / "x.tiff"
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(path)
    with pytest.raises(InputError, match="floating-point"):
        read_image(path, (1, 4, 4))
