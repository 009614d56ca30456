"""The main job: search, discretise, retrain from scratch, test once, keep the model.

supernet                          (or: python -m experiments.pipeline)
supernet experiment=quick         in seconds
supernet retrain=none             only the search
supernet -m seed=0,1,2            a sweep
supernet resume=RUN_DIR           go on with an interrupted run or sweep
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from supernet import __version__
from supernet.deployment.bundle import NAME
from supernet.genotypes.blocks import save_blocks
from supernet.genotypes.drawing import save_drawings
from supernet.runtime.errors import InputError, out_of_memory
from supernet.runtime.files import disk_fault
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.processes import ALONE, Processes, is_loss
from supernet.runtime.tensorboard import hparams, told_once
from supernet.runtime.text import printable, quantity, shortened
from supernet.space.architecture import Architecture

from . import clinical_report, detection_report, launching, resume, sweeping
from . import command_line as words
from .beginning import INIT, cell_in_words, given_cell, seen_before
from .console import complain, reader_may_stop, say
from .conversion import leaves
from .finishing import complete, describe, look_up, summary_head, untrained_network
from .job import Job, check_limits, prepare, random_cell
from .limits import check_cost_files, cost_files
from .measuring import tell_time
from .recorded_words import check_composed
from .records.environment import environment
from .records.provenance import Invocation, timed
from .records.summary import ENVIRONMENT, SCRATCH, SUMMARY, Finalist, show_next, show_table, summarise, write_json
from .reports.sweep import conclude
from .resume import Start
from .retraining import beside, check_init, keep_model, retrain, test_once
from .rivals import check_workers, train_all
from .run_folder import take_back
from .schema import plain
from .searching import check_search, search_cell, search_name

_UNASKED, _TYPED = Invocation(), Start([])
_PAGES = (clinical_report.PAGE, detection_report.PAGE)
_MADE = (NAME, INIT, "genotype.json", "genotype.svg", "summary.json", *_PAGES, "supernet.log", "tb")
_LOG = logging.getLogger("supernet")
_FULL = "the memory is full; lower data.size (an image's height and width), search.batch_size or retrain.batch_size"


@sweeping.reservations()
def main() -> None:
    """Runs the command `supernet`. A mistake of the user is reported in one line, with exit code 2."""
    logging.raiseExceptions = False  # a log that a full disk does not take is no reason for tracebacks
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors over, instead of printing several lines and leaving
    try:
        typed, into = resume.automatic(launching.words_of_all(sys.argv[1:]))
        given = words.prepared(typed)
        if given == ["--version"]:
            print(f"supernet {__version__}")
            return
        if (done := resume.finished(given)) is not None:
            say(f"{done} is finished already; its figures are in {done / SUMMARY}")
            return
        began = resume.start(given, into or launching.folder_of_another(typed))
        sys.argv[1:] = [*began.words, *launching.silent_words()]
        words.check_options(began.words, began.folders)
        if words.LAPTOP in given and words.LAPTOP not in typed and not words.only_looks(given):
            say(f"supernet: {words.LAPTOP}, as no experiment was chosen: the default's network is made for the digits")
        with reader_may_stop(), told_once():
            if (used := began.directory or began.into) is not None and launching.leads():
                used.mkdir(parents=True, exist_ok=True)
                sweeping.reserve(used)
            _hydra_main(began)
    except (InputError, HydraException, OmegaConfBaseException) as error:
        complain(str(error) if isinstance(error, InputError) else words.told(error))
        sys.exit(2)
    except KeyboardInterrupt:  # before a job minds signals, or the second one
        stop = Interrupted(sweeping.stopped() or signal.SIGINT)
        sweep = sweeping.begun()
        submitted = "; what a scheduler runs goes on. Go on with: "
        complain(f"{stop}{submitted}{resume.command(sweep, sys.argv[1:])}" if sweep is not None else str(stop))
        sys.exit(stop.exit_code)


def _hydra_main(began: Start) -> None:
    @hydra.main(version_base="1.3", config_path="pkg://supernet.conf", config_name="config")
    def job(config: DictConfig) -> float | None:  # a launcher may send it to another process: nothing here is held
        of_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        directory = Path(HydraConfig.get().runtime.output_dir)
        whole = Path(HydraConfig.get().sweep.dir).absolute() if of_sweep else directory
        again = resume.command(whole, began.words)
        elsewhere = of_sweep and sweeping.works_for(whole)
        if of_sweep and (directory / SUMMARY).exists():  # of a sweep that goes on
            say(f"supernet: job {directory.name} is finished already")
            return math.nan
        if elsewhere and sweeping.stopped():
            return math.nan
        try:
            if not of_sweep and launching.leads():
                sweeping.reserve(directory)
            if began.directory is not None:
                if not directory.resolve().is_relative_to(whole.resolve()):
                    raise InputError(f"{directory}: lies outside {whole}; resume its jobs one by one")
                check_composed(config, began.typed, began.folders)
            tell = partial(_tell, directory=directory, whole=whole, again=again)
            return _run(_part(config, directory, began, tell), elsewhere)
        except Interrupted as error:
            _stop(error, directory, again, elsewhere)
        except Exception as error:
            code = _tell(error, directory, whole, again, may_raise=not of_sweep)
            own = began.directory is None and not of_sweep and sweeping.has_reserved(whole)  # begun here, and locked
            if own and isinstance(error, InputError | HydraException | OmegaConfBaseException | launching.Mistaken):
                take_back(directory)
            if not of_sweep:  # a sweep goes on with its other jobs; its table tells of this one at the end
                sys.exit(code)
        return math.nan

    try:
        job()
    except (InputError, HydraException, OmegaConfBaseException):
        raise
    except Exception as error:  # of what runs a sweep's jobs, such as a process of it that was killed
        if (sweep := sweeping.begun()) is None:
            raise
        conclude(sweep, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0].rstrip('.')}")


def _part(config: DictConfig, directory: Path, began: Start, tell: Any) -> launching.Part:
    """The job of these settings, for as many processes as run it."""
    hydra_config = HydraConfig.get()
    asked = Invocation(dict(hydra_config.runtime.choices), tuple(hydra_config.overrides.task))
    lead = partial(pipeline, yaml=OmegaConf.to_yaml(config), asked=asked, began=began)
    return launching.Part(plain(config), directory, lead, partial(follow, began=began), tell)


def _run(part: launching.Part, elsewhere: bool) -> float | None:
    """Runs a job in this process, or in as many as its settings say."""
    holds: AbstractContextManager[None] = nullcontext()
    if launching.leads():
        holds = sweeping.reserved(part.directory)
    with holds:
        if (count := launching.wanted(part.settings["runtime"])) > 1:
            return launching.launch(count, part)
        with Interruption(sweeping.left_alone() if elsewhere else ()) as interruption:
            return launching.take_part(part, interruption)


def _stop(error: Interrupted, directory: Path, again: str, elsewhere: bool) -> None:
    """Ends this process after a signal; one in which a launcher runs jobs says so and lives on."""
    if elsewhere:
        _fail(f"job {directory.name} {error}; all is saved")
        sweeping.pass_on(error)
        return
    if launching.leads():
        _fail(f"{error}; all is saved. Go on with: {again}")
    sys.exit(error.exit_code)


def _tell(error: Exception, directory: Path, whole: Path, again: str, *, may_raise: bool = False) -> int:
    """Tells the user of a job's error, and returns the exit code. One of our own is raised, or goes to the log."""
    code = _explain(error, whole, again)
    if code is None and may_raise:
        raise error
    if code is None:
        _LOG.error("the job failed", exc_info=error)
        _fail(f"{type(error).__name__}: {error}; see {directory / 'supernet.log'}")
    return code or 1


