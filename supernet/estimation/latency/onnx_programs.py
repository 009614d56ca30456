"""Exports many modules to ONNX at once: a program that runs each on its own input is exported and cut into pieces.

The exporter needs half a second for any module and a tenth for one more in the same program. A latency table needs some
hundred.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from supernet.deployment.extras import extra
from supernet.runtime.errors import InputError

OPSET = 20
_TOGETHER = 400  # leaf modules in one program

Shapes = tuple[tuple[int, ...], ...]
"""Of the inputs of a module, the batch first."""

Timed = tuple[nn.Module, Shapes]
"""A module and the shapes of its inputs, the batch first."""


def onnx_programs(modules: Iterable[tuple[str, Timed]]) -> Iterator[tuple[str, Shapes, bytes]]:
    """Exports each module as an ONNX model for inputs of fixed shapes.

    Args:
        modules: each with a name; few of them are held at a time.

    Yields:
        Each name, in the given order, with the shapes of the inputs and the serialised model; the model's one output is
        the first of the module's.

    Raises:
        InputError: the packages for ONNX are not installed, or a module has an operation that ONNX cannot express.

    Example:
        >>> import onnx
        >>> modules = [("a", (nn.Linear(3, 2), ((1, 3),))), ("b", (nn.ReLU(), ((1, 4),)))]
        >>> models = [onnx.load_model_from_string(model) for _, _, model in onnx_programs(modules)]
        >>> [[node.op_type for node in model.graph.node] for model in models]
        [['Gemm'], ['Relu']]
    """
    group: dict[str, Timed] = {}
    size = 0
    for name, (module, shapes) in modules:
        size += sum(1 for inner in module.modules() if not any(inner.children()))
        group[name] = (module, shapes)
        if size >= _TOGETHER:
            yield from _exported(group)
            group, size = {}, 0
    if group:
        yield from _exported(group)


class _Beside(nn.Module):
    """Runs each module on its own inputs: as many of all that are given as `counts` says."""

    def __init__(self, modules: list[nn.Module], counts: list[int]) -> None:
        super().__init__()
        self.beside = nn.ModuleList(modules)
        self.counts = counts

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        left = iter(inputs)
        return tuple(
            _first(module(*(next(left) for _ in range(count))))
            for module, count in zip(self.beside, self.counts, strict=True)
        )


def _first(output: Any) -> Tensor:
    """The tensor of a module's output; a network with an auxiliary head gives two."""
    while isinstance(output, tuple | list):
        output = output[0]
    assert isinstance(output, Tensor)
    return output


def _exported(group: Mapping[str, Timed]) -> Iterator[tuple[str, Shapes, bytes]]:
    try:
        model = _export([module for module, _ in group.values()], [shapes for _, shapes in group.values()])
    except torch.onnx.OnnxExporterError as error:
        if len(group) > 1:  # which of them is it?
            for name, timed in group.items():
                yield from _exported({name: timed})
            return
        reason = str(error.__cause__ or error).strip().splitlines()[0][:200]
        raise InputError(
            f"{next(iter(group))}: ONNX cannot express it ({reason}); the runtime torch times it"
        ) from None
    for number, (name, (_, shapes)) in enumerate(group.items()):
        yield name, shapes, _piece(model, number)


def _export(modules: list[nn.Module], shapes: list[Shapes]) -> Any:
    """The model of all modules beside each other, as a protobuf."""
    check_installed()
    beside = _Beside(modules, [len(each) for each in shapes]).eval()
    inputs = tuple(torch.zeros(shape) for each in shapes for shape in each)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            beside,
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=[f"input{number}" for number in range(len(inputs))],
            output_names=[f"output{number}" for number in range(len(modules))],
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
        extra("onnx", "onnxscript", "onnxruntime")
    except InputError as error:
        raise InputError(f"runtime: {error}; torch is another runtime") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Within it the exporter tells nothing of its own work: it warns of what it does not need here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
