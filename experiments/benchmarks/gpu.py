"""All that has to be checked and measured on a GPU, in pieces as short as one likes.

    python -m experiments.benchmarks.gpu --seconds 280                       # what fits, the most useful first
    python -m experiments.benchmarks.gpu --only checks                       # results: executors, precisions, graphs
    python -m experiments.benchmarks.gpu --only steps                        # every step as one graph, milliseconds
    python -m experiments.benchmarks.gpu --only steps_by_pass steps_eager    # and otherwise
    python -m experiments.benchmarks.gpu --only search_darts --data cifar10.npz --work runs/gpu --seconds 550
    python -m experiments.benchmarks.gpu --device cpu --tiny --only steps    # the script itself, without a GPU

Every row is written as it comes, and no row is begun that is likely not to end within `--seconds`. The same command
goes on from there: what is in the file is not measured again, what has failed is. The file, `--output`, has a JSON
line a row; `--known` is such a file of an earlier call whose rows are taken over. Searches and the retraining go on
from their checkpoints in `--work`.

Everything computes as the product does by default: deterministic, without TF32; on a GPU the stacked form. Images of
steps are random; those of searches are of `--data`, an .npz file with MedMNIST's keys, or random as well, which is
said in their rows. Neither Hydra nor the network is needed, nor anything that PyTorch and the library do not need.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from experiments.benchmarks.gpu_checks import (
    check_bfloat16,
    check_executors,
    check_graphs,
    check_methods,
    check_waiting,
)
from experiments.benchmarks.gpu_detection import check_detection, step_detection
from experiments.benchmarks.gpu_more import explore_candidates, step_nested, time_validation
from experiments.benchmarks.gpu_precision import compare_precisions
from experiments.benchmarks.gpu_rows import Clock, Record, Rows, TimeIsUp
from experiments.benchmarks.gpu_searches import METHODS, Pieces, run_retraining, run_search
from experiments.benchmarks.gpu_sizes import FULL, TINY, Scale
from experiments.benchmarks.gpu_steps import (
    copy_bandwidth,
    profile_steps,
    time_by_pass,
    time_eager,
    time_others,
    time_risks,
    time_tf32,
    time_whole,
    time_without_triton,
)
from experiments.benchmarks.setting import machine
from supernet.execution.precision import numerics_settled

Section = Callable[[Scale, torch.device, Rows], None]

SECTIONS: Mapping[str, Section] = {  # the most useful first
    "bandwidth": copy_bandwidth,
    "check_graphs": check_graphs,
    "check_executors": check_executors,
    "steps": time_whole,
    "steps_tf32": time_tf32,
    "steps_without_triton": time_without_triton,
    "precision": compare_precisions,
    "steps_by_pass": time_by_pass,
    "steps_eager": time_eager,
    "validation": time_validation,
    "mobile": step_nested,
    "detection": step_detection,
    "explore": explore_candidates,
    "check_bfloat16": check_bfloat16,
    "check_methods": check_methods,
    "check_detection": check_detection,
    "check_waiting": check_waiting,
    "risks": time_risks,
    "steps_others": time_others,
    "profile": profile_steps,  # last: a profiler may slow the host afterwards
}
SEARCHES = (*(f"search_{method}" for method in METHODS), "retrain")
GROUPS = {
    "checks": tuple(name for name in SECTIONS if name.startswith("check_")),
    "times": tuple(name for name in SECTIONS if name.startswith("steps")),
    "searches": SEARCHES,
}
"""What `--only` takes besides single sections."""


def sections_of(pieces: Pieces) -> dict[str, Section]:
    """All sections by name, those that go on in pieces at the end."""
    searches = {f"search_{method}": partial(run_search, method, pieces) for method in METHODS}
    return {**SECTIONS, **searches, "retrain": partial(run_retraining, pieces)}


def chosen(only: list[str] | None) -> list[str]:
    """The sections that are asked for, in the order in which they are; all but the searches where none is."""
    if only is None:
        return list(SECTIONS)
    return list(dict.fromkeys(name for asked in only for name in GROUPS.get(asked, (asked,))))


def run_sections(
    sections: Mapping[str, Section],
    scale: Scale,
    device: torch.device,
    record: Record,
    clock: Clock,
    most: float | None = None,
) -> None:
    """Runs the sections, each for `most` seconds at most, until the time is up.

    Raises:
        SystemExit: a row has failed; all others are measured all the same.
    """
    failed = []
    for name, section in sections.items():
        print(f"{name}  ({clock.left():.0f} s left)" if clock.seconds else name, flush=True)
        rows = Rows(record, name, clock.part(most))
        try:
            section(scale, device, rows)
        except TimeIsUp:
            print("  time is up: the same command goes on from here", flush=True)
        failed += [f"{name}: {row}" for row in rows.failed]
    if failed:
        raise SystemExit("failed: " + "; ".join(failed))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks, one round: to try the script")
    known = [*GROUPS, *SECTIONS, *SEARCHES]
    parser.add_argument("--only", choices=known, nargs="+", metavar="SECTION", help=f"of {', '.join(known)}")
    parser.add_argument("--seconds", type=float, help="how long this call may take")
    parser.add_argument("--section-seconds", type=float, help="how long each section of it may take")
    parser.add_argument("--rounds", type=int, help="how often each step is timed")
    parser.add_argument("--data", type=Path, help="an .npz file of the searches' images; random ones otherwise")
    parser.add_argument("--images", type=int, help="how many random ones; otherwise as many as CIFAR-10 has")
    parser.add_argument("--work", type=Path, default=Path("runs/gpu"), help="the folder of the searches' checkpoints")
    parser.add_argument("--epochs-a-call", type=int, help="of a search; otherwise as many as there is time for")
    parser.add_argument(
        "--precision", choices=("float32", "tf32", "bfloat16"), default="float32", help="of the searches"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/gpu/gpu.jsonl"))
    parser.add_argument("--known", type=Path, help="the file of an earlier call, whose rows are taken over")
    return parser.parse_args()


def main() -> None:
    arguments = _asked()
    clock = Clock(arguments.seconds)
    device, scale = torch.device(arguments.device), TINY if arguments.tiny else FULL
    scale = replace(scale, rounds=arguments.rounds or scale.rounds, images=arguments.images or scale.images)
    pieces = Pieces(arguments.work, arguments.data, arguments.epochs_a_call, arguments.precision)
    head = {"machine": machine(device), "tiny": arguments.tiny}
    if arguments.known is not None and not arguments.output.exists():
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(arguments.known.read_text(encoding="utf-8"), encoding="utf-8")
    record, sections = Record(arguments.output, head), sections_of(pieces)
    print(head["machine"], flush=True)
    with numerics_settled(deterministic=True):
        wanted = {name: sections[name] for name in chosen(arguments.only)}
        run_sections(wanted, scale, device, record, clock, arguments.section_seconds)


if __name__ == "__main__":
    main()
