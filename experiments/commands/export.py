"""Writes a trained network for another runtime: supernet-export RUN --format onnx"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from supernet.deployment.bundle import NAME
from supernet.deployment.exporting import FORMATS, Exported, export, load_program
from supernet.deployment.onnx_predictor import OnnxPredictor
from supernet.runtime.errors import InputError
from supernet.runtime.reading import is_folder
from supernet.runtime.text import printable, quantity

from ..console import Parser, command, say
from ..exporting import Candidate, Row, Trained, compared, judgement, trained

_EPILOG = """\
The file takes pixels, floats from 0 to 255, (number, channels, height, width), and gives probabilities; it has the
names of the classes in its metadata. An older export is replaced, and no other file. supernet-predict model.onnx
image.png runs it. A run knows its images; a file is told: supernet-export model.safetensors data=npz data.path=FILE
--int8"""
_TYPED = (  # what the library says of its parameters -> what a person types
    (r"^path=", "--output "),
    (r"\bactivations=", "--activations "),
    (r"\bint8=True\b", "--int8"),
    (r"\bformat='?(\w+)'?", r"--format \1"),
    (r"\bdownload=True, or digits\(\)", "data.download=true, or data=digits"),
    (r"; give another name$", "; --output FILE gives another name"),
)


@command("supernet-export")
def main() -> None:
    """Runs the command `supernet-export`."""
    given = _parser().parse_intermixed_args()
    place = Path(given.model)
    for folder in given.config_dir:
        if not is_folder(folder):
            raise InputError(f"--config-dir {folder}: no such folder")
    with _as_typed():
        known = trained(place, given.settings, [Path(folder) for folder in given.config_dir])
        if given.int8 and known.data is None:
            raise InputError(f"--int8: needs training images: {known.without}")
        path = _usual(known, given.format, given.int8) if given.output is None else Path(given.output)
        written = export(
            known.model, path, format=given.format, int8=given.int8, activations=given.activations, data=known.data
        )
    rows = _rows(known, written, place / NAME if is_folder(place) else place)
    if given.json:
        print(json.dumps({**asdict(written), "path": str(written.path), "models": [asdict(row) for row in rows]}))
        return
    _show(known, written, rows)


@contextmanager
def _as_typed() -> Iterator[None]:
    """Within it mistakes name what a person types, and not the parameters of the library."""
    try:
        yield
    except InputError as error:
        raise InputError(_in_words_of_the_command(str(error))) from None


def _in_words_of_the_command(message: str) -> str:
    for said, typed in _TYPED:
        message = re.sub(said, typed, message)
    return message


def _parser() -> Parser:
    parser = Parser(
        prog="supernet-export",
        description="Writes a trained network as one file for another runtime, and compares it with the original.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="the directory of a finished run, or a model.safetensors")
    parser.add_argument(
        "settings",
        nargs="*",
        default=[],
        metavar="key=value",
        help="of a file: its images, such as data=digits; of a run: recorded settings that only a person may vouch for",
    )
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="onnx (default), or pt2: of torch.export")
    parser.add_argument("--int8", action="store_true", help="8 bits, the ranges measured on training images (onnx)")
    parser.add_argument(
        "--activations",
        choices=("uint8", "int8"),
        help="of --int8: uint8 is fast on x86, int8 on Arm (default: what is fast on this processor)",
    )
    parser.add_argument("--output", metavar="FILE", help="default: model.onnx, model.int8.onnx or model.pt2 in the run")
    parser.add_argument("--config-dir", action="append", default=[], metavar="FOLDER", help="settings of your own")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _usual(known: Trained, format: str, int8: bool) -> Path:
    return known.folder / f"{known.name}{'.int8' if int8 else ''}.{format}"


def _rows(known: Trained, written: Exported, original: Path) -> list[Row]:
    """The original, for int8 also the float32 form in the same runtime, and what was written."""
    model, size = known.model, original.stat().st_size
    first = Candidate(original.name, "PyTorch", size, model.probabilities, _calls(model.probabilities))
    with tempfile.TemporaryDirectory(prefix="supernet-") as folder:
        candidates = [first]
        if written.precision == "int8":
            float32 = export(model, Path(folder, "float32.onnx"))
            candidates.append(_onnx(float32.path, "float32, not kept", float32.bytes))
        if written.format == "onnx":
            candidates.append(_onnx(written.path, written.path.name, written.bytes))
        else:
            program = load_program(written.path)
            candidates.append(Candidate(written.path.name, "PyTorch", written.bytes, program, _calls(program)))
        return compared(candidates, known.data, model.shape, known.task)


def _onnx(path: Path, name: str, size: int) -> Candidate:
    loaded = OnnxPredictor(path)
    return Candidate(name, "ONNX Runtime", size, loaded.probabilities, loaded.program)


def _calls(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Callable[[], object]]:
    """What makes programs of a function of PyTorch."""
    return lambda pixels: lambda: run(pixels)


def _show(known: Trained, written: Exported, rows: Sequence[Row]) -> None:
    console = Console()
    measure = rows[0].measure
    table = Table("model", "run by", "bytes", measure, "ms")
    for row in rows:
        time = f"{row.milliseconds:.3f} ({row.low:.3f}-{row.high:.3f})"
        table.add_row(*map(Text, map(printable, (row.name, row.runtime, f"{row.bytes:,}", row.told, time))))
    console.print(table)
    say("ms: for one image on one thread, the median (and the quartiles) of rounds that run all in turn", console)
    if known.data is not None:
        say(f"{measure}: of the {quantity(len(known.data.test), 'test image')}", console)
    say(f"Made {written.path}", console)
    agreement = f"a probability differs by {written.difference:.1e} at most, and {written.same:.1%} are answered alike"
    say(f"Beside the original's answers to {quantity(written.compared, 'image')} {agreement}.", console)
    if known.data is None:
        say(f"No accuracy: {_in_words_of_the_command(known.without)}", console)
    if written.precision == "int8":
        say(f"Activations are {written.activations}. {judgement(rows[1], rows[2])}.", console)


if __name__ == "__main__":
    main()
