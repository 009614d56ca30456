"""`supernet.explore`: a person's call, what it keeps, and what it says to mistakes."""

import csv
from functools import partial

import pytest

import supernet
from supernet.runtime.interrupt import Interrupted

SPACE = supernet.spaces.micro()
TABLE = supernet.tables.micro(["digits_valid", "digits_test"])
SINGLE = [
    supernet.explorers.RandomExplorer,
    supernet.explorers.AgingEvolution,
    supernet.explorers.SposEvolution,
    supernet.explorers.LocalSearch,
    supernet.explorers.PolicyExplorer,
    partial(supernet.explorers.ControllerExplorer, hidden=8),
    supernet.explorers.Nsga2,
    partial(supernet.explorers.Bananas, epochs=5),
]


@pytest.mark.parametrize("explorer", SINGLE, ids=lambda e: getattr(e, "func", e).__name__)
def test_every_explorer_finds_the_best_cell_of_a_small_space(explorer):
    found = supernet.explore(SPACE, TABLE, explorer=explorer, evaluations=200)
    assert found.best == TABLE.best("digits_valid")
    assert len(found.evaluations) == 60  # as many as compute different things
    assert found.ended.startswith("nothing new is left to try")


def test_several_objectives_give_a_front():
    def score(cell):
        return supernet.Measured({**TABLE(cell).values, **costs(cell).values})

    costs = supernet.scores.CostScore(SPACE, (1, 8, 8), 10)
    objectives = ("digits_valid", "-parameters")
    found = supernet.explore(SPACE, score, explorer=supernet.explorers.Nsga2, evaluations=60, objectives=objectives)
    points = [(e.values["digits_valid"], e.values["parameters"]) for e in found.evaluations]
    kept = {(e.values["digits_valid"], e.values["parameters"]) for e in found.front}
    for point in points:
        beaten = any(o[0] >= point[0] and o[1] <= point[1] and o != point for o in points)
        assert (point in kept) != beaten


def test_a_folder_keeps_it_and_the_same_call_goes_on(tmp_path):
    whole = supernet.explore(SPACE, TABLE, explorer=supernet.explorers.AgingEvolution, evaluations=30)

    def stopping(cell):
        if len(asked) == 12:
            raise Interrupted(15)
        asked.append(cell)
        return TABLE(cell)

    asked = []
    call = partial(supernet.explore, SPACE, explorer=supernet.explorers.AgingEvolution, evaluations=30)
    with pytest.raises(KeyboardInterrupt, match="all is saved in"):
        call(stopping, directory=tmp_path)
    found = call(TABLE, directory=tmp_path, truth=TABLE)
    assert [e.architecture for e in found.evaluations] == [e.architecture for e in whole.evaluations]
    assert len(list(csv.DictReader((tmp_path / "explore.csv").open()))) == 30
    with pytest.raises(supernet.InputError, match="seed"):
        call(TABLE, directory=tmp_path, seed=1)


def test_limits_are_kept():
    data = supernet.data.digits()
    found = supernet.explore(SPACE, TABLE, evaluations=200, limits={"parameters": 900}, data=data)
    costs = supernet.scores.CostScore(SPACE, data.shape, 10)
    assert max(costs(e.architecture).values["parameters"] for e in found.evaluations) <= 900
    with pytest.raises(supernet.InputError, match=r"limits.parameters=9: .* the cheapest has 338"):
        supernet.explore(SPACE, TABLE, evaluations=200, limits={"parameters": 9})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "needs a limit of evaluations"),
        ({"evaluations": 0}, "evaluations=0: needs a number above 0"),
        ({"evaluations": 5, "seed": -1}, "seed=-1"),
        (
            {"evaluations": 5, "explorer": lambda candidates, seed: None},
            "explorer: makes a NoneType; needs one such as",
        ),
        ({"evaluations": 5, "objectives": ("speed",)}, "objectives=speed: the score gives digits_valid, digits_test"),
        ({"evaluations": 5, "limits": {"watts": 3}}, r"limits\.watts: no cost has this name"),
    ],
)
def test_mistakes_are_one_line(settings, words):
    with pytest.raises(supernet.InputError, match=words):
        supernet.explore(SPACE, TABLE, **settings)
    with pytest.raises(supernet.InputError, match="space=3: needs a space"):
        supernet.explore(3, TABLE, evaluations=1)


def test_a_trained_supernet_comes_back_and_nothing_in_its_folder_changes(tmp_path):
    data, search = supernet.data.digits(), {"method": supernet.methods.spos(candidates=3), "epochs": 1}
    found = supernet.find(SPACE, data, directory=tmp_path, **search)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    restored = supernet.restore(tmp_path, SPACE, data, **search)
    assert restored.strategy.finish(supernet.scores.SupernetScore(restored.problem, 64)) == found
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(supernet.InputError, match="no such file"):
        supernet.restore(tmp_path / "elsewhere", SPACE, data, **search)
    with pytest.raises(supernet.InputError, match="seed"):
        supernet.restore(tmp_path, SPACE, data, seed=1, **search)
