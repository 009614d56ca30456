"""What a model says of one picture, in the shape that people know: boxes or probabilities, names, and a drawing."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageShow

from supernet.deployment.drawing import SAVED, Drawn, canvas, draw_boxes, draw_lines, write_picture
from supernet.deployment.explaining import Explanation
from supernet.deployment.pictures import Picture
from supernet.deployment.values import Boxes, Probabilities, plain_number
from supernet.runtime.errors import InputError
from supernet.runtime.text import csv_lines, printable

_NO_LABELS = "no labels"  # what a picture has of which no label reaches its threshold
_MOST_LINES = 12  # that are written into a picture
_LARGEST = 1000  # pixels of a line or a letter
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Result:
    """What a model says of one picture.

    Args:
        names: the name of each class by its number.
        probs: how probable each class is; None from a detector.
        boxes: the objects that were found; None from a classifier.
        picture: what was looked at, from which `orig_img` and `path` come.
        speed: milliseconds for this picture: "preprocess", "inference", "postprocess".
        explainer: from a class (None: the surest), or the number of a box, to where the network looked for it.

    Example:
        >>> import torch
        >>> boxes = Boxes(torch.tensor([[1.0, 2.0, 5.0, 8.0, 0.9, 1.0]]), orig_shape=(10, 10))
        >>> result = Result({0: "red cell", 1: "platelet"}, boxes=boxes)
        >>> result.names[int(result.boxes.cls[0])], len(result), result.verbose()
        ('platelet', 1, '1 platelet, ')
    """

    names: dict[int, str]
    probs: Probabilities | None = None
    boxes: Boxes | None = None
    picture: Picture | None = field(default=None, repr=False)
    speed: dict[str, float] = field(default_factory=dict, repr=False)
    explainer: Callable[[Result, int | None], Explanation] | None = field(default=None, repr=False)

    masks: ClassVar[None] = None
    keypoints: ClassVar[None] = None
    obb: ClassVar[None] = None

    @property
    def path(self) -> str | None:
        """The file or the address of the picture, if it came from one."""
        return None if self.picture is None else self.picture.path

    @property
    def orig_shape(self) -> tuple[int, int]:
        """The (height, width) of the picture as it was given."""
        return self._seen().shape

    @property
    def orig_img(self) -> np.ndarray:
        """The picture as it was given, (H, W, 3) of uint8, red first. Of a file it is read again."""
        return self._seen().original()

    def __len__(self) -> int:
        """How many objects were found; of a classifier, how many classes there are."""
        return len(self.boxes if self.boxes is not None else self._values())

    def __getitem__(self, index: Any) -> Result:
        """The same with the objects of a number, a slice or a mask alone."""
        if self.boxes is None:
            raise InputError("a classifier's result has no objects that could be chosen; ask .probs")
        return replace(self, boxes=self.boxes[index])

    def cpu(self) -> Result:
        """The same with its numbers on the processor."""
        return self._moved("cpu")

    def cuda(self) -> Result:
        """The same with its numbers on a GPU."""
        return self._moved("cuda")

    def numpy(self) -> Result:
        """The same with NumPy arrays in place of tensors."""
        return self._moved("numpy")

    def to(self, *arguments: Any, **settings: Any) -> Result:
        """The same on another device or of another type, as `torch.Tensor.to` takes them."""
        return self._moved("to", *arguments, **settings)

    def verbose(self) -> str:
        """Says in a line what was found, such as "2 persons, 1 car, ", the likeliest classes, or the labels."""
        if self.boxes is None:
            likely = "".join(f"{printable(name)} {share:.2f}, " for name, share in labelled(self))
            return likely or f"({_NO_LABELS}), "
        counts = Counter(int(number) for number in self.boxes.cls)
        found = "".join(
            f"{n} {printable(self.names[kind])}{'s' * (n > 1 and not self.names[kind].endswith('s'))}, "
            for kind, n in sorted(counts.items())
        )
        return found or "(no detections), "

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Returns plain values, one dictionary for each object, or for each label of the picture.

        Args:
            normalize: whether boxes are in shares of the picture's sides, not in pixels.
            decimals: to which numbers are rounded.

        Returns:
            "name", "class", "confidence" and, of an object, "box" with "x1", "y1", "x2", "y2".
        """
        if self.boxes is None:
            probs = self._values()
            return [self._named(k, float(probs.data[k]), decimals) for k in probs.present]
        rows = []
        corners = self.boxes.xyxyn if normalize else self.boxes.xyxy
        for box, confidence, kind in zip(corners.tolist(), self.boxes.conf, self.boxes.cls, strict=True):
            row = self._named(int(kind), float(confidence), decimals)
            rows.append(
                row | {"box": {n: round(v, decimals) for n, v in zip(("x1", "y1", "x2", "y2"), box, strict=True)}}
            )
        return rows

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """`summary` as JSON."""
        return json.dumps(self.summary(normalize, decimals), indent=2)

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """`summary` as CSV with a line of names."""
        rows = [row | row.pop("box", {}) for row in self.summary(normalize, decimals)]
        return csv_lines([list(rows[0]), *(list(row.values()) for row in rows)]) if rows else ""

    def plot(
        self,
        *,
        conf: bool = True,
        labels: bool = True,
        boxes: bool = True,
        probs: bool = True,
        line_width: float | None = None,
        font_size: float | None = None,
        img: np.ndarray | Image.Image | None = None,
        pil: bool = False,
    ) -> Any:
        """Draws what was found into a copy of the picture.

        Args:
            conf: whether confidences are written.
            labels: whether names are written.
            boxes: whether boxes are drawn.
            probs: whether a classifier's likeliest classes are written, or the labels that reach their thresholds.
            line_width: of the boxes, in pixels; None: one that suits the picture.
            font_size: in pixels; None: one that suits the picture.
            img: (H, W, 3) of uint8 to draw into, red first, or a picture of Pillow; None: the picture itself.
            pil: whether a picture of Pillow is wanted.

        Returns:
            An array (H, W, 3) of uint8, red first (`[..., ::-1]` is what OpenCV takes), or a picture of Pillow.

        Raises:
            InputError: a width or a size is out of its range, or `img` is no such picture.
        """
        line_width, font_size = _pixels("line_width", line_width), _pixels("font_size", font_size)
        picture = self.orig_img if img is None else canvas(img)
        if self.boxes is not None and boxes:
            picture = draw_boxes(picture, self._drawn(conf, labels), line_width, font_size)
        if self.probs is not None and probs:
            lines = [f"{name}: {share:.2f}" if conf else name for name, share in labelled(self)] or [_NO_LABELS]
            more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
            picture = draw_lines(picture, lines[:_MOST_LINES] + more, font_size)
        return Image.fromarray(picture) if pil else picture

    def show(self, **settings: Any) -> None:
        """Opens the drawing in the viewer of this machine, or warns where it has none; it takes what `plot` takes."""
        if not ImageShow.show(Image.fromarray(self.plot(**settings))):
            _LOG.warning("show: this machine has no viewer of pictures; write them with save")

    def save(self, filename: str | Path | None = None, **settings: Any) -> str:
        """Writes the drawing to a file.

        Args:
            filename: with the ending .jpg, .png, .webp, .bmp or .tif; its folder must exist. None: "results_" and the
                name of the picture, in the folder of this process.
            settings: of `plot`.

        Returns:
            The name of the file.

        Raises:
            InputError: it cannot be written there.
        """
        if filename is None:
            name = f"results_{self._seen().file_name}"
            filename = name if Path(name).suffix.lower() in SAVED else f"{name}.png"
        write_picture(Path(filename), self.plot(**settings))
        return str(filename)

    def save_txt(self, txt_file: str | Path, save_conf: bool = False) -> str:
        """Appends a line to a file for each object, in YOLO's form: class, centre x, centre y, width, height in shares.

        Args:
            txt_file: the file; its folder is made where there is none.
            save_conf: whether the confidence follows.

        Returns:
            The name of the file. Of a classifier the lines are probability and name, those of `verbose`. Where nothing
            was found nothing is written.

        Raises:
            InputError: it cannot be written there.
        """
        if self.boxes is None:
            lines = [f"{share:.2f} {printable(name)}" for name, share in labelled(self)]
        else:
            rows = zip(self.boxes.cls, self.boxes.xywhn.tolist(), self.boxes.conf, strict=True)
            lines = [
                " ".join([str(int(k)), *(f"{v:.6g}" for v in box), *([f"{float(c):.6g}"] if save_conf else [])])
                for k, box, c in rows
            ]
        if lines:
            path = Path(txt_file)
            _make(path.parent)
            try:
                with path.open("a", encoding="utf-8") as file:
                    file.write("".join(f"{line}\n" for line in lines))
            except OSError as error:
                raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
        return str(txt_file)

    def save_crop(self, save_dir: str | Path, file_name: str | Path = "im.jpg") -> list[str]:
        """Cuts each object out of the picture and writes it to a folder of its class.

        Args:
            save_dir: the folder, in which one is made for each class.
            file_name: of the files; those behind the first of a class get a number. Where its ending is none in which
                pictures are saved, .jpg follows.

        Returns:
            The names of the files. None that is there already is replaced.

        Raises:
            InputError: they cannot be written there.
        """
        if self.boxes is None:
            raise InputError("a classifier's result has no objects that could be cut out")
        picture, written, name = Image.fromarray(self.orig_img), [], Path(file_name).name
        name = name if Path(name).suffix.lower() in SAVED else f"{name or 'im'}.jpg"
        for box, kind in zip(self.boxes.xyxy.tolist(), self.boxes.cls, strict=True):
            folder = Path(save_dir) / _as_file_name(self.names[int(kind)], f"class{int(kind)}")
            _make(folder)
            left, top = (max(0, int(v)) for v in box[:2])
            right, bottom = max(left + 1, round(box[2])), max(top + 1, round(box[3]))
            path = _free(folder / name)
            write_picture(path, np.asarray(picture.crop((left, top, right, bottom))))
            written.append(str(path))
        return written

    def explain(self, target: int | str | None = None) -> Explanation:
        """Shows where the network looked (Grad-CAM, Selvaraju et al. 2017).

        Args:
            target: of a classifier, a class by name or number; None: the likeliest one. Of a detector, the number of a
                box of this result, or a class by name for its surest box; None: the surest one of all.

        Returns:
            A map of the picture, (H, W) in [0, 1], which can be drawn over it. It says what raised the answer, not
            whether the answer is right.

        Raises:
            InputError: there is no such class or box, or the model is one that cannot be differentiated.
        """
        if self.explainer is None:
            raise InputError("explain: needs a model of PyTorch, as supernet.load gives of a .safetensors file")
        if isinstance(target, str):
            number = number_of(target, self.names)
            target = number if self.boxes is None else self._surest(number)
        return self.explainer(self, plain_number(target))

    def _surest(self, kind: int) -> int:
        """The number of the first box of a class; boxes come by falling confidence."""
        assert self.boxes is not None
        kinds = [int(row[5]) for row in self.boxes.data.tolist()]
        if kind not in kinds:
            raise InputError(f"explain: this result has no box of class {self.names[kind]!r}; a lower conf finds more")
        return kinds.index(kind)

    def _seen(self) -> Picture:
        if self.picture is None:
            raise InputError("this result knows no picture; it was made without one")
        return self.picture

    def _values(self) -> Probabilities:
        assert self.probs is not None, "a result has boxes or probabilities"
        return self.probs

    def _named(self, kind: int, confidence: float, decimals: int) -> dict[str, Any]:
        return {"name": self.names[kind], "class": kind, "confidence": round(confidence, decimals)}

    def _drawn(self, conf: bool, labels: bool) -> list[Drawn]:
        """The boxes with their labels, the surest one last."""
        assert self.boxes is not None
        drawn = []
        for row in reversed(self.boxes.data.tolist()):
            words = [self.names[int(row[5])]] if labels else []
            words += [f"{row[4]:.2f}"] if conf else []
            drawn.append(Drawn((row[0], row[1], row[2], row[3]), " ".join(words), int(row[5])))
        return drawn

    def _moved(self, how: str, *arguments: Any, **settings: Any) -> Result:
        probs, boxes = (
            None if v is None else getattr(v, how)(*arguments, **settings) for v in (self.probs, self.boxes)
        )
        return replace(self, probs=probs, boxes=boxes)


