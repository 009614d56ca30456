"""Writes a trained network for another runtime, and checks that the file answers as the network does."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import torch
from torch import Tensor

from supernet.data.dataset import Data
from supernet.deployment.answers import Answer, Asked, Objects
from supernet.deployment.bundle import KEY
from supernet.deployment.deployable import IMAGES, PROBABILITIES, Deployable, quiet, traced
from supernet.deployment.extras import extra
from supernet.deployment.onnx_files import FORMAT, described
from supernet.deployment.onnx_graphs import onnx_graph
from supernet.deployment.onnx_predictor import OnnxPredictor
from supernet.deployment.predictor import Predictor
from supernet.deployment.quantisation import CALIBRATION_IMAGES, Int8, quantised
from supernet.runtime.errors import InputError
from supernet.runtime.files import replacing
from supernet.runtime.reading import file_of, is_file, is_folder
from supernet.runtime.seeding import generator

FORMATS = ("onnx", "pt2")
_PROGRAM = "supernet.pt2"  # the format of a .pt2 file, as its description says it
DESCRIPTION = "supernet.json"  # the name of the description in a .pt2 file
_LONGEST = 1 << 24  # bytes of a description
_TOLERANCE = 1e-3  # of a probability: float32 in another order; an untrained network has been seen to differ by 1e-4
_RANDOM_IMAGES, _REAL_IMAGES = 16, 64
_STREAM = 0xE4907


@dataclass(frozen=True)
class Exported:
    """What was written, and how its answers lie beside those of the original.

    Args:
        path: the file.
        format: "onnx" or "pt2".
        precision: "float32" or "int8".
        bytes: the size of the file.
        compared: how many images both were asked about.
        difference: the largest difference of a probability.
        same: the share of the images of which both say the same class, or the same labels where there can be several.
        activations: of int8, "uint8" or "int8"; None in float32.
    """

    path: Path
    format: str
    precision: str
    bytes: int
    compared: int
    difference: float
    same: float
    activations: str | None = None


def export(
    model: Predictor,
    path: str | Path,
    *,
    format: str = "onnx",
    int8: bool = False,
    activations: str | None = None,
    data: Data | None = None,
) -> Exported:
    """Writes a model as one file for another runtime, from pixels to probabilities.

    The graph takes any number of images (N, channels, height, width) of floats from 0 to 255 as "images", normalises
    them itself and gives the probabilities (N, classes) as "probabilities". The names of the classes, the shape, how
    pictures are prepared, the genotype and the provenance are in the file's metadata. A file is written only when it
    has been read again and has answered as the model does.

    Args:
        model: what `train` or `load` gave.
        path: the file, with the ending .onnx or .pt2; its folder must exist. An older export is replaced,
            and no other file.
        format: "onnx", which ONNX Runtime and most other runtimes read (`supernet.load` does, too), or "pt2", a program
            for `torch.export.load`.
        int8: weights and activations of 8 bits, for ONNX; needs `data`, by whose training images the ranges of the
            activations are measured.
        activations: of int8, "uint8" (fast on x86) or "int8" (fast on Arm); None: what is fast on this processor.
        data: images of the model; some of the training images are compared, too.

    Returns:
        The file, its size, and how far its answers are from the model's.

    Raises:
        InputError: an operation has no form in the format, a package is missing, or the path cannot be written, such as
            because a file is there that is no export; what was there before stays.

    Example:
        >>> import tempfile, supernet
        >>> space, cell = supernet.Darts(channels=4, cells=3), supernet.published("darts_v2")
        >>> model = supernet.train(cell, space, supernet.data.digits(), epochs=1)
        >>> image = torch.zeros(1, 8, 8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = export(model, f"{folder}/model.onnx")
        ...     answer = supernet.load(written.path)(image)[0]
        >>> written.difference < 1e-5, answer.probs.top1 == model(image)[0].probs.top1
        (True, True)
    """
    path = file_of(path, "path")
    _check(model, path, format, data)
    form = _form(int8, activations, format, data)
    pixels = _compared(model, data)
    expected = model.probabilities(pixels.to(next(model.network.parameters()).device))
    _check_answers(model, pixels, expected)
    questions = _Questions(pixels, expected, model.answer)
    program = traced(Deployable(model.network, model.augmentation, model.answer), model.shape)
    about: dict[str, Any] = {
        "input": {"name": IMAGES, "levels": [0, 255]},
        "output": PROBABILITIES,
        "precision": "float32",
    }
    description = model.description
    if format == "pt2":
        text = json.dumps({"format": _PROGRAM, "version": 1, **description.plain(), **about})
        save = partial(torch.export.save, program, extra_files={DESCRIPTION: text})
        return _written(path, "float32", save, _ask_pt2, questions)
    graph = onnx_graph(program, model.shape)
    if form is not None and data is not None:
        with TemporaryDirectory(prefix="supernet-") as folder:  # rounding would hide what float32 answers wrongly
            exact, own = described(graph, description, about), Path(folder, "float32.onnx")
            _written(own, "float32", lambda file: file.write(exact), _ask_onnx, questions, path)
        images = training_pixels(data, CALIBRATION_IMAGES)
        graph = quantised(graph, images, form)
        about |= {"precision": "int8", **asdict(form), "calibration images": len(images)}
    raw = described(graph, description, about)
    made = _written(path, about["precision"], lambda file: file.write(raw), _ask_onnx, questions)
    return replace(made, activations=about.get("activations"))


def _form(int8: bool, activations: str | None, format: str, data: Data | None) -> Int8 | None:
    """How activations become 8 bits; None: they do not. Raises InputError where that cannot be."""
    if not isinstance(int8, bool):
        raise InputError(f"int8={str(int8)[:40]}: use True or False")
    if not int8:
        if activations is not None:
            raise InputError(f"activations={activations}: is of int8=True alone; leave it out")
        return None
    if format != "onnx":
        raise InputError(f"int8=True: is there for format='onnx' alone, not for {format}")
    if data is None:
        raise InputError("int8=True: needs data, by whose training images the ranges of the activations are measured")
    return Int8.for_this_processor() if activations is None else Int8(activations)


def _check(model: Predictor, path: Path, format: str, data: Data | None) -> None:
    if not isinstance(model, Predictor):
        raise InputError(f"model={str(model)[:60]}: needs a model of PyTorch, as supernet.train or supernet.load gives")
    check_exportable(model)
    if format not in FORMATS:
        raise InputError(f"format={format}: use {' or '.join(FORMATS)}")
    if path.suffix.lower() != f".{format}":
        raise InputError(f"path={path}: needs the ending .{format}, so that no other file is replaced")
    if is_folder(path):
        raise InputError(f"path={path}: a folder; give a file, such as {path / f'model.{format}'}")
    if not is_folder(path.parent):
        raise InputError(f"path={path}: there is no folder {path.parent}; make it first")
    if os.path.lexists(path) and not (is_file(path) and _is_export(path, format)):
        raise InputError(f"path={path}: is there already, and is no export that could be replaced; give another name")
    if data is not None and not isinstance(data, Data):
        raise InputError(f"data={str(data)[:60]}: needs images, such as supernet.data.digits()")
    if data is not None and data.shape != model.shape:
        raise InputError(f"data: images {data.shape}, and the model is of images {model.shape}; give data of its own")


def check_exportable(model: Predictor) -> None:
    """Raises InputError where a model is one that no format takes, in one line."""
    if isinstance(model.answer, Objects):
        raise InputError(
            "model: a detector, and an exported file gives probabilities of classes and no boxes; use its "
            "model.safetensors by supernet-predict, or supernet.load in Python"
        )


def _is_export(path: Path, format: str) -> bool:
    """Whether `export` has written a file, as its description says; a damaged one counts as anybody's."""
    text: str | bytes = ""
    try:
        if format == "onnx":
            model = extra("onnx").ModelProto.FromString(path.read_bytes())
            text = next((entry.value for entry in model.metadata_props if entry.key == KEY), "")
        else:
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith(f"/{DESCRIPTION}"))
                with archive.open(name) as file:
                    text = file.read(_LONGEST)
        known = json.loads(text)
    except InputError:  # a package is missing
        raise
    except Exception:  # each implementation of a format has errors of its own
        return False
    return isinstance(known, dict) and known.get("format") == (FORMAT if format == "onnx" else _PROGRAM)


