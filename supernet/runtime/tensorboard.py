"""TensorBoard's event files: one folder for each run, with a layout for the curves of a search."""

import io
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparams_summaries

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCORES = "accuracy|balanced_accuracy|auroc|average_precision|iou|map50|map50_95"  # of all tasks
# The "Custom scalars" page: chart -> the tags (regular expressions) that share it.
LAYOUT = {
    "Search": {
        "loss": ["Multiline", ["search/loss/train", "search/loss/valid"]],
        "score": ["Multiline", [f"search/({_SCORES})/train", f"search/({_SCORES})/valid"]],
        "alpha entropy": ["Multiline", ["alpha/entropy/.*"]],
        "skip connections": ["Multiline", ["alpha/skip_count/.*"]],
    },
    "Collapse": {
        "sharpness": ["Multiline", ["collapse/lambda_max"]],
        "edges kept": ["Multiline", ["collapse/skip_share/.*", "collapse/parametric_share/.*"]],
        "gap": ["Multiline", ["collapse/gap"]],
    },
    "Retrain": {
        "loss": ["Multiline", ["retrain/loss/train", "retrain/loss/valid"]],
        "score": ["Multiline", [f"retrain/({_SCORES})/train", f"retrain/({_SCORES})/valid"]],
    },
}


_HPARAMS = ".hparams"  # the end of the name of the file that has them


@contextmanager
def told_once() -> Iterator[None]:
    """Within it a full disk is told of by the loop that writes, and not by TensorBoard's own thread, too.

    That thread keeps its error, which the next record raises where it can be understood; Python would print a traceback
    of it besides.
    """
    before = threading.excepthook

    def hook(told: threading.ExceptHookArgs) -> None:
        if not (isinstance(told.exc_value, OSError) and type(told.thread).__module__.startswith("tensorboard.")):
            before(told)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


class EventFiles:
    """The event files of one folder. They are opened by the first use of `writer` or by `resume`.

    Args:
        directory: the folder.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer: SummaryWriter | None = None

    def writer(self) -> SummaryWriter:
        """Returns the open writer, which continues after what the folder holds already."""
        return self._writer or self._open(None)

    def fresh(self) -> bool:
        """Returns whether nothing has been written to the folder yet."""
        return not any(self._directory.glob("events.out.tfevents.*"))

    def resume(self, step: int) -> None:
        """Makes TensorBoard forget the points at this step and at later ones; steps count from 1."""
        self.close()
        self._open(step)

    def add_figure(self, tag: str, figure: "Figure", step: int) -> None:
        """Writes a drawing as an image, without pyplot and its global list of figures."""
        png = io.BytesIO()
        figure.savefig(png, format="png")
        pixels = np.asarray(Image.open(png).convert("RGB"))
        self.writer().add_image(tag, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is pending and closes the file; a later use opens another file in the folder."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, purge_step: int | None) -> SummaryWriter:
        self._wait_for_a_later_name()
        layout_missing = self.fresh()
        self._writer = SummaryWriter(str(self._directory), purge_step=purge_step, flush_secs=30)
        if layout_missing:
            self._writer.add_custom_scalars(LAYOUT)
        return self._writer

    def _wait_for_a_later_name(self) -> None:
        # Files are read in the order of their names, which start with the second: within one second, the order in
        # which they were opened is lost, and points written before a purge would be read after it.
        seconds = (path.name.split(".")[3] for path in self._directory.glob("events.out.tfevents.*"))
        newest = max((int(second) for second in seconds if second.isdecimal()), default=0)
        deadline = time.monotonic() + 1.0
        while int(time.time()) <= newest and time.monotonic() < deadline:
            time.sleep(0.02)
        if int(time.time()) <= newest:  # the clock was set back: the names of later seconds become earlier ones
            self._rename_before(int(time.time()))

    def _rename_before(self, now: int) -> None:
        """Gives the files names that lie before `now`, in the order they have."""
        named = [(path.name.split("."), path) for path in self._directory.glob("events.out.tfevents.*")]
        order = sorted((int(parts[3]), path.name, parts, path) for parts, path in named if parts[3].isdecimal())
        for place, (second, _, parts, path) in enumerate(order):
            earlier = min(second, now - len(order) + place)
            path.rename(path.with_name(".".join([*parts[:3], f"{earlier:010d}", *parts[4:]])))


def hparams(
    directory: Path, values: Mapping[str, str | float | int | bool], metrics: Mapping[str, float], step: int = 0
) -> None:
    """Records hyper-parameters and final metrics of a run for TensorBoard's "HParams" page.

    Those of an earlier call are replaced.

    Args:
        directory: the folder of the run's event files.
        values: the hyper-parameters by name.
        metrics: the metrics by name. They become scalars of the run, so their names must not be tags of its curves.
        step: the step of the metrics.
    """
    for earlier in directory.glob(f"events.out.tfevents.*{_HPARAMS}"):  # of a run that was stopped right after it
        earlier.unlink()
    words = {key: str(value).lower() if type(value) is bool else value for key, value in values.items()}
    with SummaryWriter(str(directory), filename_suffix=_HPARAMS) as writer:
        for summary in hparams_summaries(words, dict(metrics)):
            writer.file_writer.add_summary(summary)
        for tag, value in metrics.items():
            writer.add_scalar(tag, value, step)
