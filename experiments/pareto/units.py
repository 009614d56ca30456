"""Costs in words, and on the axis of a picture."""

from __future__ import annotations

_UNITS = {  # name -> the unit's letters behind a prefix, and what is counted
    "latency": ("ms", "latency"),
    "macs": ("", "MACs"),
    "parameters": ("", "parameters"),
    "memory": ("B", "activations"),
    "bytes": ("B", "weights"),
}
_READ = {
    "latency": "milliseconds",
    "macs": "multiply-adds",
    "memory": "bytes of activations",
    "bytes": "bytes of weights",
}
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def scale(name: str, largest: float) -> tuple[float, str]:
    """By what numbers up to the largest are divided, and their unit, such as "M" or "kB"; latencies stay as they are.

    Example:
        >>> scale("macs", 3_500_000), scale("bytes", 900), scale("latency", 5000.0)
        ((1000000.0, 'M'), (1.0, 'B'), (1.0, 'ms'))
    """
    letters, _ = _UNITS.get(name, ("", name))
    if name == "latency" or name not in _UNITS:
        return 1.0, letters
    size, prefix = next(((size, prefix) for size, prefix in _PREFIXES if largest >= size), (1.0, ""))
    return size, prefix + letters


def title(name: str, unit: str) -> str:
    """What stands above a column or at an axis, such as "MACs, M"."""
    _, what = _UNITS.get(name, ("", name))
    return f"{what}, {unit}" if unit else what


def unit_in_words(name: str) -> str:
    """In what a number is read that is the cost of this name.

    Example:
        >>> unit_in_words("latency"), unit_in_words("bytes")
        ('milliseconds', 'bytes of weights')
    """
    return _READ.get(name, name)


def in_words(name: str, value: float) -> str:
    """A cost with its unit.

    Example:
        >>> in_words("latency", 2.91234), in_words("latency", 20_000.0), in_words("macs", 12_345_678.0)
        ('2.912 ms', '20,000 ms', '12.35 M MACs')
    """
    size, unit = scale(name, value)
    _, what = _UNITS.get(name, ("", name))
    number = f"{float(f'{value / size:.4g}'):,.12g} {unit}".strip()
    return number if name == "latency" else f"{number} {what}"
