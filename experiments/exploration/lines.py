"""The lines of explore.md and explore.csv: what each combination picked, and how well each score ranks."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from supernet.runtime.errors import InputError
from supernet.search.black_box.comparison import Comparison, Pick, Sample, Truth
from supernet.space.architecture import Architecture
from supernet.space.texts import to_text

from ..records.markdown import markdown_table, number
from ..records.provenance import short_hash

ANY = "a random architecture"
OWN = "the run's own answer"
_LONGEST = 400  # letters of a genotype that is written out


@dataclass(frozen=True)
class Known:
    """The truth, and the values of all architectures of which it is known, in ascending order."""

    truth: Truth
    values: Sequence[float]
    of: str  # what these architectures are, in words

    def regret(self, value: float | None) -> float | None:
        """The distance to the largest value."""
        return None if value is None or not self.values else self.values[-1] - value

    def better_than(self, value: float | None) -> float | None:
        """The share of architectures with a smaller value, in percent."""
        return None if value is None or not self.values else 100 * bisect_left(self.values, value) / len(self.values)


@dataclass(frozen=True)
class Line:
    """The picks of one combination, of each seed one; or single answers that cost no evaluation.

    Args:
        by: what picked: an explorer, a discretiser, a baseline.
        score: by what it decided; "" where it asked nothing.
        kind: "explorer", "random", "parameters", "discretiser" or "any".
        picks: one for each seed.
    """

    by: str
    score: str
    kind: str
    picks: Sequence[Pick]

    def values(self, of: Callable[[Pick], float | None]) -> list[float]:
        """A number of each pick where it is known."""
        return [value for pick in self.picks if (value := of(pick)) is not None]


def lines(compared: Comparison, answers: Sequence[Line], baseline: str, known: Known | None) -> list[Line]:
    """All lines; where the truth is known the best first, else in the order in which they were run."""
    groups: dict[tuple[str, str], list[Pick]] = {}
    for pick in compared.picks:
        groups.setdefault((pick.explorer, pick.score), []).append(pick)
    made = []
    for (explorer, score), picks in groups.items():
        kind = "parameters" if score == baseline else "random" if explorer == "random" else "explorer"
        made.append(Line(explorer, score, kind, picks))
    drawn = [Pick(ANY, "", n, a) for n, a in enumerate(compared.sample.architectures)]
    made += [*answers, *([Line(ANY, "", "any", drawn)] if drawn else [])]
    if known is None:
        return made
    truth = known.truth
    return sorted(made, key=lambda line: -statistics.mean(line.values(lambda p: truth(p.architecture)) or [-math.inf]))


def cell(architecture: Architecture) -> str:
    """A short name: the genotype in one line, or a hash where that is long."""
    try:
        line = to_text(architecture)
    except InputError:  # a name of the space has a blank in it
        line = ""
    return line if 0 < len(line) <= _LONGEST else f"{short_hash(architecture.to_json())}"


def picks_table(
    made: Sequence[Line], known: Known | None, costs: Callable[[Architecture], Mapping[str, float]]
) -> list[str]:
    """The table of picks as Markdown."""
    several = max(len(line.picks) for line in made if line.kind != "any") > 1
    head = ["picked by", "score", "evaluations", "seconds", "its score"]
    simulated = any(pick.simulated_seconds for line in made for pick in line.picks)
    head += ["simulated seconds"] * simulated
    head += [] if known is None else [f"truth: {known.truth.value}", *["s.e."] * several, "regret", "better than"]
    names = sorted(costs(made[0].picks[0].architecture), reverse=True)  # parameters before multiply-adds
    head += [*names, "pick"]
    return markdown_table(head, (_row(line, known, costs, names, several, simulated) for line in made))


def _row(
    line: Line,
    known: Known | None,
    costs: Callable[[Architecture], Mapping[str, float]],
    names: Sequence[str],
    several: bool,
    simulated: bool,
) -> list[str]:
    any_one = line.kind == "any"
    asked = [p for p in line.picks if p.evaluations]
    row = [f"{ANY} ({len(line.picks)} drawn)" if any_one else line.by, line.score or "-"]
    row += [_mean([p.evaluations for p in asked], 0), _mean([p.seconds for p in asked], 2)]
    row.append(_spread(line.values(lambda p: p.value), 4))
    row += [_mean([p.simulated_seconds for p in asked], 0)] * simulated
    if known is not None:
        truths = line.values(lambda p: known.truth(p.architecture))
        error = statistics.stdev(truths) / math.sqrt(len(truths)) if len(truths) > 1 else None
        row += [_spread(truths, 2), *[number(error, 3)] * several]
        row += [_spread([r for t in truths if (r := known.regret(t)) is not None], 2)]
        better = [b for t in truths if (b := known.better_than(t)) is not None]
        row.append(f"{statistics.mean(better):.1f} %" if better else "-")
    counted = [] if any_one else [costs(p.architecture) for p in line.picks]
    for name in names:
        found = [c[name] for c in counted if name in c]
        row.append(f"{statistics.mean(found):,.0f}" if found else "-")
    different = dict.fromkeys(p.architecture for p in line.picks)
    return [*row, cell(line.picks[0].architecture) if len(different) == 1 else f"{len(different)} different"]


def _mean(values: Sequence[float], digits: int) -> str:
    return f"{statistics.mean(values):,.{digits}f}" if values else "-"


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def ranks_table(sample: Sample) -> list[str]:
    """How well each score ranks the sample, as Markdown; empty where nothing is known of it."""
    if not any(truth is not None for truth in sample.truths):
        return []
    head = ["score", "n", "Kendall's tau", "Spearman's rho", "tau in the top decile", "its n", "precision at 10 %"]
    body = []
    for score in sample.values:
        a = sample.agreement(score)
        body.append([score, str(a.n), str(a.tau), str(a.rho), str(a.top_tau), str(a.top_n), str(a.precision)])
    return markdown_table(head, body)


def csv_rows(
    made: Sequence[Line], known: Known | None, costs: Callable[[Architecture], Mapping[str, float]]
) -> Iterator[list[object]]:
    """A head and a row for each pick; the drawn ones of `ANY` have no rows."""
    head = ["kind", "picked_by", "score", "seed", "evaluations", "seconds", "simulated_seconds", "its_score"]
    truth = "truth" if known is None else f"truth_{known.truth.value}"
    yield [*head, truth, "regret", "better_than_percent", "parameters", "macs", "ended", "pick"]
    for line in (line for line in made if line.kind != "any"):
        for p in line.picks:
            value = None if known is None else known.truth(p.architecture)
            more = [None, None] if known is None else [known.regret(value), known.better_than(value)]
            counts = costs(p.architecture)
            what = [line.kind, line.by, line.score, p.seed, p.evaluations, p.seconds, p.simulated_seconds, p.value]
            sizes = [counts.get("parameters"), counts.get("macs")]
            yield [*what, value, *more, *sizes, p.ended, cell(p.architecture)]
