"""Prints the record of `gpu` as Markdown: a table a section, a line a row.

python -m experiments.benchmarks.gpu_table experiments/results/gpu.jsonl
python -m experiments.benchmarks.gpu_table experiments/results/gpu.jsonl --only steps profile
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from experiments.benchmarks.gpu_rows import Row, read_rows

_LEFT_OUT = {"took_s", "n", "graphs"}


def tables(rows: dict[tuple[str, str], Row], only: Collection[str] = ()) -> Iterator[str]:
    """The lines of all tables.

    Args:
        rows: by section and name.
        only: these sections; (): all.
    """
    for section in dict.fromkeys(section for section, _ in rows):
        if only and section not in only:
            continue
        own = {name: row for (of, name), row in rows.items() if of == section and name != "of"}
        columns = [key for key in dict.fromkeys(key for row in own.values() for key in row) if key not in _LEFT_OUT]
        yield f"\n## {section}\n"
        yield f"| {' | '.join(['', *columns])} |"
        yield "|" + "---|" * (len(columns) + 1)
        for name, row in own.items():
            yield f"| {' | '.join([name, *(_cell(row.get(column)) for column in columns)])} |"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1e}" if value and abs(value) < 1e-3 else f"{value:.4g}"
    return str(value if isinstance(value, str) else json.dumps(value)).replace("|", "/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--only", nargs="+", default=[], help="these sections")
    arguments = parser.parse_args()
    head, rows = read_rows(arguments.record)
    print(", ".join(f"{key} {value}" for key, value in head["machine"].items()))
    print("\n".join(tables(rows, arguments.only)))


if __name__ == "__main__":
    main()
