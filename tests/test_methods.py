"""Every method of the literature is a yaml: it composes, says the published figures, and takes steps on a supernet."""

import copy
from pathlib import Path

import pytest
import torch
from common import composed
from supernet.experiments.instantiate import build

from supernet import load
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch
from supernet.deployment.bundle import save_bundle
from supernet.execution.engines import engine
from supernet.search.loop import search_step
from supernet.search.progressive.stages import Stage, resolve_stages
from supernet.search.strategy import Step
from supernet.space.architecture import check
from supernet.space.choosers import Decided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet
from supernet.training.tasks import Classification

METHODS = sorted(path.stem for path in (Path(__file__).parents[1] / "conf" / "method").glob("*.yaml"))
NESTED = ("bignas", "once_for_all")  # tests/search/test_mobile_methods.py: their spaces have nested sizes
OF_CELLS = [method for method in METHODS if method not in NESTED]
SHAPE = (1, 6, 6)


EVERY_STEP = {"proxyless": "strategy.every=1"}  # as published, the alphas take one step in so many of the network


def tiny(method: str):
    """The space, supernet and a maker of strategies of a method, as small as partial channels allow."""
    sizes = "space.channels=8", "space.cells=1", "space.nodes=2"
    words = [EVERY_STEP[method]] if method in EVERY_STEP else []
    settings = composed(f"method={method}", "experiment=cifar10", *sizes, *words)
    torch.manual_seed(0)
    space, chooser = build(settings["space"], "space"), build(settings["chooser"], "chooser")
    supernet = Supernet(space.network(chooser, SHAPE, 3))
    maker = build(settings["strategy"], "strategy")
    return space, supernet, lambda: maker("darts", supernet.decisions, seed=0)


def step_of(supernet, optimizer, number: int) -> Step:
    generator = torch.Generator().manual_seed(number)

    def batch() -> Batch:
        labels = torch.randint(3, (4,), generator=generator)
        return Batch(torch.randn(4, *SHAPE, generator=generator), labels)

    return Step(supernet, batch(), batch(), Classification(), optimizer, 0.1 * number)


def values(state) -> list[torch.Tensor]:
    """All tensors of a nested state, in order."""
    if isinstance(state, torch.Tensor):
        return [state]
    children = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for child in children for tensor in values(child)]


@pytest.mark.parametrize("method", OF_CELLS)
def test_every_method_takes_steps_resumes_and_ends_in_a_network(method):
    space, supernet, make = tiny(method)
    optimizer = torch.optim.SGD(supernet.parameters(), 0.01, momentum=0.9)
    strategy = make()
    before = copy.deepcopy(strategy.state_dict())
    for number in range(2):
        loss, _ = search_step(step_of(supernet, optimizer, number), strategy, 5.0)
        assert loss.isfinite()
    assert all(value.isfinite().all() for value in values(strategy.state_dict()))
    if "logits" in before:  # a policy learns later
        logits = [values(state["logits"]) for state in (before, strategy.state_dict())]
        assert not all(torch.equal(a, b) for a, b in zip(*logits, strict=True))
    twin, network = make(), copy.deepcopy(supernet.state_dict())
    twin.load_state_dict(copy.deepcopy(strategy.state_dict()))
    third = step_of(supernet, torch.optim.SGD(supernet.parameters(), 0.01), 2)
    results = []
    assert not any(weight.requires_grad for weight in make().sample(third).values())
    for each in (strategy, twin):
        supernet.load_state_dict(network)
        each.update(third)
        results.append([*values(each.state_dict()), *each.sample(third).values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    found = strategy.finish()
    assert isinstance(space, Darts)
    space.network(Decided(found), SHAPE, 3)(torch.zeros(2, *SHAPE))


@pytest.mark.parametrize("method", METHODS)
def test_on_digits_a_method_takes_the_sizes_of_digits(method):
    published, digits = composed(f"method={method}", "experiment=cifar10"), composed(f"method={method}")
    assert digits["search"]["epochs"] == composed()["search"]["epochs"]
    assert digits["search"]["batch_size"] is None, "follows from the images"
    assert build({**digits["search"], "batch_size": 64}, "search").warm_up < digits["search"]["epochs"]
    assert build(published["search"], "search").epochs >= 50


def test_a_method_on_the_command_line_beats_that_of_an_experiment():
    settings = composed("experiment=darts_cifar10", "method=drnas")
    assert settings["relaxation"]["_target_"].endswith("Dirichlet")
    assert composed("method=drnas", "relaxation=softmax")["relaxation"]["_target_"].endswith("Softmax")
    assert composed("experiment=darts_cifar10_second_order")["architect"]["_target_"].endswith("unrolled")


@pytest.mark.parametrize(
    ("method", "sizes"),
    [
        ("p_darts", [(5, 16, None, 25, 10), (11, 16, None, 25, 10), (17, 16, None, 25, 10)]),
        ("drnas_progressive", [(20, 36, 6, 25, 10), (20, 36, 4, 25, 10)]),
    ],
)
def test_published_stages(method, sizes):
    """Cells, channels, divisor of channels, epochs and epochs without the alphas."""
    settings = composed(f"method={method}", "experiment=cifar10")
    stages = [Stage(**stage) for stage in settings["stages"]]
    found = resolve_stages(
        stages, build(settings["space"], "space"), build(settings["search"], "search"), (3, 32, 32), 10
    )
    made = [
        (stage.space.cells, stage.space.channels, stage.channel_divisor, stage.recipe.epochs, stage.recipe.warm_up)
        for stage in found
    ]
    assert made == sizes
    rates = [stage.recipe.schedule(0, stage.recipe.epochs) for stage in found]
    assert rates == pytest.approx([0.1, 0.05] if method == "drnas_progressive" else [0.025] * 3)


def test_fair_darts_has_no_none_in_any_space():
    settings = composed("method=fair_darts", "space=nasbench201")
    chooser, space = build(settings["chooser"], "chooser"), build(settings["space"], "space")
    decisions = Supernet(space.network(chooser, (3, 8, 8), 3)).decisions
    edges = [d.options for d in decisions.values() if d.role == "operation"]
    assert set(edges) == {("skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")}


def test_a_fair_darts_cell_with_single_inputs_is_a_model_that_loads(tmp_path):
    space, supernet, make = tiny("fair_darts")
    strategy = make()
    with torch.no_grad():
        for logits in strategy.logits.values():
            logits.sub_(3.0)  # sigmoids below the threshold: each node keeps its strongest edge alone
    found = strategy.finish()
    assert {len(found[d.name]) for d in supernet.decisions.values() if d.role == "inputs"} == {1}
    check(found, supernet.decisions)
    network = space.network(Decided(found), SHAPE, 3).eval()
    about = {"space": space, "architecture": found, "classes": ("a", "b", "c"), "shape": SHAPE, "provenance": {}}
    save_bundle(tmp_path / "model.safetensors", network, augmentation=Augmentation((0.0,), (1.0,)), **about)
    loaded = load(tmp_path)
    assert loaded.architecture == found
    x = torch.randn(2, *SHAPE)
    assert torch.equal(loaded.network(x), engine("fused").apply(network)(x))


def test_every_method_names_its_paper():
    for method in METHODS:
        text = (Path(__file__).parents[1] / "conf" / "method" / f"{method}.yaml").read_text()
        assert any(f"20{year})" in text or f"20{year}," in text for year in range(18, 26)), method
