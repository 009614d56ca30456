"""Ours against figures recorded from the original code (tests/genotypes/original/record.py), in float64."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from supernet.genotypes.literature import PUBLISHED
from supernet.genotypes.original_checkpoints import (
    load_original_final,
    load_original_search,
    original_alphas,
    original_betas,
)
from supernet.runtime.errors import InputError
from supernet.search.differentiable.architects import Bilevel, first_order, unrolled
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet
from supernet.training.sgd import SgdStep

FOLDER = Path(__file__).parent / "original"
FIGURES = json.loads((FOLDER / "figures.json").read_text())
_spec = importlib.util.spec_from_file_location("record", FOLDER / "record.py")
record = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(record)


def state(part: str) -> dict[str, torch.Tensor]:
    return {name: record.fill(name, tuple(shape)) for name, shape in FIGURES[part]["shapes"].items()}


def close(ours: torch.Tensor, theirs: list) -> bool:
    theirs = torch.tensor(theirs, dtype=torch.float64)
    return bool(((ours - theirs).abs().max() / theirs.abs().max()) < 1e-10)


@pytest.fixture
def search():
    supernet = Supernet(Darts(channels=4, cells=3).network(Undecided(), (3, 16, 16), 5)).double()
    load_original_search(supernet, state("search"))
    alphas = [record.fill(f"alphas_{kind}", (14, 8)).requires_grad_() for kind in ("normal", "reduce")]
    return supernet, alphas


def relax(supernet, alphas):
    return {name: logits.softmax(-1) for name, logits in original_alphas(supernet.decisions, *alphas).items()}


def test_search_network_computes_what_the_original_does(search):
    supernet, alphas = search
    x, y = record.images(4, 16), torch.tensor([0, 1, 2, 4])
    assert close(supernet.eval()(x, relax(supernet, alphas)), FIGURES["search"]["evaluated"])
    logits = supernet.train()(x, relax(supernet, alphas))
    assert close(logits, FIGURES["search"]["logits"])
    gradients = torch.autograd.grad(F.cross_entropy(logits, y), alphas)
    for ours, theirs in zip(gradients, FIGURES["search"]["first_order"], strict=True):
        assert close(ours, theirs)


@pytest.fixture
def partial_search():
    """PC-DARTS' search network and its alphas and betas."""
    supernet = Supernet(Darts(channels=16, cells=3).network(Undecided(channel_divisor=4), (3, 16, 16), 5)).double()
    shapes = {**FIGURES["search"]["shapes"], **FIGURES["pc_darts"]["shapes"]}
    weights = {name: record.fill(name, tuple(shape)) for name, shape in shapes.items()}
    parameters = [record.fill(f"alphas_{kind}", (14, 8)).requires_grad_() for kind in ("normal", "reduce")]
    parameters += [record.fill(f"betas_{kind}", (14,)).requires_grad_() for kind in ("normal", "reduce")]
    kept_by_forks = dict(
        zip(("alphas_normal", "alphas_reduce", "betas_normal", "betas_reduce"), parameters, strict=True)
    )
    load_original_search(supernet, {**weights, **kept_by_forks})
    return supernet, parameters


def relax_both(supernet, parameters):
    betas = original_betas(supernet.decisions, *parameters[2:])
    return {**relax(supernet, parameters[:2]), **{name: logits.softmax(-1) for name, logits in betas.items()}}


def test_pc_darts_search_network_computes_what_the_original_does(partial_search):
    supernet, parameters = partial_search
    figures = FIGURES["pc_darts"]
    x, y = record.images(4, 16), torch.tensor([0, 1, 2, 4])
    assert close(supernet.eval()(x, relax_both(supernet, parameters)), figures["evaluated"])
    logits = supernet.train()(x, relax_both(supernet, parameters))
    assert close(logits, figures["logits"])
    gradients = torch.autograd.grad(F.cross_entropy(logits, y), parameters)
    for ours, theirs in zip(gradients, figures["first_order"], strict=True):
        assert close(ours, theirs)


def test_betas_of_another_space_are_refused(partial_search):
    supernet, (*_, normal, reduced) = partial_search
    with pytest.raises(InputError, match="betas_reduce: 9 edges, the space has 14"):
        original_betas(supernet.decisions, normal, reduced[:9])


