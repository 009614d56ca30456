"""Times steps of one process with two threads against those of two processes with one thread each, same joined batch.

A step of a search (DARTS of first order, and unrolled) and of the retraining, in the published sizes. All are there
before the clock starts, and take turns, step by step: while the two compute, the one waits. Norms that are synchronised
are computed edge by edge, in smaller batches, and held against one process that does so, too.

What a step spends in communication is measured in the first of the two: all that it spends in the meetings of
`Processes` and in their backward passes, to wait for the other one included. Bytes are those of the tensors that it
hands over.

    python -m experiments.benchmarks.processes                                     # five minutes
    python -m experiments.benchmarks.processes --only retraining --rounds 5
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from experiments.benchmarks.setting import SearchSteps, TrainingSteps, Variant, alternate, machine, searches, write
from supernet.runtime.processes import ALONE, Processes, together
from supernet.runtime.seeding import seed_everything
from supernet.runtime.text import quantity
from supernet.space.darts import Darts
from supernet.space.dropout import set_drop_path

KINDS = ("first order", "second order", "retraining")
ONE, TWO = "one process", "two processes"
PLAIN, SYNCHRONISED = "one process, edge by edge", "two processes, norms synchronised"
COUNT = 2
NEAR = 1e-4  # the first losses of one process and of two with synchronised norms, relative, in float32
_PATIENCE = 600.0  # seconds in which a process answers
_MEETINGS = ("averaged", "average_", "gathered", "stacked", "all_of", "from_leader", "largest")


@dataclass
class Spent:
    """What a step has spent in communication: seconds, bytes of a process's own tensors, and collective calls."""

    seconds: float = 0.0
    bytes: int = 0
    calls: int = 0
    _open: int = field(default=0, repr=False)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Within it time is that of communication; within another one it is counted already."""
        began, self._open = time.perf_counter(), self._open + 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self.seconds += time.perf_counter() - began

    def reset(self) -> None:
        """Begins a new step."""
        self.seconds, self.bytes, self.calls = 0.0, 0, 0


def metered(processes: Processes, spent: Spent, *, synchronised: bool) -> Processes:
    """The same processes, whose meetings are counted."""

    def wrapped(name: str) -> Callable[..., Any]:
        method = getattr(Processes, name)

        def meeting(self: Processes, *given: Any, **named: Any) -> Any:
            with spent.counted():
                return method(self, *given, **named)

        return meeting

    kind = type("Metered", (Processes,), {name: wrapped(name) for name in _MEETINGS})
    known = {each.name: getattr(processes, each.name) for each in fields(processes)}
    made: Processes = kind(**{**known, "synchronised": synchronised})
    return made


@contextmanager
def collectives_counted(spent: Spent) -> Iterator[None]:
    """Within it PyTorch's collectives are counted, also those of backward passes, which no meeting surrounds."""

    def wrapped(call: Callable[..., Any], own: int) -> Callable[..., Any]:
        def collective(*given: Any, **named: Any) -> Any:
            with spent.counted():
                spent.bytes += given[own].nbytes
                spent.calls += 1
                return call(*given, **named)

        return collective

    known: dict[str, Any] = {name: getattr(dist, name) for name in ("all_reduce", "all_gather")}
    try:
        dist.all_reduce, dist.all_gather = wrapped(known["all_reduce"], 0), wrapped(known["all_gather"], 1)
        yield
    finally:
        dist.all_reduce, dist.all_gather = known["all_reduce"], known["all_gather"]


def step_of(kind: str, executor: str, batch: int, sizes: Mapping[str, int], processes: Processes) -> Callable[[], Any]:
    """A step; what it returns is its loss."""
    variant, side, device = Variant(executor), sizes["side"], torch.device("cpu")
    if kind == "retraining":
        space = Darts(channels=sizes["training_channels"], cells=sizes["training_cells"], auxiliary=True)
        training = TrainingSteps(space, variant, batch, side, device, processes)
        set_drop_path(training.network, 0.1)
        return training
    search = searches(Darts(channels=sizes["channels"], cells=sizes["cells"]))[kind.replace(" ", "_")]
    search = replace(search, architect=partial(search.architect))  # the library's, also where cells are the reference's
    return SearchSteps(search, variant, batch, side, device, processes)


