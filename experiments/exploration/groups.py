"""The explorers, scores and discretisers that there are, for the help text."""

from __future__ import annotations

from importlib.resources import files

from .words import SEVERAL


def options_in_words() -> str:
    """A line for each group with the names of its options."""
    lines = []
    for group in SEVERAL:
        names = sorted(
            p.name[:-5] for p in files("supernet.conf").joinpath(group).iterdir() if p.name.endswith(".yaml")
        )
        lines.append(f"{group}: {', '.join(names)}")
    more = "budget.evaluations, .seconds, .simulated_seconds; limits.parameters, .macs; sample; truth; seed; output"
    of_one = (
        "without a run space, resolution, channels, classes; of a run runtime.*; runtime.workers, .backend, .scheduler"
    )
    return "\n".join([*lines, f"other settings: {more}; objectives; table; {of_one}"])
