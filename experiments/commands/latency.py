"""supernet-latency: measures what the parts of a space's networks take on this machine, for limits in milliseconds.

    supernet-latency space=mobilenet_v3 resolution=128                    by ONNX Runtime, on one thread
    supernet-latency space=nasbench201 resolution=32 classes=10 runtime=torch threads=2 output=two_threads.csv
    supernet-latency space=mobilenet_v3 drift=1                           a table although the machine is busy

All parts are timed in turns beside a network that never changes; some random whole networks are measured, too, and the
table says how far its predictions are from others of them. Size, channels and classes have to be those of the final
network. A command that was stopped goes on where it is given again; nothing is written over.
"""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from supernet.estimation.latency.building import Builder, Built, Measurement
from supernet.estimation.latency.reading import STEADY
from supernet.estimation.latency.runtimes import runtime_of
from supernet.runtime.console import Bar
from supernet.runtime.errors import InputError
from supernet.runtime.files import disk_fault
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.reading import is_folder
from supernet.runtime.text import quantity

from .. import command_line as words
from ..console import command, say
from ..conversion import convert
from ..instantiate import build
from ..recorded_words import parse
from ..schema import plain

_MEASURED = {each.name: float if each.name in ("seconds", "drift") else int for each in fields(Measurement)[:-1]}
_SIZES = {"resolution": int, "channels": int, "classes": int}
_RUN_BY = {"runtime": str, "device": str, "threads": int}
_LARGEST = 1 << 14