def training_pixels(data: Data, most: int) -> Tensor:
    """Some training images as a model is given them, the same ones at every call.

    Args:
        data: the images.
        most: how many, at most.

    Returns:
        Pixels (N, channels, height, width), floats in [0, 255].
    """
    drawn = torch.randperm(len(data.train), generator=generator(0, _STREAM))[:most]
    pixels = data.train.raw(drawn)
    (height, width), (high, wide) = data.shape[1:], pixels.shape[2:]
    top, left = (high - height) // 2, (wide - width) // 2  # a border that only training crops draw on
    return pixels[..., top : top + height, left : left + width].float()


def _compared(model: Predictor, data: Data | None) -> Tensor:
    """Random images and, where there are data, training images."""
    noise = torch.randint(0, 256, (_RANDOM_IMAGES, *model.shape), generator=generator(1, _STREAM)).float()
    return noise if data is None else torch.cat([noise, training_pixels(data, _REAL_IMAGES)])


def _check_answers(model: Predictor, pixels: Tensor, expected: Tensor) -> None:
    """Raises InputError where answers are no numbers, or change from call to call."""
    if not expected.isfinite().all():
        raise InputError("model: answers with infinite values or none (NaN); train it again")
    again = model.probabilities(pixels.to(next(model.network.parameters()).device))
    if not torch.allclose(again, expected, rtol=0, atol=_TOLERANCE):
        raise InputError(
            "model: its answers change from call to call: an operation such as 'noise' draws random numbers, which no "
            "file can have in common with it; search without it"
        )


