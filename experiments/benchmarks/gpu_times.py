"""Timings on a GPU: steps of searches and trainings in all variants, and whole searches.

Each is a generator of (row's name, row), so that what is measured is kept as it comes.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.gpu_checks import Found, Scale, require
from experiments.benchmarks.setting import Search, SearchSteps, TrainingSteps, Variant, alternate
from supernet.space.choosers import Undecided

NEEDED = ("hydra", "omegaconf", "supernet.conf", "supernet.experiments")
"""What a whole search needs besides PyTorch and this folder."""

Make = Callable[[Variant], Callable[[], Any]]
"""A variant -> what runs a step of it."""

SEARCHES = [
    Variant("reference"),
    Variant("reference", graphs=True),
    Variant("stacked"),
    Variant("stacked", channels_last=True),
    Variant("stacked-matmul"),
    Variant("stacked-matmul", channels_last=True),
    Variant("stacked", graphs=True),
    Variant("stacked", graphs=True, channels_last=True),
    Variant("stacked-matmul", graphs=True),
    Variant("stacked-matmul", graphs=True, channels_last=True),
    Variant("reference", precision="bfloat16"),
    Variant("stacked", graphs=True, precision="bfloat16"),
    Variant("stacked-matmul", graphs=True, precision="bfloat16"),
    Variant("stacked", as_product=True),
    Variant("stacked", graphs=True, as_product=True),
    Variant("stacked", graphs=True, precision="bfloat16", as_product=True),
]
SINGLE_PATHS = [
    Variant("reference"),
    Variant("stacked"),
    Variant("stacked", precision="bfloat16"),
    Variant("stacked", as_product=True),
]
TRAININGS = [
    Variant(),
    Variant(channels_last=True),
    Variant(precision="bfloat16"),
    Variant(graphs=True),
    Variant(graphs=True, channels_last=True),
    Variant(graphs=True, precision="bfloat16"),
    Variant(compiled=True),
    Variant(compiled=True, precision="bfloat16"),
    Variant(as_product=True),
    Variant(graphs=True, as_product=True),
    Variant(graphs=True, precision="bfloat16", as_product=True),
]


def time_searches(scale: Scale, device: torch.device, known: Collection[str]) -> Found:
    """Seconds and peak memory of a search step, by kind, batch and variant; what is known is left out."""
    single = Search(scale.search, chooser=Undecided(single=True))
    first = scale.batches[0]
    plan = [("first_order", batch, SEARCHES) for batch in scale.batches]
    plan += [("unrolled", first, SEARCHES), ("partial_channels", scale.partial_batch, SEARCHES)]
    for name, batch, variants in [*plan, ("single_path", first, SINGLE_PATHS)]:

        def make(variant: Variant, batch: int = batch, name: str = name) -> Callable[[], Any]:
            search = scale.searches.get(name, single)
            return SearchSteps(search, variant, batch, scale.side, device)

        for variant, row in _times(variants, make, scale, device, known, f"{name} {batch}"):
            yield variant, {"search": name, "batch": batch, **row}


def time_trainings(scale: Scale, device: torch.device, known: Collection[str]) -> Found:
    """The same of a step of the training from scratch."""
    size = scale.training_batch
    variants = TRAININGS if device.type == "cuda" else [v for v in TRAININGS if not v.compiled]

    def make(variant: Variant) -> Callable[[], Any]:
        return TrainingSteps(scale.training, variant, size, scale.side, device)

    for variant, row in _times(variants, make, scale, device, known, str(size)):
        yield variant, {"batch": size, **row}


def run_search(method: str, data: Path, device: torch.device, *more: str) -> Found:
    """A method's published search on real images, as a person runs it: seconds in all, summary and cell."""
    absent = [name for name in NEEDED if not _is_there(name)]
    require(not absent, f"needs {', '.join(absent)}, not installed here; the other sections do without")
    overrides = ["experiment=none", f"method={method}", "data=npz", f"data.path={data.resolve()}"]
    overrides += ["data.crop_padding=4", "data.flip=true", "retrain=none", "baseline.random=0", "monitor=off"]
    overrides += [f"runtime.device={device.type}", "runtime.graphs=true", "runtime.precision=bfloat16", *more]
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        command = [sys.executable, "-m", "experiments.pipeline", *overrides, f"hydra.run.dir={run}"]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        require(done.returncode == 0, f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
        summary, genotype = (json.loads((run / f"{n}.json").read_text("utf-8")) for n in ("summary", "genotype"))
    print(f"  {seconds:.0f} s, validation {summary['search_valid_accuracy']}", flush=True)
    yield from {"overrides": overrides, "seconds": seconds, "summary": summary, "genotype": genotype}.items()


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # what it is in is not there, or it is kept from being imported
        return False


def _times(
    variants: list[Variant], make: Make, scale: Scale, device: torch.device, known: Collection[str], kind: str
) -> Found:
    """One row a variant, three variants at a time: their memory, one by one, then all that fit take turns."""
    base: Variant | None = variants[0]  # takes turns with all: what is compared has met the same slow spells
    left = [variant for variant in variants if f"{kind} {variant}" not in known]
    if left:
        print(f"  {kind}", flush=True)
    for chunk in (left[i : i + 3] for i in range(0, len(left), 3)):
        rows = {variant: _row(variant, make, device) for variant in chunk}
        if base is not None and "failed" in rows.get(base, {}):
            base = None
        _take_turns(rows, base, make, scale, device)
        for variant, row in rows.items():
            _say(row)
            yield f"{kind} {variant}", row


def _row(variant: Variant, make: Make, device: torch.device) -> dict[str, Any]:
    """A variant's settings and memory, or how it failed."""
    row: dict[str, Any] = {"variant": str(variant), "settings": asdict(variant)}
    try:
        row["memory_gb"] = _memory(lambda: make(variant), device)
    except Exception as error:
        row["failed"] = _reason(error)
    _let_go(device)
    return row


def _take_turns(
    rows: dict[Variant, dict[str, Any]], base: Variant | None, make: Make, scale: Scale, device: torch.device
) -> None:
    """Adds to each row that has not failed the times of its variant, and how many times faster than `base` it is."""
    fitting = [variant for variant, row in rows.items() if "failed" not in row]
    together = dict.fromkeys(fitting if base is None else [base, *fitting])
    try:
        steps = {str(variant): make(variant) for variant in together}
        times = alternate(steps, device, warm_up=scale.warm_up, rounds=scale.rounds)
    except Exception as error:
        for variant in fitting:
            rows[variant]["failed"] = _reason(error)
    else:
        for variant in fitting:
            rows[variant]["times"] = own = times[str(variant)]
            rows[variant]["speed"] = None if base is None else times[str(base)]["median"] / own["median"]
    steps = {}
    _let_go(device)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _let_go(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _memory(make: Callable[[], Callable[[], Any]], device: torch.device) -> float | None:
    """Peak of what a few steps hold, in GB; None where the device does not tell."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    step = make()
    for _ in range(6):
        step()
    return torch.cuda.max_memory_reserved(device) / 1e9


def _say(row: dict[str, Any]) -> None:
    if "failed" in row:
        print(f"  {row['variant']:<28} failed: {row['failed']}", flush=True)
        return
    last = row["times"]
    memory = "" if row["memory_gb"] is None else f"  {row['memory_gb']:6.2f} GB"
    speed = "" if row["speed"] is None else f"{row['speed']:6.2f}x"
    spread = f"{last['least'] * 1e3:.1f}..{last['most'] * 1e3:.1f}"
    print(f"  {row['variant']:<28} {last['median'] * 1e3:9.1f} ms  {spread:>18}  {speed:>7}{memory}", flush=True)