@command("supernet-latency")
def main() -> None:
    """Runs the command `supernet-latency`. A mistake is reported in one line, with exit code 2."""
    given = sys.argv[1:]
    if any(word in ("-h", "--help", "help") for word in given) or not given:
        print(f"{__doc__}\n{_settings_in_words()}")
        return
    interruption = Interruption()
    try:
        with interruption:
            _make(_settings(given), interruption)
    except (Interrupted, KeyboardInterrupt):
        error = Interrupted(interruption.signal or signal.SIGINT)
        print(f"supernet-latency: {error}; finished rounds are saved. Go on with: {_again(given)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        named = f": {error.filename}" if error.filename else ""
        reason = disk_fault(error) or f"{error.strerror or type(error).__name__}{named}"
        room = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "let it be written to"
        raise InputError(f"{reason}; {room}, then: {_again(given)}") from error


def _settings(given: Sequence[str]) -> dict[str, Any]:
    """The settings of conf/latency.yaml and those that are given, each of its kind.

    Hydra composes the space. It would take `runtime` for the group of that name, so the others are read here.
    """
    kinds: dict[str, Any] = {"output": str, **_RUN_BY, **_SIZES, **_MEASURED}
    known = ["space", *kinds]
    own, spaces = dict[str, Any](), list[str]()
    for word in given:
        key, equals, value = word.partition("=")
        if word.startswith("-"):
            raise InputError(f"{word}: no such flag; settings are written key=value, without dashes; see --help")
        if not equals or (key not in kinds and key.split(".")[0] != "space"):
            near = words.nearest(key, known)
            raise InputError(f"{word}: no such setting{near}; supernet-latency --help shows them")
        if key in kinds:
            read = None if key == "output" else parse(word)
            own[key] = value.strip("'\"") if read is None else read.value()
        else:
            spaces.append(words.readable(word))
    words.check_options(spaces)
    try:
        with initialize_config_module("supernet.conf", version_base="1.3"):
            settings = plain(compose("latency", overrides=spaces)) | own
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(words.told(error)) from None
    if settings.get("space") is None:
        raise InputError(f"space: needs one; space=NAME takes one of {', '.join(sorted(words.options('space', ())))}")
    return {"space": settings["space"]} | {name: convert(settings[name], kind, name) for name, kind in kinds.items()}


def _make(settings: Mapping[str, Any], interruption: Interruption) -> None:
    output = _output(settings["output"])
    console = Console()
    for name in _SIZES:
        if not 1 <= settings[name] <= _LARGEST:
            raise InputError(f"{name}={settings[name]}: needs a number from 1 to {_LARGEST:,}")
    runtime = runtime_of(*(settings[name] for name in _RUN_BY))
    side = settings["resolution"]
    journal = output.with_name(f"{output.name}.rounds")
    bar = Bar(console)

    def progress(done: int, total: int, what: str) -> None:
        bar.update(done, total, what)
        if interruption.signal is not None:
            raise Interrupted(interruption.signal)

    builder = Builder(
        build(settings["space"], "space"),
        (settings["channels"], side, side),
        settings["classes"],
        runtime,
        Measurement(**{name: settings[name] for name in _MEASURED}),
        journal=journal,
        progress=progress,
    )
    try:
        with _at_once(interruption):
            built = builder.build()
    finally:
        bar.close()
    built.table.save(output)
    journal.unlink(missing_ok=True)
    _show(built, output, console)


@contextmanager
def _at_once(interruption: Interruption) -> Iterator[None]:
    """Within it a signal stops the measurement at once: each round is in the journal as soon as it is whole.

    What is exported or measured for minutes asks no loop. KeyboardInterrupt is no Exception, which the exporter would
    take for a fault of the network. In `__del__` an exception is lost, and the signal comes again a little later.
    """
    later = list[threading.Timer]()

    def stop(number: int, frame: FrameType | None) -> None:
        interruption.signal = number
        if not _ends_an_object(frame):
            raise KeyboardInterrupt
        later.append(threading.Timer(0.05, signal.raise_signal, (number,)))
        later[-1].start()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if interruption.signal is not None:  # before
            raise KeyboardInterrupt
        yield
    finally:
        for timer in later:
            timer.cancel()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ends_an_object(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _output(text: str) -> Path:
    """The file for the table; nothing is there yet, and it can be written."""
    path = Path(text)
    if not text or path.name in ("", ".", ".."):
        raise InputError(f"output={text}: needs the name of a file, such as latency.csv")
    if path.suffix == ".gz":
        raise InputError(f"output={text}: a table is written as plain text; output={path.with_suffix('')}")
    if os.path.lexists(path):
        raise InputError(f"output={text}: is there already; output=NAME.csv writes another file")
    if not is_folder(path.parent):
        raise InputError(f"output={text}: the folder {path.parent} does not exist; make it first")
    longest = path.with_name(f"{path.name}.rounds.partial")  # of the names that are written
    try:
        longest.unlink(missing_ok=True)
        longest.open("xb").close()
        longest.unlink()
    except OSError as error:
        raise InputError(
            f"output={text[:200]}: the folder {path.parent} cannot be written to ({error.strerror}); "
            "output=ELSEWHERE.csv"
        ) from None
    return path


def _show(built: Built, output: Path, console: Console) -> None:
    head = built.table.head
    measured = head.measurement
    say(
        f"{quantity(len(built.table.rows), 'part')} and {quantity(len(built.networks), 'network')}, "
        f"{quantity(measured['rounds'], 'round')}; the sentinel took "
        f"{measured['sentinel']:.3f} ms and drifted by {100 * measured['drift']:.1f} %",
        console,
    )
    if measured["drift"] > STEADY:
        say("for steadier times close other programs, remove the table and measure again", console)
    if times := sorted(one.latency.median for one in built.networks):  # between these a limit makes a difference
        say(f"the fastest of these networks took {times[0]:.4g} ms, the slowest {times[-1]:.4g} ms", console)
    if built.before is not None and built.after is not None:
        say(f"plain sums: {built.before}", console)
        line = head.line
        say(
            f"calibrated, {line.constant:+.3f} ms {line.factor:+.3f} x sum {line.megabyte:+.4f} ms/MB: {built.after}",
            console,
        )
    say(f"Made: {output}", console)


def _settings_in_words() -> str:
    """The settings with their values, as conf/latency.yaml has them, and the names of the spaces."""
    lines = files("supernet.conf").joinpath("latency.yaml").read_text(encoding="utf-8").split("\n\n", 1)[1]
    return f"{lines}space: {', '.join(sorted(words.options('space', ())))}"


def _again(given: Sequence[str]) -> str:
    return shlex.join(["supernet-latency", *given])


if __name__ == "__main__":
    main()
