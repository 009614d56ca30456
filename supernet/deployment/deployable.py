"""A trained network as it leaves: from pixels to probabilities, traced once, with the number of images left open."""

from __future__ import annotations

import copy
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from supernet.data.augmentation import Augmentation
from supernet.deployment.answers import ONE_LABEL, Answer
from supernet.runtime.errors import InputError
from supernet.space.cells import Cell, reference

IMAGES, PROBABILITIES = "images", "probabilities"


class Deployable(nn.Module):
    """From pixels, floats in [0, 255], (N, channels, height, width), to probabilities (N, classes).

    Args:
        network: a trained network; a copy of it is taken, on the CPU, in evaluation mode, run by the definition of its
            cells: fast executors are of PyTorch, and a runtime has its own.
        augmentation: how pixels are normalised.
        answer: how logits become probabilities.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        >>> module = Deployable(network, Augmentation(mean=(0.5,), std=(0.25,)))
        >>> torch.allclose(module(torch.full((2, 1, 2, 2), 255.0)).sum(1), torch.ones(2))
        True
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, augmentation: Augmentation, answer: Answer = ONE_LABEL) -> None:
        super().__init__()
        self.answer = answer
        self.network = copy.deepcopy(network).cpu()
        for cell in (module for module in self.network.modules() if isinstance(module, Cell)):
            cell.execute = reference
        mean, std = torch.tensor((augmentation.mean, augmentation.std), dtype=torch.float64).view(2, 1, -1, 1, 1)
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (-mean / std).float())
        self.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        return self.answer.values(self.network(images * self.scale + self.shift))


def traced(module: nn.Module, shape: tuple[int, ...]) -> ExportedProgram:
    """Traces a module from one tensor to one tensor, whose first side, the number of images, stays open.

    Args:
        module: in evaluation mode.
        shape: of one image, such as (channels, height, width).

    Returns:
        The program, without the places of the code that it was traced from.

    Raises:
        InputError: the module cannot be traced; the line says why.

    Example:
        >>> program = traced(nn.Linear(4, 3).eval(), (4,))
        >>> program.module()(torch.zeros(5, 4)).shape
        torch.Size([5, 3])
    """
    example = torch.zeros(2, *shape)
    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(module, (example,), dynamic_shapes=({0: Dim("batch", min=1)},), strict=False)
    except Exception as error:  # what tracing raises is of no common kind
        raise InputError(
            f"model: its network cannot be traced ({first_line(error)}); an operation that looks at values or at the "
            "number of images cannot leave PyTorch"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def first_line(error: BaseException) -> str:
    """The first line that an error says, short and without colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return (text.splitlines() or [type(error).__name__])[0][:200].rstrip(" .:")


@contextmanager
def quiet() -> Iterator[None]:
    """Within it nothing is printed, logged or warned of: exporters show their whole state where they fail."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
