"""Whole searches and a whole retraining on a GPU, in pieces: a call stops in time, the next one goes on.

They run from the library's functions, as a person without Hydra would run them, with the published settings: DARTS with
batches of 64 and PC-DARTS with batches of 256 images, 50 epochs each, and DARTS_V2 with batches of 96 images, 600
epochs. The checkpoint in the folder `work` is the product's own. Without data the images are random, as many and as
large as CIFAR-10's: such a search finds nothing and only says how long an epoch takes, so that PC-DARTS' 15 epochs of
warm-up, which are cheaper than the others, are left out of it.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from experiments.benchmarks.gpu_rows import Clock, Row, Rows
from experiments.benchmarks.gpu_sizes import Scale
from experiments.benchmarks.setting import synchronise
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.data.dataset import Data, Sealed
from supernet.data.npz_files import npz
from supernet.data.splits import search_halves
from supernet.execution.engines import engine
from supernet.genotypes.literature import published
from supernet.runtime.checkpoint import IMAGES
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Precision, Run
from supernet.search.method import Method
from supernet.search.methods import darts, pc_darts
from supernet.search.progressive.search import StagedSearch, search_stages
from supernet.training.from_scratch import FinalNetwork, train_from_scratch
from supernet.training.loop import Recipe

METHODS: dict[str, Callable[[], Method]] = {"darts": darts, "pc_darts": pc_darts}
_MARGIN = 6.0  # seconds for the last checkpoint, and for the process to end
_TOGETHER = 20  # steps after which the host waits for the device; it could be a whole epoch ahead of it


@dataclass(frozen=True)
class Pieces:
    """How a search is done in pieces.

    Args:
        work: the folder of the checkpoints.
        data: an .npz file with MedMNIST's keys; None: random images.
        epochs: that a call goes on for at most; None: as many as there is time for.
        precision: of the activations.
    """

    work: Path
    data: Path | None = None
    epochs: int | None = None
    precision: Precision = "float32"


class Piece(Interruption):
    """Asks a loop to save and stop when the time or the epochs of this call are over.

    Args:
        clock: how long there is.
        device: whose work counts.
        epochs: how many may end in this call; None: any number.
    """

    def __init__(self, clock: Clock, device: torch.device, epochs: int | None) -> None:
        super().__init__()
        self.ended, self._clock, self._device, self._epochs, self._asked = 0, clock, device, epochs, 0

    def requested(self) -> bool:
        self._asked += 1
        if self._asked % _TOGETHER == 0:
            synchronise(self._device)
        if self._clock.left() < _MARGIN or (self._epochs is not None and self.ended >= self._epochs):
            self.signal = self.signal or signal.SIGALRM
        return super().requested()


class EpochRows(Silent):
    """A report that makes a row of each epoch.

    Args:
        rows: where they go.
        piece: is told how many epochs have ended.
        device: whose memory and clock count.
    """

    def __init__(self, rows: Rows, piece: Piece, device: torch.device) -> None:
        self._rows, self._piece, self._device = rows, piece, device
        self._last = time.perf_counter()
        self._first, self.done, self.total, self.epoch = 0, 0, 0, 0
        self._steady = (0, 0.0)

    def resume(self, step: int) -> None:
        self._first = self.done = step - 1
        self._last = time.perf_counter()

    def progress(self, done: int, total: int, message: str) -> None:
        self.done, self.total = done, total
        self.epoch = int(message.split()[2])
        if done == self._first + _TOGETHER:  # what is recorded is recorded by then
            synchronise(self._device)
            self._steady = (done, time.perf_counter())

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        if "sys/images_per_second" not in values:
            return
        now = time.perf_counter()
        names = {"loss/train": "loss", "accuracy/train": "train", "accuracy/valid": "valid"}
        said = {word: float(v) for tag, v in values.items() for end, word in names.items() if tag.endswith(end)}
        per_second = values["sys/images_per_second"]
        row = {"s": now - self._last, "steps": step - self._first, "images_per_s": per_second, **said}
        if self._device.type == "cuda":
            row["memory_gb"] = torch.cuda.max_memory_reserved(self._device) / 1e9
        self._rows.add(f"epoch {self.epoch}", row)
        self._last, self._first = now, step
        self._piece.ended += 1

    def pace(self) -> Row:
        """How far the loop is, and how long a step of the epoch that is not complete takes after its first ones."""
        synchronise(self._device)
        row, steps = {"steps": self.done, "of": self.total}, self.done - self._steady[0]
        if self._steady[0] <= self._first or not steps:
            return row
        return {**row, "ms_a_step": (time.perf_counter() - self._steady[1]) / steps * 1e3, "over_steps": steps}


def run_search(method: str, pieces: Pieces, scale: Scale, device: torch.device, rows: Rows) -> None:
    """A method's published search: a row an epoch, and the architecture in the end."""
    data, chosen = images(pieces.data, scale), METHODS[method]()
    if pieces.data is None:
        chosen = replace(chosen, recipe=replace(chosen.recipe, warm_up=0))
    if scale.side < 32:
        chosen = replace(chosen, recipe=replace(chosen.recipe, epochs=2, batch_size=4, warm_up=0))
    halves = [
        data.train.subset(half) for half in search_halves(data.train.labels, chosen.recipe.share, 0, data.classes)
    ]
    planned = StagedSearch.of(chosen, scale.search, data.shape, len(data.classes), engine("fused", device), seed=0)

    def go(run_of: Callable[[str], Run]) -> Row:
        weights, architecture = halves
        found = search_stages(planned, weights, architecture, data.augmentation, run_of=run_of)
        return {"valid": found.valid.score, "architecture": json.loads(found.architecture.to_json())}

    said = {"method": method, "network": f"{scale.search.channels} channels, {scale.search.cells} cells"}
    _in_pieces(go, pieces, {**said, "data": data.name, IMAGES: data.fingerprint[:16]}, device, rows)


