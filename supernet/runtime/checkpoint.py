"""Checkpoints: all that a loop needs to continue as if it had never stopped.

A file is read back when it is written, before it takes the place of the older one, and read as a whole before anything
of it is used. The older one stays beside it, with `PREVIOUS` at the end of its name, for a disk that damages what lies
on it.
"""

import errno
import logging
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from supernet.runtime.errors import InputError
from supernet.runtime.files import replacing
from supernet.runtime.seeding import random_states, restore_random_states

FORMAT = "supernet checkpoint"
VERSION = 1
PREVIOUS = ".previous"  # the end of the name of the checkpoint before the newest
IMAGES = "images"  # the key of a fingerprint that says which images there are
CELL = "cell"  # and that of a hash of the genotype
COSTS = "costs"  # and that of a hash of what architectures cost
INIT = "init"  # and that of a hash of the weights that a training began with, and how it uses them
_SCALARS = {type(None), bool, int, float, str, bytes, torch.Tensor, torch.nn.Parameter, torch.Size}
_LOG = logging.getLogger(__name__)


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
        tell: called with a line where the file is damaged and the one before it is used.

    Example:
        >>> import tempfile
        >>> layer = torch.nn.Linear(1, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = Checkpoint(Path(folder, "search.pt"), {"seed": 0}, {"network": layer})
        ...     checkpoint.load(), checkpoint.save(), checkpoint.load()
        (False, None, True)
    """

    def __init__(
        self,
        path: Path | None,
        fingerprint: Mapping[str, str | int | float],
        parts: Mapping[str, Stateful],
        tell: Callable[[str], object] = _LOG.warning,
    ) -> None:
        self._path = path
        self._fingerprint = dict(fingerprint)
        self._parts = dict(parts)
        self._tell = tell
        self._has_run = path is not None and path.parent.parent.is_dir()
        self._damaged = False  # the newest file, so that the one before it is the one to keep

    def save(self) -> None:
        """Writes the file. It replaces an older one, which is kept, only when it is whole and has been read back.

        Raises:
            TypeError: a state is not plain.
            OSError: the file cannot be written, or reads differently; or the folder of the run, which was there, is
                gone. The older file stays as it was.
        """
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
        self._path.parent.mkdir(parents=not self._has_run, exist_ok=True)
        previous = None if self._damaged else _before(self._path)
        with replacing(self._path, check=_read_back, previous=previous) as file:
            torch.save(content, file)
        self._damaged = False

    def load(self) -> bool:
        """Restores all parts and all random generators: of the file, or of the one before it where it is damaged.

        Returns:
            Whether there is a file.

        Raises:
            InputError: no file is a whole checkpoint of this version, or it belongs to a run with another fingerprint
                or other parts, all of which is found before anything is changed; or a part does not accept its state.
        """
        if self._path is None or not self._path.exists():
            return False
        content = self._newest(self._path)
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

    def _newest(self, path: Path) -> dict[str, Any]:
        """The content of the newest file that is not damaged."""
        try:
            return _read(path)
        except _Damaged as error:
            before = _before(path)
            if not before.is_file():
                raise
            try:
                content = _read(before)
            except InputError:
                raise error from None
            self._damaged = True
            self._tell(f"checkpoint {path} is truncated or damaged; {before.name}, the one before it, takes its place")
            return content


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


class _Damaged(InputError):
    """The bytes of a checkpoint are not those that were written."""


def _before(path: Path) -> Path:
    return path.with_name(path.name + PREVIOUS)


def _check_sums(path: Path) -> None:
    """Reads a whole file and compares the checksums that torch has written into it, which torch itself does not."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise zipfile.BadZipFile("compressed, which torch never does: it could be any size")
        if archive.testzip() is not None:
            raise zipfile.BadZipFile("wrong checksum")


def _read_back(path: Path) -> None:
    try:
        _check_sums(path)
    except (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise OSError(errno.EIO, f"what was written reads differently ({error})", str(path)) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        _check_sums(path)
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
        raise _Damaged(f"checkpoint {path} is truncated, damaged or not a checkpoint at all; {_WAY_OUT}") from error
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
