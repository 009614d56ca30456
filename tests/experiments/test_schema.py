"""The settings of the main job: their kinds and ranges, before anything is made of them."""

import pytest
from common import composed
from omegaconf import OmegaConf
from supernet.experiments.schema import GROUPS, checked, plain

from supernet.runtime.errors import InputError


def settings(**changes) -> dict:
    return {**composed("experiment=digits"), **changes}


def test_sound_settings_stay_as_they_are():
    assert checked(settings()) == settings()


def test_a_number_is_of_the_kind_that_its_annotation_wants():
    seconds = checked(settings(runtime={"save_seconds": 5}))["runtime"]["save_seconds"]
    assert (seconds, type(seconds)) == (5.0, float)


@pytest.mark.parametrize("share", [0, 0.1, 0.999])
def test_the_ends_of_the_share_that_is_held_out(share):
    assert checked(settings(retrain_valid=share))["retrain_valid"] == share


@pytest.mark.parametrize("name", ["digits", "a/b", "a b", "ä.1"])
def test_a_name_is_a_folder_below_the_runs(name):
    assert checked(settings(name=name))["name"] == name


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": "digits"}, "data=digits: needs an object; data=NAME takes one of supernet --help"),
        ({"space": None}, "space=None: needs an object"),
        ({"inputs": 3}, "inputs=3: needs an object"),
        ({"retrain_valid": 1}, "retrain_valid=1: needs a share below 1"),
        ({"retrain_valid": -0.1}, "retrain_valid=-0.1"),
        ({"baseline": {"random": -1}}, "baseline.random=-1: needs 0 or more"),
        ({"baseline": {"random": "two"}}, "baseline.random=two"),
        ({"baseline": {"randm": 1}}, "baseline.randm"),
        ({"runtime": {"thread": 1}}, "runtime.thread"),
        ({"name": ""}, "name=: runs lie in runs/NAME"),
        ({"name": "../up"}, "name=../up"),
        ({"name": "/tmp/up"}, "name=/tmp/up"),
        ({"name": "a\nb"}, "name=a"),
        ({"genotype": ""}, "genotype=: an empty text"),
        ({"retrain": {"epochs": 3}}, "retrain: has settings and no recipe"),
        ({"retrain": None, "genotype": "darts_v2"}, "retrain=none: with genotype=darts_v2 nothing is left to do"),
    ],
)
def test_what_cannot_be_is_refused_under_its_key(changes, says):
    with pytest.raises(InputError) as error:
        checked(settings(**changes))
    assert str(error.value).startswith(says)


def test_a_group_that_may_be_left_out_can_be_null():
    without = settings(inputs=None, table=None, retrain=None)
    assert {name: checked(without)[name] for name in ("inputs", "table", "retrain")} == {
        "inputs": None,
        "table": None,
        "retrain": None,
    }


def test_every_group_that_is_typed_by_its_options_has_a_folder():
    assert {"data", "space", "strategy", "search", "retrain", "table"} <= set(GROUPS)
    assert len(set(GROUPS)) == len(GROUPS)
    assert "seed" not in GROUPS


def test_interpolations_are_resolved_and_nothing_of_the_parser_is_left():
    found = plain(OmegaConf.create({"a": {"b": [1, "${c}"]}, "c": 2}))
    assert found == {"a": {"b": [1, 2]}, "c": 2}
    assert (type(found["a"]), type(found["a"]["b"])) == (dict, list)


@pytest.mark.parametrize("node", [{"a": "${nowhere}"}, {"a": "???", "b": "${a}"}, {"a": "${b}", "b": "${a}"}])
def test_what_cannot_be_resolved_is_one_line(node):
    with pytest.raises(InputError) as error:
        plain(OmegaConf.create(node))
    assert "\n" not in str(error.value)
