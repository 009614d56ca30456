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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from supernet.deployment.bundle import CHECKSUM, KEY
from supernet.deployment.deployable import IMAGES, PROBABILITIES, first_line
from supernet.deployment.description import Description, check_genotype, understood
from supernet.deployment.extras import extra
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file

if TYPE_CHECKING:
    from onnx import ModelProto

FORMAT, VERSION = "supernet.onnx", 1
_LARGEST = (1 << 31) - 1  # bytes: what the format allows
_MOST_VALUES = 1 << 28  # of one result, for one image
_MOST_NODES = 100_000
_KEEP_BATCH = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice")  # may rename the number of images, never raise it


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


def read_onnx(path: Path) -> tuple[bytes, Description, dict[str, Any]]:
    """Reads a file that `described` has made.

    Args:
        path: the file, which may come from anywhere.

    Returns:
        Its bytes, its description, and all that is written beside that.

    Raises:
        InputError: there is no such file, or it is damaged or another's, or its graph does what none of ours does, in
            one line.
    """
    onnx = extra("onnx.shape_inference", "onnx.numpy_helper", "onnx")
    if not is_file(path):
        raise InputError(f"{path}: no such model; give a file that supernet-export has written")
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path}: more than {_LARGEST >> 20} MiB; no ONNX file is as large")
        raw = path.read_bytes()
        model = onnx.ModelProto.FromString(raw)
    except Exception as error:  # each implementation of the format raises its own
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: truncated, damaged or not an ONNX file ({type(error).__name__})") from None
    text, plain = _metadata(model, path)
    _check_graph(model, path)
    if {entry.key: entry.value for entry in model.metadata_props}.get(CHECKSUM) != _checksum(text, model):
        raise InputError(f"{path}: changed or damaged since it was exported: its checksum is not that of its content")
    description = understood(plain, path)
    check_genotype(description, path)
    _check_ends(model, description, path)
    _check_values(onnx, model, path)
    return raw, description, plain


def _metadata(model: ModelProto, path: Path) -> tuple[str, dict[str, Any]]:
    texts = [entry.value for entry in model.metadata_props if entry.key == KEY]
    try:
        plain = json.loads(texts[0]) if len(texts) == 1 else None
    except (ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise InputError(f"{path}: not an ONNX file that supernet-export has written; export the model again")
    if plain.get("version") != VERSION:
        raise InputError(f"{path}: version {str(plain.get('version'))[:40]} of the file; this supernet reads {VERSION}")
    return texts[0], plain


def _check_graph(model: ModelProto, path: Path) -> None:
    """Raises InputError where a graph has more than operations of the standard and weights of its own."""

    def refuse(what: str) -> None:
        raise InputError(f"{path}: {what}; no file of supernet-export has that, and it is not run")

    graph: Any = model.graph
    if len(graph.node) > _MOST_NODES:
        refuse(f"{len(graph.node):,} operations")
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

    float32 = 1
    inputs = [(IMAGES, float32, [0, *description.shape])]  # 0: a number of images that is open
    outputs = [(PROBABILITIES, float32, [0, len(description.classes)])]
    if shapes(model.graph.input) != inputs or shapes(model.graph.output) != outputs:
        raise InputError(f"{path}: its graph does not take the images and give the classes that it describes")


def _check_values(onnx: Any, model: ModelProto, path: Path) -> None:
    """Raises InputError where a weight is no number, or a result's size does not follow from the graph alone."""
    for weight in model.graph.initializer:
        try:
            values = onnx.numpy_helper.to_array(weight)
        except Exception as error:  # as above
            raise InputError(f"{path}: weights {weight.name[:80]!r} are damaged ({type(error).__name__})") from None
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise InputError(f"{path}: {weight.name[:80]} holds infinite values or none (NaN); train again")
    try:
        del model.graph.value_info[:]
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # as above
        raise InputError(f"{path}: its graph is damaged ({first_line(error)})") from None
    shapes = {
        value.name: _sides(value) for value in (*inferred.graph.value_info, *model.graph.input, *model.graph.output)
    }
    for node in inferred.graph.node:
        numbers = {shapes[name][0] for name in node.input if shapes.get(name)}  # of images, that come in
        for name in filter(None, node.output):
            sides = shapes.get(name, (None, None))
            first_known = not sides or isinstance(sides[0], int) or sides[0] in numbers or node.op_type in _KEEP_BATCH
            size = math.prod(side if isinstance(side, int) else 1 for side in sides)
            if not first_known or not all(isinstance(side, int) for side in sides[1:]) or size > _MOST_VALUES:
                raise InputError(f"{path}: the size of {name[:80]!r}, of {node.op_type[:80]}, has no known limit")


def _sides(value: Any) -> tuple[int | str | None, ...]:
    """The shape of a value: a number where a side is known, else its name, else None."""
    sides = value.type.tensor_type.shape.dim
    return tuple(side.dim_value if side.HasField("dim_value") else side.dim_param or None for side in sides)


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
