"""Comparisons of explorers and scores: what is run, with which budget, and what the sample is."""

import math

import pytest

from supernet.estimation.benchmark_tables import TableScore, micro
from supernet.estimation.scores import Measured
from supernet.runtime.errors import InputError
from supernet.search.black_box.comparison import Judge, Pick, Truth, compare
from supernet.search.black_box.evolution import AgingEvolution
from supernet.search.black_box.explorers import RandomExplorer
from supernet.search.black_box.exploring import Budget, explore
from supernet.search.black_box.local_search import LocalSearch
from supernet.space import spaces
from supernet.space.survey import candidates_of

TABLE = micro(["digits_valid", "digits_test", "params"])
VALID, PARAMS = TableScore(TABLE, "digits_valid"), TableScore(TABLE, "params")
CANDIDATES = candidates_of(spaces.micro())
BASELINE = ("parameters", Judge(PARAMS))


def run(explorers=None, judges=None, budget=None, **more):
    judges = judges or {"table": Judge(VALID)}
    return compare(
        explorers or {}, judges, CANDIDATES, budget or Budget(evaluations=9), **{"baseline": BASELINE, **more}
    )


def test_each_pick_is_that_of_an_exploration_by_itself():
    found = run({"local": LocalSearch}, seeds=(4, 7))
    alone = {
        ("random", 4): explore(RandomExplorer(CANDIDATES, seed=4), VALID, Budget(evaluations=9)),
        ("local", 7): explore(LocalSearch(CANDIDATES, seed=7), VALID, Budget(evaluations=9)),
    }
    picks = {(p.explorer, p.seed): p for p in found.picks if p.score == "table"}
    assert list(picks) == [("random", 4), ("random", 7), ("local", 4), ("local", 7)]
    for key, explored in alone.items():
        assert picks[key].architecture == explored.best
        assert picks[key].value == TABLE(explored.best).values["digits_valid"]
        assert (picks[key].evaluations, picks[key].ended) == (9, "the budget of 9 evaluations is spent")


def test_the_baseline_gets_as_many_architectures_as_the_random_explorer():
    charged = TableScore(TABLE, "digits_valid", lambda architecture: 100.0)
    found = run(judges={"table": Judge(charged)}, budget=Budget(simulated_seconds=1234.0), seeds=(0, 1))
    assert [(p.score, p.evaluations, p.simulated_seconds) for p in found.picks] == [
        *[("table", 13, 1300.0)] * 2,
        *[("parameters", 13, 0.0)] * 2,
    ]
    drawn = explore(RandomExplorer(CANDIDATES, seed=1), PARAMS, Budget(evaluations=13))
    assert found.picks[-1].architecture == drawn.best


def test_a_baseline_that_is_among_the_scores_is_run_once():
    found = run(judges={"parameters": Judge(PARAMS)})
    assert [(p.explorer, p.score) for p in found.picks] == [("random", "parameters")]


def test_the_sample_is_the_same_for_all_scores_and_has_different_functions():
    found = run(sample=40, beside={"test": Judge(TableScore(TABLE, "digits_test"))}, truth=Truth(TABLE, "digits_test"))
    sample = found.sample
    assert list(sample.values) == ["table", "parameters", "test"]
    assert len({CANDIDATES.key(a) for a in sample.architectures}) == 40
    for number, architecture in enumerate(sample.architectures):
        row = TABLE(architecture).values
        values = [sample.values[name][number] for name in sample.values]
        assert [*values, sample.truths[number]] == [
            row[c] for c in ("digits_valid", "params", "digits_test", "digits_test")
        ]
    assert sample.agreement("test").tau.value == pytest.approx(1.0)
    assert run(sample=40).sample.architectures == sample.architectures
    assert run(sample=0).sample.architectures == ()


def test_what_is_not_known_does_not_count():
    truth = Truth(lambda a: Measured({"t": math.nan if a["cell/1/0"] == ("none",) else 1.0}), "t")
    sample = run(sample=40, truth=truth).sample
    missing = sum(a["cell/1/0"] == ("none",) for a in sample.architectures)
    assert 0 < missing == sample.truths.count(None)
    assert len(sample.pairs("table")) == 40 - missing


def test_one_pass_gives_the_values_of_several_scores_to_the_sample():
    asked = []

    def both(architecture):
        asked.append(architecture)
        return Measured({"a": 1.0, "b": 2.0})

    one = {n: Judge(lambda _, n=n: Measured({n: 1.0}), n, both) for n in ("a", "b")}
    found = run(judges=one, sample=7)
    assert len(asked) == 7
    assert (set(found.sample.values["a"]), set(found.sample.values["b"])) == ({1.0}, {2.0})


def test_finished_combinations_are_remembered():
    class Memory:
        def __init__(self):
            self.kept = {}

        def get(self, explorer, score, seed):
            return self.kept.get((explorer, score, seed))

        def add(self, pick):
            self.kept[pick.explorer, pick.score, pick.seed] = pick

    memory = Memory()
    first = run({"aging": AgingEvolution}, picks=memory, sample=0)

    def never(_):
        raise AssertionError

    again = run({"aging": AgingEvolution}, {"table": Judge(never)}, picks=memory, sample=0)
    assert again.picks == first.picks == list(memory.kept.values())
    assert all(isinstance(pick, Pick) for pick in first.picks)


def test_objectives_that_are_small_are_reported_as_they_are():
    found = run(objectives=("-digits_valid",))
    worst = min(TABLE(a).values["digits_valid"] for a in [found.picks[0].architecture])
    assert found.picks[0].value == worst > 0


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"seeds": ()}, "seeds=\\[\\]: needs one"),
        ({"sample": -1}, "sample=-1: needs 0"),
        ({"judges": {"table": Judge(VALID, "speed")}}, "objectives=speed: the score gives digits_valid"),
    ],
)
def test_bad_input(more, says):
    with pytest.raises(InputError, match=says):
        run(**more)
