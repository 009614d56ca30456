"""A network that is taken out of a supernet: the same function as in there, with statistics of its own."""

from random import Random

import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.estimation.problem import SearchProblem
from supernet.estimation.supernet_accuracy import RecalibratedScore
from supernet.execution.modes import evaluating, recalibrated
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.search.black_box.random_search import UniformStrategy
from supernet.search.progressive.restoring import Restored
from supernet.search.progressive.subnetworks import subnetwork
from supernet.space.architecture import Architecture, matters, one_path
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.space.survey import candidates_of, decisions_of

SHAPE = (1, 8, 8)
STAGES = (
    Stage((8, 12), depths=(1, 2), kernels=(3, 5), expansions=(2, 4), squeeze=(False, True)),
    Stage((16,), depths=(1, 2), stride=2, kernels=(3, 5), expansions=(2, 4)),
)
FIXED = (Stage((8,), depths=(2,), kernels=(3, 5), expansions=(2, 4), skip=True),)
SPACES = {
    "nested": Mobile(STAGES, stem=8, stem_stride=1, head=16),
    "separate": Mobile(FIXED, stem=8, stem_stride=1, head=16, sharing="separate"),
    "sides": Mobile(STAGES, stem=8, stem_stride=1, head=16, resolutions=(8, 12)),
    "nasbench201": NasBench201(channels=4, cells=1, stages=2, nodes=2),
}


def restored_of(space, chooser=None):
    """A supernet that looks trained, with some images."""
    torch.manual_seed(0)
    supernet = Supernet(space.network(chooser or Undecided(single=True), SHAPE, 3)).train()
    with torch.no_grad():
        for tensor in [*supernet.parameters(), *supernet.buffers()]:
            if tensor.dim() == 1 and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    images = [torch.randint(0, 256, (n, *SHAPE), dtype=torch.uint8) for n in (200, 60)]
    halves = [Resident(some, torch.arange(len(some)) % 3) for some in images]
    problem = SearchProblem(supernet, *halves, Augmentation((0.5,), (0.25,)), Run())
    return Restored(problem, UniformStrategy(space.name, supernet.decisions), space)


@pytest.mark.parametrize("name", SPACES)
def test_it_is_the_function_that_the_supernet_has_with_recalibrated_norms(name):
    """The judge that runs the supernet itself takes the statistics of the same 200 images, all of them."""
    restored = restored_of(SPACES[name])
    judge = RecalibratedScore(restored.problem, batch_size=50, batches=4)
    before = {n: v.clone() for n, v in restored.problem.supernet.state_dict().items()}
    candidates, rng = candidates_of(SPACES[name], decisions=restored.decisions), Random(0)
    for _ in range(4):
        architecture = candidates.random(rng)
        taken = subnetwork(restored, architecture, outputs=3, images=200, batch_size=200)
        assert taken.images == 200
        assert abs(taken.valid.score - judge(architecture).values["accuracy"]) <= 2 / 60  # rounding turns few images
        assert not any(module.training for module in taken.network.modules())
    after = restored.problem.supernet.state_dict()
    assert all(torch.equal(before[n], v) for n, v in after.items())
    assert restored.problem.supernet.training


def test_logits_are_those_of_the_supernet_and_statistics_those_of_the_images():
    """With one batch of all images: what each norm remembers is what the supernet's path shows it."""
    restored = restored_of(SPACES["nested"])
    architecture = candidates_of(SPACES["nested"], decisions=restored.decisions).random(Random(1))
    taken = subnetwork(restored, architecture, outputs=3, images=200, batch_size=200)
    supernet = restored.problem.supernet
    weights = one_path(architecture, supernet.decisions)
    augmentation, train = restored.problem.augmentation, restored.problem.train
    images = augmentation.normalise(train.raw(torch.arange(200)).float())
    with recalibrated(supernet, [images], lambda x: supernet(x, weights)), evaluating(supernet), torch.no_grad():
        expected = supernet(images[:20], weights)
        own = taken.network(images[:20])
    torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


def test_what_has_no_plain_network():
    space = Darts(channels=4, cells=3, nodes=2)
    restored = restored_of(space, Undecided(channel_divisor=2))
    architecture = candidates_of(space, decisions=restored.decisions).random(Random(0))
    with pytest.raises(InputError, match="see a part of their channels"):
        subnetwork(restored, architecture, outputs=3)
    with pytest.raises(InputError, match="images=0: needs 1 or more"):
        subnetwork(restored_of(space), architecture, outputs=3, images=0)
    decisions = decisions_of(space)
    inputs = {name: ("0", "1") for name, decision in decisions.items() if decision.role == "inputs"}
    edges = [n for n, d in decisions.items() if d.role == "operation" and matters(d, inputs)]
    pooled = {**inputs, **dict.fromkeys(edges, ("max_pool_3x3",))}
    with pytest.raises(InputError, match=r"has a norm at cells\.0\.edges.* that the final network has not"):
        subnetwork(restored_of(space), Architecture(space.name, pooled), outputs=3)
    kept = {name: ("sep_conv_3x3",) if option == ("max_pool_3x3",) else option for name, option in pooled.items()}
    assert subnetwork(restored_of(space), Architecture(space.name, kept), outputs=3).images == 200
