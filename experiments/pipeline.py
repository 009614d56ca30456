"""The main job: search, discretise, retrain from scratch, test once, keep the model.

supernet                          (or: python -m experiments.pipeline)
supernet experiment=quick         in seconds
supernet -m seed=0,1,2            a sweep
supernet resume=RUN_DIR           go on with an interrupted run
"""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.tensorboard import hparams
from supernet.space.drawing import save_drawings
from supernet.training.bundle import NAME

from . import resume
from .config import check_options, plain
from .genotypes import find_genotype
from .legs import search_cell
from .stages import keep_model, prepare, random_cell, retrain, test_once
from .summary import Finalist, show_next, show_table, summarise

_LOG = logging.getLogger("supernet")


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
            return pipeline(plain(config), directory, interruption, yaml=OmegaConf.to_yaml(config))
    except InputError as error:
        complain(str(error), 2)
    except Interrupted as error:
        complain(f"{error}; all is saved. Go on with: {resume.command(directory, sys.argv[1:])}", error.exit_code)
        sys.exit(error.exit_code)
    except torch.cuda.OutOfMemoryError:
        complain("the GPU's memory is full; lower search.batch_size or retrain.batch_size", 2)
    except Exception as error:
        if not sweeping:
            raise
        _LOG.exception("the job failed")
        complain(f"{type(error).__name__}: {error}; see {directory / 'supernet.log'}", 1)
    return math.nan


def pipeline(settings: dict[str, Any], directory: Path, interruption: Interruption, yaml: str = "") -> float | None:
    """Runs the job in `directory` and returns the found cell's validation accuracy, the objective of a sweep."""
    job = prepare(settings, directory, interruption)
    job.console.print(f"supernet: {job.data.name}, seed {job.seed}, on {job.device}, in {directory}", soft_wrap=True)
    found = find_genotype(settings["genotype"]) if settings["genotype"] else search_cell(job, yaml)
    found.save(directory / "genotype.json")
    save_drawings(found, directory)
    rivals = {f"random {n}": random_cell(job, n) for n in range(settings["baseline"]["random"])}
    trained = {name: retrain(job, name, cell) for name, cell in {"searched": found, **rivals}.items()}
    finalists = test_once(job, trained)
    network, _ = trained["searched"]
    keep_model(job, network, found, finalists[0])
    hparams(directory / "tb" / "retrain", _flat(settings), _metrics(finalists[0]))
    summarise(directory, finalists, {"name": settings["name"], "seed": job.seed, "data": job.data.name})
    show_table(job.console, finalists)
    show_next(job.console, directory, [NAME, "genotype.json", "genotype.svg", "summary.json", "supernet.log", "tb"])
    return finalists[0].valid_accuracy


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
    return {name: value for name, value in scores.items() if value is not None}


if __name__ == "__main__":
    main()
