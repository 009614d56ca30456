"""ONNX files that describe themselves, and a reader for those that may come from anywhere.

A file holds the graph with its weights and, as metadata, what a bundle says of a model. The reader lets nothing of a
file act: the graph has operations of the standard alone, no other file, no function, no branch and no loop, and no
result that is larger than its own shapes allow. A SHA-256 over description, operations and weights shows damage (it
does not prove who wrote the file).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from supernet.deployment.answers import Objects
from supernet.deployment.bundle import CHECKSUM, KEY
from supernet.deployment.deployable import IMAGES, PROBABILITIES, first_line
from supernet.deployment.description import Description, check_genotype, understood
from supernet.deployment.extras import extra
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file
from supernet.runtime.text import quantity

if TYPE_CHECKING:
    from onnx import ModelProto

FORMAT, VERSION = "supernet.onnx", 2
_READ = (1, 2)  # version 1 is one label an image
_LARGEST = (1 << 31) - 1  # bytes: what the format allows
_MOST_VALUES, _MOST_TOGETHER = 1 << 26, 1 << 30  # of one result and of all, for one image
_SHORT = 1024  # values of a weight that may say a shape
_MOST_NODES = 100_000


def described(model: ModelProto, description: Description, more: Mapping[str, Any]) -> bytes:
    """Writes a description into a model.

    Args:
        model: changed in place; metadata that it has is replaced.
        description: of the model.
        more: plain values that are written beside it, by name, such as the precision.

    Returns:
        The bytes of the file.
    """
    text = json.dumps({"format": FORMAT, "version": VERSION, **description.plain(), **more})
    del model.metadata_props[:]
    for key, value in ((KEY, text), (CHECKSUM, _checksum(text, model))):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model.SerializeToString(deterministic=True)


@dataclass(frozen=True)
class OnnxFile:
    """A file that was read and found harmless.

    Args:
        raw: its bytes.
        description: of the model.
        about: all that is written beside that, such as the precision.
        check_size: to be called with each number of images before the graph is run on so many.
    """

    raw: bytes
    description: Description
    about: Mapping[str, Any]
    check_size: SizeCheck


def read_onnx(path: Path) -> OnnxFile:
    """Reads a file that `described` has made.

    Args:
        path: the file, which may come from anywhere.

    Returns:
        Its bytes and what they say.

    Raises:
        InputError: there is no such file, or it is damaged or another's, or its graph does what none of ours does, in
            one line.
    """
    onnx = extra("onnx.numpy_helper", "onnx")
    if not is_file(path):
        raise InputError(f"{path}: no such model; give a file that supernet-export has written")
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path}: more than {_LARGEST >> 20} MiB; no ONNX file is as large")
        raw = path.read_bytes()
        return _checked(onnx, raw, onnx.ModelProto.FromString(raw), path)
    except (
        Exception
    ) as error:  # each implementation of the format raises its own, and may give bytes for a damaged text
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: truncated, damaged or not an ONNX file ({type(error).__name__})") from None


def _checked(onnx: Any, raw: bytes, model: ModelProto, path: Path) -> OnnxFile:
    text, plain = _metadata(model, path)
    _check_graph(model, path)
    if {entry.key: entry.value for entry in model.metadata_props}.get(CHECKSUM) != _checksum(text, model):
        raise InputError(f"{path}: changed or damaged since it was exported: its checksum is not that of its content")
    description = understood(plain, path)
    check_genotype(description, path)
    _check_ends(model, description, path)
    _check_weights(onnx, model, path)
    check_size = SizeCheck(model, path)
    check_size(1)
    return OnnxFile(raw, description, plain, check_size)


def _metadata(model: ModelProto, path: Path) -> tuple[str, dict[str, Any]]:
    texts = [entry.value for entry in model.metadata_props if entry.key == KEY]
    try:
        plain = json.loads(texts[0]) if len(texts) == 1 else None
    except (ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise InputError(f"{path}: not an ONNX file that supernet-export has written; export the model again")
    if plain.get("version") not in _READ:
        given = str(plain.get("version"))[:40]
        raise InputError(f"{path}: version {given} of the file; this supernet reads 1 to {VERSION}; update it")
    return texts[0], plain


def _check_graph(model: ModelProto, path: Path) -> None:
    """Raises InputError where a graph has more than operations of the standard and weights of its own."""

    def refuse(what: str) -> None:
        raise InputError(f"{path}: {what}; no file of supernet-export has that, and it is not run")

    graph: Any = model.graph
    if len(graph.node) > _MOST_NODES:
        refuse(quantity(len(graph.node), "operation"))
    if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
        refuse("functions, a training or sparse weights")
    for domain in (*(each.domain for each in model.opset_import), *(node.domain for node in graph.node)):
        if domain not in ("", "ai.onnx"):
            refuse(f"operations of {domain[:80]!r}")
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs or attribute.HasField("sparse_tensor"):
                refuse(f"a graph within {node.op_type[:80]!r}")
            tensors += [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
    if any(tensor.data_location or tensor.external_data for tensor in tensors):
        refuse("weights in another file")


def _check_ends(model: ModelProto, description: Description, path: Path) -> None:
    """Raises InputError unless the graph takes the images and gives the classes that the file describes."""

    def shapes(values: Iterable[Any]) -> list[tuple[str, int, list[int]]]:
        types = [(value.name, value.type.tensor_type) for value in values]
        return [(name, t.elem_type, [side.dim_value for side in t.shape.dim]) for name, t in types]

    if isinstance(description.answer, Objects):
        raise InputError(f"{path}: says that it is a detector, which no ONNX file is; give its model.safetensors")
    float32 = 1
    inputs = [(IMAGES, float32, [0, *description.shape])]  # 0: a number of images that is open
    outputs = [(PROBABILITIES, float32, [0, len(description.classes)])]
    if shapes(model.graph.input) != inputs or shapes(model.graph.output) != outputs:
        raise InputError(f"{path}: its graph does not take the images and give the classes that it describes")


def _check_weights(onnx: Any, model: ModelProto, path: Path) -> None:
    """Raises InputError where a weight is damaged, or holds what is no number."""
    for weight in model.graph.initializer:
        try:
            values = onnx.numpy_helper.to_array(weight)
        except Exception as error:  # as above
            raise InputError(f"{path}: weights {weight.name[:80]!r} are damaged ({type(error).__name__})") from None
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(f"{path}: {weight.name[:80]} holds infinite values or none (NaN); train again")


class SizeCheck:
    """Knows how large each result of a graph is before it is run: a graph from anywhere could ask for any memory.

    Args:
        model: the graph; it stays as it is.
        path: its file, for messages.
    """

    def __init__(self, model: ModelProto, path: Path) -> None:
        self._path, self._known = path, set[int]()
        self._model = type(model)()
        self._model.CopyFrom(model)
        graph: Any = self._model.graph
        del graph.value_info[:]
        for weight in [each for each in graph.initializer if math.prod(each.dims) > _SHORT]:
            value = graph.input.add()  # of these the shape is enough
            value.name, value.type.tensor_type.elem_type = weight.name, weight.data_type
            for side in weight.dims:
                value.type.tensor_type.shape.dim.add().dim_value = side
            graph.initializer.remove(weight)

    def __call__(self, images: int) -> None:
        """Raises InputError where a result for this number of images is too large, or its size depends on values."""
        if images in self._known:
            return
        inference = extra("onnx.shape_inference")
        self._model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = images
        try:
            graph = inference.infer_shapes(self._model, check_type=True, strict_mode=True, data_prop=True).graph
        except Exception as error:  # as above
            raise InputError(f"{self._path}: its graph is damaged ({first_line(error)})") from None
        sizes = {value.name: _size(value) for value in (*graph.value_info, *graph.input)}
        ends = {value.name for value in graph.output}
        total = 0.0
        for name in (name for node in graph.node for name in node.output if name and name not in ends):
            size = sizes.get(name, math.inf)
            total += size
            if math.isinf(size):
                raise InputError(
                    f"{self._path}: the size of {name[:80]!r} depends on values, so that it could take any memory; it "
                    "is not run as ONNX"
                )
            if not (size <= _MOST_VALUES * images and total <= _MOST_TOGETHER * images):
                of_one, so_far = (f"{count / images:,.0f}" for count in (size, total))
                raise InputError(
                    f"{self._path}: {name[:80]!r} has {of_one} values for an image, {so_far} with those before; "
                    f"{_MOST_VALUES:,} and {_MOST_TOGETHER:,} are run at most, so take smaller images"
                )
        self._known.add(images)


def _size(value: Any) -> float:
    """How many values a result has; infinite where a side is not known."""
    sides = value.type.tensor_type.shape.dim
    return math.prod(side.dim_value if side.HasField("dim_value") else math.inf for side in sides)


def _checksum(text: str, model: ModelProto) -> str:
    """SHA-256 of the description, of each operation with its settings, and of each weight: name, type, shape, bytes."""
    digest = hashlib.sha256(text.encode("utf-8"))
    graph: Any = model.graph
    for node in graph.node:
        digest.update(json.dumps([node.op_type, *node.input, "->", *node.output]).encode("utf-8"))
        for attribute in sorted(node.attribute, key=lambda each: each.name):
            digest.update(attribute.SerializeToString(deterministic=True))
    for weight in sorted(graph.initializer, key=lambda each: each.name):
        digest.update(weight.SerializeToString(deterministic=True))
    return digest.hexdigest()