def take_part(rank: int, port: int, sizes: Mapping[str, int], line: Connection) -> None:
    """One of the two: takes a step whenever it is told which, and answers with its loss and what it spent."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": COUNT, "LOCAL_WORLD_SIZE": COUNT, "MASTER_PORT": port}
    os.environ.update({"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in places.items()}})
    torch.set_num_threads(1)
    seed_everything(0)
    spent = Spent()
    with ExitStack() as stack:
        processes = stack.enter_context(together())
        own, joint = (metered(processes, spent, synchronised=synchronised) for synchronised in (False, True))
        stack.enter_context(collectives_counted(spent))
        steps: dict[str, Callable[[], Any]] = {}
        compared: set[tuple[str, str]] = set()
        before = ""
        while (asked := line.recv()) is not None:
            kind, name = asked
            if kind != before:
                batch, smaller = batches(kind, sizes)
                steps = {
                    TWO: step_of(kind, "fused", batch, sizes, own),
                    SYNCHRONISED: step_of(kind, "reference", smaller, sizes, joint),
                }
                before = kind
            spent.reset()
            own.largest([0, 0])  # as loops ask before each step whether to stop or to save
            loss = float(steps[name]())
            answer = (loss, spent.seconds, spent.bytes, spent.calls)
            if (kind, name) not in compared:  # in the warm-up
                own.compare(parts_of(steps[name]), f"the first step, {kind}, {name}")
                compared.add((kind, name))
            line.send(answer)


def parts_of(steps: Any) -> dict[str, Any]:
    """What two processes have to hold alike."""
    if isinstance(steps, SearchSteps):
        return {"network": steps.supernet, "strategy": steps.strategy}
    return {"network": steps.network}


def batches(kind: str, sizes: Mapping[str, int]) -> tuple[int, int]:
    """The images of a joined batch, and those of one with synchronised norms."""
    whole = sizes["training_batch"] if kind == "retraining" else sizes["batch"]
    return whole, max(2 * COUNT, whole // sizes["divisor"])


@contextmanager
def pair(sizes: Mapping[str, int]) -> Iterator[Callable[[str, str], list[Any]]]:
    """Starts the two processes; within it a call has both take a step of a kind by a way, and gives their answers."""
    context, port = multiprocessing.get_context("spawn"), free_port()
    lines, started = [], []
    for rank in range(COUNT):
        here, there = context.Pipe()
        started.append(context.Process(target=take_part, args=(rank, port, dict(sizes), there), daemon=True))
        started[-1].start()
        there.close()  # so that the end of a process is the end of its line
        lines.append(here)

    def step(kind: str, name: str) -> list[Any]:
        for line in lines:
            line.send((kind, name))
        if not all(line.poll(_PATIENCE) for line in lines):
            raise SystemExit(f"{kind}, {name}: no answer in {_PATIENCE:.0f} s")
        try:
            return [line.recv() for line in lines]
        except EOFError:
            raise SystemExit(f"{kind}, {name}: a process has failed") from None

    try:
        yield step
        for line in lines:
            line.send(None)
    finally:
        for process in started:
            process.join(10)
            process.kill()


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def measure(kind: str, sizes: Mapping[str, int], rounds: int, ask: Callable[[str, str], list[Any]]) -> dict[str, Any]:
    """Seconds of a kind of step by each way, and what communication takes of those of two processes."""
    batch, smaller = batches(kind, sizes)
    losses: dict[str, float] = {}
    answers: dict[str, list[Any]] = {TWO: [], SYNCHRONISED: []}

    def alone(name: str, step: Callable[[], Any]) -> None:
        losses.setdefault(name, float(step()))

    def shared(name: str) -> None:
        first, *others = ask(kind, name)
        assert all(other[0] == first[0] for other in others), "the processes' losses differ"
        losses.setdefault(name, first[0])
        answers[name].append(first[1:])

    ways: dict[str, Callable[[], Any]] = {
        ONE: partial(alone, ONE, step_of(kind, "fused", batch, sizes, ALONE)),
        TWO: partial(shared, TWO),
        PLAIN: partial(alone, PLAIN, step_of(kind, "reference", smaller, sizes, ALONE)),
        SYNCHRONISED: partial(shared, SYNCHRONISED),
    }
    times: dict[str, Any] = alternate(ways, torch.device("cpu"), warm_up=1, rounds=rounds)
    if abs(losses[SYNCHRONISED] - losses[PLAIN]) > NEAR * abs(losses[PLAIN]):
        raise SystemExit(f"{kind}: with synchronised norms the loss is {losses[SYNCHRONISED]}, not {losses[PLAIN]}")
    for name, images in ((ONE, batch), (TWO, batch), (PLAIN, smaller), (SYNCHRONISED, smaller)):
        times[name] |= {"images": images, "images_per_second": images / times[name]["median"]}
    for name, each in answers.items():
        seconds, sent, calls = zip(*each[-rounds:], strict=True)
        communication = statistics.median(seconds)
        times[name] |= {"communication": communication, "share": communication / times[name]["median"]}
        times[name] |= {"bytes": sent[-1], "collectives": calls[-1]}
    return {"losses": losses, "ways": times}


def table(found: Mapping[str, Any]) -> list[str]:
    """A Markdown row for each kind and way."""
    lines = [
        "| step | how | images | median s | range | n | images a second | faster | in communication | MB | calls |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, each in found.items():
        ways = each["ways"]
        for name, t in ways.items():
            base = ways[ONE if name in (ONE, TWO) else PLAIN]["median"]
            shared = "| - | - | - |"
            if "share" in t:
                shared = f"| {t['share']:.1%} | {t['bytes'] / 1e6:.2f} | {t['collectives']} |"
            times = f"{t['median']:.3f} | {t['least']:.3f}-{t['most']:.3f} | {t['n']}"
            ratios = f"{t['images_per_second']:.1f} | {base / t['median']:.2f}"
            lines.append(f"| {kind} | {name} | {t['images']} | {times} | {ratios} {shared}")
    return lines


def page(record: Mapping[str, Any], command: Sequence[str]) -> str:
    """The record as a page."""
    on, sizes = record["machine"], record["settings"]
    head = f"""# One process and two

