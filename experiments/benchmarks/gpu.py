"""All that has to be checked and measured on a GPU, in one go: stacked cells, CUDA graphs, bfloat16, hidden waiting.

    python -m experiments.benchmarks.gpu --data cifar10_jpeg.npz  # all of it on one GPU, real searches at its end
    python -m experiments.benchmarks.gpu                          # without the real searches: some minutes
    python -m experiments.benchmarks.gpu --only checks            # a minute
    python -m experiments.benchmarks.gpu --only time_searches --batches 64 --rounds 5 --output $OUT/gpu.json
    python -m experiments.benchmarks.gpu --device cpu --tiny      # the script itself, without a GPU

Each section is by itself: one that fails says so and leaves the others. What is found is written as it comes to
experiments/results/gpu.json or `--output`, so that a section that is cut off loses nothing; the same command again goes
on from there. Images are random, except those of `--data`, an .npz file with MedMNIST's keys; these alone need
Hydra. Times are medians of variants that take turns. They let cuDNN try its algorithms and use TF32; variants called
"product" run as `runtime.deterministic=true`, the product's default, does. Checks are without TF32.
"""

from __future__ import annotations

import argparse
import json
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.gpu_checks import (
    FULL,
    TINY,
    Found,
    Scale,
    check_bfloat16,
    check_graphs,
    check_stacked,
    check_waiting,
)
from experiments.benchmarks.gpu_times import run_search, time_searches, time_trainings
from experiments.benchmarks.setting import machine, write

Section = Callable[[Collection[str]], Found]
"""What is known already, by name -> (name, value) of all else."""

CHECKS = {
    "check_stacked": check_stacked,
    "check_bfloat16": check_bfloat16,
    "check_graphs": check_graphs,
    "check_waiting": check_waiting,
}
TIMES = {"time_searches": time_searches, "time_trainings": time_trainings}
METHODS = ("darts", "pc_darts")


@dataclass(frozen=True)
class Record:
    """What was found, section by section, and the file that it is in."""

    path: Path
    content: dict[str, Any]

    def write(self) -> None:
        """Puts a whole file in the place of the last one: there is never half of one."""
        write(self.path, self.content)


def open_record(path: Path, here: dict[str, Any]) -> Record:
    """The record of an earlier call with the same machine, commit and sizes, or a new one."""
    if not path.exists():
        return Record(path, here)
    there = json.loads(path.read_text(encoding="utf-8"))

    def key(content: dict[str, Any]) -> dict[str, Any]:
        return {**content["machine"], "date": None, "tiny": content["tiny"]}

    if key(there) != key(here):
        raise SystemExit(f"{path}: is of another machine, commit or size; give another --output, or delete it")
    return Record(path, there)


def run_section(name: str, section: Section, record: Record) -> None:
    """Adds a section's findings to the record as they come, and how it failed if it does."""
    print(name, flush=True)
    exact = name in CHECKS
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cudnn.benchmark = not exact
    before = record.content.get(name, {})
    if name not in TIMES and before.get("complete"):
        print("  is there already", flush=True)
        return
    result = before.get("result", {}) if name in TIMES else {}
    found = record.content[name] = {"complete": False, "result": result}
    try:
        for key, value in section([n for n, row in result.items() if "failed" not in row]):
            result[key] = value
            record.write()
            if exact:
                print(f"  {key:<48} {value if isinstance(value, str) else format(value, '.2e')}", flush=True)
        found["complete"] = True
    except Exception as error:
        print(f"  failed: {error}", flush=True)
        found |= {"failed": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    record.write()


def sections_of(scale: Scale, device: torch.device, data: Path | None, more: list[str]) -> dict[str, Section]:
    """All sections by name; real searches where there are data."""
    found: dict[str, Section] = {name: _whole(partial(check, scale, device)) for name, check in CHECKS.items()}
    found |= {name: partial(times, scale, device) for name, times in TIMES.items()}
    if data is not None:
        for method in METHODS:
            found[f"search_{method}"] = _whole(partial(run_search, method, data, device, *more))
    return found


def _whole(find: Callable[[], Found]) -> Section:
    """A section that is done all or not at all."""
    return lambda _: find()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks, one round: to try the script")
    searches = [f"search_{method}" for method in METHODS]
    parser.add_argument("--only", choices=["checks", "times", *CHECKS, *TIMES, *searches], help="only these sections")
    parser.add_argument("--batches", type=int, nargs="+", help="of the first-order steps; its first one of others, too")
    parser.add_argument("--rounds", type=int, help="how often each variant is timed")
    parser.add_argument("--data", type=Path, help="an .npz file of CIFAR-10: the published searches are run on it, too")
    parser.add_argument("--more", nargs="*", default=[], help="overrides of these searches, such as search.epochs=1")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/gpu.json"))
    arguments = parser.parse_args()
    device, scale = torch.device(arguments.device), TINY if arguments.tiny else FULL
    scale = replace(scale, batches=tuple(arguments.batches or scale.batches), rounds=arguments.rounds or scale.rounds)
    chosen = {
        name: section
        for name, section in sections_of(scale, device, arguments.data, arguments.more).items()
        if arguments.only in (None, name) or name.startswith(arguments.only.rstrip("s") + "_")
    }
    if not chosen:
        parser.error(f"--only {arguments.only}: needs --data FILE")
    record = open_record(arguments.output, {"machine": machine(device), "tiny": arguments.tiny})
    print(record.content["machine"], flush=True)
    for name, section in chosen.items():
        run_section(name, section, record)
    if failed := [name for name in chosen if "failed" in record.content[name]]:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
