r"""Checks the recorded words of a run from elsewhere: plain values of known settings, options of known groups.

A recorded word is read as Hydra reads it, and what it *means* is judged, whatever its spelling (`$\{`, quotes, casts).
Everything that is not on the list below is refused:

- a key is a setting of ours or a dotted path below one, all parts of it plain names: none is Hydra's own (`_target_`);
- a value is a number, a truth, a text, null, or a list or mapping of those; its mappings have plain names, too;
- no text, at any depth, has an interpolation (`${...}`) in it: so nothing is left that OmegaConf would work out later;
- no text has control characters, with which Hydra's messages could write anything on a terminal (a pasted genotype has
  line ends);
- a group (data, method, ...), which a user's folder can make of any name, gets the name of an option, several, or
  a pattern of such names, and never a path.

A word that passes is written again where its spelling could be read in two ways. The composed settings are compared
with the yaml files and the typed words once more, before anything is made of them.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, Quote, QuotedString, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from supernet.runtime.errors import InputError

from .conversion import leaves
from .schema import GROUPS, Config

_NAME = re.compile(r"[A-Za-z0-9][\w-]*", re.ASCII)  # of a setting: none of Hydra's own begins so
_WORD = re.compile(r"[A-Za-z][\w-]*", re.ASCII)  # an option of a group, and a text that needs no quotes
_ONE_READING = re.compile(r"[~+]{0,2}[\w.]+(=[\w./+:, \[\]{}-]*)?", re.ASCII)  # no escape, quote, cast or "$"
_PATTERN = re.compile(r"[\w-]+=glob\([\w*?, \[\]=-]+\)", re.ASCII)  # options by a pattern of their names
_OPENS = re.compile(r"\$\\*\{")  # an interpolation, or one whose brace is escaped
_SETTINGS = {f.name for f in fields(Config)}
_LONGEST, _MOST_JOBS = 20_000, 10_000  # characters of a word (the grammar takes seconds for lists of such a length)


def parse(word: str) -> Override | None:
    """Parses a word of the command line as Hydra does; None where Hydra cannot."""
    try:
        return OverridesParser.create().parse_override(word)
    except (HydraException, RecursionError, ArithmeticError, ValueError, TypeError, AttributeError):
        return None


def check_word(word: str, *, swept: bool = False, folders: Iterable[Path] = ()) -> str | None:
    """Returns a recorded word in a form that is safe for Hydra; None if it could do more than set a plain value.

    `swept`: of a sweep, so that it may give several values. `folders`: those given with --config-dir, whose own
    folders Hydra takes for groups.
    """
    override = parse(word) if len(word) <= _LONGEST and "${" not in word else None
    if override is None or override.package is not None:
        return None
    key = override.key_or_group
    parts = key.split(".")
    if not all(_NAME.fullmatch(part) for part in parts) or parts[0] in ("hydra", "schema"):
        return None
    group = key in GROUPS or any((folder / key).is_dir() for folder in folders)
    if not group and parts[0] not in _SETTINGS:
        return None
    if group and swept and _PATTERN.fullmatch(word) and isinstance(override.value(), Glob):
        return word
    values = list(values_of(override))
    if override.is_sweep_override() and (not swept or not values):
        return None
    if len(values) > _MOST_JOBS or not all(map(_is_option if group else _is_plain, values)):
        return None
    allowed = "\n\r\t" if key == "genotype" else ""
    if any(_is_control(character) and character not in allowed for text in texts(values) for character in text):
        return None
    if _ONE_READING.fullmatch(word):
        return word
    written = override.get_key_element()
    if override.is_delete() and override.value_type is None:
        return written
    made = f"{written}={','.join(write(value) for value in values)}"
    again = parse(made)
    return made if again is not None and _same(list(values_of(again)), values) else None


def check_words(
    words: Iterable[str],
    typed: Collection[str],
    where: str,
    *,
    swept: bool = False,
    folders: Collection[Path] = (),
) -> list[str]:
    """The recorded `words` as they may go to Hydra. Raises InputError at one that is not plain and not `typed`, too."""
    checked = []
    for word in words:
        safe = word if word in typed else check_word(word, swept=swept, folders=folders)
        if safe is None:
            raise InputError(f"{where}: its recorded override {word!r} could run code; if you trust it, give it again")
        checked.append(safe)
    return checked


def check_composed(config: DictConfig, typed: Iterable[str], folders: Iterable[Path]) -> None:
    """Raises InputError where the settings name code or an interpolation that came from nowhere a person has chosen.

    What may be there: what stands in the package's own yaml files, in those of the `folders` given with --config-dir,
    and in the `typed` words.
    """
    known = {text for content in _yamls(folders) for text in texts(content)}
    for override in filter(None, map(parse, typed)):
        known |= set(texts(list(values_of(override))))
    for key, value in leaves(OmegaConf.to_container(config, resolve=False), lists=True):
        hidden = key.split(".")[-1] == "_target_" or (isinstance(value, str) and "${" in value)
        if hidden and value not in known:
            raise InputError(
                f"{key}={value}: this run's directory could run code with it; if you trust it, give it again"
            )


def write(value: Any) -> str:
    """Writes a plain value so that Hydra reads the same: the inverse of `_plain`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{write(item)}" for key, item in value.items()) + "}"
    if _WORD.fullmatch(value) and value.lower() not in ("null", "true", "false", "inf", "nan"):
        return str(value)
    return QuotedString(str(value), Quote.single).with_quotes()


def values_of(override: Override) -> Iterator[Any]:
    """The value that a word gives, or the several ones of a sweep; none where they are not the same every time."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        yield from () if value.shuffle else map(_plain, value.list)
    elif isinstance(value, RangeSweep):
        with contextlib.suppress(HydraException, ValueError, ArithmeticError):  # a range without steps has no values
            yield from () if value.shuffle else itertools.islice(value.range(), _MOST_JOBS + 1)
    else:
        yield _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {_plain(key): _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_key(key) and _is_plain(item) for key, item in value.items())
    return _OPENS.search(value) is None if isinstance(value, str) else type(value) in (int, float, bool, type(None))


def _is_key(key: Any) -> bool:
    """A name such as `keep`, or one of an edge such as `normal/2/0`: no part begins as those of Hydra do."""
    return isinstance(key, str) and all(_NAME.fullmatch(part) for part in re.split("[./]", key))


def _is_control(character: str) -> bool:
    """Whether a character controls a terminal, or cannot be written in UTF-8."""
    return unicodedata.category(character) in ("Cc", "Cs")


def _is_option(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) and _is_option(item) for item in value)
    return value is None or (isinstance(value, str) and _WORD.fullmatch(value) is not None)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(map(_same, one.values(), other.values()))
    return type(one) is type(other) and (one == other or (one != one and other != other))  # nan


def _yamls(folders: Iterable[Path]) -> Iterator[Any]:
    """What the yaml files of the package and of `folders` hold."""
    places: list[Path | Traversable] = [files("supernet.conf"), *(folder for folder in folders if folder.is_dir())]
    while places:
        for path in places.pop().iterdir():
            if path.is_dir():
                places.append(path)
            elif path.name.endswith((".yaml", ".yml")):
                with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):  # Hydra says so, if it is asked for
                    yield yaml.safe_load(path.read_text(encoding="utf-8"))


def texts(node: Any) -> Iterator[str]:
    """All texts in plain containers, keys left out."""
    for _, value in leaves(node, lists=True):
        if isinstance(value, str):
            yield value
