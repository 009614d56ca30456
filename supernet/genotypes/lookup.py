"""Finds a genotype by any of the names that people have for one: a file, a run, a text, a published name."""

from __future__ import annotations

import logging
from pathlib import Path

from supernet.genotypes.literature import NAMES, published
from supernet.genotypes.parsing import count_genotypes, find_place, read_at
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file, is_folder, read_text
from supernet.runtime.text import printable, shortened
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import find_cells, from_string, is_cell

_LOG = logging.getLogger("supernet")
_LONGEST = 16 << 20  # bytes of a log or a genotypes.py


def find_genotype(genotype: str) -> Architecture:
    """Finds the genotype that a person names.

    Args:
        genotype: a genotype.json; a run directory; a text file (a log, a genotypes.py) with Genotype(...) or with a
            cell as NAS-Bench-201 writes it; FILE:NAME for one of several in a file; such a text itself; or a published
            name.

    Returns:
        The genotype. Where a file holds several without names it is the last, and a warning says so.

    Raises:
        InputError: it is none of these, in one line.

    Example:
        >>> cell = find_genotype("|nor_conv_3x3~0|+|none~0|skip_connect~1|")
        >>> cell.space, cell["cell/2/1"]
        ('nasbench201', ('skip_connect',))
        >>> find_genotype("darts_v2") == published("darts_v2")
        True
    """
    if is_folder(genotype):
        if not is_file(Path(genotype) / "genotype.json"):
            raise InputError(f"genotype={genotype}: no genotype.json in this folder; a run writes it after its search")
        inner = str(Path(genotype) / "genotype.json")
        return _read(inner, None, f"genotype={inner}")
    if is_file(genotype):
        return _read(genotype, None, f"genotype={genotype}")
    file, _, inside = genotype.rpartition(":")
    if file and is_file(file):
        return _read(file, inside, f"genotype={file}")
    if "Genotype" in genotype or is_cell(genotype):
        return _parse(genotype, None, "genotype")
    if genotype.lower() not in NAMES:
        names = ", ".join(NAMES)
        raise InputError(f"genotype={shortened(genotype)}: neither a file nor a published name; names: {names}")
    return published(genotype)


def _read(file: str, inside: str | None, where: str) -> Architecture:
    text = read_text(file, where, _LONGEST)
    if inside is None and text.lstrip().startswith("{"):
        return Architecture.from_json(text, origin=where)
    try:
        return _parse(text, inside, where)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _parse(text: str, inside: str | None, where: str) -> Architecture:
    """The genotype in a text. `inside` is the name of one of several, `where` names the text in a warning."""
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
