"""The spaces from Python are those of the yaml files."""

from pathlib import Path

import pytest
from common import composed
from supernet.experiments.instantiate import build

from supernet.space import spaces

SPACES = sorted({*spaces.__all__} - {"of"})  # `of` finds the space of a published network


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_that_of_its_yaml(name):
    assert getattr(spaces, name)() == build(composed("experiment=cifar10", f"space={name}")["space"], "space")


def test_there_is_one_for_each_yaml_and_the_tab_key_shows_them():
    assert dir(spaces) == sorted(spaces.__all__)
    others = {"darts_digits", "darts_quick", "darts_detection", "nasbench201_digits"}  # other sizes of two
    yamls = {path.stem for path in (Path(__file__).parents[2] / "conf" / "space").glob("*.yaml")}
    assert set(SPACES) == yamls - others
