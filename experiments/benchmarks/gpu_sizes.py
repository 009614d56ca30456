"""What is measured on a GPU, and how large it is: the published networks, or ones that a CPU does in seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from experiments.benchmarks.setting import Search, SearchSteps, TrainingSteps, Variant, searches
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.objectives import DirichletAnchor, ExpectedCost
from supernet.search.differentiable.operation_early_stopping import OperationEarlyStopping
from supernet.search.differentiable.projection import Projection
from supernet.search.differentiable.weight_transforms import Adversarial, AuxiliarySkip
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.dropout import set_drop_path
from supernet.space.mobile import Mobile
from supernet.space.mobilenets import mobilenet_v3

PARTIAL = Undecided(channel_divisor=4)


@dataclass(frozen=True)
class Kind:
    """A kind of step: what runs it, and on how many images.

    Args:
        name: of the kind.
        batch: images of each half.
        make: variant -> what runs a step.
    """

    name: str
    batch: int
    make: Callable[[Variant], Any]


@dataclass(frozen=True)
class Scale:
    """How large everything is. More than twelve settings: each is a size of one of the sections.

    Args:
        search: the network that is searched.
        training: the one that is retrained.
        check: the one whose results are compared; less deep, since a few cells have all that there is.
        side: of the images, in pixels.
        batch: of a search step.
        partial_batch: of one with partial channels.
        training_batch: of a retraining step.
        check_batch: where results are compared.
        warm_up: steps before any is timed, the recording of graphs included.
        rounds: steps that are timed.
        images: of a search; as many as CIFAR-10 has to train on.
        mobile: the mobile space.
        mobile_side: of its images, in pixels.
        numbers: float32 numbers that are copied to measure the device's bandwidth.
        candidates: that an evolution judges.
        detector: the network with a detector's head.
        pictures: the (height, width) of what it sees.
    """

    search: Darts
    training: Darts
    check: Darts
    side: int
    batch: int
    partial_batch: int
    training_batch: int
    check_batch: int
    warm_up: int
    rounds: int
    images: int
    mobile: Mobile
    mobile_side: int
    numbers: int
    candidates: int
    detector: Darts
    pictures: tuple[int, int]

    def kinds(self, device: torch.device) -> dict[str, Kind]:
        """The kinds of step that are timed, by name."""

        def kind(name: str, search: Search) -> Kind:
            batch = self.partial_batch if name == "partial_channels" else self.batch
            return Kind(name, batch, lambda variant: SearchSteps(search, variant, batch, self.side, device))

        def training_steps(variant: Variant) -> Any:
            steps = TrainingSteps(self.training, variant, self.training_batch, self.side, device)
            set_drop_path(steps.network, 0.1)
            return steps

        found = {name: kind(name, search) for name, search in searches(self.search).items()}
        return found | {"retraining": Kind("retraining", self.training_batch, training_steps)}

    @property
    def checks(self) -> dict[str, Search]:
        """The kinds of search step whose results are compared, by name."""
        return {name: search for name, search in searches(self.check).items() if name != "single_path"}

    @property
    def additions(self) -> dict[str, Search]:
        """Methods that do something of their own with weights or gradients in every step, by name."""
        costs = dict.fromkeys(self.check.operations, 1.0)
        return {
            "darts_minus": Search(
                self.check, chooser=Undecided(auxiliary=True), parts={"transforms": {"skip": AuxiliarySkip()}}
            ),
            "sdarts_adv": Search(self.check, parts={"transforms": {"attack": Adversarial()}}),
            "expected_cost": Search(self.check, parts={"terms": {"cost": ExpectedCost(costs)}}),
            "dirichlet_anchor": Search(self.check, parts={"terms": {"anchor": DirichletAnchor()}}),
            "darts_pt": Search(self.check, wrapper=_half_decided),
            "oles": Search(self.check, wrapper=OperationEarlyStopping),
        }


def _half_decided(strategy: GradientStrategy) -> Projection:
    """A selection by perturbation half of whose rounds are over."""
    projection = Projection(strategy)
    halves = {name: tuple(decision.options[:1]) for name, decision in list(strategy.decisions.items())[::2]}
    projection.load_state_dict({**projection.state_dict(), "rounds": projection.rounds // 2, "decided": halves})
    return projection


FULL = Scale(
    search=Darts(),
    training=Darts(channels=36, cells=20, auxiliary=True),
    check=Darts(cells=4),
    side=32,
    batch=64,
    partial_batch=256,
    training_batch=96,
    check_batch=16,
    warm_up=4,
    rounds=5,
    images=50_000,
    mobile=mobilenet_v3(),
    mobile_side=128,
    numbers=1 << 28,
    candidates=20,
    detector=Darts(stem="imagenet"),
    pictures=(288, 384),
)
_SMALL = Darts(channels=16, cells=1, nodes=2)  # 2 channels side by side, a part of 8, crash oneDNN on the CPU
TINY = Scale(
    search=_SMALL,
    training=Darts(channels=4, cells=2, auxiliary=True),
    check=_SMALL,
    side=8,
    batch=4,
    partial_batch=4,
    training_batch=4,
    check_batch=4,
    warm_up=4,
    rounds=1,
    images=40,
    mobile=mobilenet_v3(),
    mobile_side=32,
    numbers=1 << 12,
    candidates=3,
    detector=Darts(channels=8, cells=3, stem="imagenet"),
    pictures=(32, 48),
)
