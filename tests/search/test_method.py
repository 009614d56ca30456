"""What a method is made of, and how it is changed: the original stays as it is."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from supernet.search import methods
from supernet.search.differentiable.objectives import BetaDecay, ZeroOne
from supernet.search.method import Method, adam
from supernet.search.recipe import SearchRecipe
from supernet.space.architecture import Decision
from supernet.space.choosers import Undecided
from supernet.space.darts import DARTS_OPERATIONS, Darts
from supernet.space.nasbench201 import NasBench201

EDGE = {"edge": Decision("edge", ("none", "skip_connect"))}


def strategy(space, decisions, *, part="its own", other=0, **more):
    """Stands in for a strategy: shows with what it is made."""
    return {"space": space, "decisions": decisions, "part": part, "other": other, **more}


PLAIN, WITH_ALPHAS = Method("plain", strategy), Method("with alphas", strategy, adam())


def test_adam_is_that_of_darts():
    (group,) = adam()([torch.zeros(2, requires_grad=True)]).param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (3e-4, (0.5, 0.999), 1e-3)
    (group,) = adam(0.1, (0.9, 0.99))([torch.zeros(2, requires_grad=True)]).param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.1, (0.9, 0.99), 1e-3)


def test_a_strategy_gets_the_seed_and_an_optimiser_only_where_there_is_one():
    made = PLAIN.make_strategy("mine", EDGE, seed=3)
    assert made == {"space": "mine", "decisions": EDGE, "part": "its own", "other": 0, "seed": 3}
    assert WITH_ALPHAS.make_strategy("mine", EDGE) == {**made, "seed": 0, "optimizer": WITH_ALPHAS.optimizer}


def test_other_parts_reach_the_strategy_and_the_rest_stays():
    changed = PLAIN.with_parts(part="another")
    assert changed.make_strategy("mine", EDGE) == {**PLAIN.make_strategy("mine", EDGE), "part": "another"}
    twice = changed.with_parts(other=1).with_parts(part="third").make_strategy("mine", EDGE)
    assert (twice["part"], twice["other"]) == ("third", 1)
    assert PLAIN.make_strategy("mine", EDGE)["part"] == "its own"
    assert replace(changed, strategy=PLAIN.strategy) == PLAIN


def test_a_rate_changes_the_rate_alone():
    assert PLAIN.with_rate(0.5) is PLAIN
    (group,) = WITH_ALPHAS.with_rate(0.5).optimizer([torch.zeros(2, requires_grad=True)]).param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.5, (0.5, 0.999), 1e-3)
    assert WITH_ALPHAS.optimizer.keywords["lr"] == 3e-4


@pytest.mark.parametrize("keeps", [(), ("weight_decay",), ("weight_decay", "drop_path")])
def test_another_recipe_keeps_what_the_method_keeps(keeps):
    own, other = SearchRecipe(weight_decay=0.5, drop_path=0.25), SearchRecipe(epochs=7, weight_decay=0.125)
    changed = replace(PLAIN, recipe=own, keeps=keeps).with_recipe(other).recipe
    assert changed == replace(other, **{name: getattr(own, name) for name in keeps})


@pytest.mark.parametrize(("epochs", "warm_up"), [(1, 0), (2, 1), (8, 1)])
def test_few_steps_are_a_hundred_larger_ones(epochs, warm_up):
    method = replace(WITH_ALPHAS, recipe=SearchRecipe(weight_decay=0.5, drop_path=0.1), keeps=("drop_path",))
    short = method.few_steps(epochs=epochs, batch_size=10)
    recipe = short.recipe
    assert (recipe.epochs, recipe.warm_up, recipe.batch_size, recipe.least_steps) == (epochs, warm_up, 10, 11)
    assert (recipe.schedule(0, epochs), recipe.drop_path, recipe.weight_decay) == (0.05, 0.1, 3e-4)
    assert short.optimizer.keywords["lr"] == 0.01


def test_few_steps_leave_other_optimisers_of_the_alphas_alone():
    for optimizer in (None, partial(torch.optim.SGD, lr=0.1), lambda parameters: torch.optim.Adam(parameters)):
        assert replace(PLAIN, optimizer=optimizer).few_steps().optimizer is optimizer


def test_few_steps_have_the_rate_and_the_parts_that_the_method_names_for_them():
    method = replace(WITH_ALPHAS, few_steps_rate=0.25, few_steps_parts={"part": "for few", "other": 3})
    made = method.few_steps().make_strategy("mine", EDGE)
    assert (made["part"], made["other"], made["optimizer"].keywords["lr"]) == ("for few", 3, 0.25)
    assert method.make_strategy("mine", EDGE)["part"] == "its own"
    mine = method.with_parts(part="mine").with_rate(0.5).few_steps().make_strategy("mine", EDGE)
    assert (mine["part"], mine["other"], mine["optimizer"].keywords["lr"]) == ("mine", 3, 0.5)


def test_the_terms_for_few_steps_follow_the_methods_own_settings():
    beta, fair = methods.beta_darts(weight=20.0).few_steps(), methods.fair_darts(weight=4.0, form="l1").few_steps()
    assert beta.strategy.keywords["terms"]["beta_decay"] == BetaDecay(0.3, span=None)
    assert fair.strategy.keywords["terms"]["zero_one"] == ZeroOne(4.0, "l1", among=196)
    assert methods.beta_darts().with_parts(terms={}).few_steps().strategy.keywords["terms"] == {}


@pytest.mark.parametrize(
    ("space", "excluded"),
    [
        (Darts(), ("none",)),
        (Darts(channels=4, cells=2), ("none",)),
        (Darts(operations=DARTS_OPERATIONS[:3]), ()),
        (Darts(table={"normal/2/0": ("none", "skip_connect")}), ()),
        (NasBench201(), ()),
    ],
)
def test_seven_operations_are_the_eight_of_darts_without_none(space, excluded):
    chooser = Undecided(channel_divisor=2)
    seven = replace(PLAIN, chooser=chooser, seven_operations=True)
    assert seven.chooser_for(space) == replace(chooser, excluded=excluded)
    assert replace(seven, seven_operations=False).chooser_for(space) is chooser


def test_another_recipe_gets_what_makes_the_method():
    other = SearchRecipe(epochs=3)
    assert methods.pc_darts().with_recipe(other).recipe == other
    assert methods.r_darts_dp(drop_path=0.4).with_recipe(other).recipe == replace(other, drop_path=0.4)


def test_the_rate_of_the_alphas():
    assert methods.pc_darts().with_rate(0.5).optimizer.keywords == {**methods.pc_darts().optimizer.keywords, "lr": 0.5}
    assert methods.gaea().few_steps().optimizer.keywords["lr"] == 0.1
    assert methods.random_search().with_rate(0.5).optimizer is None


def test_one_epoch_is_a_search_in_which_the_alphas_learn():
    assert methods.darts().few_steps(epochs=1).recipe.warm_up == 0


def test_other_spaces_keep_all_of_their_operations():
    assert methods.drnas().chooser_for(NasBench201()).excluded == ()
    assert methods.drnas().chooser_for(Darts(operations=("none", "skip_connect"))).excluded == ()
    assert methods.drnas().chooser_for(Darts(channels=4)).excluded == ("none",)