def _explain(error: Exception, directory: Path, again: str) -> int | None:
    """Tells the user what to do about an error and returns the exit code; None where the error is of another kind.

    `directory` is that of the run or sweep, `again` the command that goes on with it.
    """
    if isinstance(error, launching.Ended):  # of it another process has told
        return error.code
    if isinstance(error, launching.Lost) or is_loss(error):
        _fail(f"{launching.loss_in_words(error)}; the last checkpoint is whole. Go on with: {again}")
        return 1
    if isinstance(error, InputError):
        _fail(str(error))
    elif isinstance(error, HydraException | OmegaConfBaseException):
        _fail(words.told(error))
    elif isinstance(error, torch.cuda.OutOfMemoryError):
        _fail("the GPU's memory is full; lower search.batch_size or retrain.batch_size")
    elif out_of_memory(error):
        _fail(_FULL)
    elif reason := disk_fault(error):
        _fail(f"{reason}; the last checkpoint is whole. Make room, then: {again}")
    elif isinstance(error, FileNotFoundError) and not directory.exists():
        _fail(f"{directory}: was removed while the job was at work in it; nothing is left to go on with")
    elif isinstance(error, FileNotFoundError) and _inside(error, directory):
        _fail(f"{error.filename}: was removed while the job was at work; what is left goes on with: {again}")
    elif isinstance(error, OSError) and _inside(error, directory):  # a folder in the place of a file
        _fail(f"{error.filename}: cannot be used ({error.strerror}); remove it, then: {again}")
    else:
        return None
    return 2


