"""The winner of a search under a limit is measured, and where the measurement breaks the limit the next one is taken.

A predicted cost, such as a latency from a table, is off by some percent. A search that ends just below its limit ends
above it half of the time, unless somebody measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture

Measure = Callable[[Architecture], float]
"""What the network of an architecture really costs, in the unit of the limit."""

TRIES = 5
_BELOW = 1.0 - 1e-6  # of a limit that has to be a little tighter than what was chosen under it


@dataclass(frozen=True)
class Trial:
    """A candidate that was measured.

    Args:
        architecture: which one.
        predicted: its cost by the table.
        measured: its cost by measurement.
        limit: the most that it may be.
    """

    architecture: Architecture
    predicted: float
    measured: float
    limit: float

    @property
    def kept(self) -> bool:
        """Whether the measurement keeps the limit."""
        return self.measured <= self.limit


Propose = Callable[[Sequence[Trial]], Architecture | None]
"""(what was measured and rejected so far) -> the next candidate; None where there is no other."""


@dataclass(frozen=True)
class MeasuredWinner:
    """What was measured, and what was taken.

    Args:
        trials: all that were measured, in their order; one or more.

    Attributes:
        winner: the first that keeps the limit; where none does, the cheapest by measurement.
    """

    trials: tuple[Trial, ...]

    @property
    def winner(self) -> Trial:
        return min(self.trials, key=lambda trial: (not trial.kept, trial.measured))

    @property
    def rejected(self) -> tuple[Trial, ...]:
        """Those that were measured and not taken."""
        return tuple(trial for trial in self.trials if trial is not self.winner)


def measured_winner(
    propose: Propose,
    predict: Measure,
    measure: Measure,
    limit: float,
    *,
    tries: int = TRIES,
    cheapest: Architecture | None = None,
) -> MeasuredWinner:
    """Measures candidates, the best first, until one keeps the limit.

    Args:
        propose: gives the next candidate: `in_order` of a ranking, or `tightened` by what was measured.
        predict: the cost by which candidates were chosen.
        measure: the cost that counts.
        limit: the most that it may be.
        tries: how many candidates are measured at most, 1 or more; the cheapest comes on top of them.
        cheapest: is measured where none of them keeps the limit; None: nothing more is.

    Returns:
        The winner, and what was rejected. If even the cheapest breaks the limit, `winner.kept` is False.

    Raises:
        InputError: `tries` is below 1, or there is no candidate.

    Example:
        >>> slow, fast = (Architecture("mine", {"edge": (option,)}) for option in ("conv", "pool"))
        >>> real = {slow: 3.2, fast: 2.1}
        >>> found = measured_winner(in_order([slow, fast]), lambda _: 2.9, real.__getitem__, limit=3.0)
        >>> found.winner.architecture == fast, [trial.measured for trial in found.rejected]
        (True, [3.2])
    """
    if tries < 1:
        raise InputError(f"tries={tries}: needs 1 or more")
    trials: list[Trial] = []
    while len(trials) < tries and (architecture := propose(tuple(trials))) is not None:
        trials.append(Trial(architecture, predict(architecture), measure(architecture), limit))
        if trials[-1].kept:
            return MeasuredWinner(tuple(trials))
    if cheapest is not None and all(trial.architecture != cheapest for trial in trials):
        trials.append(Trial(cheapest, predict(cheapest), measure(cheapest), limit))
    if not trials:
        raise InputError("propose: gave no candidate; there is nothing to measure")
    return MeasuredWinner(tuple(trials))


def in_order(ranking: Iterable[Architecture], predict: Measure | None = None) -> Propose:
    """Proposes one candidate of a ranking after the other.

    Args:
        ranking: the best first; it may be long, as it is read only as far as is needed.
        predict: the cost by which candidates were chosen: those are passed over whose prediction, times the largest
            ratio of measurement and prediction so far, breaks the limit; None: none is.

    Returns:
        What proposes.

    Example:
        >>> first = Architecture("mine", {"edge": ("conv",)})
        >>> propose = in_order([first])
        >>> propose(()) == first, propose(())
        (True, None)
    """
    left = iter(ranking)

    def propose(trials: Sequence[Trial]) -> Architecture | None:
        if predict is None or not trials:
            return next(left, None)
        most = trials[0].limit / _ratio(trials)
        return next((architecture for architecture in left if predict(architecture) <= most), None)

    return propose


def tightened(
    choose: Callable[[float], Architecture | None], limit: float, first: Architecture | None = None
) -> Propose:
    """Proposes what is chosen under a limit that is tightened by what was measured over what was predicted.

    If a network that was predicted to take 2.9 ms takes 3.2, one that is to take 3.0 has to be predicted at 2.72. Of
    several measured ones the largest ratio counts. The limit falls with each proposal, below the prediction of what was
    chosen last, so that no candidate comes twice.

    Args:
        choose: a limit on the predicted cost -> the best architecture within it, such as a discretiser's answer; None
            where there is none.
        limit: on the measured cost, with which it begins.
        first: what was chosen under that limit already; None: `choose` is asked.

    Returns:
        What proposes.

    Example:
        >>> def choose(most):
        ...     return Architecture("mine", {"width": (str(int(most * 10)),)})
        >>> propose = tightened(choose, 3.0)
        >>> chosen = propose(())
        >>> propose([Trial(chosen, predicted=3.0, measured=3.3, limit=3.0)])["width"]
        ('27',)
    """
    now = limit

    def propose(trials: Sequence[Trial]) -> Architecture | None:
        nonlocal now
        if not trials and first is not None:
            return first
        if trials:
            now = min(now, limit / _ratio(trials), trials[-1].predicted * _BELOW)
        return choose(now)

    return propose


def then(*proposers: Propose) -> Propose:
    """Asks one proposer after the other, each as long as it has a candidate that was not measured yet.

    Args:
        proposers: in their order, such as `in_order` of the finalists, then `tightened`.

    Returns:
        What proposes.

    Example:
        >>> first, second = (Architecture("mine", {"edge": (option,)}) for option in ("conv", "pool"))
        >>> propose = then(in_order([first]), in_order([first, second]))
        >>> propose(()) == first, propose([Trial(first, 2.0, 4.0, 3.0)]) == second
        (True, True)
    """

    def propose(trials: Sequence[Trial]) -> Architecture | None:
        known = {trial.architecture for trial in trials}
        for each in proposers:
            for _ in range(len(known) + 1):
                if (found := each(trials)) is None:
                    break
                if found not in known:
                    return found
        return None

    return propose


def _ratio(trials: Sequence[Trial]) -> float:
    """The largest ratio of measurement and prediction."""
    return max((trial.measured / trial.predicted for trial in trials if trial.predicted > 0.0), default=1.0)
