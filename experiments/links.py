"""How fast processes reach one another: measured between two of this machine, worked out for more of them."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from supernet.runtime.errors import InputError
from supernet.runtime.text import shortened

from .rehearsal import Meeting

_SMALLEST, _LARGEST = 1 << 12, 1 << 26  # bytes
_ONCE = 1 << 22  # bytes above which fewer repetitions do
_PATIENCE = timedelta(seconds=60)


@dataclass(frozen=True)
class Link:
    """What lies between a process and the next.

    Args:
        bandwidth: bytes a second in each direction, as an all-reduce has it.
        latency: seconds that a message of no length takes.

    Example:
        >>> link = Link(bandwidth=1e9, latency=1e-5)
        >>> round(1e3 * link.seconds(Meeting("weights", 8_000_000, 2), 2), 3)
        8.02
        >>> round(1e3 * link.seconds(Meeting("weights", 8_000_000, 2), 8), 3)  # 7/8 of the bytes, 14 messages
        14.14
    """

    bandwidth: float
    latency: float

    def seconds(self, meeting: Meeting, count: int) -> float:
        """How long a ring of `count` processes takes for a meeting."""
        return meeting.sent(count) / self.bandwidth + meeting.passes * (count - 1) * self.latency


@dataclass(frozen=True)
class Links:
    """The links of a job.

    Args:
        devices: between the devices, which hold the networks.
        hosts: between the processors, which agree on stops and savings.
    """

    devices: Link
    hosts: Link

    def seconds(self, meetings: Iterable[Meeting], count: int) -> float:
        """How long `count` processes take for these meetings, one after the other."""
        return sum((self.hosts if m.of_hosts else self.devices).seconds(m, count) for m in meetings)


def sizes_up_to(largest: int) -> list[int]:
    """The sizes in bytes at which a link is measured: powers of 4 up to the largest that a job reduces.

    Example:
        >>> sizes_up_to(100_000)
        [4096, 16384, 65536, 262144]
    """
    found = [_SMALLEST]
    while found[-1] < min(largest, _LARGEST):
        found.append(found[-1] * 4)
    return found


def measured(backend: str, sizes: Sequence[int]) -> Link:
    """Measures the link between two processes of this machine, by all-reduces of several sizes.

    Args:
        backend: "gloo": of processors; "nccl": of the first two GPUs.
        sizes: in bytes.

    Returns:
        The link that fits them best.

    Raises:
        InputError: no two processes could be joined here.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            start_processes(_reduce, (folder, backend, list(sizes)), nprocs=2)  # type: ignore[no-untyped-call]
        except Exception as error:
            reason = shortened((str(error).strip().splitlines() or [type(error).__name__])[-1])
            raise InputError(
                f"plan.devices: an all-reduce of two processes cannot be measured here ({reason}); give "
                "plan.bandwidth=GB/s and plan.latency=MICROSECONDS"
            ) from None
        taken: dict[str, float] = json.loads((Path(folder) / "taken").read_text())
    return fitted({int(size): seconds for size, seconds in taken.items()})


def fitted(seconds: Mapping[int, float]) -> Link:
    """The link whose all-reduces between two processes take such times: size / bandwidth + 2 latency.

    Relative errors are made small, so that small sizes count as much as large ones.

    Args:
        seconds: by the bytes that were reduced.

    Returns:
        The link. Where the times do not grow with the size its latency is 0, and its bandwidth that of the largest.

    Example:
        >>> link = fitted({1000: 0.0003, 1_000_000: 0.0012})
        >>> round(link.bandwidth / 1e9, 2), round(1e6 * link.latency)
        (1.11, 150)
    """
    sizes, times = np.array(list(seconds), float), np.array(list(seconds.values()), float)
    rows = np.stack([sizes / times, 2 / times], axis=1)
    (slowness, latency), *_ = np.linalg.lstsq(rows, np.ones(len(sizes)), rcond=None)
    if slowness <= 0 or latency < 0:
        return Link(float(sizes[-1] / times[-1]), 0.0)
    return Link(float(1 / slowness), float(latency))


def _reduce(rank: int, folder: str, backend: str, sizes: Sequence[int]) -> None:
    """One of the two processes; the first one writes the medians."""
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.set_num_threads(1)
    meeting = (Path(folder) / "meeting").as_uri()
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=2, timeout=_PATIENCE)
    taken = {size: _median(torch.zeros(size // 4, device=device), 5 if size > _ONCE else 20) for size in sizes}
    if rank == 0:
        (Path(folder) / "taken").write_text(json.dumps(taken))
    dist.barrier()
    dist.destroy_process_group()


def _median(tensor: torch.Tensor, times: int) -> float:
    found = []
    for _ in range(times + 2):
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(tensor)
        if tensor.is_cuda:
            torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found[2:])
