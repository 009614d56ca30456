"""How long steps take on a GPU, how much of it the host, how much memory, and in which kernels.

One variant is built at a time, and its memory is given back before the next one. The device does nothing else, so that
variants need not take turns.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from experiments.benchmarks.gpu_rows import Row, Rows, Wrong
from experiments.benchmarks.gpu_sizes import Kind, Scale
from experiments.benchmarks.setting import Search, SearchSteps, Variant, seconds, switched_off, synchronise
from supernet.execution.precision import numerics_settled
from supernet.search.differentiable.architects import unrolled_exact

PRODUCT = "fused"
"""What the product runs cells with: on a GPU it is the stacked form."""

EAGER, BY_PASS, WHOLE = Variant(PRODUCT), Variant(PRODUCT, graphs=True), Variant(PRODUCT, whole=True)
EAGER16, BY_PASS16, WHOLE16 = (
    Variant(PRODUCT, precision="bfloat16"),
    Variant(PRODUCT, graphs=True, precision="bfloat16"),
    Variant(PRODUCT, whole=True, precision="bfloat16"),
)
OTHERS = (Variant("reference"), Variant("stacked", whole=True))
TOP = 20
"""Kernels of a profile."""
PROFILED = (("first_order", WHOLE), ("retraining", WHOLE), ("partial_channels", WHOLE), ("first_order", WHOLE16))


def time_whole(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Every kind of step as one graph, in float32 and then in bfloat16."""
    _time([WHOLE, WHOLE16], scale, device, rows)


