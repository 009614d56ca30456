"""Exports many modules to ONNX at once: a program that runs each on its own input is exported and cut into pieces.

The exporter needs half a second for any module and a tenth for one more in the same program. A latency table needs some
hundred.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from supernet.runtime.errors import InputError

OPSET = 20
_TOGETHER = 400  # leaf modules in one program

Timed = tuple[nn.Module, tuple[int, ...]]
"""A module and the shape of its input, the batch first."""


def onnx_programs(modules: Mapping[str, Timed]) -> Iterator[tuple[str, bytes]]:
    """Exports each module as an ONNX model for inputs of one fixed shape.

    Args:
        modules: with the shapes of their inputs, by any names.

    Yields:
        Each name, in the given order, with the serialised model: one input, the first of the module's outputs.

    Raises:
        InputError: the packages for ONNX are not installed, or a module has an operation that ONNX cannot express.

    Example:
        >>> made = dict(onnx_programs({"a": (nn.Linear(3, 2), (1, 3)), "b": (nn.ReLU(), (1, 4))}))
        >>> import onnx
        >>> [node.op_type for node in onnx.load_model_from_string(made["a"]).graph.node]
        ['Gemm']
    """
    group: dict[str, Timed] = {}
    size = 0
    for name, (module, shape) in modules.items():
        size += sum(1 for inner in module.modules() if not any(inner.children()))
        group[name] = (module, shape)
        if size >= _TOGETHER:
            yield from _exported(group)
            group, size = {}, 0
    if group:
        yield from _exported(group)


class _Beside(nn.Module):
    """Runs each module on its own input."""

    def __init__(self, modules: list[nn.Module]) -> None:
        super().__init__()
        self.beside = nn.ModuleList(modules)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(_first(module(x)) for module, x in zip(self.beside, inputs, strict=True))


def _first(output: Any) -> Tensor:
    """The tensor of a module's output; a network with an auxiliary head gives two."""
    while isinstance(output, tuple | list):
        output = output[0]
    assert isinstance(output, Tensor)
    return output


def _exported(group: Mapping[str, Timed]) -> Iterator[tuple[str, bytes]]:
    try:
        model = _export([module for module, _ in group.values()], [shape for _, shape in group.values()])
    except torch.onnx.OnnxExporterError as error:
        if len(group) > 1:  # which of them is it?
            for name, timed in group.items():
                yield from _exported({name: timed})
            return
        reason = str(error.__cause__ or error).strip().splitlines()[0][:200]
        raise InputError(f"{next(iter(group))}: ONNX cannot express it ({reason}); runtime=torch times it") from None
    for number, name in enumerate(group):
        yield name, _piece(model, number)


def _export(modules: list[nn.Module], shapes: list[tuple[int, ...]]) -> Any:
    """The model of all modules beside each other, as a protobuf."""
    check_installed()
    beside = _Beside(modules).eval()
    inputs = tuple(torch.zeros(shape) for shape in shapes)
    names = [f"input{number}" for number in range(len(shapes))]
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            beside,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=names,
            output_names=[f"output{number}" for number in range(len(shapes))],
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _piece(model: Any, number: int) -> bytes:
    """The part of a model that computes one of its outputs, as a model of its own."""
    import onnx

    graph = model.graph
    made_by = {output: node for node in graph.node for output in node.output}
    wanted, needed, nodes = [graph.output[number].name], set[str](), list[Any]()
    while wanted:
        name = wanted.pop()
        if name in needed:
            continue
        needed.add(name)
        if (node := made_by.get(name)) is not None:
            nodes.append(node)
            wanted += [each for each in node.input if each]
    kept = {id(node) for node in nodes}
    piece = onnx.helper.make_graph(
        [node for node in graph.node if id(node) in kept],
        "piece",
        [each for each in graph.input if each.name in needed],
        [graph.output[number]],
        [each for each in graph.initializer if each.name in needed],
    )
    made = onnx.helper.make_model(piece, opset_imports=model.opset_import, functions=model.functions)
    made.ir_version = model.ir_version
    return bytes(made.SerializeToString())


def check_installed() -> None:
    """Raises InputError where the packages for ONNX are not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"runtime=onnxruntime: needs the package {error.name}; pip install 'supernet[export]', or runtime=torch"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it the exporter tells nothing of its own work: it warns of what it does not need here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