{on["device"]}; PyTorch {on["torch"]}; commit {on["commit"]}, {on["date"]}.

    {" ".join(command)}

"""
    said = f"""
    Steps of {sizes["channels"]} channels and {sizes["cells"]} cells (retraining: {sizes["training_channels"]} and
    {sizes["training_cells"]}) on images of {sizes["side"]} x {sizes["side"]}. The one process has
    {quantity(sizes["threads"], "thread")}, each of the two has one. The ways take turns, step by step. *Images* are
    those of the joined batch, and of the training half alone where there are two halves. *Faster* is the ratio of
    medians: two processes against one, and with synchronised norms, which are computed edge by edge, against one
    process that computes so. *In communication* is the median of the time that the first process spends in its
    meetings, to wait for the other one included; *MB* and *calls* are what it hands to collectives in a step, and how
    often.
    """
    text = head + textwrap.fill(" ".join(said.split()), 120) + "\n\n"
    return text + "\n".join(table(record["steps"])) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=KINDS, help="one kind of step; all otherwise")
    parser.add_argument("--channels", type=int, default=16, help="of the search network")
    parser.add_argument("--cells", type=int, default=8, help="of the search network")
    parser.add_argument("--batch", type=int, default=64, help="images of each half")
    parser.add_argument("--training-channels", type=int, default=36, help="of the network that is retrained")
    parser.add_argument("--training-cells", type=int, default=20, help="of the network that is retrained")
    parser.add_argument("--training-batch", type=int, default=96)
    parser.add_argument("--divisor", type=int, default=8, help="of the batches of what is computed edge by edge")
    parser.add_argument("--side", type=int, default=32, help="of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("experiments/results/processes.json"), help="and .md")
    parser.add_argument("--threads", type=int, default=COUNT, help="of the one process; the two have one each")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = {key: value for key, value in vars(arguments).items() if key not in ("output", "only")}
    record: dict[str, Any] = {"settings": settings, "machine": machine(torch.device("cpu")), "steps": {}}
    with pair(settings) as ask:
        for kind in [arguments.only] if arguments.only else KINDS:
            record["steps"][kind] = measure(kind, settings, arguments.rounds, ask)
            write(arguments.output, record)
    print("\n".join(table(record["steps"])))
    given = [
        f"--{name.replace('_', '-')} {value}" for name, value in settings.items() if value != parser.get_default(name)
    ]
    command = ["python -m experiments.benchmarks.processes", *given]
    arguments.output.with_suffix(".md").write_text(page(record, command), encoding="utf-8")


if __name__ == "__main__":
    main()
