"""One self-describing file for a trained network: weights, genotype, space, classes and normalisation as safetensors.

The file is plain data. Reading one runs no code from it and makes nothing that it names: spaces and operations come
from this library, or from the reader's own hands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from supernet.data.augmentation import Augmentation
from supernet.runtime.errors import InputError
from supernet.runtime.files import replacing
from supernet.space import SPACES, Space
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided
from supernet.space.operations import OPERATIONS, Operation
from supernet.training.predictor import Predictor

FORMAT, VERSION, KEY, NAME = "supernet.model", 1, "supernet", "model.safetensors"


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
        "provenance": dict(provenance),
    }
    state = {
        n: v.detach().cpu().contiguous() for n, v in network.state_dict().items() if not n.startswith("auxiliary.")
    }
    with replacing(path) as file:
        save_file(state, file.name, {KEY: json.dumps(described)})


def load(
    path: str | Path, *, space: type[Space] | None = None, factories: Mapping[str, Operation] = OPERATIONS
) -> Predictor:
    """A network ready for use, from a file written by `save_bundle` or a run directory that holds one.

    `space` and `factories` are needed only for a space or for operations of your own. Raises InputError, one line,
    where the file is anything else.
    """
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    described, state = _read(path)
    try:
        settings = described["space"]
        architecture = Architecture.from_json(json.dumps(described["genotype"]), origin=f"{path}: genotype")
        classes = tuple(str(name) for name in described["classes"])
        channels, height, width = (int(side) for side in described["shape"])
        normalisation = described["normalisation"]
        augmentation = Augmentation(tuple(map(float, normalisation["mean"])), tuple(map(float, normalisation["std"])))
        provenance = dict(described["provenance"])
        made = _make_space(space, str(settings["name"]), dict(settings["settings"]), path)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: its description is incomplete or damaged ({type(error).__name__}: {error})"
        ) from None
    shape = (channels, height, width)
    if architecture.space != settings["name"]:
        raise InputError(f"{path}: its genotype is of space {architecture.space!r}, not of {settings['name']!r}")
    if len(classes) < 2 or min(shape) < 1 or len(augmentation.mean) != channels:
        raise InputError(f"{path}: {len(classes)} classes, shape {shape} and normalisation do not go together")
    choose = Decided(architecture, factories)
    try:
        with torch.device("meta"):  # takes no memory, whatever sizes the file names
            _require_fit(made.network(choose, shape, len(classes)), state, path)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: no network can be built from its description ({reason})") from None
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, only to be replaced
        network = made.network(choose, shape, len(classes))
    network.load_state_dict(dict(state))
    return Predictor(network.eval(), architecture, classes, shape, augmentation, provenance)


def _without_auxiliary(space: Any) -> Any:
    return replace(space, auxiliary=False) if any(f.name == "auxiliary" for f in fields(space)) else space


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(f"{path}: no such model; give a {NAME} file or the directory of a finished run")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            described = json.loads(metadata.get(KEY, "null"))
            if not isinstance(described, dict) or described.get("format") != FORMAT:
                raise InputError(f"{path}: safetensors, but not a model saved by supernet")
            if described.get("version") != VERSION:
                raise InputError(f"{path}: model version {described.get('version')!r}; this supernet reads {VERSION}")
            return described, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, json.JSONDecodeError, RecursionError, OSError) as error:
        raise InputError(f"{path}: truncated, damaged or not a safetensors file ({type(error).__name__})") from None


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
    wanted = network.state_dict()
    problems = sorted(set(wanted) ^ set(state)) + [
        n for n in wanted if n in state and wanted[n].shape != state[n].shape
    ]
    if problems:
        raise InputError(f"{path}: {len(problems)} tensors do not fit its genotype: {', '.join(problems[:4])}")
