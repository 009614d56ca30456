"""Reads DICOM files as pictures. pydicom, which does the reading, comes with the extra `supernet[dicom]`.

Only the elements that describe pixels are read. What a file says of a patient is skipped, so that no message, log or
record can hold any of it.
"""

from __future__ import annotations

import importlib
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from supernet.data.windows import Window, levels
from supernet.runtime.errors import InputError
from supernet.runtime.reading import why_no_file

SUFFIXES = frozenset({".dcm", ".dicom"})
_PREAMBLE, _MARK = 128, b"DICM"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MOST_PIXELS = 2**27  # of one picture
_EIGHT = 8
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_TAGS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *(
        f"{colour}PaletteColorLookupTable{what}"
        for colour in ("Red", "Green", "Blue")
        for what in ("Data", "Descriptor")
    ),
    *(*_PIXELS, "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_ONE_AT_A_TIME = threading.RLock()  # warnings and logging are settings of the whole process


@dataclass(frozen=True)
class Described:
    """What a DICOM file says of its picture.

    Args:
        channels: 1 (grey) or 3 (colour).
        height: in pixels.
        width: in pixels.
        bits: of each value that are used.
        windowed: whether it names the window of grey values to show (value of interest, VOI).
    """

    channels: int
    height: int
    width: int
    bits: int
    windowed: bool


def is_dicom(path: str | Path) -> bool:
    """Says whether a file is DICOM by its ending, or by its mark where its name has no ending.

    Scanners write names such as IM0001, archives such as 1.2.840.113619: what follows a point is no ending there.

    Args:
        path: any name.
    """
    suffix = Path(path).suffix.lower()
    if (suffix and not suffix[1:].isdigit()) or why_no_file(path):
        return suffix in SUFFIXES
    try:
        with open(path, "rb") as file:
            return file.read(_PREAMBLE + len(_MARK))[_PREAMBLE:] == _MARK
    except OSError:
        return False


def describe(path: str | Path) -> Described:
    """Reads what a file says of its picture, without its pixels.

    Args:
        path: the file.

    Returns:
        The description.

    Raises:
        InputError: it is no DICOM file of one picture, or pydicom is not installed; the message names the file.
    """
    with _read(path, pixels=False) as dataset:
        channels = 1 if dataset.PhotometricInterpretation.startswith("MONOCHROME") else 3
        return Described(channels, dataset.Rows, dataset.Columns, dataset.BitsStored, _is_windowed(dataset))


def grey_values(path: str | Path) -> np.ndarray:
    """Reads the values of a grey picture, such as Hounsfield units, on which windows are measured.

    Bright is bright: the values of a MONOCHROME1 picture are turned round within the range of their bits. Pixels that
    only pad the picture are left out.

    Args:
        path: the file.

    Returns:
        The values, (N,) float64.

    Raises:
        InputError: as in `describe`, or its pixels cannot be decoded.
    """
    with _read(path) as dataset:
        stored = _stored(dataset)
        values, bounds = _values(stored, dataset)
        if _is_inverted(dataset):
            values = sum(bounds) - values
        return values[~_padding(stored, dataset)]


def read_levels(path: str | Path, window: Window | None, window_of_file: bool) -> np.ndarray:
    """Reads a picture as levels.

    Args:
        path: the file.
        window: the grey values that become black and white, for pictures of more than 8 bits; None takes the whole
            range of the bits.
        window_of_file: whether a window that the file names comes before that.

    Returns:
        uint8, (H, W) grey or (H, W, 3) colour. MONOCHROME1, in which low is bright, is inverted; what pads the picture
        is black.

    Raises:
        InputError: as in `describe`, or its pixels cannot be decoded.
    """
    with _read(path) as dataset:
        stored = _stored(dataset)
        if not dataset.PhotometricInterpretation.startswith("MONOCHROME"):
            return _colours(stored, dataset)
        values, bounds = _values(stored, dataset)
        if window_of_file and _is_windowed(dataset):
            shown = _through_own_window(values, dataset)
            shown = 255 - shown if _is_inverted(dataset) else shown
        else:
            values = sum(bounds) - values if _is_inverted(dataset) else values
            shown = levels(values, bounds if window is None or dataset.BitsStored <= _EIGHT else window)
        shown[_padding(stored, dataset)] = 0
        return shown


@contextmanager
def _read(path: str | Path, *, pixels: bool = True) -> Iterator[Any]:
    """The elements of a file that describe pixels. Any error that it causes becomes one line without its content."""
    if reason := why_no_file(path):
        raise InputError(f"{path}: {reason}")
    pydicom = _pydicom()
    with _silently():
        try:
            if str(pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID) == _DEFLATED:
                raise InputError(f"{path}: deflated DICOM is not read; save it without compression of the whole file")
            dataset = pydicom.dcmread(path, specific_tags=list(_TAGS), stop_before_pixels=not pixels)
            _check(dataset, path)
            if pixels and not any(dataset.get(name) for name in _PIXELS):
                raise InputError(f"{path}: a DICOM file without pixels; export it anew, or move it away")
            yield dataset
        except InputError:
            raise
        except MemoryError:
            raise InputError(f"{path}: this picture does not fit into memory") from None
        except Exception as error:  # pydicom and its decoders have many of their own; the texts may quote the file
            raise InputError(
                f"{path}: not a readable DICOM picture ({type(error).__name__}); repair or remove the file"
            ) from None


@contextmanager
def _silently() -> Iterator[None]:
    """pydicom's warnings quote what is in a file; they are not passed on."""
    logger = logging.getLogger("pydicom")
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before, logger.disabled = logger.disabled, True
        try:
            yield
        finally:
            logger.disabled = before


def _pydicom() -> Any:
    try:
        importlib.import_module("pydicom.pixels")
        return importlib.import_module("pydicom")
    except ImportError:
        raise InputError('pydicom is not installed; pip install "supernet[dicom]" brings it') from None


def _check(dataset: Any, path: str | Path) -> None:
    """Raises InputError where the elements do not describe one picture, and fills in those that may be left out."""
    if "Rows" not in dataset or "Columns" not in dataset or "PhotometricInterpretation" not in dataset:
        raise InputError(f"{path}: a DICOM file without a picture; remove it or move it away")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise InputError(f"{path}: {frames} frames in one DICOM file; one picture a file is read; save each by itself")
    sides, most = (int(dataset.Rows), int(dataset.Columns)), _MOST_PIXELS
    if min(sides) < 1 or sides[0] * sides[1] > most:
        raise InputError(f"{path}: a DICOM picture of {sides[0]} x {sides[1]} pixels; needs 1 to {most:,} pixels")
    dataset.BitsStored = int(dataset.get("BitsStored") or dataset.BitsAllocated)


def _stored(dataset: Any) -> np.ndarray:
    """The values as they are stored; YCbCr is turned into RGB."""
    pixels, syntax = importlib.import_module("pydicom.pixels"), dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not pixels.get_decoder(syntax).is_available:
        raise InputError(
            f"{dataset.filename}: no decoder is installed for its pixels ({syntax.name}); pip install python-gdcm "
            "brings one, or save it without compression"
        )
    return pixels.pixel_array(dataset)


def _values(stored: np.ndarray, dataset: Any) -> tuple[np.ndarray, Window]:
    """The values after the modality's table or scale, such as Hounsfield units, and the least and largest possible."""
    modality = importlib.import_module("pydicom.pixels").apply_modality_lut
    values = np.asarray(modality(stored, dataset), dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(
            f"{dataset.filename}: some of its values are infinite or none (NaN); correct or remove the file"
        )
    if tables := dataset.get("ModalityLUTSequence"):
        return values, (0.0, float(2 ** int(tables[0].LUTDescriptor[2]) - 1))
    if stored.dtype.kind == "f":
        return values, (float(values.min()), max(float(values.max()), float(values.min()) + 1e-6))
    bits, signed = int(dataset.BitsStored), bool(dataset.PixelRepresentation)
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    slope, intercept = (float(dataset.get(k, d)) for k, d in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
    low, high = sorted((ends * slope + intercept).tolist())
    if not low < high:
        raise ValueError("a slope of 0")
    return values, (low, high)


def _is_inverted(dataset: Any) -> bool:
    return bool(dataset.PhotometricInterpretation == "MONOCHROME1")


def _is_windowed(dataset: Any) -> bool:
    return bool(dataset.get("VOILUTSequence")) or _own_window(dataset) is not None


def _own_window(dataset: Any) -> tuple[float, float] | None:
    """Centre and width of the first window that the file names, or None where it names none that can be."""
    both = []
    for name in ("WindowCenter", "WindowWidth"):
        value = dataset.get(name)
        value = value[0] if value is not None and not isinstance(value, int | float | str) and len(value) else value
        if not isinstance(value, int | float) or not np.isfinite(value):
            return None
        both.append(float(value))
    return (both[0], both[1]) if both[1] > 0 else None


def _through_own_window(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Levels by the table or the window that the file names (DICOM PS3.3, C.11.2)."""
    if tables := dataset.get("VOILUTSequence"):
        voi = importlib.import_module("pydicom.pixels").apply_voi
        return levels(voi(np.round(values).astype(np.int64), dataset), (0, 2 ** int(tables[0].LUTDescriptor[2]) - 1))
    centre, width = _own_window(dataset) or (0.0, 1.0)
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        return levels(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))), (0, 1))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    half = max(width, 1e-6) / 2
    return levels(values, (centre - half, centre + half))


def _padding(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """Which pixels only fill the picture up (DICOM PS3.3, C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(stored.shape, np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    return (stored >= low) & (stored <= high)


def _colours(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """Levels (H, W, 3) of a picture in colour."""
    bits = int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = importlib.import_module("pydicom.pixels").apply_color_lut(stored, dataset)
        bits = stored.dtype.itemsize * 8
    if stored.ndim != 3 or stored.shape[2] != 3:
        raise ValueError("neither grey nor of three colours")
    return stored.astype(np.uint8) if bits == _EIGHT else levels(stored, (0, 2**bits - 1))
