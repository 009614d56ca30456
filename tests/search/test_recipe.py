"""The settings of a search: the published ones, what is refused, and the dropout after skip connections."""

import math

import pytest

from supernet.runtime.errors import InputError
from supernet.search.recipe import SearchRecipe, skip_dropout


def test_the_defaults_are_the_search_of_darts():
    """Liu et al. 2019, section 3.1: 50 epochs of 64 images of either half, SGD from 0.025 to 0.001 by a cosine."""
    recipe = SearchRecipe()
    assert (recipe.epochs, recipe.batch_size, recipe.share, recipe.warm_up) == (50, 64, 0.5, 0)
    assert (recipe.momentum, recipe.weight_decay, recipe.nesterov, recipe.clip) == (0.9, 3e-4, False, 5.0)
    assert (recipe.skip_dropout, recipe.drop_path, recipe.least_steps) == (0.0, 0.0, 0)
    expected = [0.001 + 0.012 * (1 + math.cos(math.pi * epoch / 50)) for epoch in range(50)]
    assert [recipe.schedule(epoch, 50) for epoch in range(50)] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 1, "warm_up": 0},
        {"batch_size": 2},
        {"warm_up": 49},
        {"clip": math.inf},
        {"momentum": 0.0},
        {"nesterov": True},
        {"skip_dropout": 0.99},
    ],
)
def test_the_ends_of_the_ranges_are_allowed(settings):
    recipe = SearchRecipe(**settings)
    assert {name: getattr(recipe, name) for name in settings} == settings


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"share": 0.0},
        {"share": 1.0},
        {"momentum": 1.0},
        {"clip": 0.0},
        {"warm_up": 50},
        {"warm_up": -1},
        {"weight_decay": -1.0},
        {"weight_decay": math.inf},
        {"drop_path": 1.0},
        {"skip_dropout": 1.0},
        {"least_steps": -1},
    ],
)
def test_recipe_refuses_nonsense_by_name(settings):
    (name,) = settings
    with pytest.raises(InputError, match=f"^{name}="):
        SearchRecipe(**settings)


def test_nesterov_needs_a_momentum():
    with pytest.raises(InputError, match=r"^nesterov=True: needs a momentum above 0"):
        SearchRecipe(nesterov=True, momentum=0.0)


def test_dropout_after_skips_is_that_of_p_darts():
    """Chen et al. 2019, train_search.py with 25 epochs of which 10 are without the alphas."""
    rates = [skip_dropout(0.4, epoch, 25, 10) for epoch in range(25)]
    assert rates[:10] == pytest.approx([0.4 * (24 - epoch) / 25 for epoch in range(10)], rel=1e-15)
    assert rates[10:] == pytest.approx([0.4 * 2.718281828459045 ** (-(e - 10) / 5) for e in range(10, 25)], rel=1e-12)
    assert skip_dropout(0.0, 3, 25, 10) == skip_dropout(0.0, 20, 25, 10) == 0.0
