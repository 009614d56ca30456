"""Takes over a finished run: its recorded settings, checked as `resume=` checks them, and its trained supernet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from ..console import complain
from ..conversion import leaves
from ..job import Job, prepare
from ..latencies import LATENCY, latencies_of
from ..limits import limits_of
from ..recorded_words import check_composed
from ..records.summary import SUMMARY
from ..schema import plain
from ..searching import named_parts
from .material import Material
from .words import search_path


@dataclass(frozen=True)
class Times:
    """What the run's file of measured times is for, where no other one is given in its place.

    Args:
        needed: nothing can be done without it.
        spared: a limit that needs it is left out with a line where it cannot be read; else it is needed for a limit,
            too, and without one it is not read.
        way_out: what a person does who has it no more.
    """

    needed: bool
    spared: bool
    way_out: str


def material_of(
    run: Path,
    words: Sequence[str],
    folders: Sequence[Path],
    given: Mapping[str, Any],
    interruption: Interruption,
    times: Times,
) -> Material:
    """Restores the run; nothing in it is changed.

    Args:
        run: its folder.
        words: of the command line, for the settings of the machine, and recorded ones that the person vouches for.
        folders: of settings of the user's own.
        given: `limits` and `costs` of the architectures that are tried, besides those of the run.
        interruption: of the explorations.
        times: what the run's measured times are for.

    Raises:
        InputError: the run is none, is not finished, searched nothing, or its directory could do harm; or its measured
            times are needed and cannot be read.
    """
    recorded = recorded_settings(run, words, folders)
    if recorded["genotype"]:
        raise InputError(f"{run}: searched nothing (genotype=...), so that it has no supernet; give a run that did")
    settings = _with_times(recorded, given, times)
    job = _as_recorded(prepare(settings, run, interruption), recorded)
    restored = _restored(job)
    final = job.final
    table: Score | None = job.table
    both = dict[str, Any]()
    for group in ("limits", "costs"):
        both[group] = {**settings[group], **{n: value for n, value in given[group].items() if value is not None}}
    limits = limits_of(both, final.space, final.shape, final.outputs, final.factories)
    return Material(final.space, limits, final.shape, final.outputs, table, final.factories, job, restored)


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


def _with_times(settings: dict[str, Any], given: Mapping[str, Any], times: Times) -> dict[str, Any]:
    """The run's settings with the measured times that are given, or without any where it can do without them."""
    costs, limits = settings["costs"], settings["limits"]
    if (other := given["costs"].get(LATENCY)) is not None:
        return {**settings, "costs": {**costs, LATENCY: other}}
    if not isinstance(costs.get(LATENCY), str):
        return settings
    limit = limits.get(LATENCY)
    limited = any(each is not None for each in (limit, given["limits"].get(LATENCY)))
    needed = times.needed or LATENCY in (value for _, value in leaves(settings["strategy"]))  # such as for its reward
    without = {**settings, "costs": {**costs, LATENCY: None}, "limits": {**limits, LATENCY: None}}
    if not (needed or times.spared or limited):
        return without
    try:
        latencies_of(Path(costs[LATENCY]))
    except InputError as error:
        if needed or not times.spared:
            raise InputError(f"costs.{error}; {times.way_out}") from None
        unkept = "" if limit is None else f", and the run's limits.{LATENCY}={limit:g} is not kept"
        complain(f"costs.{error}, so that no milliseconds are shown{unkept}; {times.way_out}")
        return without
    return settings


def _as_recorded(job: Job, recorded: Mapping[str, Any]) -> Job:
    """The job under the fingerprint that the run had, whatever stands in for its measured times."""
    node, limit = recorded["costs"].get(LATENCY), recorded["limits"].get(LATENCY)
    replaced = (f"costs.{LATENCY}.", f"limits.{LATENCY}.")
    kept = {name: v for name, v in job.template.fingerprint.items() if not f"{name}.".startswith(replaced)}
    own = {
        **({} if limit is None else {"limits": {LATENCY: limit}}),
        **({"costs": {LATENCY: node}} if isinstance(node, dict) else {}),
    }
    fingerprint = kept | {name: str(value) for name, value in leaves(own)}
    return replace(job, template=replace(job.template, fingerprint=fingerprint))


def _restored(job: Job) -> Restored:
    assert job.divided.search is not None
    train, valid = (job.data.train.subset(half) for half in job.divided.search)

    def run_of(name: str) -> Run:
        return replace(job.template, checkpoint=job.directory / "checkpoints" / f"{name}.pt")

    with named_parts(job):
        return restore_stages(job.search, train, valid, job.data.augmentation, run_of=run_of, task=job.task)