def _inside(error: OSError, directory: Path) -> bool:
    return Path(os.path.abspath(str(error.filename))).is_relative_to(directory.absolute())


def _fail(message: str) -> None:
    _LOG.error(printable(message))
    complain(message)


def pipeline(
    settings: dict[str, Any],
    directory: Path,
    interruption: Interruption,
    yaml: str = "",
    asked: Invocation = _UNASKED,
    began: Start = _TYPED,
    processes: Processes = ALONE,
) -> float | None:
    """Runs the job in `directory` and returns the found cell's validation accuracy, the objective of a sweep.

    None where no network was trained or no images were held out to validate. Of several processes the leader calls it,
    and the others `follow`.
    """
    own = resume.for_the_parts(settings, began)
    job = prepare(own, directory, interruption, processes)
    _note_start(job, began)
    check_search(job)
    check_workers(job)
    clinical_report.check(job)
    if not own["genotype"]:
        check_init(job)
    say(f"supernet: {job.data.name}, seed {job.seed}, on {job.device}, in {directory}", job.console)
    for line in [*job.data.reading.lines(), *seen_before(job.data, job.init)]:
        say(line, job.console)
    if own["genotype"]:
        found = _given(job)
        tell_time(job, found)
    else:
        with timed(directory, "search"):
            found = search_cell(job, yaml)
    found.save(directory / "genotype.json")
    save_drawings(found, directory) or save_blocks(untrained_network(job, found), directory)
    cells = _cells(job, found)
    truths = look_up(job, cells)  # before the training: a table may lack a cell
    untrained = job.retrain_recipe is None
    finalists = [describe(job, *cell) for cell in cells.items()] if untrained else _finals(job, cells, own)
    finalists = complete(job, cells, truths, finalists)
    head = summary_head(job, settings, asked, finalists[0])
    last = search_name(job, len(job.search.stages) - 1)
    hparams(directory / "tb" / (last if untrained else "retrain"), _flat(job.settings), _metrics(finalists[0]))
    summarise(directory, finalists, head)
    names = {"cell": cell_in_words(head["cell"]), "begun": head["init"] or ""}
    show_table(job.console, finalists, head["table_best"], job.task.score, beside(job), **names)
    show_next(job.console, directory, _MADE)
    return finalists[0].valid_score


