"""Takes over a trained network and its images for an export, and compares what was written with the original."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from supernet.data.dataset import Data
from supernet.deployment.bundle import NAME
from supernet.deployment.exporting import check_exportable
from supernet.deployment.loading import load_network
from supernet.deployment.predictor import Predictor
from supernet.estimation.latency.timing import Stopwatch, rounds
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_file, is_folder
from supernet.runtime.text import quantity
from supernet.space.operations import OPERATIONS
from supernet.training.evaluation import evaluate_probabilities
from supernet.training.tasks import Task, implied

from . import command_line
from .exploration.finished_run import recorded_settings
from .exploration.words import search_path
from .instantiate import build
from .job import make_task, own_operations
from .records.markdown import is_share
from .schema import plain

ROUNDS = 30
_SCORE_LOST = 0.005  # of which a line speaks
_SECONDS = 20.0  # that the rounds may take
_OWN = ("data", "operations", "space")  # settings that a file without a run may need


@dataclass(frozen=True)
class Trained:
    """A trained network and its images.

    Args:
        model: of PyTorch, on the processor.
        data: its images; None where there are none.
        task: by whose score it is judged: that of the run, or what the images imply; None where there are none.
        without: why there are none; "" where there are.
        name: of its file without an ending.
        folder: where an export goes, unless the person says otherwise.
    """

    model: Predictor
    data: Data | None
    task: Task | None
    without: str
    name: str
    folder: Path


def trained(place: Path, words: Sequence[str], folders: Sequence[Path]) -> Trained:
    """Loads a model and its images.

    Args:
        place: the directory of a finished run, whose settings say the images, or a model.safetensors.
        words: of the command line: for a run those that `recorded_settings` takes, for a file data=..., and what says
            the operations and the space of one's own.
        folders: of settings of the user's own.

    Raises:
        InputError: there is no model, or one that cannot be exported; or the images that were typed cannot be read. A
            run's images may be gone.
    """
    run = is_folder(place)
    if run and not is_file(place / NAME):
        raise InputError(f"{place}: has no {NAME}; only a run that trained its network (not retrain=none) has one")
    if run:
        settings = recorded_settings(place, words, folders)
        own = _own_parts(settings, operations=True, space=True)
    else:
        settings = _composed(words, folders)
        typed = {word.lstrip("+").partition("=")[0].split(".")[0] for word in words}
        own = _own_parts(settings, operations="operations" in typed, space="space" in typed)
    model = load_network(place, **own)
    check_exportable(model)  # before images are asked for
    data, task, without = None, None, "give its images as data=..., such as data=digits"
    if run or any(word.startswith("data") for word in words):
        try:
            data, without = _fitting(build(settings["data"], "data"), model), ""
            task = make_task(settings, data) if run else implied(data)
        except InputError as error:
            if not run:
                raise
            without = f"{error}; {place / NAME} with data=... and data.path=... takes them from somewhere else"
    return Trained(model, data, task, without, Path(NAME).stem if run else place.stem, place if run else place.parent)


def _own_parts(settings: Mapping[str, Any], *, operations: bool, space: bool) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if operations:
        parts["factories"] = {**OPERATIONS, **own_operations(settings["operations"])}
    if space:
        parts["space"] = type(build(settings["space"], "space"))
    return parts


def _composed(words: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    for word in words:
        key, equals, _ = word.lstrip("+").partition("=")
        if not equals or key.split(".")[0] not in _OWN:
            raise InputError(f"{word}: a file takes the settings {', '.join(_OWN)}, written key=value; see --help")
    given = [command_line.readable(word) for word in words]
    command_line.check_names(given, tuple(folders))
    command_line.check_options(given, folders)
    try:
        with initialize_config_module("supernet.conf", version_base="1.3"):
            return plain(compose("config", overrides=[*given, *search_path(folders)]))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(command_line.told(error)) from None


def _fitting(data: Any, model: Predictor) -> Data:
    if data.shape != model.shape or data.classes != model.classes:
        of = f"{quantity(len(model.classes), 'class')} and images {model.shape}"
        raise InputError(
            f"data={data.name}: {quantity(len(data.classes), 'class')} and images {data.shape}; the model is of {of}"
        )
    made: Data = data
    return made


@dataclass(frozen=True)
class Row:
    """One model beside others.

    Args:
        name: of its file, or what it is.
        runtime: what ran it.
        bytes: the size of its file.
        score: over the test images; None where there are none.
        milliseconds: for one image, the median over the rounds.
        low: the first quartile.
        high: the third quartile.
        measure: what the score is, in the words of its task, such as "auroc".
    """

    name: str
    runtime: str
    bytes: int
    score: float | None
    milliseconds: float
    low: float
    high: float
    measure: str = "accuracy"

    @property
    def told(self) -> str:
        """The score as a table shows it: shares of right answers in percent, other scores as they are."""
        if self.score is None:
            return "-"
        return f"{self.score:.2%}" if is_share(self.measure) else f"{self.score:.4f}"


@dataclass(frozen=True)
class Candidate:
    """A model that is compared.

    Args:
        name: of its file, or what it is.
        runtime: what runs it.
        bytes: the size of its file.
        probabilities: maps pixels, floats in [0, 255], to probabilities.
        program: makes a function that runs it once on these pixels.
    """

    name: str
    runtime: str
    bytes: int
    probabilities: Callable[[Tensor], Tensor]
    program: Callable[[Tensor], Callable[[], object]]


def compared(
    candidates: Sequence[Candidate], data: Data | None, shape: tuple[int, ...], task: Task | None = None
) -> list[Row]:
    """Judges all by the test images and times them in turns, each alone on one thread.

    Args:
        candidates: the original first.
        data: whose test images are opened.
        shape: of an image.
        task: by whose score they are judged; None: the one that the data imply.

    Returns:
        A row for each.
    """
    images = None if data is None else data.test.open()
    times = _milliseconds(candidates, shape)
    judged = task if task is not None or data is None else implied(data)
    rows = []
    for candidate, (low, median, high) in zip(candidates, times, strict=True):
        score, measure = None, "accuracy" if judged is None else judged.score
        if images is not None and data is not None and judged is not None:
            score = evaluate_probabilities(
                candidate.probabilities, images, data.augmentation, batch_size=64, task=judged
            ).score
        rows.append(Row(candidate.name, candidate.runtime, candidate.bytes, score, median, low, high, measure))
    return rows


def _milliseconds(candidates: Sequence[Candidate], shape: tuple[int, ...]) -> list[tuple[float, ...]]:
    """Quartiles for one image. The first candidate is the sentinel, too: what is slow for all counts for none."""
    pixels = torch.randint(0, 256, (1, *shape), generator=torch.Generator().manual_seed(0)).float()
    programs = {str(number): candidate.program(pixels) for number, candidate in enumerate(candidates)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        watch = Stopwatch()
        once = sum(watch(program) for program in programs.values()) / 1000
        number = max(5, min(ROUNDS, int(_SECONDS / (8 * once))))
        visits = [
            visit
            for each in rounds(programs, programs["0"], numbers=range(number), stopwatch=watch, every=1)
            for visit in each
        ]
    finally:
        torch.set_num_threads(threads)
    usual = statistics.median(visit.sentinel for visit in visits)
    ratios = {key: [v.milliseconds / v.sentinel * usual for v in visits if v.key == key] for key in programs}
    return [tuple(statistics.quantiles(values, n=4)) for values in ratios.values()]


def judgement(float32: Row, int8: Row) -> str:
    """Says with the figures whether 8 bits pay.

    Args:
        float32: the same network by the same runtime, in float32.
        int8: the quantised one.

    Returns:
        One line.
    """
    speed, size = float32.milliseconds / int8.milliseconds, int8.bytes / float32.bytes
    lost = None if float32.score is None or int8.score is None else float32.score - int8.score
    figures = [f"{speed:.2f} times as fast as float32", f"{size:.2f} of its size"]
    if lost is not None:
        amount = f"{100 * abs(lost):.2f} points" if is_share(int8.measure) else f"{abs(lost):.4f}"
        figures.append(f"{amount} of {int8.measure} {'lost' if lost >= 0 else 'won'}")
    faults = [
        *(["slower"] if speed < 1 else []),
        *(["larger"] if size > 1 else []),
        *([f"{int8.measure} lost"] if lost is not None and lost > _SCORE_LOST else []),
    ]
    verdict = f"int8 does not pay here ({', '.join(faults)})" if faults else "int8 pays here"
    return f"{verdict}: {', '.join(figures)}"
