"""A genotype from whatever a person names it by."""

from __future__ import annotations

from pathlib import Path

from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import from_string
from supernet.space.published import published, read_genotype


def find_genotype(name: str) -> Architecture:
    """From a genotype.json, a run directory, a text file with Genotype(...), that text itself, a cell as NAS-Bench-201
    writes it, or a published name."""
    if name.lstrip().startswith("|"):
        return from_string(name)
    path = Path(name)
    if "Genotype(" in name:
        return read_genotype(name).architecture()
    if path.is_dir():
        if not (path / "genotype.json").is_file():
            raise InputError(f"genotype={name}: no genotype.json in this folder; a run writes it after its search")
        return Architecture.load(path / "genotype.json")
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"genotype={name}: cannot be read ({type(error).__name__})") from None
        if text.lstrip().startswith("{"):
            return Architecture.from_json(text, origin=f"genotype={name}")
        return read_genotype(text).architecture()
    return published(name)