@dataclass(frozen=True)
class _Questions:
    """What a file is asked: pixels of images, what the model answers, and what such answers say."""

    pixels: Tensor
    expected: Tensor
    answer: Answer

    def said(self, values: Tensor) -> list[list[int]]:
        """The classes or labels that probabilities give to each image."""
        names = {number: str(number) for number in range(values.shape[1])}
        results = self.answer.results(values.cpu(), [None] * len(values), names, Asked())
        return [result.probs.present for result in results if result.probs is not None]


def _written(
    path: Path,
    precision: str,
    save: Callable[[IO[bytes]], object],
    ask: Callable[[Path, Tensor], Tensor],
    questions: _Questions,
    named: Path | None = None,
) -> Exported:
    """Writes the file, asks it, and lets it take its place only if it answers as the model does.

    Messages call the file `named`, where it is only a step on the way to that.
    """
    shown, pixels, expected = named or path, questions.pixels, questions.expected
    try:
        with replacing(path) as file:
            save(file)
            file.flush()
            whole = Path(file.name)
            try:
                answers = torch.cat([ask(whole, pixels[:1]), ask(whole, pixels[1:])])  # of one image, and of several
            except InputError as error:
                if str(error).startswith(f"{whole}: "):  # a name that nobody has given
                    reason = str(error).removeprefix(f"{whole}: ")
                    raise InputError(f"path={shown}: not written: {reason}") from None
                raise
            difference = float((answers - expected).abs().max())
            if precision == "float32" and not difference <= _TOLERANCE:
                raise InputError(
                    f"path={shown}: not written: its answers differ by {difference:.2g} from the model's; does an "
                    "operation depend on values or on other images?"
                )
            size = whole.stat().st_size
    except OSError as error:
        raise InputError(f"path={shown}: cannot be written ({error.strerror or error})") from None
    pairs = list(zip(questions.said(answers), questions.said(expected), strict=True))
    same = sum(ours == theirs for ours, theirs in pairs) / len(pairs)
    return Exported(path, path.suffix[1:].lower(), precision, size, len(pixels), difference, same)


def _ask_onnx(path: Path, pixels: Tensor) -> Tensor:
    return OnnxPredictor(path).probabilities(pixels)


def _ask_pt2(path: Path, pixels: Tensor) -> Tensor:
    return load_program(path)(pixels)


def load_program(path: Path) -> Callable[[Tensor], Tensor]:
    """Loads a .pt2 file of one's own, as a function from pixels to probabilities. A stranger's file could do harm."""
    with quiet():
        module = torch.export.load(path).module()

    @torch.inference_mode()
    def run(pixels: Tensor) -> Tensor:
        answers: Tensor = module(pixels)
        return answers

    return run
