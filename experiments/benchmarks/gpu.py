"""All that has to be checked and measured on a GPU, in one go: stacked cells, CUDA graphs, bfloat16, hidden waiting.

    python -m experiments.benchmarks.gpu --data cifar10_jpeg.npz  # all of it on one GPU, real searches at its end
    python -m experiments.benchmarks.gpu                          # without the real searches: some minutes
    python -m experiments.benchmarks.gpu --only checks            # a minute
    python -m experiments.benchmarks.gpu --device cpu --tiny      # the script itself, without a GPU

Each section is by itself: one that fails says so and leaves the others. Images are random, but for the searches on
`--data`, an .npz file with MedMNIST's keys. Times are medians of variants that take turns; float32 convolutions use
TF32 where PyTorch does (its default) except in the checks. Writes experiments/results/gpu.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from supernet.runtime.run import Run
from supernet.search.architects import unrolled
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts

from .setting import (
    EXECUTORS,
    Search,
    SearchSteps,
    TrainingSteps,
    Variant,
    alternate,
    build_supernet,
    distance,
    machine,
    passes_of,
    random_batch,
    random_weights,
    synchronise,
    whole_distance,
)

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
]
SINGLE_PATHS = [Variant("reference"), Variant("stacked"), Variant("stacked", precision="bfloat16")]
TRAININGS = [
    Variant(),
    Variant(channels_last=True),
    Variant(precision="bfloat16"),
    Variant(graphs=True),
    Variant(graphs=True, channels_last=True),
    Variant(graphs=True, precision="bfloat16"),
    Variant(compiled=True),
    Variant(compiled=True, precision="bfloat16"),
]


@dataclass(frozen=True)
class Scale:
    """How large everything is: the published networks, or ones that a CPU does in seconds."""

    search: Darts
    training: Darts
    side: int
    batches: tuple[int, ...]
    partial_batch: int
    training_batch: int
    check_batch: int
    check_steps: int
    warm_up: int
    rounds: int

    @property
    def searches(self) -> dict[str, Search]:
        """The kinds of step that are checked and timed, by name."""
        return {
            "first_order": Search(self.search),
            "unrolled": Search(self.search, unrolled),
            "partial_channels": Search(self.search, chooser=Undecided(partial=4)),
        }


FULL = Scale(Darts(), Darts(channels=36, cells=20, auxiliary=True), 32, (64, 256, 1024), 256, 96, 16, 8, 8, 15)
_SMALL = Darts(channels=16, cells=1, nodes=2)  # 2 channels side by side, a part of 8, crash oneDNN on the CPU
TINY = Scale(_SMALL, Darts(channels=4, cells=2, auxiliary=True), 8, (4,), 4, 4, 4, 2, 0, 1)


def check_stacked(scale: Scale, device: torch.device) -> dict[str, float]:
    """The stacked executors against the reference: outputs and every gradient, float64 and (without TF32) float32."""
    found = {}
    for dtype, divisor in product((torch.float64, torch.float32), (1, 4)):
        kind = f"{dtype}{'' if divisor == 1 else ' partial channels'}"
        supernet = build_supernet(scale.search, device, dtype, Undecided(partial=divisor))
        weights = random_weights(supernet, device, dtype, inputs=divisor > 1)
        batch = random_batch(scale.check_batch, device, side=scale.side, dtype=dtype)
        expected = passes_of(supernet, batch, weights, Run(device), "reference")
        found[f"{kind} reference twice"] = whole_distance(
            passes_of(supernet, batch, weights, Run(device), "reference"), expected
        )
        for name in EXECUTORS:
            got = passes_of(supernet, batch, weights, Run(device), name)
            found[f"{kind} {name} worst tensor"] = distance(got, expected)
            found[f"{kind} {name} all"] = whole_distance(got, expected)
            if dtype == torch.float64:
                require(found[f"{kind} {name} all"] < 1e-9, f"{name} differs from the reference in {kind}")
    return found


def check_bfloat16(scale: Scale, device: torch.device) -> dict[str, float]:
    """How far bfloat16 is from float32, edge by edge and stacked."""
    supernet = build_supernet(scale.search, device)
    weights, batch = random_weights(supernet, device), random_batch(scale.check_batch, device, side=scale.side)
    exact = passes_of(supernet, batch, weights, Run(device), "reference")
    run = Run(device, precision="bfloat16")
    found = {name: whole_distance(passes_of(supernet, batch, weights, run, name), exact) for name in EXECUTORS}
    for name, value in found.items():
        require(value < 2 * found["reference"] + 1e-3, f"{name} is further off than the reference in bfloat16")
    return found


def check_graphs(scale: Scale, device: torch.device) -> dict[str, float]:
    """Losses, parameters, statistics and alphas after some steps with graphs against those without."""
    found = {}
    for name, search in scale.searches.items():
        for executor in ("reference", "stacked"):
            ends = []
            for graphs in (False, False, True):
                variant = Variant(executor, graphs=graphs)
                steps = SearchSteps(search, variant, scale.check_batch, scale.side, device)
                losses = [steps().detach() for _ in range(scale.check_steps)]
                ends.append([*losses, *steps.supernet.state_dict().values(), *steps.strategy.logits.values()])
            ends = [[tensor.detach().double() for tensor in end] for end in ends]
            noise, found[f"{name} {executor}"] = whole_distance(ends[1], ends[0]), whole_distance(ends[2], ends[0])
            found[f"{name} {executor}, twice without"] = noise
            require(found[f"{name} {executor}"] < 10 * noise + 1e-4, f"graphs change {name} on {executor}")
    return found


def check_waiting(scale: Scale, device: torch.device) -> dict[str, str]:
    """Whether a step waits for the device anywhere: PyTorch raises where it would."""
    if device.type != "cuda":
        return {"skipped": "only CUDA tells"}
    found = {}
    for name, search in scale.searches.items():
        for variant in (Variant("reference"), Variant("stacked"), Variant("stacked", graphs=True)):
            steps = SearchSteps(search, variant, scale.check_batch, scale.side, device)
            found[f"{name} {variant}"] = _waits(steps, device)
    training = TrainingSteps(scale.training, Variant(), scale.check_batch, scale.side, device)
    found["training"] = _waits(training, device)
    return found


def _waits(step: Callable[[], Any], device: torch.device) -> str:
    for _ in range(8):
        step()
    synchronise(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"waits at {place.filename}:{place.lineno}: {str(error).splitlines()[0]}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "never waits"


def time_searches(scale: Scale, device: torch.device) -> list[dict[str, Any]]:
    """Seconds, images a second and peak memory of a search step, by batch, kind and variant."""
    single = Search(scale.search, chooser=Undecided(single=True))
    first = scale.batches[0]
    plan = [("first_order", batch, SEARCHES) for batch in scale.batches]
    plan += [("unrolled", first, SEARCHES), ("partial_channels", scale.partial_batch, SEARCHES)]
    rows = []
    for name, batch, variants in [*plan, ("single_path", first, SINGLE_PATHS)]:

        def make(variant: Variant, batch: int = batch, name: str = name) -> Callable[[], Any]:
            search = scale.searches.get(name, single)
            return SearchSteps(search, variant, batch, scale.side, device)

        rows += [{"search": name, "batch": batch, **row} for row in _times(variants, make, scale, device)]
    return rows


def time_trainings(scale: Scale, device: torch.device) -> list[dict[str, Any]]:
    """The same of a step of the training from scratch."""
    size = scale.training_batch
    variants = TRAININGS if device.type == "cuda" else [v for v in TRAININGS if not v.compiled]
    rows = _times(variants, lambda v: TrainingSteps(scale.training, v, size, scale.side, device), scale, device)
    return [{"batch": size, **row} for row in rows]


def run_search(method: str, data: Path, device: torch.device, *more: str) -> dict[str, Any]:
    """A method's published search on real images, as a person runs it: seconds in all, summary and cell."""
    overrides = ["experiment=none", f"method={method}", "data=npz", f"data.path={data.resolve()}"]
    overrides += ["data.crop_padding=4", "data.flip=true", "retrain=none", "baseline.random=0", "doctor=off"]
    overrides += [f"runtime.device={device.type}", "runtime.graphs=true", "runtime.precision=bfloat16", *more]
    with tempfile.TemporaryDirectory() as directory:
        run = Path(directory) / "run"
        command = [sys.executable, "-m", "experiments.pipeline", *overrides, f"hydra.run.dir={run}"]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found: dict[str, Any] = {"overrides": overrides, "seconds": time.perf_counter() - began}
        require(done.returncode == 0, f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
        for name in ("summary", "genotype"):
            found[name] = json.loads((run / f"{name}.json").read_text(encoding="utf-8"))
    print(f"  {found['seconds']:.0f} s, validation {found['summary']['search_valid_accuracy']}", flush=True)
    return found


def _times(
    variants: list[Variant], make: Callable[[Variant], Callable[[], Any]], scale: Scale, device: torch.device
) -> list[dict[str, Any]]:
    """One row a variant. Memory is measured first, one variant at a time; then all that fit take turns."""
    rows: dict[str, dict[str, Any]] = {}
    for variant in variants:
        row = rows[str(variant)] = {"variant": str(variant), "settings": asdict(variant)}
        try:
            row["memory_gb"] = _memory(lambda variant=variant: make(variant), device)  # type: ignore[misc]
        except Exception as error:
            row["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if device.type == "cuda":
            torch.cuda.empty_cache()
    for chunk in _chunks([v for v in variants if "failed" not in rows[str(v)]], 3):
        # The first of all is in every chunk: what is compared has taken turns with it.
        together = chunk if variants[0] in chunk else [variants[0], *chunk]
        try:
            steps = {str(variant): make(variant) for variant in together}
            for name, times in alternate(steps, device, warm_up=scale.warm_up, rounds=scale.rounds).items():
                rows[name].setdefault("times", []).append(times)
        except Exception as error:
            for variant in chunk:
                rows[str(variant)]["failed"] = f"{type(error).__name__}: {str(error).splitlines()[:1]}"
        steps = {}
        if device.type == "cuda":
            torch.cuda.empty_cache()
        for variant in chunk:
            row = rows[str(variant)]
            if "times" in row and rows[str(variants[0])].get("times"):
                first = rows[str(variants[0])]["times"][-1]["median"]
                row["speed"] = first / row["times"][-1]["median"]
    for row in rows.values():
        _say(row)
    return list(rows.values())


def _memory(make: Callable[[], Callable[[], Any]], device: torch.device) -> float | None:
    """Peak of what a few steps hold, in GB; None where the device does not tell."""
    if device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    step = make()
    for _ in range(6):
        step()
    return torch.cuda.max_memory_reserved(device) / 1e9


def _chunks(items: list[Variant], size: int) -> list[list[Variant]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _say(row: dict[str, Any]) -> None:
    if "failed" in row:
        print(f"  {row['variant']:<28} failed: {row['failed']}")
        return
    last = row["times"][-1]
    memory = "" if row["memory_gb"] is None else f"  {row['memory_gb']:6.2f} GB"
    spread = f"{last['least'] * 1e3:.1f}..{last['most'] * 1e3:.1f}"
    print(f"  {row['variant']:<28} {last['median'] * 1e3:9.1f} ms  {spread:>18}  {row['speed']:6.2f}x{memory}")


def require(right: bool, what: str) -> None:
    """Raises where a check fails: the section is then recorded as failed."""
    if not right:
        raise AssertionError(what)


SECTIONS: dict[str, Callable[[Scale, torch.device], Any]] = {
    "check_stacked": check_stacked,
    "check_bfloat16": check_bfloat16,
    "check_graphs": check_graphs,
    "check_waiting": check_waiting,
    "time_searches": time_searches,
    "time_trainings": time_trainings,
}


def run_section(name: str, section: Callable[[], Any]) -> dict[str, Any]:
    """A section's result, or how it failed."""
    print(name, flush=True)
    exact = name.startswith("check")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not exact
    torch.backends.cudnn.benchmark = not exact
    try:
        result = section()
    except Exception as error:
        print(f"  failed: {error}")
        return {"failed": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    if isinstance(result, dict) and exact:
        for key, value in result.items():
            print(f"  {key:<48} {value if isinstance(value, str) else format(value, '.2e')}")
    return {"result": result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks, one round: to try the script")
    parser.add_argument("--only", choices=["checks", "times", *SECTIONS], help="only these sections")
    parser.add_argument("--data", type=Path, help="an .npz file of CIFAR-10: the published searches are run on it, too")
    parser.add_argument("--more", nargs="*", default=[], help="overrides of these searches, such as search.epochs=1")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/gpu.json"))
    arguments = parser.parse_args()
    device, scale = torch.device(arguments.device), TINY if arguments.tiny else FULL
    chosen = [n for n in SECTIONS if arguments.only in (None, n) or n.startswith(arguments.only.rstrip("s") + "_")]
    sections = {name: partial(SECTIONS[name], scale, device) for name in chosen}
    if arguments.data and arguments.only is None:
        for method in ("darts", "pc_darts"):
            sections[f"search_{method}"] = partial(run_search, method, arguments.data, device, *arguments.more)
    record: dict[str, Any] = {"machine": machine(device), "tiny": arguments.tiny}
    print(record["machine"], flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for name, section in sections.items():
        record[name] = run_section(name, section)
        arguments.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if failed := [name for name in sections if "failed" in record[name]]:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
