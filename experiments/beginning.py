"""What the networks of a job begin with: the cell that was given, and weights of a trained network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from supernet.data.dataset import Data
from supernet.deployment.bundle import NAME
from supernet.deployment.loading import load
from supernet.deployment.predictor import Predictor
from supernet.genotypes.lookup import find_genotype
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file, is_folder
from supernet.runtime.text import shortened
from supernet.space.architecture import Architecture
from supernet.training.transfer import Taken, Transfer

from .instantiate import build, named
from .records.summary import SUMMARY, write_json

INIT = "init.json"
_MOST = 1 << 22  # bytes of a summary
_PLAIN_NAME = re.compile(r"[\w-]+", re.ASCII)


def make_init(settings: dict[str, Any]) -> Transfer | None:
    """Makes the beginning of the settings; None: all weights are new."""
    made: Transfer | None = build(settings["init"], "init")
    return made


def normalised(data: Data, init: Transfer | None) -> Data:
    """The data with the donor's normalisation, where it is wanted."""
    if init is None:
        return data
    with named({"init": init}):
        return replace(data, augmentation=init.normalised(data.augmentation))


def seen_before(data: Data, init: Transfer | None) -> list[str]:
    """A line where the donor has learnt from data of the same name, of which other images were held out then."""
    if init is None or init.donor.provenance.get("data") != data.name:
        return []
    return [f"init: {init.name} has learnt from {data.name}: some images that validate here were among its own"]


def keep_init(directory: Path, name: str, init: Transfer, taken: Taken) -> None:
    """Writes what a network of this name has taken over, beside what the others of the job have."""
    path = directory / INIT
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["networks"]
    except (OSError, ValueError, LookupError, TypeError):
        known = {}
    used = {"init": init.name, "freeze": init.freeze, "rate": init.rate, "normalisation": init.normalisation}
    donor = {"donor": {"classes": list(init.donor.classes), "images": list(init.donor.shape), **init.donor.provenance}}
    write_json(path, {**used, **donor, "networks": {**dict(known), name: taken.to_json()}})


def given_cell(genotype: str) -> Architecture:
    """The cell that a person names: as for `find_genotype`, or that of a model, by its file or its name.

    Raises InputError where it is none of these.
    """
    if Path(genotype).suffix == Path(NAME).suffix and is_file(genotype):
        return _of_model(genotype)
    try:
        return find_genotype(genotype)
    except InputError:
        if not _PLAIN_NAME.fullmatch(genotype) or is_file(genotype) or is_folder(genotype):
            raise
        try:
            return _of_model(genotype)
        except InputError:
            pass
        raise


def _of_model(path: str) -> Architecture:
    with named({"genotype": None}):
        model = load(path)
    if not isinstance(model, Predictor):
        raise InputError(f"genotype={path}: an exported model has no cell; give the run that it was made from")
    return model.architecture


def origin_of(genotype: str | None, typed: str | None = None) -> dict[str, Any] | None:
    """Where a cell comes from that was given: its name, and the data on which a run has found it, where that is known.

    None where the cell was searched. `typed`: its name as a person gave it.
    """
    if not genotype:
        return None
    place = Path(genotype)
    folder = place if is_folder(genotype) else place.parent
    known = _summary(folder / SUMMARY) if is_folder(genotype) or place.name == "genotype.json" else {}
    kept = {name: known[name] for name in ("data", "method", "seed") if isinstance(known.get(name), str | int)}
    return {"given": shortened(typed or genotype), **kept}


def _summary(path: Path) -> dict[str, Any]:
    """What a run's summary says; nothing where it cannot be read: it is only told."""
    try:
        if path.stat().st_size > _MOST:
            return {}
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def cell_in_words(origin: dict[str, Any] | None) -> str:
    """What the table calls the cell: searched here, or given, and found on which data.

    Example:
        >>> cell_in_words(None), cell_in_words({"given": "darts_v2"})
        ('searched', 'darts_v2')
        >>> cell_in_words({"given": "runs/digits/1", "data": "digits", "seed": 0})
        'found on digits'
    """
    if origin is None:
        return "searched"
    return f"found on {origin['data']}" if "data" in origin else str(origin["given"])
