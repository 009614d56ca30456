"""A genotype from whatever a person names it by."""

from __future__ import annotations

import logging
from pathlib import Path

from supernet.genotypes.literature import published
from supernet.genotypes.parsing import count_genotypes, find_place, read_at
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file, is_folder, read_text
from supernet.runtime.text import printable
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import find_cells, from_string, is_cell

_LOG = logging.getLogger("supernet")
_LONGEST = 16 << 20  # bytes of a log or a genotypes.py


def find_genotype(name: str) -> Architecture:
    """The genotype that a person names.

    Args:
        name: a genotype.json; a run directory; a text file (a log, a genotypes.py) with Genotype(...) or with a cell as
            NAS-Bench-201 writes it; FILE:NAME for one of several in a file; such a text itself; or a published name.

    Returns:
        The genotype. Where a log holds several it is the last, which is said.

    Raises:
        InputError: one line, where it is none of these.
    """
    if is_folder(name):
        if not is_file(Path(name) / "genotype.json"):
            raise InputError(f"genotype={name}: no genotype.json in this folder; a run writes it after its search")
        return Architecture.load(Path(name) / "genotype.json")
    if is_file(name):
        return _read(name, None)
    file, _, inside = name.rpartition(":")
    if file and is_file(file):
        return _read(file, inside)
    if "Genotype" in name or is_cell(name):
        return _parse(name, None, "genotype")
    return published(name)


def _read(file: str, inside: str | None) -> Architecture:
    where = f"genotype={file}"
    text = read_text(file, where, _LONGEST)
    if inside is None and text.lstrip().startswith("{"):
        return Architecture.from_json(text, origin=where)
    try:
        return _parse(text, inside, where)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _parse(text: str, inside: str | None, where: str) -> Architecture:
    """From a text, where `inside` names one of several."""
    if inside is None and is_cell(text):
        return from_string(text)
    if inside is None and (cells := find_cells(text)) and not count_genotypes(text):
        _say_last(where, len(cells), text.count("\n", 0, cells[-1].start()) + 1)
        return from_string(cells[-1][0])
    place = find_place(text, inside)
    if inside is None:
        _say_last(where, count_genotypes(text), place.line)
    return read_at(text, place).architecture()


def _say_last(where: str, count: int, line: int) -> None:
    if count > 1:
        _LOG.warning("%s: holds %d genotypes; taken is the last, in line %d", printable(where), count, line)
