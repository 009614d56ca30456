"""Modules as ONNX graphs, and sessions of ONNX Runtime that run them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.export import ExportedProgram

from supernet.deployment.deployable import IMAGES, PROBABILITIES, first_line, quiet, traced
from supernet.deployment.extras import extra
from supernet.runtime.errors import InputError

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession

OPSET = 20


def onnx_graph(module: nn.Module | ExportedProgram, shape: tuple[int, ...]) -> ModelProto:
    """Writes a module as an ONNX graph, the weights in it, with the number of images open.

    Args:
        module: in evaluation mode, from one tensor to one tensor; or what `traced` made of one.
        shape: of one image, such as (channels, height, width).

    Returns:
        The graph, whose input is "images" and whose output is "probabilities". It names no file of this machine.

    Raises:
        InputError: an operation has no form in ONNX, the module cannot be traced, or a package is missing.

    Example:
        >>> graph = onnx_graph(nn.ReLU().eval(), (3, 4, 4)).graph
        >>> [node.op_type for node in graph.node], graph.input[0].name
        (['Relu'], 'images')
    """
    exporter = extra("onnx", "onnxscript", "torch.onnx")
    program = traced(module, shape) if isinstance(module, nn.Module) else module
    try:
        with quiet():
            written = exporter.export(
                program, dynamo=True, opset_version=OPSET, input_names=[IMAGES], output_names=[PROBABILITIES]
            )
    except exporter.OnnxExporterError as error:
        raise InputError(f"model: {_unsupported(error)} cannot be written as ONNX, opset {OPSET}") from error
    model: ModelProto = written.model_proto
    _forget_origin(model)
    return model


def session(model: bytes, threads: int = 1) -> InferenceSession:
    """Makes a session of ONNX Runtime on the processor; it can be called from this thread without waiting for others.

    Args:
        model: a serialised ONNX model.
        threads: how many compute.

    Returns:
        The session.

    Raises:
        InputError: onnxruntime is missing, or does not run the model.

    Example:
        >>> import numpy as np
        >>> ran = session(onnx_graph(nn.ReLU().eval(), (2,)).SerializeToString())
        >>> ran.run(None, {"images": np.array([[-1.0, 2.0]], np.float32)})[0]
        array([[0., 2.]], dtype=float32)
    """
    runtime = extra("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what goes wrong is raised, too
    try:
        made: InferenceSession = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no common class of their own
        raise InputError(f"model: ONNX Runtime does not run it ({first_line(error)})") from None
    return made


def _forget_origin(model: ModelProto) -> None:
    """Removes what tells of the code that was exported: paths and names of classes, which are most of a small file."""
    graph: Any = model.graph
    for entry in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del entry.metadata_props[:]
        entry.doc_string = ""
    del graph.value_info[:]  # a reader infers the shapes between
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def _unsupported(error: BaseException) -> str:
    """The operation for which ONNX has no form, found in the errors that led to this one."""
    cause: BaseException | None = error
    while cause is not None:
        if found := re.search(r"OpOverload\(op='([\w.]+)'|torch\.ops\.([\w.]+?)\.\w+\]", str(cause)):
            return f"its operation {found[1] or found[2]}"
        cause = cause.__cause__ or cause.__context__
    return f"its network ({first_line(error)})"
