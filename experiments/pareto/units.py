"""Costs in words, and on the axis of a picture."""

from __future__ import annotations

from collections.abc import Callable

_AXES = {  # name -> (what is written at the axis, the unit's size)
    "latency": ("latency in milliseconds", 1.0),
    "macs": ("multiply-adds in millions", 1e6),
    "parameters": ("parameters in thousands", 1e3),
    "memory": ("peak of the activations in kB", 1e3),
    "bytes": ("stored weights in kB", 1e3),
}
_WORDS: dict[str, Callable[[float], str]] = {
    "latency": lambda value: f"{value:.4g} ms",
    "macs": lambda value: f"{value / 1e6:.4g} M multiply-adds",
    "parameters": lambda value: f"{value:,.0f} parameters",
    "memory": lambda value: f"{value / 1e3:,.4g} kB of activations",
    "bytes": lambda value: f"{value / 1e3:,.4g} kB of weights",
}


def in_words(name: str, value: float) -> str:
    """A cost with its unit."""
    return _WORDS[name](value) if name in _WORDS else f"{value:.4g} ({name})"


def axis(name: str) -> tuple[str, float]:
    """What stands at the axis of a cost, and by what its values are divided."""
    return _AXES.get(name, (name, 1.0))
