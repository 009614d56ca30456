"""Makes a network from a file that `save_bundle` has written. All that the file says is checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from supernet.deployment.bundle import NAME, read_bundle
from supernet.deployment.description import Description, check_genotype, incomplete, understood
from supernet.deployment.onnx_predictor import OnnxPredictor
from supernet.deployment.predictor import Predictor
from supernet.runtime.errors import InputError
from supernet.runtime.reading import file_of, is_folder, why_no_file
from supernet.runtime.text import quantity
from supernet.space import SPACES, Space
from supernet.space.architecture import Decision
from supernet.space.choices import NumberChoice
from supernet.space.choosers import NO_OPERATIONS, Chooser, Decided
from supernet.space.operations import OPERATIONS, Operation, Site
from supernet.zoo import file_of_model, looks_like_a_name

_MOST_TOLD = 500  # characters of what is wrong with a file
_MOST_MODULES = 10_000  # besides ten for each tensor: skip connections and pooling have no tensor


def load(
    path: str | Path, *, space: type[Space] | None = None, factories: Mapping[str, Operation] = OPERATIONS
) -> Predictor | OnnxPredictor:
    """Loads a trained network, ready for use.

    Args:
        path: a file that `save_bundle` or `Predictor.save` has written, or the directory of a run that holds one; a
            file .onnx that `supernet.export` has written; or the name of a model that comes with the library, such as
            "digits" (`supernet-zoo` lists them).
        space: the class of the network's space; needed only for a space of your own.
        factories: what builds each operation, by name; needed only for operations of your own.

    Returns:
        The network with its classes and its normalisation, on the CPU.

    Raises:
        InputError: the file is anything else or damaged, in one line.

    The example of `Predictor` saves a model and loads it.
    """
    path = found(path)
    if path.suffix.lower() == ".onnx" and not is_folder(path):
        return OnnxPredictor(path)
    return load_network(path, space=space, factories=factories)


def found(path: str | Path) -> Path:
    """The file or the directory that a person means by a path, or by the name of a model that comes with the library.

    Args:
        path: of a file or a directory, which comes first where there is one; or a name.

    Returns:
        The path; where there is nothing, and it is no name either, as it was given.

    Raises:
        InputError: it is no path at all, or looks like a name that no model has.

    Example:
        >>> found("digits").name
        'digits.safetensors'
    """
    given = file_of(path, "path")
    if why_no_file(given) == "no such file" and looks_like_a_name(str(path)):
        return file_of_model(str(path))
    return given


def load_network(
    path: Path, *, space: type[Space] | None = None, factories: Mapping[str, Operation] = OPERATIONS
) -> Predictor:
    """Loads a trained network of PyTorch, as `load` does."""
    try:
        return _load_network(path, space, factories)
    except InputError as error:
        text, most = str(error), len(str(path)) + _MOST_TOLD
        if len(text) <= most:
            raise
        raise InputError(text[:most] + " ...") from None  # a file may hold a name of a million letters


def _load_network(path: Path, space: type[Space] | None, factories: Mapping[str, Operation]) -> Predictor:
    if path.suffix.lower() == ".pt2" and not is_folder(path):
        raise InputError(f"{path}: a program for torch.export.load; supernet reads .safetensors and .onnx")
    path = path / NAME if is_folder(path) else path
    described, state = read_bundle(path)
    made = understood(described, path)
    built = _make_space(space, made, path)
    check_genotype(made, path)
    choose, outputs = Decided(made.architecture, factories), made.answer.outputs(made.classes)
    try:
        with torch.device("meta"):  # takes no memory, whatever sizes the file names
            bounded = _Bounded(choose, len(state), path)
            wanted = built.network(bounded, made.shape, outputs).state_dict()
            state = _as_wanted(state, wanted)
            _require_fit(wanted, state, path)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, RecursionError) as error:
        if isinstance(error, InputError):
            raise incomplete(error, path) from None
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: no network can be built from its description ({reason})") from None
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, only to be replaced
        network = built.network(choose, made.shape, outputs)
    network.load_state_dict(dict(state))
    return Predictor(
        network.eval(),
        space=built,
        architecture=made.architecture,
        classes=made.classes,
        shape=made.shape,
        augmentation=made.augmentation,
        provenance=made.provenance,
        answer=made.answer,
        report=made.report,
        card=made.card,
    )


@dataclass
class _Bounded:
    """Answers as `chooser` does until the network has more tensors than the file, or modules without any by the
    thousands: no size that a file names builds more."""

    chooser: Chooser
    tensors: int
    path: Path

    def __post_init__(self) -> None:
        self.modules = _MOST_MODULES + 10 * self.tensors

    @property
    def searching(self) -> bool:
        return self.chooser.searching

    def operation(self, decision: Decision, site: Site, own: Mapping[str, Operation] = NO_OPERATIONS) -> nn.Module:
        made = self.chooser.operation(decision, site, own)
        self._count(made)
        return made

    def inputs(self, decision: Decision) -> tuple[tuple[str, ...], nn.Module]:
        kept, made = self.chooser.inputs(decision)
        self._count(made)
        return kept, made

    def number(self, decision: Decision) -> tuple[tuple[str, ...], NumberChoice | None]:
        return self.chooser.number(decision)

    def _count(self, made: nn.Module) -> None:
        self.tensors -= len(made.state_dict())
        self.modules -= sum(1 for _ in made.modules())
        if min(self.tensors, self.modules) < 0:
            raise InputError(f"{self.path}: its tensors do not fit its description, whose network is larger")


def _make_space(space: type[Space] | None, described: Description, path: Path) -> Space:
    name = described.space
    kind = space or SPACES.get(name)
    if kind is None:
        raise InputError(f"{path}: space {name!r} is unknown; known: {', '.join(SPACES)}; pass your own as space=")
    if kind.name != name:
        raise InputError(f"{path}: a network of space {name!r}, but space= is {kind.name!r}")
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(described.settings) - known):
        raise InputError(f"{path}: setting {unknown[0]!r} is unknown to space {name!r}")
    try:
        return kind(**{key: _tuples(value) for key, value in described.settings.items()})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise incomplete(error, path) from None


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


def _as_wanted(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file, those that it holds in half precision in single precision again."""
    return {
        name: value.float() if value.dtype == torch.float16 and _is_single(wanted.get(name)) else value
        for name, value in state.items()
    }


def _is_single(value: Tensor | None) -> bool:
    return value is not None and value.dtype == torch.float32


def _require_fit(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    """Raises InputError unless the tensors are those of the network, by name, shape and type, and all are numbers."""
    problems = sorted(set(wanted) ^ set(state)) + [
        n for n in wanted if n in state and wanted[n].shape != state[n].shape
    ]
    if problems:
        shown = ", ".join(name[:80] for name in problems[:4])
        count = quantity(len(problems), "tensor does not fit its genotype", "tensors do not fit its genotype")
        raise InputError(f"{path}: {count}: {shown}")
    for name, value in state.items():
        if value.dtype != wanted[name].dtype:
            raise InputError(f"{path}: {name} is of {value.dtype}, its network has {wanted[name].dtype}")
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"{path}: {name} holds infinite values or none (NaN); its training diverged: train again")
