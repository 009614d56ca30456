"""Trained models that come with the library, by name. Nothing is downloaded.

`index.json` lists them: for each name its file, the file's SHA-256 and bytes, and its card. A card says what a person
should know before using a model: data, licence, split, how it was made, what it scored, and what it is not for.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file

FOLDER = Path(__file__).parent
INDEX = "index.json"
_ENDINGS = (".safetensors", ".onnx", ".pt2", ".pt", ".pth")


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Args:
        name: by which it is loaded.
        file: the name of its file, in the folder of the zoo.
        sha256: of the file, in hexadecimal.
        bytes: the size of the file.
        card: what a person should know before using it, plain values by name.
    """

    name: str
    file: str
    sha256: str
    bytes: int
    card: Mapping[str, Any]


@cache
def entries(folder: Path = FOLDER) -> Mapping[str, Entry]:
    """Reads the index of a zoo.

    Args:
        folder: of the zoo; that of the library, where none is given.

    Returns:
        The models by name; none where there is no index.

    Raises:
        InputError: the index is damaged.

    Example:
        >>> entries()["digits"].card["licence"]
        'CC BY 4.0'
    """
    path = folder / INDEX
    if not is_file(path):
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        found = {name: Entry(name, **values) for name, values in read.items()}
        if any(Path(entry.file).name != entry.file for entry in found.values()):
            raise ValueError("a file of another folder")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({type(error).__name__}); install supernet again") from None
    return found


def looks_like_a_name(text: str) -> bool:
    """Whether a text is no path, but might be the name of a model: no folder in it, and no ending of a file.

    Example:
        >>> looks_like_a_name("bccd"), looks_like_a_name("runs/bccd"), looks_like_a_name("bccd.safetensors")
        (True, False, False)
    """
    return bool(text) and Path(text).name == text and not text.lower().endswith(_ENDINGS) and not text.startswith(".")


def file_of_model(name: str, folder: Path = FOLDER) -> Path:
    """Finds the file of a model and checks that it is the one that the index means.

    Args:
        name: of the model.
        folder: of the zoo; that of the library, where none is given.

    Returns:
        The file.

    Raises:
        InputError: there is no model of this name, or its file is damaged.

    Example:
        >>> file_of_model("digits").name
        'digits.safetensors'
    """
    known = entries(folder)
    if name not in known:
        raise InputError(unknown(name, folder))
    path = folder / known[name].file
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{name}: its file {path} cannot be read ({error.strerror}); install supernet again") from None
    if hashlib.sha256(raw).hexdigest() != known[name].sha256:
        raise InputError(f"{name}: its file {path} is not the one of the index; install supernet again")
    return path


def unknown(name: str, folder: Path = FOLDER) -> str:
    """The line about a name that no model has: names that are close, and all that there are.

    Example:
        >>> print(unknown("didgits").partition(";")[2].partition("?")[0])
         did you mean digits
    """
    known = list(entries(folder))
    close = difflib.get_close_matches(name.lower(), known, 3, 0.5)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return (
        f"{name[:80]}: no such model; {meant}give a name ({', '.join(known) or 'there are none'}), "
        "a model.safetensors file or the directory of a finished run"
    )
