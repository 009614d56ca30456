"""The command line of supernet-explore: what it composes, and that every explorer and score can be made."""

import inspect
from pathlib import Path

import pytest
from supernet.experiments.exploration.words import asked
from supernet.experiments.instantiate import build

from supernet.runtime.errors import InputError
from supernet.search.black_box.explorers import Explorer
from supernet.search.black_box.rungs import Ladder
from supernet.space import spaces
from supernet.space.survey import candidates_of

CONF = Path(__file__).parents[3] / "conf"


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("name", options("explorer"))
def test_every_explorer_can_be_made_and_its_yaml_has_the_defaults(name):
    node = asked(["space=micro", f"explorer={name}"]).settings["explorer"][name]
    made = build(node, "explorer")
    explorer = made(candidates_of(spaces.micro()), seed=3)
    assert isinstance(explorer, Explorer)
    assert explorer.ask() is not None
    signature = inspect.signature(made.func).parameters
    for key, value in made.keywords.items():
        if key == "ladder":  # of a recipe of few epochs: Hyperband's own 81 is more than short trainings have
            assert value == Ladder(least=1, most=9, factor=3)
        else:
            assert signature[key].default == value, key


@pytest.mark.parametrize("name", options("score"))
def test_every_score_can_be_made_and_its_yaml_has_all_settings(name):
    node = asked(["space=micro", f"score={name}"]).settings["score"][name]
    made = build(node, "score")
    signature = inspect.signature(made.func).parameters
    assert next(iter(signature)) == "material"
    assert set(made.keywords) == set(signature) - {"material"}
    for key, value in made.keywords.items():
        assert signature[key].default in (value, inspect.Parameter.empty), key


def test_settings_without_a_name_are_those_of_all_that_have_them():
    found = asked(["space=micro", "explorer=aging,spos,local", "explorer.population=6", "explorer.spos.mutants=2"])
    nodes = found.settings["explorer"]
    assert (nodes["aging"]["population"], nodes["spos"]["population"], nodes["spos"]["mutants"]) == (6, 6, 2)
    assert "population" not in nodes["local"]


def test_defaults():
    found = asked(["space=micro"])
    assert (found.run, list(found.settings["explorer"]), list(found.settings["score"])) == (None, ["random"], ["table"])
    assert (found.seeds, found.output, found.table) == ((0,), None, False)


def test_the_run_is_a_folder_wherever_it_stands(tmp_path):
    run = tmp_path / "a=b"
    run.mkdir()
    found = asked(["explorer=spos", str(run), "runtime.threads=1", "table=micro"])
    assert (found.run, found.for_the_run, found.table) == (run, ("runtime.threads=1",), True)
    assert list(found.settings["score"]) == ["supernet"]


@pytest.mark.parametrize(
    ("word", "seeds"),
    [
        ("seed=3", [3]),
        ("seed=3,1", [3, 1]),
        ("seed=[3,1]", [3, 1]),
        ("seed=range(3)", [0, 1, 2]),
        ("seed=range(5, 7)", [5, 6]),
    ],
)
def test_seeds(word, seeds):
    assert list(asked(["space=micro", word]).seeds) == seeds


@pytest.mark.parametrize("word", ["seed=", "seed=-1", "seed=range(0)", "seed=range(1000001)", "seed=1.5", "seed=1,"])
def test_seeds_that_are_none(word):
    with pytest.raises(InputError, match=r"^seed="):
        asked(["space=micro", word])


def test_scores_of_a_folder_of_ones_own(tmp_path):
    (tmp_path / "score").mkdir()
    (tmp_path / "score" / "mine.yaml").write_text("_target_: math.sqrt\n_partial_: true\n")
    found = asked(["--config-dir", str(tmp_path), "space=micro", "score=mine"])
    assert found.settings["score"]["mine"]["_target_"] == "math.sqrt"
    with pytest.raises(InputError, match="score=mine: no such option"):
        asked(["space=micro", "score=mine"])


@pytest.mark.parametrize("word", ["explorer=", "explorer=[[", "budget.evaluations=[", "table=none2", "space=nowhere"])
def test_words_that_cannot_be_read(word):
    with pytest.raises(InputError):
        asked(["space=micro", word])
