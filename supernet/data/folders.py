"""Reads images from folders, one folder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from supernet.data.dataset import CommonSettings, Data
from supernet.data.file_sets import FileSettings
from supernet.data.folder_index import index_of
from supernet.data.listed_images import Grouping, data_of_files, groups_by_path
from supernet.data.windows import AUTO
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder

CACHED_FROM = 20_000  # images; fewer are listed in a moment


# Each of the settings is one that a data set may need by itself; all but the path have a value that fits most.
def image_folder(
    path: str | Path,
    size: Sequence[int] | int | None = None,
    fit: str = "squash",
    border: int = 0,
    ground: int = 255,
    crop_padding: int = 0,
    scale: Sequence[float] | None = None,
    flip: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    workers: int = 0,
    resident_gib: float = 2.0,
    window: str | Sequence[float] | None = AUTO,
    groups: str | None = None,
    rotation: float = 0.0,
    zoom: float = 0.0,
    contrast: float = 0.0,
    cache: bool = True,
) -> Data:
    """Reads a folder of images: train/<class>/<image>, perhaps with val and test beside train, or <class>/<image>.

    Where there is no test folder, a fifth of the training images is held out to test.

    Args:
        path: the folder.
        size: [height, width] in pixels that all images become, or one number for both. None takes the median
            size where that has at most 96 x 96 pixels, and 64 x 64 where it has more.
        fit: "squash" resizes without keeping the aspect; "crop" keeps it and takes the middle.
        border: pixels on every side that are cut away after resizing, with fit "crop".
        ground: the level behind transparent pictures, from 0 (black) to 255 (white).
        crop_padding: pixels of zeros on every side of a training image, from which a random crop is taken.
        scale: the least and the largest share of an image's area that a random crop has, such as [0.08, 1.0]; the crop
            is resized. It takes the place of `crop_padding`.
        flip: whether half of the training images are mirrored left to right, at random.
        mean: (channels,) of pixels in [0, 1]; None measures it on the training images.
        std: (channels,) the standard deviation of pixels in [0, 1]; None measures it on the training images.
        workers: how many processes read images ahead, where the set is not held in memory.
        resident_gib: sets of up to this size in GiB are held in memory; larger ones are read when they are needed.
        window: which values of grey of more than 8 bits become black and white. "auto" takes the window that a DICOM
            file names, and otherwise the 0.5th and the 99.5th percentile of the training images; "none" takes the range
            of their bits; or two numbers.
        groups: a regular expression with one group in parentheses, which finds in the path of an image, from `path` on,
            to whom it belongs, such as `(patient[0-9]+)_`: no split comes between the images of one. None: each image
            stands for itself.
        rotation: the largest angle in degrees by which a training image is turned, to either side.
        zoom: the largest share by which a training image is enlarged; or made smaller by as large a factor.
        contrast: the largest share by which its contrast changes; its brightness by half of it.
        cache: whether what was found in a folder of 20,000 images or more is kept in the person's cache folder, and
            taken from there while its folders are unchanged.

    Returns:
        The data set, named after the folder. Its notes say what was left out, resized or found twice.

    Raises:
        InputError: the folder, a file in it or a setting is not understood, in one line.

    Example:
        >>> import pathlib, tempfile, supernet
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number in range(20):
        ...         image = pathlib.Path(folder, "photos", ("cat", "dog")[number % 2], f"{number}.png")
        ...         image.parent.mkdir(parents=True, exist_ok=True)
        ...         Image.new("L", (32, 24), number).save(image)
        ...     data = supernet.data.image_folder(f"{folder}/photos")
        >>> data.name, data.shape, data.classes, len(data.train), len(data.test)
        ('photos', (1, 24, 32), ('cat', 'dog'), 16, 4)
    """
    if not is_folder(path):
        raise InputError(f"path={path}: no such folder; expected train/<class>/<image> or <class>/<image> in it")
    cache_from = CACHED_FROM if cache else None
    settings = FileSettings(size, fit, border, ground, window, scale, workers, resident_gib, cache_from)
    root = Path(path)
    found = index_of(root, cache_from)
    common = CommonSettings(
        crop_padding=crop_padding,
        flip=flip,
        mean=mean,
        std=std,
        scale=scale,
        rotation=rotation,
        zoom=zoom,
        contrast=contrast,
    )
    grouping: Grouping = (None, ()) if groups is None else groups_by_path(found.parts, root, groups)
    return data_of_files(root, found.parts, found.classes, settings, common, grouping, found.notes)
