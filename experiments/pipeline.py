"""The main job: search, discretise, retrain from scratch, test once, keep the model.

supernet                          (or: python -m experiments.pipeline)
supernet experiment=quick         in seconds
supernet retrain=none             only the search
supernet -m seed=0,1,2            a sweep
supernet resume=RUN_DIR           go on with an interrupted run
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from supernet.runtime.errors import InputError, out_of_memory
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.tensorboard import hparams
from supernet.space.architecture import Architecture
from supernet.space.drawing import save_drawings
from supernet.training.bundle import NAME

from . import resume
from .config import check_options, plain
from .facts import Asked, complete, describe, facts, look_up, timed
from .genotypes import find_genotype
from .legs import check_legs, leg_name, search_cell
from .stages import Job, balanced, keep_model, prepare, random_cell, retrain, test_once
from .summary import Finalist, show_next, show_table, summarise

_UNASKED = Asked()
_LOG = logging.getLogger("supernet")
_FULL = "the memory is full; lower data.size (an image's height and width), search.batch_size or retrain.batch_size"


def main() -> None:
    """The console command. Mistakes of the person at the keyboard are one line and exit code 2."""
    console = Console(stderr=True)
    try:
        if (done := resume.finished(sys.argv[1:])) is not None:
            Console().print(f"{done} is finished already; its figures are in {done / resume.SUMMARY}", soft_wrap=True)
            return
        sys.argv[1:] = resume.arguments(sys.argv[1:])
        check_options(sys.argv[1:])
    except InputError as error:
        console.print(f"supernet: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    _hydra_main()


@hydra.main(version_base="1.3", config_path="pkg://supernet.conf", config_name="config")
def _hydra_main(config: DictConfig) -> float | None:
    directory = Path(HydraConfig.get().runtime.output_dir)
    sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
    console = Console(stderr=True)

    def complain(message: str, code: int) -> None:
        _LOG.error(message)
        console.print(f"supernet: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
        if not sweeping:  # a sweep goes on with its other jobs; its table tells of this one at the end
            sys.exit(code)

    try:
        with Interruption() as interruption:
            hydra_config = HydraConfig.get()
            asked = Asked(dict(hydra_config.runtime.choices), tuple(hydra_config.overrides.task))
            return pipeline(plain(config), directory, interruption, OmegaConf.to_yaml(config), asked)
    except InputError as error:
        complain(str(error), 2)
    except Interrupted as error:
        complain(f"{error}; all is saved. Go on with: {resume.command(directory, sys.argv[1:])}", error.exit_code)
        sys.exit(error.exit_code)
    except torch.cuda.OutOfMemoryError:
        complain("the GPU's memory is full; lower search.batch_size or retrain.batch_size", 2)
    except Exception as error:
        if out_of_memory(error):
            complain(_FULL, 2)
            return math.nan
        if not sweeping:
            raise
        _LOG.exception("the job failed")
        complain(f"{type(error).__name__}: {error}; see {directory / 'supernet.log'}", 1)
    return math.nan


def pipeline(
    settings: dict[str, Any], directory: Path, interruption: Interruption, yaml: str = "", asked: Asked = _UNASKED
) -> float | None:
    """Runs the job in `directory` and returns the found cell's validation accuracy, the objective of a sweep.

    None where no network was trained or no images were held out to validate.
    """
    job = prepare(settings, directory, interruption)
    check_legs(job)
    job.console.print(f"supernet: {job.data.name}, seed {job.seed}, on {job.device}, in {directory}", soft_wrap=True)
    for line in job.data.reading.lines():
        job.console.print(line, markup=False, highlight=False, soft_wrap=True)
    if settings["genotype"]:
        found = find_genotype(settings["genotype"])
    else:
        with timed(directory, "search"):
            found = search_cell(job, yaml)
    found.save(directory / "genotype.json")
    save_drawings(found, directory)
    rivals = {f"random {n}": random_cell(job, n) for n in range(settings["baseline"]["random"])}
    cells = {"searched": found, **rivals}
    truths = look_up(job, cells)  # before the training: a table may lack a cell
    untrained = job.retrain_recipe is None
    finalists = [describe(job, *cell) for cell in cells.items()] if untrained else _finals(job, cells)
    finalists = complete(job, cells, truths, finalists)
    head = facts(job, settings, asked, finalists[0])
    last = leg_name(job, len(job.legs) - 1)
    hparams(directory / "tb" / (last if untrained else "retrain"), _flat({**job.settings}), _metrics(finalists[0]))
    summarise(directory, finalists, head)
    show_table(job.console, finalists, head["table_best"], balanced(job.data))
    show_next(job.console, directory, [NAME, "genotype.json", "genotype.svg", "summary.json", "supernet.log", "tb"])
    return finalists[0].valid_accuracy


def _finals(job: Job, cells: Mapping[str, Architecture]) -> list[Finalist]:
    """Trains the network of each cell in the same way, tests all of them once and keeps the searched one's model."""
    trained = {}
    for name, cell in cells.items():
        with timed(job.directory, name):
            trained[name] = retrain(job, name, cell)
    finalists = test_once(job, trained)
    keep_model(job, trained["searched"][0], cells["searched"], finalists[0])
    return finalists


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, str | float | int | bool]:
    """Settings as one level of names, for TensorBoard's table."""
    flat: dict[str, str | float | int | bool] = {}
    for key, value in settings.items():
        if key == "_target_":
            flat[prefix.removesuffix(".")] = str(value).rsplit(".", 1)[-1]
        elif key == "_partial_":
            continue
        elif isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str | float | int | bool) else str(value)
    return flat


def _metrics(finalist: Finalist) -> dict[str, float]:
    scores = {"hparam/validation_accuracy": finalist.valid_accuracy, "hparam/test_accuracy": finalist.test_accuracy}
    scores |= {f"hparam/{column}": value for column, value in finalist.table.items()}
    return {name: value for name, value in scores.items() if value is not None}


if __name__ == "__main__":
    main()