def time_tf32(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Every kind of step as one graph with `precision=tf32`: inputs of products and convolutions have 10 bits."""
    _time([replace(WHOLE, precision="tf32")], scale, device, rows, left_out=("single_path",))


def time_without_triton(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Every kind of step as one graph, of PyTorch's own kernels alone."""
    with switched_off("SUPERNET_TRITON"):
        _time([WHOLE], scale, device, rows, left_out=("single_path",), words=", without Triton")


def time_by_pass(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Every kind of step with a graph for each pass; single paths, which decide on the host, have none."""
    _time([BY_PASS, BY_PASS16], scale, device, rows, left_out=("single_path",))


def time_eager(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Every kind of step without graphs."""
    _time([EAGER, EAGER16], scale, device, rows)


def time_others(scale: Scale, device: torch.device, rows: Rows) -> None:
    """The first-order step in other ways: the reference, grouped 1x1 convolutions, without determinism."""
    first = scale.kinds(device)["first_order"]

    def free() -> Row:
        with numerics_settled(deterministic=False):
            return timed(lambda: first.make(WHOLE), scale, device)

    for way in OTHERS:
        rows.measure(f"first_order {first.batch} {way}", partial(_row, first, way, scale, device))
    rows.measure(f"first_order {first.batch} {WHOLE}, not deterministic", free)


def time_risks(scale: Scale, device: torch.device, rows: Rows) -> None:
    """What might be slow or fall back on a GPU: stopped operations with graphs, recomputed cells, exact products."""
    size, exact = scale.check_batch, Search(scale.check, unrolled_exact)
    searches = {"oles": scale.additions["oles"], "unrolled_exact": exact, "sdarts_adv": scale.additions["sdarts_adv"]}
    for name, search in searches.items():
        for way in (EAGER, WHOLE):
            make = partial(SearchSteps, search, way, size, scale.side, device)
            rows.measure(f"{name} {size} {way}", partial(timed, make, scale, device))
    for way in (Variant(PRODUCT, checkpoint=True), Variant(PRODUCT, graphs=True, checkpoint=True)):
        make = partial(SearchSteps, scale.checks["first_order"], way, size, scale.side, device)
        rows.measure(f"first_order {size} {way}", partial(timed, make, scale, device))


def _time(
    ways: list[Variant],
    scale: Scale,
    device: torch.device,
    rows: Rows,
    left_out: tuple[str, ...] = (),
    words: str = "",
) -> None:
    for way in ways:
        for kind in (kind for name, kind in scale.kinds(device).items() if name not in left_out):
            rows.measure(f"{kind.name} {kind.batch} {way}{words}", partial(_row, kind, way, scale, device))


def _row(kind: Kind, way: Variant, scale: Scale, device: torch.device) -> Row:
    return timed(lambda: kind.make(way), scale, device)


def timed(make: Callable[[], Callable[[], Any]], scale: Scale, device: torch.device) -> Row:
    """Milliseconds of a step: median, least and most; until the host is done with it; the peak of memory, reserved.

    `ready_s` are the seconds that building and warming up took, `graphs` how many there are.
    """
    cuda, began = device.type == "cuda", time.perf_counter()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    step = make()
    for _ in range(scale.warm_up):
        step()
    synchronise(device)
    ready, whole, host = time.perf_counter() - began, [], []
    for _ in range(scale.rounds):
        started = time.perf_counter()
        step()
        host.append((time.perf_counter() - started) * 1e3)
        synchronise(device)
        whole.append((time.perf_counter() - started) * 1e3)
    row = {"ms": statistics.median(whole), "least": min(whole), "most": max(whole), "host_ms": statistics.median(host)}
    row |= {"memory_gb": torch.cuda.max_memory_reserved(device) / 1e9} if cuda else {}
    return {**row, "graphs": getattr(step, "recorded", None), "n": len(whole), "ready_s": ready}


def copy_bandwidth(scale: Scale, device: torch.device, rows: Rows) -> None:
    """How much a copy from the device to itself moves, both directions counted."""

    def copied() -> Row:
        source = torch.zeros(scale.numbers, device=device)
        target = torch.empty_like(source)
        taken = seconds(lambda: target.copy_(source), device, 10)
        return {"tb_per_s": 2 * 4 * scale.numbers / statistics.median(taken) / 1e12}

    rows.measure("copy, float32", copied)


def profile_steps(scale: Scale, device: torch.device, rows: Rows) -> None:
    """Device time of a step by kernel: a row for each of the longest, then one of all together."""
    kinds = scale.kinds(device)
    for name, way in PROFILED:
        title = f"{name} {kinds[name].batch} {way}"
        rows.measure(title, partial(_profiled, kinds[name], way, title, scale, device, rows))


def _profiled(kind: Kind, way: Variant, title: str, scale: Scale, device: torch.device, rows: Rows) -> Row:
    from torch.profiler import ProfilerActivity, profile

    step = kind.make(way)
    for _ in range(scale.warm_up + 1):
        step()
    synchronise(device)
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU], acc_events=True) as taken:
        step()
        synchronise(device)
    attribute = "self_device_time_total" if cuda else "self_cpu_time_total"
    kernels = [(getattr(event, attribute) / 1e3, event.count, event.key) for event in taken.key_averages()]
    kernels.sort(reverse=True)
    for number, (milliseconds, count, name) in enumerate(kernels[:TOP], start=1):
        rows.add(f"{title}: {number}", {"ms": milliseconds, "launches": count, "kernel": short_name(name)})
    row = {"ms": sum(k[0] for k in kernels), "launches": sum(k[1] for k in kernels), "kernels": len(kernels)}
    if not kernels:
        raise Wrong("the profiler saw no kernel", row)
    return row


def short_name(kernel: str) -> str:
    """A kernel's name without its return type, namespaces, arguments and all but short template arguments.

    Example:
        >>> short_name("void at::native::(anonymous namespace)::conv_depthwise2d_forward_kernel<5, float, int>(float*)")
        'conv_depthwise2d_forward_kernel<5, float, int>'
    """
    name = kernel.removeprefix("void ").replace("(anonymous namespace)::", "")
    functor = re.search(
        r"(\w+Functor\w*|direct_copy_kernel_cuda|\w+_functor|launch_clamp_scalar|\w+_kernel_impl)\b", name
    )
    head = re.match(r"[\w:]*", name)
    stem = (head.group() if head else name).split("::")[-1] or name[:80]
    arguments = re.match(r"<[^<>()]*>", name[head.end() :]) if head else None
    short = arguments.group() if arguments and len(arguments.group()) <= 40 else ""
    what = f" {functor.group()}" if functor and functor.group() not in stem and not short else ""
    return f"{stem[:80]}{short}{what}"
