"""What a job needs on several devices, worked out from a step of one of them and from the way between two."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity

from .links import Link, Links, measured, sizes_up_to
from .rehearsal import HOSTS, Meeting

_KEYS = ("plan.devices", "plan.bandwidth", "plan.latency")


@dataclass(frozen=True)
class Asked:
    """What the words of the plan's own say.

    Args:
        devices: the numbers of devices that are asked for, each 2 or more.
        bandwidth: GB/s between devices; None: it is measured.
        latency: microseconds between devices; None: the measured one.
    """

    devices: tuple[int, ...] = ()
    bandwidth: float | None = None
    latency: float | None = None

    def with_devices_of(self, runtime: Mapping[str, Any]) -> Asked:
        """The same, with the job's own number of devices where no other is asked for."""
        count = runtime["devices"]
        if type(count) is not int or count < 1:
            raise InputError(f"runtime.devices={count}: needs a whole number, 1 or more")
        return self if self.devices or count == 1 else replace(self, devices=(count,))

    def check(self, device: torch.device) -> None:
        """Raises InputError, before anything is measured, where the way between devices cannot be."""
        if self.devices and self.bandwidth is None and device.type == "cuda" and torch.cuda.device_count() < 2:
            raise InputError(
                "plan.devices: this machine has one GPU, so that what lies between GPUs cannot be measured; give "
                "plan.bandwidth=GB/s and plan.latency=MICROSECONDS, such as 100 and 5"
            )


def asked(typed: Sequence[str]) -> tuple[Asked, list[str]]:
    """Takes the plan's own words out of those of the command line.

    Returns:
        What they say, and all other words.

    Raises:
        InputError: one of them cannot be read.

    Example:
        >>> asked(["seed=1", "plan.devices=8,64", "plan.bandwidth=25"])
        (Asked(devices=(8, 64), bandwidth=25.0, latency=None), ['seed=1'])
    """
    found, others = Asked(), []
    for word in typed:
        key, _, value = word.partition("=")
        if not key.startswith("plan."):
            others.append(word)
        elif key == "plan.devices":
            found = replace(found, devices=_counts(word, value))
        elif key in _KEYS:
            number: dict[str, Any] = {key.removeprefix("plan."): _positive(word, value)}
            found = replace(found, **number)
        else:
            raise InputError(f"{word}: no such setting of the plan; known: {', '.join(_KEYS)}")
    return found, others


def _counts(word: str, value: str) -> tuple[int, ...]:
    numbers = [number.strip() for number in value.strip("[]").split(",")]
    if not all(number.isascii() and number.isdecimal() and 2 <= int(number) <= 1_000_000 for number in numbers):
        raise InputError(f"{word}: needs whole numbers from 2 on, such as plan.devices=8,64")
    return tuple(sorted({int(number) for number in numbers}))


