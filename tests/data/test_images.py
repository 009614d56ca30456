import os
import struct
import zlib

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as transforms
from PIL import Image

from supernet.data.images import SUFFIXES, as_tensor, grey_values, read_header, read_image
from supernet.data.preparation import Preparation
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
    with pytest.raises(InputError, match=r"8 x 6 pixels where others have 4 x 4; give a size"):
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


def tiff(path, array, photometric=1):
    """A TIFF of one strip, of numbers that Pillow does not write."""
    high, wide = array.shape
    kind, data, begin = {"u": 1, "i": 2, "f": 3}[array.dtype.kind], array.tobytes(), 8 + 2 + 10 * 12 + 4
    order, mark = (">", b"MM\0*") if array.dtype.byteorder == ">" else ("<", b"II*\0")
    tags = {256: wide, 257: high, 258: 8 * array.itemsize, 259: 1, 262: photometric, 273: begin, 277: 1, 278: high}
    tags |= {279: len(data), 339: kind}
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(mark + struct.pack(order + "IH", 8, len(tags)) + entries + struct.pack(order + "I", 0) + data)
    return path


RAMP = np.arange(4096).reshape(64, 64)


@pytest.mark.parametrize("numbers", ["<u2", ">u2", "<i2", ">i2", "<i4"])
def test_tiffs_of_many_numbers_are_one_ramp(tmp_path, numbers):
    path = tiff(tmp_path / "x.tif", RAMP.astype(numbers))
    assert read_header(path).wide
    assert np.array_equal(grey_values(path), RAMP)
    assert torch.equal(read_image(path, (1, 64, 64)), read_image(save(tmp_path, RAMP.astype(np.uint16)), (1, 64, 64)))


@pytest.mark.parametrize("numbers", ["<i2", ">i2", "<i4", "<f4"])
def test_signed_and_floating_point_numbers_need_a_window(tmp_path, numbers):
    path = tiff(tmp_path / "x.tif", (RAMP - 1024).astype(numbers))
    assert np.array_equal(grey_values(path), RAMP - 1024)
    seen = read_image(path, (1, 64, 64), preparation=Preparation(window=(-1024.0, 3071.0)))
    assert (seen.flatten()[0], seen.flatten()[-1], len(seen.unique())) == (0, 255, 256)
    with pytest.raises(InputError, match=r"x\.tif: .* from -1024 to 3071 without a window") as error:
        read_image(path, (1, 64, 64))
    assert "\n" not in str(error.value)
    Image.fromarray(np.array([[np.nan, 1]], np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(InputError, match=r"nan\.tif: some of its values are infinite or none"):
        grey_values(tmp_path / "nan.tif")


def test_a_tiff_whose_zero_is_white_is_bright_there(tmp_path):
    dark, light = (tiff(tmp_path / f"{n}.tif", RAMP.astype("<u2"), photometric=n) for n in (1, 0))
    seen = read_image(light, (1, 64, 64))
    assert torch.equal(seen, read_image(dark, (1, 64, 64)).flip(1, 2))
    assert np.array_equal(grey_values(light), 65535 - RAMP)
    window = Preparation(window=(65535.0 - 4095, 65535.0))
    assert torch.equal(read_image(light, (1, 64, 64), preparation=window), seen)
    with Image.open(light) as opened:
        assert torch.equal(as_tensor(opened, (1, 64, 64), "image"), seen)


def test_signed_numbers_of_eight_bits_keep_their_order(tmp_path):
    seen = read_image(tiff(tmp_path / "x.tif", np.array([[-128, -1, 0, 127]], np.int8)), (1, 1, 4))
    assert seen.flatten().tolist() == [0, 127, 128, 255]


def test_only_sixteen_bits_of_a_channel_are_cut(tmp_path):
    Image.new("RGB", (5, 4)).save(tmp_path / "x.bmp")  # whose lines have 16 bytes
    assert not read_header(tmp_path / "x.bmp").cut


def test_several_pictures_in_a_file_are_told(tmp_path):
    first, other = (Image.new("L", (4, 4), level) for level in (10, 200))
    first.save(tmp_path / "x.tif", save_all=True, append_images=[other])
    assert read_header(tmp_path / "x.tif").pages
    assert read_image(tmp_path / "x.tif", (1, 4, 4)).unique().tolist() == [10]
    first.save(tmp_path / "y.tif")
    assert not read_header(tmp_path / "y.tif").pages


def transparent(tmp_path, mode, ending):
    """A black picture whose right half is invisible."""
    alpha = np.zeros((6, 8), np.uint8)
    alpha[:, :4] = 255
    zero = np.zeros_like(alpha)
    path = tmp_path / f"x{ending}"
    if mode == "LA":
        Image.fromarray(np.dstack([zero, alpha])).save(path)
    elif mode == "RGBA":
        more = {"lossless": True} if ending == ".webp" else {}
        Image.fromarray(np.dstack([zero, zero, zero, alpha])).save(path, **more)
    elif mode in ("P", "L", "1"):  # value 1 is the invisible one
        Image.fromarray(np.where(alpha > 0, 0, 1).astype(np.uint8)).convert(mode).save(path, transparency=1)
    elif mode == "RGB":
        pixels = np.where(alpha[..., None] > 0, 0, [9, 8, 7]).astype(np.uint8)
        Image.fromarray(pixels).save(path, transparency=(9, 8, 7))
    elif mode == "I;16":
        Image.fromarray(np.where(alpha > 0, 0, 1000).astype(np.uint16)).save(path, transparency=1000)
    return path


@pytest.mark.parametrize(
    ("mode", "ending", "channels"),
    [
        ("RGBA", ".png", 3),
        ("RGBA", ".webp", 3),
        ("RGBA", ".tiff", 3),
        ("LA", ".png", 1),
        ("LA", ".tiff", 1),
        ("P", ".png", 3),
        ("P", ".gif", 3),
        ("L", ".png", 1),
        ("RGB", ".png", 3),
        ("I;16", ".png", 1),
    ],
)
def test_transparent_pictures_lie_on_a_ground(tmp_path, mode, ending, channels):
    path = transparent(tmp_path, mode, ending)
    header = read_header(path)
    assert (header.channels, header.transparent) == (channels, True)
    for ground in (255, 90):
        for wanted in (1, 3):
            pixels = read_image(path, (wanted, 6, 8), preparation=Preparation(ground=ground))
            assert pixels[:, :, :4].unique().tolist() == [0]
            assert pixels[:, :, 4:].unique().tolist() == [ground]


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "P"])
def test_rare_forms_of_transparency(mode):
    half = Image.fromarray(np.array([[[0, 255], [0, 128], [0, 0]]], np.uint8))
    image = {
        "La": lambda: half.convert("La"),
        "RGBa": lambda: half.convert("RGBA").convert("RGBa"),
        "PA": lambda: half.convert("RGBA").convert("PA"),
        "P": lambda: half.convert("RGBA").quantize(8),
    }[mode]()
    assert as_tensor(image, (1, 1, 3), "x")[0, 0].tolist() == pytest.approx([0, 127, 255], abs=1)


