"""Numbers of 8 bits in an ONNX graph: static quantisation by ONNX Runtime, on images that the model was trained on.

Weights are signed and have a scale for each output channel; activations have one range each, which is measured. Which
sign activations have decides whether a processor is fast: x86 multiplies unsigned by signed bytes (the other way costs
up to three times the time of float32), Arm signed by signed.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from supernet.deployment.deployable import IMAGES, PROBABILITIES, first_line, quiet
from supernet.deployment.extras import extra
from supernet.runtime.errors import InputError

if TYPE_CHECKING:
    from onnx import ModelProto

CALIBRATION_IMAGES = 512
_BATCH = 32
_X86 = ("x86_64", "AMD64", "i686", "x86")
_CPU_FILE = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Int8:
    """How activations become 8 bits.

    Args:
        activations: "uint8" or "int8".
        reduced: weights use 7 of their 8 bits: where a processor adds two products in 16 bits (x86 without VNNI) they
            could overflow.

    Raises:
        InputError: `activations` is anything else.

    Example:
        >>> Int8("uint8")
        Int8(activations='uint8', reduced=False)
    """

    activations: str
    reduced: bool = False

    def __post_init__(self) -> None:
        if self.activations not in ("uint8", "int8"):
            raise InputError(f"activations={self.activations}: use uint8 (fast on x86) or int8 (fast on Arm)")

    @classmethod
    def for_this_processor(cls) -> Int8:
        """The form that is fast here."""
        return cls.for_processor(platform.machine(), _CPU_FILE.read_text() if _CPU_FILE.is_file() else "")

    @classmethod
    def for_processor(cls, machine: str, flags: str) -> Int8:
        """The form that is fast on a processor.

        Args:
            machine: its kind, such as "x86_64" or "arm64".
            flags: names of its instructions, such as the content of /proc/cpuinfo.

        Returns:
            Unsigned activations on x86, with all bits of the weights where it has VNNI; signed ones elsewhere.

        Example:
            >>> Int8.for_processor("x86_64", "flags : avx2 avx512_vnni"), Int8.for_processor("arm64", "")
            (Int8(activations='uint8', reduced=False), Int8(activations='int8', reduced=False))
        """
        if machine not in _X86:
            return cls("int8")
        return cls("uint8", reduced=not {"avx512_vnni", "avx_vnni"} & set(flags.split()))


def quantised(model: ModelProto, images: Tensor, form: Int8) -> ModelProto:
    """Quantises a graph that `onnx_graph` has made of a `Deployable`.

    The normalisation and the softmax, which cost next to nothing, stay in float32.

    Args:
        model: in float32; it stays as it is.
        images: pixels (N, channels, height, width), floats in [0, 255], by which the range of each activation is found.
        form: of the activations.

    Returns:
        The graph with quantised operations.

    Raises:
        InputError: ONNX Runtime cannot quantise the graph, or a package is missing.
    """
    tools: Any = extra("onnx", "onnxruntime.quantization")
    with tempfile.TemporaryDirectory(prefix="supernet-") as folder:
        goal = Path(folder, "int8.onnx")
        copy = type(model).FromString(model.SerializeToString())
        try:
            with quiet():
                tools.quantize_static(
                    copy,
                    goal,
                    _Batches(iter(images.split(_BATCH))),
                    quant_format=tools.QuantFormat.QDQ,
                    per_channel=True,
                    reduce_range=form.reduced,
                    activation_type=tools.QuantType.QUInt8 if form.activations == "uint8" else tools.QuantType.QInt8,
                    weight_type=tools.QuantType.QInt8,
                    nodes_to_exclude=_kept_in_float(model),
                )
        except Exception as error:  # its exceptions are of many kinds
            raise InputError(f"int8=True: ONNX Runtime cannot quantise the model ({first_line(error)})") from error
        made = type(model).FromString(goal.read_bytes())
    for node in made.graph.node:
        node.doc_string = ""
    return made


def _kept_in_float(model: ModelProto) -> list[str]:
    """The names of the operations before the network and after it: from the pixels to its first weights, and the
    softmax."""
    follows, before = {IMAGES}, []
    for node in model.graph.node:
        if node.op_type in ("Mul", "Add") and follows & set(node.input):
            follows |= set(node.output)
            before.append(node.name)
    return [*before, *(node.name for node in model.graph.node if PROBABILITIES in node.output)]


@dataclass
class _Batches:
    """Gives batches of images in the way that the runtime's calibration asks for them."""

    left: Iterator[Tensor]

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.left, None)
        return None if batch is None else {IMAGES: np.ascontiguousarray(batch.numpy())}
