import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from supernet.data import dicom, image_folder, labelled_folder
from supernet.data.images import SUFFIXES, grey_values, read_header, read_image
from supernet.data.listing import LeftOut, list_images
from supernet.data.preparation import PLAIN, Preparation
from supernet.deployment.sources import image_files, spread
from supernet.runtime.errors import InputError

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: E402
from pydicom.pixels import apply_modality_lut, apply_voi_lut  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, SecondaryCaptureImageStorage  # noqa: E402

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"  # of pydicom itself
SECRET = "Nobody^Jane"
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def saved(path, array, *, bits=12, syntax=ExplicitVRLittleEndian, **elements):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.PatientName, dataset.PatientID, dataset.Rows, dataset.Columns = SECRET, SECRET, *array.shape[:2]
    dataset.SamplesPerPixel = 1 if array.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if array.ndim == 2 else "RGB"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = array.itemsize * 8, bits, bits - 1
    dataset.PixelRepresentation = int(array.dtype.kind == "i")
    if array.ndim == 3:
        dataset.PlanarConfiguration = 0
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.PixelData = array.tobytes()
    if syntax.is_compressed:
        dataset.PixelData = pydicom.encaps.encapsulate([b"no image"])
        dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


def pixels(path, preparation=PLAIN):
    header = read_header(path)
    return read_image(path, (header.channels, header.height, header.width), resize=False, preparation=preparation)


def test_a_ramp_of_twelve_bits_keeps_its_levels(tmp_path):
    path = saved(tmp_path / "film.dcm", RAMP)
    header = read_header(path)
    assert (header.channels, header.height, header.width, header.wide, header.windowed) == (1, 64, 64, True, False)
    assert len(pixels(path).unique()) == 256
    narrow = pixels(path, Preparation(window=(1000, 2000)))
    assert [int(narrow[0].flatten()[n]) for n in (0, 1000, 1500, 2000, 4095)] == [0, 0, 128, 255, 255]
    assert torch.equal(torch.from_numpy(grey_values(path)), torch.from_numpy(RAMP.flatten()).double())


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_the_window_of_the_file_is_that_of_pydicom(tmp_path, function):
    about = {"WindowCenter": [40, 300], "WindowWidth": [400, 9], "VOILUTFunction": function}
    path = saved(tmp_path / "ct.dcm", RAMP.astype(np.int16), RescaleSlope="0.5", RescaleIntercept="-1000", **about)
    assert read_header(path).windowed
    dataset = pydicom.dcmread(path)
    units = apply_modality_lut(dataset.pixel_array, dataset)
    shown = apply_voi_lut(units, dataset)
    low, high = -2048 * 0.5 - 1000, 2047 * 0.5 - 1000  # what pydicom spreads its result over
    expected = (shown - low) / (high - low) * 255
    assert np.abs(pixels(path)[0].numpy() - expected).max() <= 0.501
    asked = pixels(path, Preparation(window=(-1000, 0), window_of_file=False))
    assert np.abs(asked[0].numpy() - np.clip((units + 1000) / 1000, 0, 1) * 255).max() <= 0.501