def test_what_is_opaque_stays_to_the_bit(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = save(tmp_path, np.dstack([colour, np.full((5, 7), 255, np.uint8)]))
    assert torch.equal(read_image(path, (3, 5, 7)), torch.from_numpy(colour).permute(2, 0, 1))


def test_a_film_of_twelve_bits_keeps_its_levels_without_any_setting(tmp_path):
    path = save(tmp_path, np.arange(4096, dtype=np.uint16).reshape(64, 64))
    assert len(read_image(path, (1, 64, 64)).unique()) == 256
    assert len(read_image(path, (1, 64, 64), preparation=Preparation(white=65535)).unique()) == 17


def test_white_of_fewer_bits(tmp_path):
    path = save(tmp_path, np.array([[0, 4095, 2048, 9000]], dtype=np.uint16))
    assert grey_values(path).max() == 9000
    assert read_header(path).wide
    assert read_image(path, (1, 1, 4), preparation=Preparation(white=4095)).flatten().tolist() == [0, 255, 128, 255]


def test_crop_is_the_usual_evaluation_on_imagenet(tmp_path):
    smooth = np.add.outer(np.arange(300) // 3, np.arange(400) // 3).astype(np.uint8)
    path = save(tmp_path, smooth)
    given = read_image(path, (1, 224, 224), preparation=Preparation(fit="crop", border=16))
    usual = transforms.center_crop(transforms.resize(Image.fromarray(smooth), [256]), [224, 224])
    assert np.abs(given[0].numpy().astype(int) - np.asarray(usual).astype(int)).max() <= 1
    tall = read_image(path, (1, 50, 20), preparation=Preparation(fit="crop"))
    assert tall.float().mean() == pytest.approx(smooth[:, 140:260].mean(), abs=1)


def test_orientation_is_known_from_the_header(tmp_path):
    for ending in (".jpg", ".png", ".tif", ".webp"):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (8, 4)).save(tmp_path / f"x{ending}", exif=exif)
        header = read_header(tmp_path / f"x{ending}")
        assert (header.height, header.width) == (8, 4)
        assert read_image(tmp_path / f"x{ending}", (3, 8, 4), resize=False).shape == (3, 8, 4)
    Image.new("RGB", (800, 4)).save(tmp_path / "large.png", exif=exif)
    assert (read_header(tmp_path / "large.png").height, read_header(tmp_path / "large.png").orientation) == (800, 6)


def test_what_is_no_file_is_told_apart(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    kinds = {"": "a folder, not an image", "absent.png": "no such file", "pipe.png": "not a regular file"}
    for name, says in kinds.items():
        for call in (read_header, lambda path: read_image(path, (1, 4, 4))):
            with pytest.raises(InputError, match=says):
                call(tmp_path / name)


def test_no_other_program_is_started(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(InputError, match="not a readable image"):
        read_image(path, (3, 4, 4))
    assert {".jfif", ".jpe", ".tif", ".webp", ".png"} <= SUFFIXES
    assert not SUFFIXES & {".eps", ".pdf", ".mpg", ".h5"}


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    path = save(tmp_path, np.zeros((4, 4), np.uint8))
    content = bytearray(path.read_bytes())
    content[16:24] = (2**24).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with pytest.raises(InputError, match="decompression bomb"):
        read_header(path)
