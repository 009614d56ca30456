"""supernet-latency: measures what the parts of a space's networks take on this machine, for limits in milliseconds.

    supernet-latency space=mobilenet_v3 resolution=128                    by ONNX Runtime, on one thread
    supernet-latency space=nasbench201 resolution=32 classes=10 runtime=torch threads=2 output=two_threads.csv
    supernet-latency space=mobilenet_v3 drift=0.2                         a table although the machine is busy

All parts are timed in turns beside a network that never changes; some random whole networks are measured, too, and the
table says how far its predictions are from others of them. Size, channels and classes have to be those of the final
network. A command that was stopped goes on where it is given again; nothing is written over.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from supernet.estimation.latency.building import Builder, Built, Measurement
from supernet.estimation.latency.runtimes import runtime_of
from supernet.runtime.console import Bar
from supernet.runtime.errors import InputError
from supernet.runtime.files import disk_fault
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.reading import is_folder

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
    try:
        with Interruption() as interruption:
            _make(_settings(given), interruption)
    except Interrupted as error:
        print(f"supernet-latency: {error}; finished rounds are saved. Go on with: {_again(given)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # the second one
        print("supernet-latency: stopped by SIGINT", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        if reason := disk_fault(error):
            raise InputError(f"{reason}; make room, then: {_again(given)}") from error
        raise


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
        built = builder.build()
    finally:
        bar.close()
    built.table.save(output)
    journal.unlink(missing_ok=True)
    _show(built, output, console)


def _output(text: str) -> Path:
    """The file for the table; nothing is there yet."""
    path = Path(text)
    if not text or path.name in ("", ".", ".."):
        raise InputError(f"output={text}: needs the name of a file, such as latency.csv")
    if path.exists() or path.is_symlink():
        raise InputError(f"output={text}: is there already; output=NAME.csv writes another file")
    if not is_folder(path.parent):
        raise InputError(f"output={text}: the folder {path.parent} does not exist; make it first")
    return path


def _show(built: Built, output: Path, console: Console) -> None:
    head = built.table.head
    measured = head.measurement
    say(
        f"{len(built.table.rows)} parts and {len(built.networks)} networks, {measured['rounds']} rounds; the sentinel "
        f"took {measured['sentinel']:.3f} ms and drifted by {100 * measured['drift']:.1f} %",
        console,
    )
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