def follow(
    settings: dict[str, Any], directory: Path, interruption: Interruption, processes: Processes, began: Start = _TYPED
) -> None:
    """The part of a process that does not lead: it searches and trains with the others, and writes nothing."""
    job = prepare(resume.for_the_parts(settings, began), directory, interruption, processes)
    found = _given(job) if job.settings["genotype"] else search_cell(job, "")
    for name, cell in _cells(job, found).items() if job.retrain_recipe is not None else ():
        retrain(job, name, cell)


def _given(job: Job) -> Architecture:
    """The cell that the settings name. Raises InputError where it is of another space, or costs too much."""
    name = job.settings["genotype"]
    found = given_cell(name)
    if found.space != job.space.name:
        raise InputError(
            f"genotype={shortened(name)}: is of space {found.space!r}, and space=... is of {job.space.name!r}; choose "
            "the space that it answers"
        )
    check_limits(job, found)
    return found


def _cells(job: Job, found: Architecture) -> dict[str, Architecture]:
    """The cells whose networks are compared, in the order in which they are trained."""
    baseline = job.settings["baseline"]
    rivals = {f"random {n}": random_cell(job, n) for n in range(baseline["random"])}
    anew = {SCRATCH: found} if job.init is not None and baseline["scratch"] else {}
    return {"searched": found, **anew, **rivals}


def _note_start(job: Job, began: Start) -> None:
    """Writes where and with what the job starts; a line where that is not how it started before."""
    path = job.directory / ENVIRONMENT
    now = {
        **environment(job.device),
        "processes": job.processes.count,
        "folder": str(began.origin or Path.cwd()),
        "tables": cost_files(job.settings["costs"]),
    }
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            before, tables = known["threads"], dict(known.get("tables") or now["tables"])
            devices = int(known.get("processes", 1))
        except (OSError, ValueError, LookupError, TypeError):
            say(f"supernet: {path} could not be read and is written anew", job.console)
        else:
            check_cost_files(job.settings["costs"], job.directory, tables)
            if devices != job.processes.count:
                begun = f"begun in {quantity(devices, 'process', 'processes')}, now {job.processes.count}"
                say(f"supernet: {begun}: figures will differ from those of one piece", job.console)
            elif before != now["threads"]:
                say(
                    f"supernet: begun with runtime.threads={before}, now {now['threads']}: figures will differ in "
                    f"their last digits from those of one piece; runtime.threads={before} keeps them the same",
                    job.console,
                )
    write_json(path, now)


def _finals(job: Job, cells: Mapping[str, Architecture], own: Mapping[str, Any]) -> list[Finalist]:
    """Trains the network of each cell in the same way, tests all of them once and keeps the searched one's model."""
    trained = train_all(job, cells, settings=own)
    finalists = test_once(job, trained)
    if reports := clinical_report.write_reports(job, trained):
        clinical_report.show(job.console, reports)
    keep_model(job, trained["searched"][0], cells["searched"], finalists[0], reports.get("searched"))
    return finalists


def _flat(settings: Mapping[str, Any]) -> dict[str, str | float | int | bool]:
    """Settings as one level of names, for TensorBoard's table; a class stands at the name of its group."""
    flat: dict[str, str | float | int | bool] = {}
    for key, value in leaves(settings):
        group, _, name = key.rpartition(".")
        if name == "_target_":
            flat[group] = str(value).rsplit(".", 1)[-1]
        elif name != "_partial_":
            flat[key] = value if isinstance(value, str | float | int | bool) else str(value)
    return flat


def _metrics(finalist: Finalist) -> dict[str, float]:
    scores = {"hparam/validation_score": finalist.valid_score, "hparam/test_score": finalist.test_score}
    scores |= {f"hparam/{column}": value for column, value in finalist.table.items()}
    return {name: value for name, value in scores.items() if value is not None}


if __name__ == "__main__":
    main()
