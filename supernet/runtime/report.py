"""Reports: where a loop sends its scalars, figures, texts and lines."""

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
    """Where a loop sends what it measures. Tags are paths such as "search/loss/train"."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Records several scalars of one step, also those that are not finite."""

    def figure(self, tag: str, draw: "Callable[[], Figure]", step: int) -> None:
        """Records the drawing that `draw` makes. A report without figures does not call `draw`."""

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Records the distribution of the finite values of a tensor of any shape."""

    def text(self, tag: str, text: str, step: int = 0) -> None:
        """Records a text in Markdown."""

    def progress(self, done: int, total: int, message: str) -> None:
        """Shows how far the loop is. A loop calls it at every step; only a terminal shows it."""

    def line(self, message: str) -> None:
        """Prints one line."""

    def resume(self, step: int) -> None:
        """Forgets what was recorded at this step and at later ones, and continues from there."""

    def close(self) -> None:
        """Writes everything that is pending and closes all files."""


class Silent:
    """A report that does nothing."""

    def scalars(self, values: Mapping[str, float], step: int) -> None: ...
    def figure(self, tag: str, draw: "Callable[[], Figure]", step: int) -> None: ...
    def histogram(self, tag: str, values: Tensor, step: int) -> None: ...
    def text(self, tag: str, text: str, step: int = 0) -> None: ...
    def progress(self, done: int, total: int, message: str) -> None: ...
    def line(self, message: str) -> None: ...
    def resume(self, step: int) -> None: ...
    def close(self) -> None: ...


class ConsoleReport(Silent):
    """A report that prints its lines and shows a progress bar, and keeps nothing.

    Args:
        console: where lines and progress are shown.
    """

    def __init__(self, console: Console) -> None:
        self._console, self._bar = console, Bar(console)

    def progress(self, done: int, total: int, message: str) -> None:
        """Moves the progress bar of a terminal; on another console it does nothing."""
        self._bar.update(done, total, message)

    def line(self, message: str) -> None:
        """Prints one plain line, above the bar if there is one."""
        self._console.print(printable(message), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Removes the bar."""
        self._bar.close()


class RunReport:
    """A report to TensorBoard (directory/tb/name), a CSV file (directory/metrics/name.csv) and a console.

    Files are opened when they are first written to, or by `resume`.

    Args:
        directory: the directory of the run.
        name: the name of the loop, such as "search".
        console: where lines and progress are shown.
    """

    def __init__(self, directory: Path, name: str, console: Console) -> None:
        self._events = EventFiles(directory / "tb" / name)
        self._continues = not self._events.fresh()
        self._metrics = MetricsFile(directory / "metrics" / f"{name}.csv")
        self._console = console
        self._bar = Bar(console)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Records several scalars of one step in both places and flushes the CSV file once."""
        numbers = {tag: float(value) for tag, value in values.items()}
        self._metrics.append(numbers, step)
        for tag, number in numbers.items():
            self._events.writer().add_scalar(tag, number, step)

    def figure(self, tag: str, draw: "Callable[[], Figure]", step: int) -> None:
        """Records a drawing as an image in TensorBoard."""
        figure = draw()
        self._events.add_figure(tag, figure, step)
        figure.clear()

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Records the distribution of the finite values in TensorBoard."""
        finite = values.detach().float().cpu()
        finite = finite[finite.isfinite()]
        if len(finite):
            self._events.writer().add_histogram(tag, finite, step)

    def text(self, tag: str, text: str, step: int = 0) -> None:
        """Records a text in Markdown in TensorBoard.

        A text of step 0 is about the whole run, and a run that continues has it already.
        """
        if step == 0 and self._continues:
            return
        self._events.writer().add_text(tag, text, step)
        if step == 0:
            self._events.writer().flush()

    def progress(self, done: int, total: int, message: str) -> None:
        """Moves the progress bar of a terminal; on another console it does nothing."""
        self._bar.update(done, total, message)

    def line(self, message: str) -> None:
        """Prints one plain line, above the bar if there is one, and logs it."""
        message = printable(message)
        _LOG.info(message)
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def resume(self, step: int) -> None:
        """Drops what was recorded at this step and at later ones, in both places."""
        self._events.resume(step)
        self._metrics.resume(step)

    def close(self) -> None:
        """Closes both files and removes the bar; a later record opens the files again."""
        self._bar.close()
        self._events.close()
        self._metrics.close()
