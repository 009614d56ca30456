"""How long steps take against the original authors' own code, which takes turns with ours in the same process.

It needs a checkout of https://github.com/quark0/darts (`--code`) and, for partial channels, one of
https://github.com/yuhuixu1993/PC-DARTS (`--partial-code`). Nothing of either is in this repository. Their classes are
imported and run as they are; what today's PyTorch does not have any more is put in its place while they run: `.cuda()`
does nothing, and random numbers "on the GPU" come from the processor. What their training loops do in a step (their
scripts cannot be imported without starting) is written here in today's calls: the architect's step, the weights' step
with its clipping, and the top accuracies.

Before searches are timed both make one step from the same weights, alphas and batches; where they end up has to agree.

    git clone https://github.com/quark0/darts /tmp/darts
    git clone https://github.com/yuhuixu1993/PC-DARTS /tmp/pc
    python -m experiments.benchmarks.original --code /tmp/darts --partial-code /tmp/pc           # half an hour
    python -m experiments.benchmarks.original --code /tmp/darts --only first_order --rounds 3     # some minutes
    python -m experiments.benchmarks.original --code /tmp/darts --only first_order --memory      # peaks, not times
    python -m experiments.benchmarks.original --code /tmp/darts --channels 4 --cells 3 --batch 4 --rounds 1
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from experiments.benchmarks.setting import (
    SearchSteps,
    TrainingSteps,
    Variant,
    alternate,
    machine,
    random_batch,
    rows,
    searches,
    write,
)
from supernet.space.darts import Darts
from supernet.space.dropout import set_drop_path
from supernet.training.meters import memory_gb

KINDS = ("first_order", "second_order", "partial_channels", "retraining")
NAMES = ("operations", "genotypes", "utils", "model_search", "architect", "model", "visualize")
RATE, MOMENTUM, DECAY, DROP = 0.025, 0.9, 3e-4, 0.1
FARTHEST, FARTHEST_SECOND = 1e-2, 5e-2
"""The largest differences of what a step changes, relative to the change: in float32 a last digit can turn a ReLU. The
second order's finite difference makes more of it, and so does the first step of Adam, a sign: the alphas of second
order are told and not judged."""


def imported(folder: Path) -> SimpleNamespace:
    """The modules of a checkout by name; nothing of them stays importable, so that two checkouts can be imported."""
    if not (folder / "model_search.py").exists():
        raise SystemExit(f"{folder} has no model_search.py: give --code and --partial-code the folder of a checkout")
    sys.path.insert(0, str(folder))
    try:
        found = {
            name: importlib.import_module(name) for name in ("utils", "genotypes", "architect", "model_search", "model")
        }
    finally:
        sys.path.remove(str(folder))
        for name in NAMES:
            sys.modules.pop(name, None)
    return SimpleNamespace(**found)


@contextmanager
def on_processor() -> Iterator[None]:
    """Within it the code of 2018 runs on today's PyTorch and without a GPU; what it prints goes nowhere."""

    def stay(self: Any, *arguments: Any, **settings: Any) -> Any:
        return self

    with (
        patch.object(torch.Tensor, "cuda", stay),
        patch.object(nn.Module, "cuda", stay),
        patch.object(torch.cuda, "FloatTensor", torch.FloatTensor),
        warnings.catch_warnings(),
        redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")  # of overloads that are deprecated
        yield


def accuracies(logits: Tensor, labels: Tensor) -> list[float]:
    """Top 1 and top 5, read by the host, as the original's loop does after each step."""
    hit = logits.topk(5, 1).indices == labels[:, None]
    return [float(hit[:, :most].sum()) / len(labels) for most in (1, 5)]


class OriginalSearch:
    """Calls are steps of the original's search: its network and its architect."""

    def __init__(self, code: SimpleNamespace, arguments: argparse.Namespace, unrolled: bool) -> None:
        torch.manual_seed(0)
        self.criterion, self.is_unrolled = nn.CrossEntropyLoss(), unrolled
        with on_processor():
            self.network = code.model_search.Network(arguments.channels, 10, arguments.cells, self.criterion)
            settings = SimpleNamespace(
                momentum=MOMENTUM, weight_decay=DECAY, arch_learning_rate=3e-4, arch_weight_decay=1e-3
            )
            self.architect = code.architect.Architect(self.network, settings)
        self.optimizer = torch.optim.SGD(self.network.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
        self.train, self.valid = (random_batch(arguments.batch, torch.device("cpu"), seed=seed) for seed in (1, 2))

    @property
    def alphas(self) -> list[Tensor]:
        """The rows of all alphas of operations, cell kind after cell kind, then the weights of edges, if any."""
        operations, edges = self.network.arch_parameters()[:2], self.network.arch_parameters()[2:]
        return [*(row for table in operations for row in table), *edges]

    def __call__(self) -> Tensor:
        train, valid = self.train, self.valid
        with on_processor():
            self.network.train()
            self.architect.step(
                train.images, train.labels, valid.images, valid.labels, RATE, self.optimizer, unrolled=self.is_unrolled
            )
            self.optimizer.zero_grad()
            logits = self.network(train.images)
            loss = self.criterion(logits, train.labels)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimizer.step()
        accuracies(logits, train.labels)
        return loss.detach()


class OriginalTraining:
    """Calls are steps of the original's training of DARTS_V2, with auxiliary head and constant drop path."""

    def __init__(self, code: SimpleNamespace, arguments: argparse.Namespace) -> None:
        torch.manual_seed(0)
        with on_processor():
            genotype = code.genotypes.DARTS_V2
            self.network = code.model.NetworkCIFAR(arguments.channels, 10, arguments.cells, True, genotype).train()
        self.network.drop_path_prob = DROP
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.network.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
        self.batch = random_batch(arguments.batch, torch.device("cpu"))

    def __call__(self) -> Tensor:
        with on_processor():
            self.optimizer.zero_grad()
            logits, auxiliary = self.network(self.batch.images)
            loss = self.criterion(logits, self.batch.labels)
            loss += 0.4 * self.criterion(auxiliary, self.batch.labels)
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimizer.step()
        accuracies(logits, self.batch.labels)
        return loss.detach()


def start_alike(original: OriginalSearch, ours: SearchSteps) -> tuple[list[Tensor], list[Tensor]]:
    """Gives our supernet the original's weights and alphas; returns both lists of parameters, in one order."""
    names = ours.strategy.decisions
    operations = [ours.strategy.logits[name] for name, d in names.items() if d.role == "operation"]
    edges = [
        ours.strategy.logits[name] for name, d in names.items() if d.role == "inputs" and name in ours.strategy.logits
    ]
    theirs = original.alphas[: len(operations)]
    for table in original.alphas[len(operations) :]:  # the original has one vector for all nodes of a kind of cell
        theirs += table.split([len(edge) for edge in edges[: len(edges) // 2]])
    mine = [*operations, *edges, *ours.supernet.parameters()]
    theirs += list(original.network.parameters())
    with torch.no_grad():
        for a, b in zip(mine, theirs, strict=True):
            a.copy_(b)
    return theirs, mine


def agreement(original: OriginalSearch, ours: SearchSteps, farthest: float = FARTHEST) -> dict[str, float]:
    """How far apart both end up after one step from the same start, relative to the step; too far stops."""
    theirs, mine = start_alike(original, ours)
    before = [tensor.detach().clone() for tensor in theirs]
    losses = float(original()), float(ours())
    alphas = len(theirs) - len(list(original.network.parameters()))

    def apart(part: slice) -> float:
        moved = [
            torch.cat([(p - b).flatten() for p, b in zip(each[part], before[part], strict=True)])
            for each in (theirs, mine)
        ]
        return float((moved[0] - moved[1]).norm() / moved[0].norm())

    with torch.no_grad():
        found = {
            "loss": abs(losses[0] - losses[1]) / losses[0],
            "weights": apart(slice(alphas, None)),
            "alphas": apart(slice(0, alphas)),
        }
    print(", ".join(f"{name}: {value:.1e}" for name, value in found.items()), "from the original after one step")
    judged = [found["loss"], found["weights"], *([found["alphas"]] if farthest == FARTHEST else [])]
    if max(judged) > farthest:
        raise SystemExit("ours is not the original's step")
    return found


def pair(kind: str, arguments: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """The original's steps of a kind, and ours, with what is held against each other before."""
    device = torch.device("cpu")
    partial = kind == "partial_channels"
    folder = arguments.partial_code if partial else arguments.code / "cnn"
    code = imported(folder)
    if kind == "retraining":
        ours = TrainingSteps(
            Darts(channels=arguments.channels, cells=arguments.cells, auxiliary=True),
            Variant("fused"),
            arguments.batch,
            32,
            device,
        )
        set_drop_path(ours.network, DROP)
        return {"original": OriginalTraining(code, arguments), "fused": ours}
    search = searches(Darts(channels=arguments.channels, cells=arguments.cells))[kind]
    steps = SearchSteps(search, Variant("fused"), arguments.batch, 32, device)
    return {"original": OriginalSearch(code, arguments, kind == "second_order"), "fused": steps}


def times(kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a step, original and fused taking turns."""
    both = pair(kind, arguments)
    found: dict[str, Any] = {}
    if isinstance(both["original"], OriginalSearch) and isinstance(both["fused"], SearchSteps):
        found["agreement"] = agreement(
            both["original"], both["fused"], FARTHEST_SECOND if kind == "second_order" else FARTHEST
        )
    found["seconds"] = alternate(both, torch.device("cpu"), warm_up=1, rounds=arguments.rounds)
    print(f"| {kind} | median s | range | n | times faster |\n|---|---|---|---|---|")
    print("\n".join(rows(found["seconds"], "original")) + "\n", flush=True)
    return found


def child(kind: str, name: str, arguments: argparse.Namespace) -> None:
    """Prints the peak before there is a network and after two steps, in GB; only the one of both is stepped."""
    device = torch.device("cpu")
    torch.randn(2, 2).matmul(torch.randn(2, 2))
    before = memory_gb(device)
    step = pair(kind, arguments)[name]
    for _ in range(2):
        step()
    print(json.dumps({"before": before, "peak": memory_gb(device)}))


def peaks(kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of two steps, each in a process of its own."""
    found = {}
    for name in ("original", "fused"):
        command = [
            sys.executable,
            "-m",
            "experiments.benchmarks.original",
            *sys.argv[1:],
            "--only",
            kind,
            "--child",
            name,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    base = found["original"]
    print(f"| {kind} | peak GB | of the original's | of it, without the process itself |\n|---|---|---|---|")
    for name, g in found.items():
        own = (g["peak"] - g["before"]) / (base["peak"] - base["before"])
        print(f"| {name} | {g['peak']:.2f} | {g['peak'] / base['peak']:.2f} | {own:.2f} |", flush=True)
    return {"gigabytes": found}


def sized(kind: str, arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments with the published sizes where none are given."""
    published = (
        {"channels": 36, "cells": 20, "batch": 96}
        if kind == "retraining"
        else {"channels": 16, "cells": 8, "batch": 64}
    )
    given = {name: getattr(arguments, name) or size for name, size in published.items()}
    return argparse.Namespace(**{**vars(arguments), **given})


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--code", type=Path, required=True, help="a checkout of quark0/darts")
    parser.add_argument(
        "--partial-code", type=Path, help="one of yuhuixu1993/PC-DARTS; without it that kind is left out"
    )
    parser.add_argument("--only", choices=KINDS, help="one kind of step; all otherwise")
    parser.add_argument("--memory", action="store_true", help="peaks of memory instead of times")
    for name, sizes in (
        ("channels", "16, retraining 36"),
        ("cells", "8, retraining 20"),
        ("batch", "64, retraining 96"),
    ):
        parser.add_argument(f"--{name}", type=int, help=f"the published {sizes} otherwise")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", choices=("original", "fused"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("experiments/results/original.json"),
        help="for first_order with _first_order before its ending; of memory with _memory, too",
    )
    arguments = parser.parse_args(given)
    if arguments.child:
        child(arguments.only, arguments.child, sized(arguments.only, arguments))
        return
    started = machine(torch.device("cpu"))
    print(f"{started}\n")
    for kind in [arguments.only] if arguments.only else KINDS:
        if kind == "partial_channels" and arguments.partial_code is None:
            print("partial_channels: left out without --partial-code")
            continue
        chosen = sized(kind, arguments)
        found = peaks(kind, chosen) if arguments.memory else times(kind, chosen)
        settings = {name: getattr(chosen, name) for name in ("channels", "cells", "batch", "rounds")}
        stem = f"{arguments.output.stem}_{kind}" + ("_memory" if arguments.memory else "")
        write(arguments.output.with_stem(stem), {"settings": settings, "machine": started, **found})


if __name__ == "__main__":
    main()
