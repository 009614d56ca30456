"""Says on what machine something was measured, and keeps a measurement on some of its processors."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_USED = re.compile(r"(avx|amx|sse4|fma|f16c|neon|asimd|sve|sme|bf16|i8mm|rvv)\w*")
"""Flags of a processor that decide which kernels a runtime takes."""

_CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def fingerprint() -> dict[str, str]:
    """What decides how fast this machine is, as far as the system says it.

    Returns:
        The processor's name, the instruction sets that runtimes use, how many processors there are, the governor and
        the highest frequency of their clock, and the system. What is not known is "unknown".

    Example:
        >>> sorted(fingerprint())
        ['flags', 'frequency', 'governor', 'processor', 'processors', 'system']
    """
    rows = _cpuinfo()
    words = f"{rows.get('flags', '')} {rows.get('Features', '')}".split()
    name = rows.get("model name") or rows.get("Model") or platform.processor() or platform.machine()
    peak = _line(_CPU / "cpuinfo_max_freq")
    now = rows.get("cpu MHz", "")
    frequency = f"{int(peak) / 1000:.0f} MHz at most" if peak.isdigit() else f"{now} MHz" if now else "unknown"
    return {
        "processor": name or "unknown",
        "flags": " ".join(sorted(word for word in set(words) if _USED.fullmatch(word))) or "unknown",
        "processors": str(os.cpu_count()),
        "governor": _line(_CPU / "scaling_governor") or "unknown",
        "frequency": frequency,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpuinfo() -> dict[str, str]:
    """The rows of /proc/cpuinfo of the first processor; none where there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    rows: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            rows.setdefault(name.strip(), value.strip())
    return rows


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def processors() -> int:
    """How many processors this process may use, which can be fewer than the machine has.

    Returns:
        1 or more.
    """
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


@contextmanager
def pinned(threads: int) -> Iterator[str]:
    """Within it this process runs on as many processors as it has threads, the last ones that it may use.

    The first processor of a machine has most of the work of the system.

    Args:
        threads: how many.

    Yields:
        The numbers of the processors in words; "" where the system cannot do that or has no more than that.
    """
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        yield ""
        return
    if len(allowed) <= threads:
        yield ""
        return
    chosen = sorted(allowed)[-threads:]
    os.sched_setaffinity(0, chosen)
    try:
        yield ", ".join(map(str, chosen))
    finally:
        os.sched_setaffinity(0, allowed)
