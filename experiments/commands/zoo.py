"""Lists the models that come with supernet: supernet-zoo, and supernet-zoo NAME for the card of one."""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from supernet import zoo
from supernet.runtime.errors import InputError
from supernet.runtime.text import printable, quantity

from ..console import Parser, command, say
from ..zoo.making import make

_EPILOG = """\
supernet-predict NAME image.jpg and supernet.load("NAME") use a model; nothing is downloaded. --make writes one into
the zoo from finished runs that differ by their seeds: the first one's model, with the figures of all of them."""


@command("supernet-zoo")
def main() -> None:
    """Runs the command `supernet-zoo`."""
    parser = Parser(prog="supernet-zoo", description="The models that come with supernet.", epilog=_EPILOG)
    parser.add_argument("name", nargs="?", help="show the card of this model (default: list all)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--make", nargs="+", type=Path, metavar="RUN", help="make the model NAME of these runs")
    parser.add_argument("--output", type=Path, default=zoo.FOLDER, metavar="FOLDER", help="the zoo to write into")
    given = parser.parse_args()
    if given.make:
        _make(given)
    elif given.name is None:
        _list(zoo.entries(), given.json)
    else:
        zoo.file_of_model(given.name)  # that its file is sound
        card = zoo.entries()[given.name].card
        if given.json:
            print(json.dumps(card, indent=2, ensure_ascii=False))
        else:
            for line in card_lines(given.name, card):
                say(line)


def card_lines(name: str, card: Mapping[str, Any]) -> list[str]:
    """A card as lines to read.

    Args:
        name: of the model.
        card: of it.

    Returns:
        The lines: one for each entry, and one for each figure.

    Example:
        >>> card_lines("toy", {"title": "Toys", "figures": {"accuracy": {"seeds": [0.5], "mean": 0.5}}, "seeds": [3]})
        ['toy: Toys', '  accuracy on test images: 0.5000', '  seeds: 3']
    """
    lines = [f"{name}: {card.get('title', '')}"]
    for key, value in card.items():
        if key == "figures":
            lines += [f"  {score} on test images: {_figure(figure)}" for score, figure in value.items()]
        elif key == "operating points":
            lines += [f"  operating point: {_value(point)}" for point in value]
        elif key == "not for clinical use":
            lines += ["  not for clinical use"] if value else []
        elif key != "title" and value is not None:
            lines.append(f"  {key}: {_value(value)}")
    return lines


def _list(known: Mapping[str, zoo.Entry], as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: dict(entry.card) for name, entry in known.items()}, indent=2, ensure_ascii=False))
        return
    table = Table(Column("name", no_wrap=True), "what it does", "test", "random cells", "MB", "licence of the data")
    for name, entry in known.items():
        figures: Mapping[str, Any] = entry.card.get("figures", {})
        score = next(iter(figures), "")
        figure: Mapping[str, Any] = figures.get(score, {})
        random = figure.get("random cells") or {}
        cells = (
            name,
            entry.card.get("title", ""),
            f"{score} {_mean(figure)}".strip(),
            _mean(random),
            f"{entry.bytes / 1e6:.2f}",
            entry.card.get("licence", ""),
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)
    say("supernet-zoo NAME shows a card; supernet-predict NAME image.jpg uses the model")


def _make(given: argparse.Namespace) -> None:
    if given.name is None:
        raise InputError("--make: give the name of the model first: supernet-zoo NAME --make RUN RUN RUN")
    entry = make(given.name, given.make, given.output)
    for line in card_lines(entry.name, entry.card):
        say(line)
    say(f"written: {given.output / entry.file}, {entry.bytes:,} bytes")


def _mean(figure: Mapping[str, Any]) -> str:
    if not isinstance(figure.get("mean"), int | float):
        return ""
    spread = figure.get("deviation")
    return f"{figure['mean']:.4f}" + (f" ({spread:.4f})" if isinstance(spread, int | float) else "")


def _figure(figure: Mapping[str, Any]) -> str:
    """The mean of some seeds with their deviation, its interval, that of the file, and random cells beside it."""
    words = [_mean(figure)]
    if len(figure.get("seeds", ())) > 1:
        low, high = interval_of_mean(figure["seeds"])
        words.append(f"mean of {quantity(len(figure['seeds']), 'seed')} (95 % interval {low:.4f} to {high:.4f})")
    if interval := figure.get("95 % interval of this file"):
        words.append(f"this file {figure['seeds'][0]:.4f} ({interval[0]:.4f} to {interval[1]:.4f})")
    if random := figure.get("random cells"):
        words.append(f"{quantity(random['count'], 'random cell')} {_mean(random)}")
    return ", ".join(words)


def interval_of_mean(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Computes where the mean over all seeds lies, from that of a few: Student's interval.

    Args:
        values: of the seeds, two or more, taken as normally distributed.
        confidence: how often such an interval holds the mean.

    Returns:
        Its ends. They know nothing of the images: all seeds are tested on the same ones.

    Example:
        >>> low, high = interval_of_mean([0.9, 0.92, 0.91])
        >>> round(low, 4), round(high, 4)  # 0.91 -+ 4.303 x 0.01 / sqrt(3)
        (0.8852, 0.9348)
    """
    from scipy.stats import t  # slow to import, and only cards need it

    reach = t.ppf((1 + confidence) / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return float(mean - reach), float(mean + reach)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(item)}" for name, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)
