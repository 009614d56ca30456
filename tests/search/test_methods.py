"""Each method as an expression: equal to its yaml in every part, in a long search and a short one, and in its steps."""

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from common import composed, slow_but
from supernet.experiments.instantiate import build

from supernet.data.batches import Batch
from supernet.search import methods
from supernet.search.loop import search_step
from supernet.search.method import Method
from supernet.search.strategy import Step
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet
from supernet.training.tasks import Classification

NAMES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))
STAGE = "supernet.search.progressive.stages.Stage"
SHAPE = (1, 6, 6)


def parts(value):
    """What a part is made of: functions with all of their settings, those too that are left at their default."""
    if isinstance(value, partial):
        own = inspect.signature(value.func).parameters.values()
        defaults = {p.name: p.default for p in own if p.default is not p.empty}
        settings = {name: parts(setting) for name, setting in {**defaults, **value.keywords}.items()}
        return (value.func, settings, parts(value.args))
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), {f.name: parts(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {name: parts(setting) for name, setting in value.items()} or None
    if isinstance(value, list | tuple):
        return [parts(item) for item in value]
    return parts(partial(value)) if inspect.isfunction(value) else value


def of_yaml(settings, **changes) -> dict:
    """All that a method decides, made from composed settings."""
    strategy = build(settings["strategy"], "strategy")
    optimizer = strategy.keywords.pop("optimizer", None)
    return {
        "strategy": parts(strategy),
        "optimizer": parts(optimizer),
        "chooser": parts(build(settings["chooser"], "chooser")),
        "stages": parts([build({**stage, "_target_": STAGE}, "stages") for stage in settings["stages"]]),
        "monitor": parts(build(settings["monitor"], "monitor")),
        "recipe": parts(build({**settings["search"], **changes}, "search")),
    }


def of_expression(method: Method, space) -> dict:
    """The same, made from a method."""
    method = replace(method, chooser=method.chooser_for(space))
    names = ("strategy", "optimizer", "chooser", "stages", "monitor", "recipe")
    return {name: parts(getattr(method, name)) for name in names}


def same(one: dict, other: dict) -> None:
    for name in one:
        assert one[name] == other[name], name


def test_there_is_an_expression_for_each_yaml():
    assert sorted({*dir(methods)} - {"Method", "adam"}) == NAMES
    assert all(getattr(methods, name)().name == name for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_expression_is_the_yaml(name):
    settings = composed(f"method={name}", "experiment=cifar10")
    same(of_yaml(settings), of_expression(getattr(methods, name)(), build(settings["space"], "space")))


@pytest.mark.parametrize("experiment", slow_but(["laptop"], ["digits", "laptop", "micro"]))
@pytest.mark.parametrize("name", NAMES)
def test_a_short_search_is_that_of_the_small_experiments(name, experiment):
    settings = composed(f"method={name}", f"experiment={experiment}")
    method = getattr(methods, name)().few_steps(epochs=settings["search"]["epochs"], batch_size=23)
    same(of_yaml(settings, batch_size=23), of_expression(method, build(settings["space"], "space")))


SPACES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "space").glob("*.yaml"))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", slow_but(["drnas"], ["darts", "drnas", "fair_darts"]))
def test_which_operations_take_part_depends_on_the_space(name, space):
    settings = composed(f"method={name}", f"space={space}")
    chosen = getattr(methods, name)().chooser_for(build(settings["space"], "space"))
    assert parts(chosen) == of_yaml({**settings, "stages": []}, batch_size=64)["chooser"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("pc_darts", {"channel_divisor": 2}),
        ("gdas", {"start": 5.0}),
        ("r_darts_l2", {"weight_decay": 27e-4}),
        ("r_darts_es", {"window": 3}),
        ("p_darts", {"dropouts": (0.0, 0.4, 0.7)}),
        ("oles", {"accumulated": False}),
        ("gaea", {"lr": 0.05}),
        ("darts_2nd", {"epsilon": 0.1}),
        ("random_search", {"finalists": 3}),
        ("fair_darts", {"least": 0.5}),
    ],
)
def test_a_setting_is_seen_by_the_comparison(name, changes):
    published, changed = (of_expression(getattr(methods, name)(**more), Darts()) for more in ({}, changes))
    assert [part for part in published if published[part] != changed[part]] != []


def test_every_keyword_changes_the_method():
    for name in NAMES:
        function = getattr(methods, name)
        for keyword in inspect.signature(function).parameters.values():
            changed = function(**{keyword.name: another(keyword.default)})
            assert of_expression(changed, Darts()) != of_expression(function(), Darts()), (name, keyword.name)


def another(value):
    """Another value that is allowed in the place of this one."""
    if isinstance(value, tuple):
        return tuple(another(item) for item in value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value / 2
    return {"l2": "l1", "linear": "cosine", "all": "two", None: 3}.get(value) or 2 * value


@pytest.mark.parametrize(
    "name",
    ["darts_2nd", "pc_darts", "gdas", "fbnet", "proxyless", "drnas", "sdarts_adv", "darts_minus", "gaea", "oles"],
)
def test_both_take_the_same_steps(name):
    """From the yaml and from the expression: the same alphas and the same weights, to the bit."""
    settings = composed(f"method={name}", "experiment=cifar10")
    space, method = Darts(channels=8, cells=1, nodes=2), getattr(methods, name)()
    made = build(settings["strategy"], "strategy"), build(settings["chooser"], "chooser")
    one = steps(space, *made, [build({**s, "_target_": STAGE}, "stages") for s in settings["stages"]])
    other = steps(space, method.make_strategy, method.chooser_for(Darts()), method.stages)
    assert len(one) > 5
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def steps(space, make, chooser, stages) -> list[torch.Tensor]:
    """All alphas and weights after two steps."""
    torch.manual_seed(0)
    supernet = Supernet(space.network(chooser, SHAPE, 3))
    inner = make("darts", supernet.decisions, seed=0)
    strategy = stages[0].wrapper(inner) if stages and stages[0].wrapper else inner
    optimizer = torch.optim.SGD(supernet.parameters(), 0.01, momentum=0.9)
    stream = torch.Generator().manual_seed(1)

    def batch() -> Batch:
        return Batch(torch.randn(4, *SHAPE, generator=stream), torch.randint(3, (4,), generator=stream))

    for number in range(2):
        step = Step(supernet, batch(), batch(), Classification(), optimizer, 0.5 * number)
        search_step(step, strategy, 5.0)
    return [*inner.logits.values(), *supernet.state_dict().values()]


def test_every_method_names_its_paper_and_has_an_example():
    for name in NAMES:
        text = inspect.getdoc(getattr(methods, name))
        assert all(part in text for part in ("Source: ", "Example:\n    >>> ")), name
        documented = set(inspect.signature(getattr(methods, name)).parameters)
        assert all(f"\n    {keyword}: " in text for keyword in documented), name
