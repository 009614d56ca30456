"""Every method in mobile spaces, with separate and with nested weights: it searches, or one line says why it cannot."""

import inspect
from dataclasses import replace

import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.estimation.costs import multiply_adds
from supernet.estimation.limits import Limits
from supernet.estimation.space_costs import SpaceCosts
from supernet.execution.engines import engine
from supernet.runtime.errors import InputError
from supernet.search import methods
from supernet.search.black_box.rewards import AbsoluteReward, PowerReward
from supernet.search.differentiable.objectives import CostTerm
from supernet.search.progressive.search import StagedSearch, check_stages, search_stages
from supernet.space.architecture import check
from supernet.space.choosers import Decided
from supernet.space.inverted_residual import Style
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.survey import decisions_of

SHAPE = (1, 6, 6)
SMALL = {"stem": 8, "head": 16, "stem_stride": 1}
SPACES = {
    "nested": Mobile(
        (
            Stage((8,), depths=(1, 2), kernels=(3, 5), expansions=(2, 4)),
            Stage((8, 16), stride=2, kernels=(3, 5), squeeze=(False, True), activations=("relu", "hardswish")),
        ),
        **SMALL,
        style=Style(kernel_transforms=True),
    ),
    "separate": Mobile(
        (
            Stage((8,), kernels=(3, 5), expansions=(2, 4), skip=True),
            Stage((16,), stride=2, kernels=(3, 5), expansions=(2,), squeeze=(False, True)),
        ),
        **SMALL,
        sharing="separate",
    ),
}
NO_CELLS = r"stages\[0\].depth=[\d.]+: space 'mobile' has no cells"
REFUSED = {  # what needs cells, a skip connection, one number of channels, costs of operations, or the other sharing
    ("nested", "drnas_progressive"): NO_CELLS,
    ("nested", "p_darts"): NO_CELLS,
    ("separate", "drnas_progressive"): NO_CELLS,
    ("separate", "p_darts"): NO_CELLS,
    ("nested", "pc_darts"): r"channel_divisor=4: is for operations, and stage1/depth is a size",
    ("nested", "gaea_pc_darts"): r"channel_divisor=4: is for operations, and stage1/depth is a size",
    ("separate", "pc_darts"): r"channel_divisor=4: what passes by stage2/1 keeps its 8 channels",
    ("separate", "gaea_pc_darts"): r"channel_divisor=4: what passes by stage2/1 keeps its 8 channels",
    ("nested", "darts_minus"): r"transforms: AuxiliarySkip gives the weights",
    ("nested", "tunas"): r"target=None: all operations cost 0",
    ("separate", "tunas"): r"costs: none for 'k3_e2'",
    ("separate", "bignas"): r"decisions: space 'mobile' has none about a number",
    ("separate", "once_for_all"): r"open.kernel: the space has no open size",
}
NAMES = sorted({*dir(methods)} - {"Method", "adam"})
PAIRS = [(sharing, name) for sharing in SPACES for name in NAMES]


def half(seed: int) -> Resident:
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (12, *SHAPE), generator=stream, dtype=torch.uint8)
    return Resident(images, torch.arange(12) % 3)


def planned(sharing: str, name: str, limits: Limits | None = None, **parts) -> StagedSearch:
    function = getattr(methods, name)
    few = {"candidates": 2, "batches": 1, "finalists": 1}
    method = function(**{k: v for k, v in few.items() if k in inspect.signature(function).parameters})
    method = method.with_parts(**parts).few_steps(epochs=1, batch_size=6)
    method = replace(method, recipe=replace(method.recipe, least_steps=0))
    return StagedSearch.of(method, SPACES[sharing], SHAPE, 3, engine("fused"), 0, limits)


@pytest.mark.parametrize(("sharing", "name"), [pair for pair in PAIRS if pair not in REFUSED])
def test_a_method_takes_two_steps_and_ends_in_a_network(sharing, name):
    search, space = planned(sharing, name), SPACES[sharing]
    check_stages(search)
    found = search_stages(search, half(0), half(1), Augmentation((0.0,), (1.0,)))
    check(found.architecture, decisions_of(space, shape=SHAPE, outputs=3))
    network = space.network(Decided(found.architecture), SHAPE, 3)
    assert network(torch.zeros(2, *SHAPE)).shape == (2, 3)
    assert found.train.loss > 0.0


@pytest.mark.parametrize(("sharing", "name"), REFUSED)
def test_what_cannot_be_is_told_before_the_first_step(sharing, name):
    with pytest.raises(InputError, match=f"^{REFUSED[sharing, name]}") as told:
        check_stages(planned(sharing, name))
    assert "\n" not in str(told.value)


LOG = {"terms": {"macs": CostTerm("macs")}}
EXPECTED = {"terms": {"macs": CostTerm("macs", kind="linear", weight=0.1, drawn=False)}}
WITH_COSTS = {  # by which each method learns of a cost, where it does
    "fbnet": LOG,
    "proxyless": EXPECTED,
    "gdas": EXPECTED,
    "darts": LOG,
    "drnas": LOG,
    "tunas": {"reward": AbsoluteReward("macs")},
    "proxyless_r": {"reward": PowerReward("macs")},
    "enas": {},
    "spos": {},
    "aging": {},
    "bignas": {},
    "once_for_all": {},
}


LIMITED = [(s, n) for s in SPACES for n in WITH_COSTS if n == "tunas" or (s, n) not in REFUSED]


@pytest.mark.parametrize(("sharing", "name"), LIMITED)
def test_limits_hold(sharing, name):
    """A fifth above the cheapest network; the earlier stages of progressive shrinking train larger ones."""
    costs = SpaceCosts(SPACES[sharing], SHAPE, 3)
    least = Limits(costs, {}).cheapest("macs")[1]
    limits = Limits(costs, {"macs": 1.2 * least})
    search = planned(sharing, name, limits, **WITH_COSTS[name])
    check_stages(search)
    found = search_stages(search, half(0), half(1), Augmentation((0.0,), (1.0,)))
    network = SPACES[sharing].network(Decided(found.architecture), SHAPE, 3)
    assert least <= multiply_adds(network, torch.zeros(1, *SHAPE)) <= 1.2 * least
