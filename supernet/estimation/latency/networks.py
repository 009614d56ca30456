"""Chooses the whole networks on which a table is calibrated and checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice

import torch

from supernet.estimation.costs import multiply_adds
from supernet.estimation.forms import form_of
from supernet.estimation.latency.timing import Latency
from supernet.estimation.parts import Recorded
from supernet.estimation.programmes import Programme
from supernet.space.architecture import Architecture, Decision, matters, random_architecture
from supernet.space.genes import Candidates

_DRAWS = 20  # of which a network that is drawn twice is given up
_FEW = 4096  # architectures of a space that are all looked at where draws do not find enough different ones


@dataclass(frozen=True)
class Checked:
    """A whole network that was measured.

    Args:
        architecture: of the space.
        fitted: whether the calibration was fitted to it; otherwise it was held out.
        total: milliseconds of its parts, added up.
        megabytes: of its weights.
        predicted: milliseconds after the calibration.
        latency: as it was measured.
    """

    architecture: Architecture
    fitted: bool
    total: float
    megabytes: float
    predicted: float
    latency: Latency


def random_networks(
    recorded: Recorded, count: int, source: torch.Generator, *, without: Collection[Architecture] = ()
) -> list[Architecture]:
    """Draws different architectures uniformly.

    Args:
        recorded: the parts of the space.
        count: how many are wanted; a small space may have fewer, and gives all that it has.
        source: draws.
        without: others than these.

    Returns:
        The architectures.
    """
    found: dict[Architecture, None] = {}
    for _ in range(_DRAWS * count):
        if len(found) == count:
            break
        drawn = random_architecture(recorded.space, recorded.decisions, source)
        if drawn not in without:
            found[drawn] = None
    if len(found) < count:
        every = list(islice(Candidates(recorded.space, recorded.decisions).all(), _FEW + 1))
        left = [each for each in every if each not in found and each not in without] if len(every) <= _FEW else []
        order = torch.randperm(len(left), generator=source).tolist()
        found |= dict.fromkeys(left[place] for place in order[: count - len(found)])
    return list(found)


def spread_networks(recorded: Recorded, count: int, source: torch.Generator) -> list[Architecture]:
    """Draws architectures from the one of the fewest multiply-adds to the one of the most.

    Nearly all random architectures are of a middle size. A search within a limit is not, and a line that was fitted
    to those of middle size alone is far off at the ends.

    Args:
        recorded: the parts of the space.
        count: how many.
        source: draws.

    Returns:
        Different architectures: the two ends, and some that share fewer and fewer answers with one of them.
    """
    ends = _ends(recorded)
    found: dict[Architecture, None] = {}
    for number in range(count):
        share = 1.0 - 2 * (number // 2) / max(count, 1)
        found[_mixed(ends[number % 2], recorded, share, source)] = None
    return list(found)


def _ends(recorded: Recorded) -> tuple[Architecture, Architecture]:
    form = form_of(recorded, lambda variant: float(multiply_adds(variant.module, *variant.inputs())))
    programme = Programme(recorded.space, recorded.decisions)
    total = programme.total(form)
    fewest, most = programme.solved(total), programme.solved(total * -1.0)
    assert fewest is not None, "a space has an architecture"
    assert most is not None, "a space has an architecture"
    return fewest, most


def _mixed(end: Architecture, recorded: Recorded, share: float, source: torch.Generator) -> Architecture:
    """Takes each answer from `end` with a probability, and draws the others."""
    drawn = random_architecture(recorded.space, recorded.decisions, source)
    choices: dict[str, tuple[str, ...]] = {}
    for decision in _in_order(recorded.decisions):
        coin = float(torch.rand((), generator=source))
        if not matters(decision, choices):
            continue
        first, second = (end, drawn) if coin < share else (drawn, end)
        kept = first.get(decision.name) or second.get(decision.name)
        choices[decision.name] = kept or _draw(decision, source)
    return Architecture(recorded.space, choices)


def _in_order(decisions: Mapping[str, Decision]) -> list[Decision]:
    """All decisions, each after those on which it depends."""

    def depth(decision: Decision) -> int:
        return max((1 + depth(decisions[name]) for name, _ in decision.when if name in decisions), default=0)

    return sorted(decisions.values(), key=depth)


def _draw(decision: Decision, source: torch.Generator) -> tuple[str, ...]:
    order = torch.randperm(len(decision.answers), generator=source).tolist()
    return tuple(decision.answers[place] for place in sorted(order[: decision.keep]))