def test_a_table_for_the_window(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor = [4096, 0, 12]
    table.LUTData = (RAMP.flatten().astype(np.int64) ** 2 // 4096).astype(np.uint16).tobytes()
    path = saved(tmp_path / "film.dcm", RAMP, VOILUTSequence=Sequence([table]))
    expected = (RAMP.astype(float) ** 2 // 4096) / 4095 * 255
    assert np.abs(pixels(path)[0].numpy() - expected).max() <= 0.501


def test_monochrome1_is_inverted(tmp_path):
    one = {"PhotometricInterpretation": "MONOCHROME1"}
    turned, plain = saved(tmp_path / "1.dcm", 4095 - RAMP, **one), saved(tmp_path / "2.dcm", RAMP)
    for preparation in (Preparation(), Preparation(window=(500, 3000))):
        assert torch.equal(pixels(turned, preparation), pixels(plain, preparation))
    assert np.array_equal(grey_values(turned), grey_values(plain))
    own = {"WindowCenter": 1000.5, "WindowWidth": 501}
    first, second = saved(tmp_path / "3.dcm", RAMP, **own, **one), saved(tmp_path / "4.dcm", RAMP, **own)
    assert torch.equal(pixels(first), 255 - pixels(second))
    assert pixels(first)[0, 0, 0] == 255


def test_padding_is_black_and_not_measured(tmp_path):
    units = RAMP.astype(np.int16) - 1000
    units[:8] = -2000
    path = saved(tmp_path / "ct.dcm", units, bits=16, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    assert len(grey_values(path)) == 56 * 64
    assert pixels(path)[0, :8].unique().tolist() == [0]


def test_colour_and_eight_bits(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    path = saved(tmp_path / "c.dcm", colour, bits=8)
    assert torch.equal(pixels(path), torch.from_numpy(colour).permute(2, 0, 1))
    grey = saved(tmp_path / "g", colour[..., 0].copy(), bits=8)  # known without an ending, too
    assert torch.equal(pixels(grey, Preparation(window=(0, 9)))[0], torch.from_numpy(colour[..., 0]))
    assert not read_header(grey).wide
    assert pixels(SHIPPED / "examples_palette.dcm").shape == (3, 350, 800)
    assert {".dcm", ".dicom"} <= SUFFIXES


@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"]
)
def test_files_of_many_syntaxes(name):
    dataset = pydicom.dcmread(SHIPPED / "MR_small.dcm")
    low, high = dataset.WindowCenter - 0.5 - (dataset.WindowWidth - 1) / 2, dataset.WindowWidth - 1
    expected = np.clip((dataset.pixel_array - low) / high, 0, 1) * 255
    assert np.abs(pixels(SHIPPED / name)[0].numpy() - expected).max() <= 0.501


def broken(tmp_path):
    """Files that cannot be read, and what is said of each."""
    frames = saved(tmp_path / "frames.dcm", RAMP, NumberOfFrames=3)
    packed = saved(tmp_path / "packed.dcm", RAMP, syntax=JPEGLSLossless)
    empty = saved(tmp_path / "empty.dcm", RAMP, Rows=0)
    huge = saved(tmp_path / "huge.dcm", RAMP, Rows=65535, Columns=65535)
    short = saved(tmp_path / "short.dcm", RAMP)
    short.write_bytes(short.read_bytes()[:-500])
    flat = saved(tmp_path / "flat.dcm", RAMP, RescaleSlope="0", RescaleIntercept=0)
    odd = saved(tmp_path / "odd.dcm", RAMP, BitsAllocated=7)
    bare = saved(tmp_path / "bare.dcm", RAMP)
    dataset = pydicom.dcmread(bare)
    del dataset.PixelData
    dataset.save_as(bare)
    other = tmp_path / "other.dcm"
    other.write_bytes(SECRET.encode() * 50)
    return {
        frames: "3 frames in one DICOM file; one picture a file is read",
        packed: r"no decoder is installed for its pixels \(JPEG-LS Lossless",
        empty: "0 x 64 pixels; needs 1 to",
        huge: "65535 x 65535 pixels; needs 1 to",
        short: "not a readable DICOM picture",
        flat: "not a readable DICOM picture",
        odd: "not a readable DICOM picture",
        bare: "a DICOM file without pixels; export it anew",
        other: "not a readable DICOM picture",
        SHIPPED / "rtplan.dcm": "a DICOM file without a picture",
        SHIPPED / "image_dfl.dcm": "deflated DICOM is not read",
        SHIPPED / "badVR.dcm": "not a readable DICOM picture",
        tmp_path / "gone.dcm": "no such file",
    }


def test_what_cannot_be_read_is_one_line_without_a_patient(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path, says in broken(tmp_path).items():
            if path.parent == SHIPPED and not path.is_file():
                continue
            with pytest.raises(InputError, match=says) as error:
                read_image(path, (1, 8, 8))
            assert path.name in str(error.value)
            assert "\n" not in str(error.value)
            assert not set(SECRET.split("^")) & set(str(error.value).replace("^", " ").split())
    assert SECRET not in caplog.text


def test_nothing_of_a_patient_is_read_or_logged(tmp_path, caplog):
    path = saved(tmp_path / "film.dcm", RAMP)
    dataset = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.add_new(0x00100030, "DA", SECRET)  # a birth date that is none: pydicom would quote it
        dataset.save_as(path)
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels(path)
        with dicom._read(path) as read:
            assert "PatientName" not in read
            assert SECRET not in str(read)
    assert caplog.text == ""
    assert not logging.getLogger("pydicom").disabled


def test_without_pydicom_the_way_out_is_told(tmp_path, monkeypatch):
    path = saved(tmp_path / "film.dcm", RAMP)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match=r'pydicom is not installed; pip install "supernet\[dicom\]" brings it'):
        read_image(path, (1, 8, 8))


def test_folders_and_tables_of_dicom_files(tmp_path):
    lines = ["file,effusion,patient"]
    for n in range(20):
        place = tmp_path / "films" / "ab"[n % 2]
        place.mkdir(parents=True, exist_ok=True)
        own = {"WindowCenter": 2000, "WindowWidth": 500} if n < 4 else {}
        film = RAMP.copy()
        film[0, 0] = n
        saved(place / f"{n}.dcm", film, **own)
        lines.append(f"{n},{n % 2},{n // 2}")
    data = image_folder(tmp_path / "films", size=64)
    window = data.augmentation.preparation.window
    assert window == pytest.approx((20.5, 4075), abs=1)
    assert "4 images with windows of their grey values in the file: used" in data.notes
    assert any(note.startswith("16 images of grey of more than 8 bits") for note in data.notes)
    read = read_image(tmp_path / "films" / "a" / "8.dcm", (1, 64, 64), preparation=data.augmentation.preparation)
    assert any(torch.equal(read, image) for image in (*data.train.images, *data.test.open().images))
    assert len(read.unique()) > 200
    whole = image_folder(tmp_path / "films", size=64, window="none").augmentation.preparation
    assert (whole.window, whole.window_of_file) == (None, False)
    (tmp_path / "films" / "labels.csv").write_text("\n".join(lines))
    listed = labelled_folder(tmp_path / "films", window=[0, 4095])
    assert listed.classes == ("no effusion", "effusion")
    assert listed.shape == (1, 64, 64)


def test_files_without_an_ending_are_found_by_their_mark(tmp_path, monkeypatch):
    names = {"a": ("IM0001", "1.2.840.113619.7", "3.dcm"), "b": ("IM0001", "IM0002", "7.DCM")}
    for folder, films in names.items():
        (tmp_path / folder).mkdir()
        for name in films:
            saved(tmp_path / folder / name, RAMP)
        (tmp_path / folder / "README").write_text("no picture")
        saved(tmp_path / folder / "DICOMDIR", RAMP)
        (tmp_path / folder / "notes.txt").symlink_to("IM0001")  # has the mark, but an ending that no picture has
    left_out = LeftOut()
    listed = list_images(tmp_path, ("a", "b"), left_out)
    assert [Path(path).name for path in listed.paths] == [name for films in names.values() for name in sorted(films)]
    assert left_out.notes() == ["left out: 4 without an ending, 2 .txt"]
    assert {path.name for path in image_files(tmp_path / "a")} == set(names["a"])
    assert {path.name for path in spread(str(tmp_path / "a" / "*"))} == set(names["a"])
    asked = []  # before a file is opened
    monkeypatch.setattr(dicom, "why_no_file", lambda path: asked.append(Path(path).name) or "")
    list_images(tmp_path, ("a", "b"), LeftOut())
    assert set(asked) == {"IM0001", "IM0002", "1.2.840.113619.7", "README"}
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match=r'pydicom is not installed; pip install "supernet\[dicom\]" brings it'):
        image_folder(tmp_path, size=64)


def test_a_film_as_png_and_as_dicom_are_one_picture(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "film.png")
    path = saved(tmp_path / "film.dcm", RAMP)
    preparation = Preparation(window=(20.5, 4000.25))
    for shape in ((1, 64, 64), (3, 20, 30)):
        first, second = (read_image(p, shape, preparation=preparation) for p in (path, tmp_path / "film.png"))
        assert torch.equal(first, second)


def test_pictures_of_padding_alone_have_no_window(tmp_path):
    for number in range(12):
        path = tmp_path / "ab"[number % 2] / f"{number}.dcm"
        path.parent.mkdir(exist_ok=True)
        padding = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 63}
        saved(path, np.full((8, 8), number, np.uint16), **padding)
    data = image_folder(tmp_path)
    assert data.augmentation.preparation.window is None
    assert int(data.train.images.max()) == 0


def test_values_that_are_no_numbers_are_refused_in_one_line(tmp_path):
    dataset = pydicom.dcmread(saved(tmp_path / "dose.dcm", np.zeros((8, 8), np.uint32), bits=32))
    values = np.ones((8, 8), np.float32)
    values[3, 3] = np.nan
    del dataset.PixelData
    dataset.FloatPixelData = values.tobytes()
    dataset.save_as(tmp_path / "dose.dcm", enforce_file_format=True)
    for read in (grey_values, pixels):
        with pytest.raises(InputError, match=r"dose\.dcm: some of its values are infinite or none \(NaN\)"):
            read(tmp_path / "dose.dcm")
