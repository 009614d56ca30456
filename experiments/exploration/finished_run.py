"""Takes over a finished run: its recorded settings, checked as `resume=` checks them, and its trained supernet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from supernet.estimation.scores import Score
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.runtime.reading import is_file
from supernet.runtime.run import Run
from supernet.search.progressive.restoring import Restored, restore_stages

from .. import command_line, resume
from ..job import Job, prepare
from ..limits import limits_of
from ..recorded_words import check_composed
from ..records.summary import SUMMARY
from ..schema import plain
from ..searching import named_parts
from .material import Material
from .words import search_path


def material_of(
    run: Path, words: Sequence[str], folders: Sequence[Path], given: Mapping[str, Any], interruption: Interruption
) -> Material:
    """Restores the run; nothing in it is changed.

    Args:
        run: its folder.
        words: of the command line, for the settings of the machine, and recorded ones that the person vouches for.
        folders: of settings of the user's own.
        given: `limits` and `costs` of the architectures that are tried, besides those of the run.
        interruption: of the explorations.

    Raises:
        InputError: the run is none, is not finished, searched nothing, or its directory could do harm.
    """
    settings = recorded_settings(run, words, folders)
    if settings["genotype"]:
        raise InputError(f"{run}: searched nothing (genotype=...), so that it has no supernet; give a run that did")
    job = prepare(settings, run, interruption)
    restored = _restored(job)
    final = job.final
    table: Score | None = job.table
    both: dict[str, Any] = {}
    for group in ("limits", "costs"):
        both[group] = {**settings[group], **{n: value for n, value in given[group].items() if value is not None}}
    limits = limits_of(both, final.space, final.shape, final.classes, final.factories)
    return Material(final.space, limits, final.shape, final.classes, table, final.factories, job, restored)


def recorded_settings(run: Path, words: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """The settings of a finished run, checked as `resume=` checks them.

    Args:
        run: its folder.
        words: of the command line, for the settings of the machine, and recorded ones that the person vouches for.
        folders: of settings of the user's own.

    Raises:
        InputError: the run is none, is not finished, or its directory could do harm.
    """
    flags = [f"--config-dir={folder}" for folder in folders]
    try:
        began = resume.start([f"resume={run}", *words, *flags])
    except InputError as error:
        raise InputError(str(error).removeprefix("resume=")) from None
    if "-m" in began.words:
        raise InputError(f"{run}: is a sweep; give one of its runs, such as {run / '0'}")
    if not is_file(run / SUMMARY):
        raise InputError(f"{run}: is not finished; supernet resume={run} goes on with it")
    recorded = [word for word in began.words if not word.startswith(("--", "hydra."))]
    try:
        with initialize_config_module("supernet.conf", version_base="1.3"):
            config = compose("config", overrides=[*recorded, *search_path(folders)])
        check_composed(config, began.typed, began.folders)
        return resume.for_the_parts(plain(config), began)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(f"{run}: {command_line.told(error)}") from None


def _restored(job: Job) -> Restored:
    assert job.divided.search is not None
    train, valid = (job.data.train.subset(half) for half in job.divided.search)

    def run_of(name: str) -> Run:
        return replace(job.template, checkpoint=job.directory / "checkpoints" / f"{name}.pt")

    with named_parts(job):
        return restore_stages(job.search, train, valid, job.data.augmentation, run_of=run_of, task=job.task)
