"""Checkpoints: all that a loop needs to continue as if it had never stopped."""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from supernet.runtime.errors import InputError
from supernet.runtime.files import replacing
from supernet.runtime.seeding import random_states, restore_random_states

FORMAT = "supernet checkpoint"
VERSION = 1
IMAGES = "images"  # the key of a fingerprint that says which images there are
CELL = "cell"  # and that of a hash of the genotype
COSTS = "costs"  # and that of a hash of what architectures cost
INIT = "init"  # and that of a hash of the weights that a training began with, and how it uses them
_SCALARS = {type(None), bool, int, float, str, bytes, torch.Tensor, torch.nn.Parameter, torch.Size}


class Stateful(Protocol):
    """An object with a state, such as a module, an optimiser, a strategy or a meter."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as plain containers, numbers, strings and tensors."""

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Takes over a state that `state_dict` has returned."""


class Checkpoint:
    """One file with the states of several parts and of every random generator.

    The file is plain data, and reading it runs no code.

    Args:
        path: the file; None saves and loads nothing.
        fingerprint: the settings, by name, that a run must share with the saved one to continue from it.
        parts: what is saved, by name.

    Example:
        >>> import tempfile
        >>> layer = torch.nn.Linear(1, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = Checkpoint(Path(folder, "search.pt"), {"seed": 0}, {"network": layer})
        ...     checkpoint.load(), checkpoint.save(), checkpoint.load()
        (False, None, True)
    """

    def __init__(
        self, path: Path | None, fingerprint: Mapping[str, str | int | float], parts: Mapping[str, Stateful]
    ) -> None:
        self._path = path
        self._fingerprint = dict(fingerprint)
        self._parts = dict(parts)

    def save(self) -> None:
        """Writes the file. It replaces an older one only when it is whole. Raises TypeError if a state is not plain."""
        if self._path is None:
            return
        content = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": self._fingerprint,
            "random": random_states(),
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
        }
        _require_plain(content, "checkpoint")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path) as file:
            torch.save(content, file)

    def load(self) -> bool:
        """Restores all parts and all random generators.

        Returns:
            Whether there is a file.

        Raises:
            InputError: the file is not a whole checkpoint of this version, or belongs to a run with another fingerprint
                or other parts, all of which is found before anything is changed; or a part does not accept its state.
        """
        if self._path is None or not self._path.exists():
            return False
        content = _read(self._path)
        _require_same(self._path, content["fingerprint"], self._fingerprint)
        if content["parts"].keys() != self._parts.keys():
            there, here = sorted(content["parts"]), sorted(self._parts)
            raise InputError(f"checkpoint {self._path} holds the parts {there}, this run needs {here}; {_WAY_OUT}")
        for name, part in self._parts.items():
            with _wrong_content(self._path, name):
                if isinstance(part, torch.optim.Optimizer):
                    check_optimizer(part, content["parts"][name])
                part.load_state_dict(content["parts"][name])
        with _wrong_content(self._path, "random"):
            restore_random_states(content["random"])
        return True


def check_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Checks the state of an optimiser, which would itself accept a wrong one and fail at a later step.

    Args:
        optimizer: the optimiser.
        state: what its `load_state_dict` shall be given.

    Raises:
        ValueError: a setting is no number, or a mean has another shape than its parameter.
    """
    for group, given in zip(optimizer.param_groups, state["param_groups"], strict=True):
        wrong = [n for n, value in group.items() if type(value) in (int, float) and type(given[n]) not in (int, float)]
        if wrong:
            raise ValueError(f"{wrong[0]} is no number")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, kept in state["state"].items():
        for name in _MEANS & kept.keys():
            mean, shape = kept[name], parameters[number].shape
            if mean is not None and not (
                type(mean) is torch.Tensor and mean.is_floating_point() and mean.shape == shape
            ):
                raise ValueError(f"{name} of parameter {number} is not of its shape")


_MEANS = {"momentum_buffer", "exp_avg", "exp_avg_sq"}  # of PyTorch's optimisers: one number for each of the parameter
_WAY_OUT = "delete the file or use another run directory to start afresh"
_PUT_BACK = {  # ways out that no setting is
    IMAGES: "put back the data that the run was started with",
    CELL: "put back the genotype that the run was started with",
    COSTS: "give the costs and the image size that the run was started with",
    INIT: "begin with the same weights, frozen and slowed alike, or with none where there were none",
}


@contextmanager
def _wrong_content(path: Path, name: str) -> Iterator[None]:
    """Makes one line of the various errors by which a part refuses a state."""
    try:
        yield
    except InputError as error:
        raise InputError(f"checkpoint {path}: {error}; {_WAY_OUT}") from None
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"checkpoint {path}: its part {name} is not what this run saves ({type(error).__name__}: {reason}); "
            f"{_WAY_OUT}"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not verify the checksums it has written
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise zipfile.BadZipFile("compressed, which torch never does: it could be any size")
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("wrong checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"checkpoint {path} holds more than plain data and was not opened; {_WAY_OUT}") from error
    except (
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
        OSError,
    ) as error:
        if isinstance(error, OSError) and error.filename is not None:  # not of its content
            raise
        raise InputError(f"checkpoint {path} is truncated, damaged or not a checkpoint at all; {_WAY_OUT}") from error
    if type(content) is not dict or type(content.get("format")) is not str or content["format"] != FORMAT:
        raise InputError(f"checkpoint {path} is not a {FORMAT} file; {_WAY_OUT}")
    if any(type(content.get(name)) is not dict for name in ("fingerprint", "random", "parts")):
        raise InputError(f"checkpoint {path} lacks its fingerprint, random states or parts; {_WAY_OUT}")
    if any(type(value) not in (str, int, float) for value in content["fingerprint"].values()):
        raise InputError(f"checkpoint {path}: its fingerprint holds more than numbers and texts; {_WAY_OUT}")
    if type(content.get("version")) is not int or content["version"] != VERSION:
        raise InputError(
            f"checkpoint {path} has version {str(content.get('version'))[:40]}, this is version {VERSION}; {_WAY_OUT}"
        )
    return content


def _require_same(path: Path, there: Mapping[str, object], here: Mapping[str, object]) -> None:
    for key in [*here, *(key for key in there if key not in here)]:
        if key not in there or key not in here or there[key] != here[key]:
            saved, asked = there.get(key, "(not set)"), here.get(key, "(not set)")
            way = _PUT_BACK.get(key, f"use {key}={saved}" if key in there else "")
            ways = ", or ".join(filter(None, (way, _WAY_OUT)))
            raise InputError(f"checkpoint {path}: {key} is {saved} there and {asked} in this run; {ways}")


def _require_plain(value: Any, place: str) -> None:
    kind = type(value)
    if kind in (dict, OrderedDict):
        for key, item in value.items():
            _require_plain(key, f"a key of {place}")
            _require_plain(item, f"{place}/{key}")
    elif kind in (list, tuple):
        for index, item in enumerate(value):
            _require_plain(item, f"{place}/{index}")
    elif kind not in _SCALARS:
        raise TypeError(f"{place} is a {kind.__module__}.{kind.__qualname__}, which could not be read back")