def labelled(result: Result, count: int | None = None) -> Iterator[tuple[str, float]]:
    """Yields the names and the probabilities of the classes that a person is shown.

    Args:
        result: what a network says of one image.
        count: how many classes at most; None: five, or where an image can have several labels all that reach their
            thresholds.

    Yields:
        (name, probability), the most probable first.

    Example:
        >>> import torch
        >>> names, shares = {0: "cat", 1: "dog"}, torch.tensor([0.25, 0.75])
        >>> list(labelled(Result(names, Probabilities(shares))))
        [('dog', 0.75), ('cat', 0.25)]
        >>> list(labelled(Result(names, Probabilities(shares, thresholds=(0.2, 0.9)))))
        [('cat', 0.25)]
    """
    if result.probs is not None:
        for index in result.probs.shown[:count]:
            yield result.names[index], float(result.probs.data[index])


def number_of(name: str, names: dict[int, str]) -> int:
    """The number of a class by its name. Raises InputError where there is none of this name."""
    for number, known in names.items():
        if known == name:
            return number
    raise InputError(f"class {name[:60]!r}: not among {', '.join(names.values())[:200]}")


def _pixels(name: str, value: float | None) -> float | None:
    """A width or a size that a person asks for, if any. Raises InputError where it is none."""
    number = plain_number(value)
    if number is None or (type(number) in (int, float) and 0 < number <= _LARGEST):
        return number  # type: ignore[no-any-return]
    raise InputError(f"{name}={str(value)[:40]}: needs a number of pixels above 0 and up to {_LARGEST}, or None")


def _make(folder: Path) -> None:
    """Makes a folder and those above it where they are not there. Raises InputError where that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder ({error.strerror or error})") from None


def _as_file_name(name: str, otherwise: str) -> str:
    """A name of a class as one of a folder: a stranger's model must not choose where files go."""
    safe = "".join(c if c.isalnum() or c in "-_ " else "_" for c in name[:60]).strip()
    return safe or otherwise


def _free(path: Path) -> Path:
    """The path, or one with a number where there is a file already."""
    found, number = path, 2
    while found.exists():
        found, number = path.with_stem(f"{path.stem}{number}"), number + 1
    return found
