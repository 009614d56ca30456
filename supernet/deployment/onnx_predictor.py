"""Uses a network that was exported to ONNX: the same calls and the same answers as for a model of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supernet.deployment.asking import answered, asked_of, bgr_of
from supernet.deployment.deployable import IMAGES, PROBABILITIES, first_line
from supernet.deployment.extras import extra
from supernet.deployment.onnx_files import read_onnx
from supernet.deployment.onnx_graphs import session
from supernet.deployment.pictures import Images, Pictures
from supernet.deployment.results import Result
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity


class OnnxPredictor:
    """A network in an ONNX file, run by ONNX Runtime on the processor: call it with images, as a `Predictor`.

    `supernet.load` returns one for a file with the ending .onnx.

    Args:
        path: a file that `supernet.export` has written; it may come from anywhere.
        threads: how many compute.

    Raises:
        InputError: a package is missing, or the file is anything else or damaged, in one line.

    The example of `supernet.export` writes a file and loads it.
    """

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        extra("onnxruntime")
        read = read_onnx(Path(path))
        self.about, self._check_size, self._path = read.about, read.check_size, path
        try:
            self._session = session(read.raw, threads)
        except InputError as error:
            raise InputError(f"{path}: {str(error).removeprefix('model: ')}") from None
        description = read.description
        self.classes, self.shape = description.classes, description.shape
        self.architecture, self.augmentation = description.architecture, description.augmentation
        self.provenance, self.answer = dict(description.provenance), description.answer
        self.report, self.card = dict(description.report), dict(description.card)

    def __repr__(self) -> str:
        precision = self.about.get("precision")
        classes = quantity(len(self.classes), "class")
        return f"OnnxPredictor({precision}, {classes}, images {self.shape}, {self.provenance})"

    def __call__(
        self,
        source: Images | Sequence[Any],
        *,
        conf: float | None = None,
        iou: float | None = None,
        max_det: int | None = None,
        classes: Sequence[int | str] | int | str | None = None,
        channels: str = "rgb",
        skip_unreadable: bool = False,
    ) -> list[Result]:
        """Says what is in pictures.

        Args:
            source: in all the forms that `Predictor` takes.
            conf: as for `Predictor`.
            iou: is for objects, which no exported model finds; None.
            max_det: as `iou`.
            classes: as `iou`.
            channels: as for `Predictor`.
            skip_unreadable: as for `Predictor`.

        Returns:
            One result for each image, in their order.

        Raises:
            InputError: an image is not understood, or a setting is given that this model has no use for, in one line.
        """
        asked = asked_of(self.names, self.answer, conf=conf, iou=iou, max_det=max_det, classes=classes)
        pictures = Pictures(self.shape, self.augmentation.preparation, bgr_of(channels), skip_unreadable)
        return list(answered(pictures, source, self.probabilities, self.answer, self.names, asked))

    predict = __call__

    @property
    def names(self) -> dict[int, str]:
        """The name of each class by its number."""
        return dict(enumerate(self.classes))

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Runs the graph.

        Args:
            pixels: (N, channels, height, width), floats in [0, 255].

        Returns:
            The probabilities (N, classes).

        Raises:
            InputError: ONNX Runtime cannot run the graph, such as for want of memory, or it gives no probabilities.
        """
        if not len(pixels):
            return torch.empty(0, len(self.classes))
        self._check_size(len(pixels))
        try:
            given = np.ascontiguousarray(pixels.float().numpy())
            (answers,) = self._session.run([PROBABILITIES], {IMAGES: given})
        except Exception as error:  # the runtime's exceptions have no common class of their own
            raise InputError(f"model: ONNX Runtime cannot run it ({first_line(error)})") from None
        found = torch.from_numpy(np.asarray(answers))
        self.answer.check(found, str(self._path))
        return found

    def program(self, pixels: Tensor) -> Callable[[], object]:
        """A function that runs the graph once on these pixels and does nothing else, for one who measures its time."""
        self._check_size(len(pixels))
        given = {IMAGES: np.ascontiguousarray(pixels.float().numpy())}
        return lambda: self._session.run([PROBABILITIES], given)
