"""What a finished job leaves behind: a table, a summary, the machine it ran on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Finalist:
    """One network that was trained from scratch. Accuracies in [0, 1]; `macs` are multiply-adds for one image."""

    name: str
    parameters: int
    macs: int
    train_accuracy: float
    valid_accuracy: float | None
    test_accuracy: float | None = None


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that the file is whole or not there."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, commit, command and machine, for reproducing a run."""
    import hydra
    import torchvision

    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "hydra": hydra.__version__,
        "commit": _commit(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=here)
    except OSError:  # no git on this machine
        return None
    return asked.stdout.strip() or None


def show_table(console: Console, finalists: Sequence[Finalist]) -> None:
    """Prints the finalists, the searched one first."""
    table = Table(title="Trained from scratch in the same way, tested once")
    for column in ("network", "parameters", "MACs", "validation", "test"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for f in finalists:
        table.add_row(
            f.name, f"{f.parameters:,}", f"{f.macs / 1e6:.2f} M", _share(f.valid_accuracy), _share(f.test_accuracy)
        )
    console.print(table)


def show_next(console: Console, directory: Path, made: Sequence[str]) -> None:
    """Prints what was made, where it lies and what to type next."""
    place = os.path.relpath(directory)
    lines = [f"Made in {place}:", *(f"  {name}" for name in made if (directory / name).exists())]
    lines += [
        "Next:",
        f"  tensorboard --logdir {place}",
        f"  supernet-show {place}",
        f"  supernet-predict {place} image.png",
    ]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def summarise(directory: Path, finalists: Sequence[Finalist], facts: dict[str, Any]) -> None:
    """Writes summary.json, whose presence says that the run is finished."""
    write_json(directory / "summary.json", {**facts, "finalists": [asdict(f) for f in finalists]})


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
