"""Reports: what a loop tells about itself, in one protocol."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from torch import Tensor

from supernet.runtime.console import Bar
from supernet.runtime.metrics import MetricsFile
from supernet.runtime.tensorboard import EventFiles
from supernet.runtime.text import printable

_LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Report(Protocol):
    """Where a loop sends what it measures; tags are paths such as "search/loss/train"."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record several scalars of one step; values that are not finite are recorded too."""

    def figure(self, tag: str, draw: "Callable[[], Figure]", step: int) -> None:
        """Record the drawing that `draw` makes; it is not called where nobody looks."""

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Record the distribution of the finite values of a tensor of any shape."""

    def text(self, tag: str, text: str, step: int = 0) -> None:
        """Record a text, read as Markdown."""

    def progress(self, done: int, total: int, message: str) -> None:
        """Show how far the loop is; called at every step, visible on a terminal only."""

    def line(self, message: str) -> None:
        """Print one line for a person."""

    def resume(self, step: int) -> None:
        """Forget what was recorded at this step and later, and continue from there."""

    def close(self) -> None:
        """Write out everything and let go of files and terminal."""


class Silent:
    """The report that does nothing."""

    def scalars(self, values: Mapping[str, float], step: int) -> None: ...
    def figure(self, tag: str, draw: "Callable[[], Figure]", step: int) -> None: ...
    def histogram(self, tag: str, values: Tensor, step: int) -> None: ...
    def text(self, tag: str, text: str, step: int = 0) -> None: ...
    def progress(self, done: int, total: int, message: str) -> None: ...
    def line(self, message: str) -> None: ...
    def resume(self, step: int) -> None: ...
    def close(self) -> None: ...


class RunReport:
    """Report to TensorBoard (directory/tb/name), a CSV file (directory/metrics/name.csv) and a console.

    Files are opened at the first write, or by resume.
    """

    def __init__(self, directory: Path, name: str, console: Console) -> None:
        self._events = EventFiles(directory / "tb" / name)
        self._continues = not self._events.fresh()
        self._metrics = MetricsFile(directory / "metrics" / f"{name}.csv")
        self._console = console
        self._bar = Bar(console)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record several scalars of one step in both places; one flush of the CSV file per call."""
        numbers = {tag: float(value) for tag, value in values.items()}
        self._metrics.append(numbers, step)
        for tag, number in numbers.items():
            self._events.writer().add_scalar(tag, number, step)

    def figure(self, tag: str, draw: "Callable[[], Figure]", step: int) -> None:
        """Record a drawing as a TensorBoard image, then clear it."""
        figure = draw()
        self._events.add_figure(tag, figure, step)
        figure.clear()

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Record the distribution of the finite values, in TensorBoard."""
        finite = values.detach().float().cpu()
        finite = finite[finite.isfinite()]
        if len(finite):
            self._events.writer().add_histogram(tag, finite, step)

    def text(self, tag: str, text: str, step: int = 0) -> None:
        """Record a text in TensorBoard, which reads it as Markdown.

        One of step 0 is about the whole run: a run that goes on has it already.
        """
        if step == 0 and self._continues:
            return
        self._events.writer().add_text(tag, text, step)
        if step == 0:
            self._events.writer().flush()

    def progress(self, done: int, total: int, message: str) -> None:
        """Move the live bar of a terminal; nothing on any other console."""
        self._bar.update(done, total, message)

    def line(self, message: str) -> None:
        """Print one plain line, above the bar if there is one, and log it."""
        message = printable(message)
        _LOG.info(message)
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def resume(self, step: int) -> None:
        """Drop what was recorded at this step and later, in both places."""
        self._events.resume(step)
        self._metrics.resume(step)

    def close(self) -> None:
        """Write out and close both files and take the bar away; a later write opens them again."""
        self._bar.close()
        self._events.close()
        self._metrics.close()
