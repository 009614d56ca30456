"""One self-describing file for a trained network: weights, genotype, space, classes and normalisation as safetensors.

The file is plain data. Reading one runs no code from it and makes nothing that it names: spaces and operations come
from this library, or from the reader's own hands. A SHA-256 over the description and all tensors tells of damage (it
proves nothing about who wrote the file); files of versions that wrote none are read without it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from supernet.data.augmentation import Augmentation
from supernet.data.images import Preparation
from supernet.deployment.predictor import Predictor
from supernet.runtime.errors import InputError
from supernet.runtime.files import replacing
from supernet.runtime.reading import is_file, is_folder
from supernet.runtime.text import printable
from supernet.space import SPACES, Space
from supernet.space.architecture import Architecture, Decision
from supernet.space.choosers import Chooser, Decided
from supernet.space.operations import OPERATIONS, Operation, Site

FORMAT, VERSION, KEY, NAME = "supernet.model", 1, "supernet", "model.safetensors"
CHECKSUM = "supernet.sha256"
_MOST_MODULES = 10_000  # besides ten for each tensor: skip connections and pooling have no tensor


def save_bundle(
    path: Path,
    network: nn.Module,
    *,
    space: Any,
    architecture: Architecture,
    classes: tuple[str, ...],
    augmentation: Augmentation,
    shape: tuple[int, int, int],
    provenance: Mapping[str, str | float | int | None],
) -> None:
    """Writes `network`, built by `space` (a frozen dataclass of settings) from `architecture`, to `path`.

    An auxiliary head served training and is left out. The file replaces an older one only when it is whole.
    """
    described = {
        "format": FORMAT,
        "version": VERSION,
        "space": {"name": space.name, "settings": asdict(_without_auxiliary(space))},
        "genotype": json.loads(architecture.to_json()),
        "classes": list(classes),
        "shape": list(shape),
        "normalisation": {"mean": list(augmentation.mean), "std": list(augmentation.std)},
        "preparation": asdict(augmentation.preparation),
        "provenance": dict(provenance),
    }
    state = {
        n: v.detach().cpu().contiguous() for n, v in network.state_dict().items() if not n.startswith("auxiliary.")
    }
    text = json.dumps(described)
    with replacing(path) as file:
        file.write(_serialised(state, {KEY: text, CHECKSUM: _checksum(text, state)}))


def load(
    path: str | Path, *, space: type[Space] | None = None, factories: Mapping[str, Operation] = OPERATIONS
) -> Predictor:
    """A network ready for use, from a file written by `save_bundle` or a run directory that holds one.

    `space` and `factories` are needed only for a space or for operations of your own. Raises InputError, one line,
    where the file is anything else.
    """
    path = Path(path)
    path = path / NAME if is_folder(path) else path
    described, state = _read(path)
    try:
        settings = described["space"]
        architecture = Architecture.from_json(json.dumps(described["genotype"]), origin=f"{path}: genotype")
        classes = tuple(described["classes"])
        channels, height, width = described["shape"]
        normalisation = described["normalisation"]
        prepared = Preparation.from_plain(described.get("preparation", {}))  # older files have none
        mean, std = (tuple(map(float, normalisation[key])) for key in ("mean", "std"))
        augmentation = Augmentation(mean, std, preparation=prepared)
        provenance = dict(described["provenance"])
        made = _make_space(space, str(settings["name"]), dict(settings["settings"]), path)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise InputError(error if printable(path) in str(error) else f"{path}: {error}") from None
        raise InputError(
            f"{path}: its description is incomplete or damaged ({type(error).__name__}: {error})"
        ) from None
    shape = (channels, height, width)
    if architecture.space != settings["name"]:
        raise InputError(f"{path}: its genotype is of space {architecture.space!r}, not of {settings['name']!r}")
    if not _go_together(described["classes"], shape, augmentation):
        raise InputError(f"{path}: {len(classes)} classes, shape {shape} and normalisation do not go together")
    choose = Decided(architecture, factories)
    try:
        with torch.device("meta"):  # takes no memory, whatever sizes the file names
            _require_fit(made.network(_Bounded(choose, len(state), path), shape, len(classes)), state, path)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: no network can be built from its description ({reason})") from None
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, only to be replaced
        network = made.network(choose, shape, len(classes))
    network.load_state_dict(dict(state))
    return Predictor(network.eval(), architecture, classes, shape, augmentation, provenance)


def _go_together(classes: Any, shape: Sequence[Any], augmentation: Augmentation) -> bool:
    """Whether names are a list of text, sides are whole numbers and each channel has a sound mean and deviation."""
    return (
        isinstance(classes, list)
        and len(classes) >= 2
        and all(isinstance(name, str) for name in classes)
        and all(type(side) is int and 1 <= side < 1 << 20 for side in shape)
        and len(augmentation.mean) == len(augmentation.std) == shape[0]
        and all(map(math.isfinite, (*augmentation.mean, *augmentation.std)))
        and min(augmentation.std) > 0
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

    def operation(self, decision: Decision, site: Site) -> nn.Module:
        made = self.chooser.operation(decision, site)
        self._count(made)
        return made

    def inputs(self, decision: Decision) -> tuple[tuple[str, ...], nn.Module]:
        kept, made = self.chooser.inputs(decision)
        self._count(made)
        return kept, made

    def _count(self, made: nn.Module) -> None:
        self.tensors -= len(made.state_dict())
        self.modules -= sum(1 for _ in made.modules())
        if min(self.tensors, self.modules) < 0:
            raise InputError(f"{self.path}: its tensors do not fit its description, whose network is larger")


def _serialised(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file whose bytes depend on its content alone: the library writes metadata in a random order."""
    raw = save(dict(state), dict(metadata))
    end = 8 + int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8:end])
    head["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + raw[end:]


def _checksum(description: str, state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the description and of each tensor: name, type, shape, bytes."""
    digest = hashlib.sha256(description.encode("utf-8"))
    for name in sorted(state):
        value = state[name].contiguous()
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode("utf-8"))
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _without_auxiliary(space: Any) -> Any:
    return replace(space, auxiliary=False) if any(f.name == "auxiliary" for f in fields(space)) else space


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not is_file(path):
        raise InputError(f"{path}: no such model; give a {NAME} file or the directory of a finished run")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            text = metadata.get(KEY, "null")
            described = json.loads(text)
            if not isinstance(described, dict) or described.get("format") != FORMAT:
                raise InputError(f"{path}: safetensors, but not a model saved by supernet")
            if described.get("version") != VERSION:
                given = str(described.get("version"))[:40]
                raise InputError(f"{path}: model version {given}; this supernet reads {VERSION}")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, ValueError, RecursionError, OSError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: truncated, damaged or not a safetensors file ({type(error).__name__})") from None
    if metadata.get(CHECKSUM) not in (None, _checksum(text, state)):
        raise InputError(f"{path}: damaged: its checksum is not that of its content; copy the file again")
    return described, state


def _make_space(space: type[Space] | None, name: str, settings: dict[str, Any], path: Path) -> Space:
    kind = space or SPACES.get(name)
    if kind is None:
        raise InputError(f"{path}: space {name!r} is unknown; known: {', '.join(SPACES)}; pass your own as space=")
    if kind.name != name:
        raise InputError(f"{path}: a network of space {name!r}, but space= is {kind.name!r}")
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(settings) - known):
        raise InputError(f"{path}: setting {unknown[0]!r} is unknown to space {name!r}")
    plain = {key: _tuples(value) for key, value in settings.items()}
    return kind(**plain)


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


def _require_fit(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Raises InputError unless the tensors are those of the network, by name, shape and type, and all are numbers."""
    wanted = network.state_dict()
    problems = sorted(set(wanted) ^ set(state)) + [
        n for n in wanted if n in state and wanted[n].shape != state[n].shape
    ]
    if problems:
        shown = ", ".join(name[:80] for name in problems[:4])
        raise InputError(f"{path}: {len(problems)} tensors do not fit its genotype: {shown}")
    for name, value in state.items():
        if value.dtype != wanted[name].dtype:
            raise InputError(f"{path}: {name} is of {value.dtype}, its network has {wanted[name].dtype}")
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"{path}: {name} holds infinite values or none (NaN); its training diverged: train again")