@pytest.mark.parametrize(("architect", "figure"), [(first_order, "first_order"), (unrolled, "second_order")])
def test_hypergradients_equal_the_originals(search, architect, figure):
    supernet, alphas = search
    names = [name for name, _ in supernet.named_parameters()]
    valid, train = (
        (record.images(4, 16), torch.tensor([0, 1, 2, 4])),
        (record.images(5, 16)[:4], torch.tensor([3, 1, 0, 2])),
    )

    def loss(batch):
        def value(inner):
            weights = relax(supernet, alphas)
            given = dict(zip(names, inner, strict=True))
            return F.cross_entropy(torch.func.functional_call(supernet, given, (batch[0], weights)), batch[1])

        return value

    ours = dict(supernet.named_parameters())
    buffers = {n: 0.1 * record.fill("momentum " + n, tuple(s)) for n, s in FIGURES["search"]["shapes"].items()}
    twin = Supernet(Darts(channels=4, cells=3).network(Undecided(), (3, 16, 16), 5)).double()
    running = {n: t for n, t in state("search").items() if n.endswith(("running_mean", "running_var"))}
    load_original_search(twin, {**buffers, **running})  # renames the momentum buffers for us
    problem = Bilevel(
        inner=list(ours.values()),
        outer=alphas,
        train_loss=loss(train),
        valid_loss=loss(valid),
        inner_step=SgdStep(0.025, 0.9, 3e-4, velocity=[p.detach() for p in twin.parameters()]),
    )
    for mine, theirs in zip(architect(problem), FIGURES["search"][figure], strict=True):
        assert close(mine, theirs)


@pytest.mark.parametrize(
    ("part", "name", "stem"),
    [
        ("darts_v2", "darts_v2", "cifar"),
        ("amoebanet_a", "amoebanet_a", "cifar"),
        ("nasnet_a", "nasnet_a", "cifar"),
        ("imagenet_darts_v1", "darts_v1", "imagenet"),
    ],
)
def test_final_networks_compute_what_the_original_does(part, name, stem):
    genotype = PUBLISHED[name]
    size = 32 if stem == "cifar" else 64
    space = Darts(channels=4, cells=4, nodes=len(genotype.normal), stem=stem, auxiliary=True)
    network = space.network(Decided(genotype.architecture()), (3, size, size), 5).double()
    load_original_final(network, {f"module.{name}": value for name, value in state(part).items()}, genotype)
    x = record.images(3, size)
    assert close(network.eval()(x), FIGURES[part]["evaluated"])
    logits, auxiliary = network.train()(x)
    assert close(logits, FIGURES[part]["logits"])
    assert close(auxiliary, FIGURES[part]["auxiliary"])


def test_what_does_not_fit_is_listed(search):
    supernet, _ = search
    weights = state("search")
    weights["surprise.weight"] = weights.pop("classifier.weight")
    weights["stem.0.weight"] = torch.zeros(1)
    with pytest.raises(InputError) as error:
        load_original_search(supernet, weights)
    for name in (
        "3 names",
        "surprise.weight",
        "classifier.weight (missing)",
        "stem.0.weight (1,) (ours is (12, 3, 3, 3))",
    ):
        assert name in str(error.value)


def test_alphas_of_another_space_are_refused(search):
    supernet, alphas = search
    with pytest.raises(InputError, match="9 edges, the space has 14"):
        original_alphas(supernet.decisions, alphas[0][:9], alphas[1])


def final_weights():
    genotype = PUBLISHED["darts_v2"]
    network = Darts(channels=4, cells=4, auxiliary=True).network(Decided(genotype.architecture()), (3, 32, 32), 5)
    return network.double(), state("darts_v2"), genotype


@pytest.mark.parametrize(
    "prefix", ["", "module.", "module.module.", "_orig_mod.", "model.", "net.module._orig_mod.", "x.y."]
)
@pytest.mark.parametrize("key", [None, "state_dict", "model", "ema"])
def test_wrapped_checkpoints_load_as_the_plain_one(prefix, key):
    network, weights, genotype = final_weights()
    given = {prefix + name: value for name, value in weights.items()}
    if key is not None:  # as the original's train_imagenet.py saves them
        given = {"epoch": 250, key: given, "best_acc_top1": 73.3, "optimizer": {"state": {}, "param_groups": [{}]}}
    load_original_final(network, given, genotype)
    assert close(network.eval()(record.images(3, 32)), FIGURES["darts_v2"]["evaluated"])


def test_a_wrapped_search_network_loads_too(search):
    supernet, alphas = search
    weights = {f"module.{name}": value for name, value in state("search").items()}
    alone = dict.fromkeys(("module.alphas_normal", "alphas_reduce"), torch.zeros(14, 8))
    for parameter in supernet.parameters():
        parameter.data.zero_()
    load_original_search(supernet, {"model": {"state_dict": {**weights, **alone}}})
    assert close(supernet.eval()(record.images(4, 16), relax(supernet, alphas)), FIGURES["search"]["evaluated"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda w: {"epoch": 3, "best": 1.0},
            r"holds epoch, best; give the state dict, such as checkpoint\['state_dict'\]",
        ),
        (lambda w: {"first": w, "second": w}, "holds first, second; give"),
        (lambda w: [w], "holds list"),
        (lambda w: {}, "holds nothing"),
        (lambda w: {**w, **{f"module.{name}": value for name, value in w.items()}}, "with and without a prefix"),
    ],
)
def test_checkpoints_without_one_state_dict_say_what_to_give(change, says):
    network, weights, genotype = final_weights()
    with pytest.raises(InputError, match=says) as error:
        load_original_final(network, change(weights), genotype)
    assert "\n" not in str(error.value)
