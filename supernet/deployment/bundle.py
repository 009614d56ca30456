"""One self-describing file for a trained network: weights, genotype, space, classes, task and card as safetensors.

The file is plain data. Reading one runs no code from it and makes nothing that it names: spaces and operations come
from this library or from the reader's own code. A SHA-256 over the description and all tensors shows damage (it does
not prove who wrote the file). Files of older versions have none and are read without it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from supernet.data.augmentation import Augmentation
from supernet.deployment.answers import ONE_LABEL, Answer
from supernet.deployment.description import Description, settings_of
from supernet.runtime.errors import InputError
from supernet.runtime.files import replacing
from supernet.runtime.reading import is_file
from supernet.space.architecture import Architecture

FORMAT, VERSION, KEY, NAME = "supernet.model", 2, "supernet", "model.safetensors"
_READ = (1, 2)  # version 1 is one label an image, without a report and a card
CHECKSUM = "supernet.sha256"


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
    answer: Answer = ONE_LABEL,
    report: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Writes a network and all that is needed to use it to one file, which `supernet.load` reads.

    Equal networks and descriptions give equal bytes. The file replaces an older one only when it is whole. An auxiliary
    head has served training and is left out.

    Args:
        path: the file, by custom with the ending .safetensors.
        network: the network, which `space` built from `architecture`.
        space: its space, a frozen dataclass of settings.
        architecture: its genotype.
        classes: the names of the classes, in the order of the network's outputs.
        augmentation: how images are normalised; what it does in training is not kept.
        shape: the (channels, height, width) of the images that the network is given.
        provenance: how the model was made, such as the seed, and its accuracies.
        answer: what the network's output says.
        report: what was measured of the model, plain values, such as its operating points.
        card: what a person should know before using it, plain values.
        half: whether weights are stored in half precision. Biases and the statistics of norms, which take next to no
            place, stay as they are.

    Raises:
        InputError: the answer does not fit the classes.
        OSError: the file cannot be written.
    """
    answer.check_classes(classes)
    named = (space.name, settings_of(space), architecture, tuple(classes), shape, augmentation, provenance)
    described = Description(*named, answer, report or {}, card or {})
    state = {n: _stored(v, half) for n, v in network.state_dict().items() if not n.startswith("auxiliary.")}
    text = json.dumps({"format": FORMAT, "version": VERSION, **described.plain()})
    with replacing(path) as file:
        file.write(_serialised(state, {KEY: text, CHECKSUM: _checksum(text, state)}))


def read_bundle(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads a file that `save_bundle` has written.

    Args:
        path: the file.

    Returns:
        The description, which has not been checked yet, and the tensors by name.

    Raises:
        InputError: there is no such file, or it is damaged, another's or of another version, in one line.
    """
    if not is_file(path):
        raise InputError(f"{path}: no such model; give a {NAME} file or the directory of a finished run")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            text = metadata.get(KEY, "null")
            described = json.loads(text)
            if not isinstance(described, dict) or described.get("format") != FORMAT:
                raise InputError(f"{path}: safetensors, but not a model saved by supernet")
            if described.get("version") not in _READ:
                given = str(described.get("version"))[:40]
                raise InputError(f"{path}: model version {given}; this supernet reads 1 to {VERSION}; update it")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, ValueError, RecursionError, OSError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: truncated, damaged or not a safetensors file ({type(error).__name__})") from None
    if metadata.get(CHECKSUM) not in (None, _checksum(text, state)):
        raise InputError(f"{path}: damaged: its checksum is not that of its content; copy the file again")
    return described, state


def _stored(value: Tensor, half: bool) -> Tensor:
    """A tensor as a file has it: where half precision is wanted, one of weights whose values it can hold."""
    value = value.detach().cpu().contiguous()
    if half and value.dtype == torch.float32 and value.dim() > 1:
        rounded = value.half()
        return rounded if rounded.isfinite().all() else value
    return value


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