def _positive(word: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise InputError(f"{word}: needs a number above 0 (GB/s of plan.bandwidth, microseconds of plan.latency)")
    return number


@dataclass(frozen=True)
class Share:
    """What was measured and counted of one of several devices.

    Args:
        stage: of the job.
        count: of devices.
        batch: images that one of them gets.
        bytes_kept: on each: what is kept for the gradient, and four times the weights.
        compute: seconds of a step, without waiting for others.
        compare: seconds of a step in which states are hashed to be compared.
        meetings: of a step.
        images: that all devices read in a step.
        steps: of the whole stage.
        alone: seconds of the whole stage on one device.
    """

    stage: str
    count: int
    batch: int
    bytes_kept: float
    compute: float
    compare: float
    meetings: tuple[Meeting, ...]
    images: int
    steps: int
    alone: float

    def communication(self, links: Links) -> float:
        """Seconds of a step that all wait: nothing is sent while a gradient is computed."""
        return links.seconds(self.meetings, self.count) + self.compare

    def step(self, links: Links) -> float:
        """Seconds of a step."""
        return self.compute + self.communication(links)

    def whole(self, links: Links) -> float:
        """Seconds of the stage."""
        return self.step(links) * self.steps

    @cached_property
    def sent(self) -> list[str]:
        """What a device sends in a step, in words."""
        counted = Counter((meeting.what, meeting.size, meeting.passes) for meeting in self.meetings)
        return [
            quantity(times, "meeting of hosts", "meetings of hosts")
            if what == HOSTS
            else f"{what} {times} x {size_of(Meeting(what, size, passes).sent(self.count))}"
            for (what, size, passes), times in counted.items()
        ]


@dataclass(frozen=True)
class Known:
    """The links, and how they are known.

    Args:
        links: between devices and between hosts.
        said: a line on each.
    """

    links: Links
    said: tuple[str, ...]


def links_for(own: Asked, device: torch.device, shares: Sequence[Share]) -> Known:
    """Measures what lies between two processes of this machine, where it is not given.

    Args:
        own: what was asked for.
        device: of the job.
        shares: what is to be sent.

    Returns:
        The links.
    """
    largest = max((meeting.size for share in shares for meeting in share.meetings), default=0)
    hosts = measured("gloo", sizes_up_to(largest))
    backend = "nccl" if device.type == "cuda" else "gloo"
    if own.bandwidth is None:
        devices = measured("nccl", sizes_up_to(largest)) if device.type == "cuda" else hosts
        said = f"measured between two processes of this machine ({backend})"
    else:
        devices, said = Link(own.bandwidth * 1e9, hosts.latency), "as given"
    if own.latency is not None:
        devices, said = replace(devices, latency=own.latency / 1e6), "as given"
    elif own.bandwidth is not None:
        said = "bandwidth as given, latency measured between two processes of this machine (gloo)"
    lines = [f"between devices: {_in_words(devices)}, {said}"]
    if devices != hosts:
        lines.append(f"between hosts: {_in_words(hosts)}, measured between two processes of this machine (gloo)")
    return Known(Links(devices, hosts), tuple(lines))


def _in_words(link: Link) -> str:
    return f"{link.bandwidth / 1e9:.3g} GB/s and {1e6 * link.latency:.3g} microseconds a message"


def show_shares(console: Console, shares: Sequence[Share], known: Known, device: torch.device) -> None:
    """Prints the table, what is sent, and what of it was measured."""
    table = Table(title="On several devices")
    columns = ("stage", "devices", "images each", "memory each", "compute", "waiting", "times as fast", "all epochs")
    for column in columns:
        table.add_column(column, justify="left" if column == "stage" else "right")
    for share in shares:
        table.add_row(*_row(share, known.links))
    for count in sorted({share.count for share in shares}) if len({share.stage for share in shares}) > 1 else ():
        of_job = [share for share in shares if share.count == count]
        after, before = sum(s.whole(known.links) for s in of_job), sum(s.alone for s in of_job)
        table.add_row("all", str(count), "", "", "", "", _faster(before / after, count), duration(after))
    console.print(table)
    for share in shares:
        rate = share.images / share.step(known.links)
        line = f"{share.stage} on {share.count}: a device sends in a step: {'; '.join(share.sent)}. "
        console.print(f"{line}All read {rate:,.0f} images a second.", markup=False)
    for line in (*known.said, _EXTRAPOLATED, _device_in_words(device)):
        console.print(line, markup=False)


_EXTRAPOLATED = (
    "compute: of a step, measured here with the share of one device. waiting: for the meetings of a step, which were "
    "counted here, over the way above; for more than two devices a ring is extrapolated. times as fast: as one device, "
    "and of what so many could be at best. Not in it: reading images, validation, devices that are slower than others."
)


def _device_in_words(device: torch.device) -> str:
    if device.type == "cuda":
        return "a device: a GPU like this one."
    threads = quantity(torch.get_num_threads(), "thread")
    return f"a device: a processor like this one with {threads}; processes of one machine share it (runtime.threads=1)."


def _row(share: Share, links: Links) -> tuple[str, ...]:
    waiting, step, whole = share.communication(links), share.step(links), share.whole(links)
    part = f"{duration(waiting)} ({waiting / step:.0%})"
    numbers = (f"{share.bytes_kept / 1e9:.2f} GB", duration(share.compute), part)
    return (
        *(share.stage, str(share.count), str(share.batch), *numbers),
        *(_faster(share.alone / whole, share.count), duration(whole)),
    )


def _faster(times: float, count: int) -> str:
    return f"{times:.2f} ({times / count:.0%})"


def size_of(count: float) -> str:
    """Formats bytes for a reader.

    Example:
        >>> size_of(812.0), size_of(1_532_000), size_of(2.5e9)
        ('812 bytes', '1.5 MB', '2.5 GB')
    """
    for least, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count:.0f} bytes"


def duration(seconds: float) -> str:
    """Formats seconds for a reader.

    Example:
        >>> [duration(seconds) for seconds in (0.0021, 0.51, 120.0, 7200.0)]
        ['2.1 ms', '0.5 s', '2 min', '2.0 h']
    """
    if seconds < 0.1:
        return f"{1e3 * seconds:.1f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