def run_retraining(pieces: Pieces, scale: Scale, device: torch.device, rows: Rows) -> None:
    """The training of DARTS_V2 from scratch on all training images: a row an epoch."""
    data, recipe = images(pieces.data, scale), Recipe()
    if scale.side < 32:
        recipe = replace(recipe, epochs=2, batch_size=4, cutout=0)
    final = FinalNetwork(scale.training, data.shape, len(data.classes), engine=engine("fused", device))

    def go(run_of: Callable[[str], Run]) -> Row:
        cell, run = published("darts_v2"), run_of("retrain")
        _, trained = train_from_scratch(final, cell, data.train, None, data.augmentation, recipe, run=run)
        return {"epochs": trained.epochs, "train": trained.train.score}

    network = f"DARTS_V2, {scale.training.channels} channels, {scale.training.cells} cells"
    said = {"network": network, "data": data.name, IMAGES: data.fingerprint[:16]}
    _in_pieces(go, pieces, said, device, rows)


def _in_pieces(
    go: Callable[[Callable[[str], Run]], Row], pieces: Pieces, said: dict[str, str], device: torch.device, rows: Rows
) -> None:
    """Goes on with a loop for as long as this call may; its last row says what it gave, or how far it is."""
    if rows.known("end"):
        return
    rows.add("of", {**said, "precision": pieces.precision, "random images": pieces.data is None})
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    piece = Piece(rows.clock, device, pieces.epochs)
    report = EpochRows(rows, piece, device)
    run = Run(
        device=device,
        report=report,
        checkpoint=pieces.work / f"{rows.section}.pt",
        fingerprint={**said, "precision": pieces.precision},
        interruption=piece,
        precision=pieces.precision,
        graphs=True,
    )

    def ended() -> Row:
        with piece:
            return go(lambda name: run)

    try:
        rows.measure("end", ended, passing=(Interrupted,))
    except Interrupted:
        rows.add("so far", report.pace())


def images(path: Path | None, scale: Scale) -> Data:
    """The images of a file with the published augmentation, or random ones of ten classes."""
    if path is not None:
        return npz(path, crop_padding=4, flip=True)
    stream = torch.Generator().manual_seed(0)
    shape = (3, scale.side, scale.side)
    pixels = torch.randint(256, (scale.images, *shape), generator=stream, dtype=torch.uint8)
    made = Resident(pixels, torch.arange(scale.images) % 10)
    augmentation = Augmentation((0.5,) * 3, (0.25,) * 3, crop_padding=4, flip=True)
    classes = tuple(str(number) for number in range(10))
    return Data("random", classes, made, None, Sealed(made.subset(torch.arange(10))), augmentation)
