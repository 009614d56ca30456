"""What the supernet's own weights say of an architecture, against loops written out by hand."""

import copy
import signal
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.estimation import supernet_accuracy
from supernet.estimation.problem import SearchProblem
from supernet.estimation.supernet_accuracy import RecalibratedScore, SupernetScore, supernet_averages
from supernet.execution.engines import engine
from supernet.execution.modes import evaluating
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator
from supernet.search.progressive.weight_inheritance import weights_of
from supernet.space.architecture import one_path, random_architecture
from supernet.space.choices import OperationChoice
from supernet.space.choosers import Decided, Undecided
from supernet.space.darts import Darts
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.training.tasks import Classification

AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=1, cutout=3)
SPACE = Darts(channels=4, cells=1, nodes=2, operations=("none", "skip_connect", "sep_conv_3x3"))


@dataclass(frozen=True)
class Certainty(Classification):
    """Scores the mean probability of the labels, in float64: no two networks are alike in it."""

    score: ClassVar[str] = "certainty"

    def __post_init__(self):
        """Classification knows no such score."""

    def inputs(self, batch):
        return batch.images.double()

    def score_sum(self, output, batch):
        return output.softmax(1).gather(1, batch.labels[:, None]).sum()

    def tally(self, output, batch):
        return torch.stack([self.score_sum(output, batch), torch.tensor(len(batch)).double()])

    def scores(self, tallies):
        summed, count = torch.stack(tallies).sum(0)
        return {self.score: (summed / count).item()}

    def chance(self, tallies):
        return 1 / 3


def half(seed: int, count: int = 20) -> Resident:
    stream = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=stream)
    return Resident(pixels, torch.arange(count) % 3)


def problem(single: bool = False, **run) -> SearchProblem:
    torch.manual_seed(0)
    supernet = Supernet(SPACE.network(Undecided(single=single), (1, 6, 6), 3)).double()
    for norm in supernet.norms:  # as after some training
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return SearchProblem(supernet, half(1, 30), half(2), AUGMENTATION, Run(seed=5, **run), Certainty())


def cell(of: SearchProblem, seed: int = 0):
    return random_architecture("darts", of.supernet.decisions, torch.Generator().manual_seed(seed))


@torch.no_grad()
def certainty(supernet: nn.Module, weights, images: Resident, size: int) -> float:
    """Of a copy of the supernet in its mode, batch after batch."""
    twin, total = copy.deepcopy(supernet), 0.0
    for pixels, labels in zip(images.images.split(size), images.labels.split(size), strict=True):
        output = twin(AUGMENTATION.normalise(pixels).double(), weights).softmax(1)
        total += output[torch.arange(len(labels)), labels].sum().item()
    return total / len(images)


def state_of(network: nn.Module):
    modes = [
        (module.training, vars(module).get("single"), vars(module).get("momentum")) for module in network.modules()
    ]
    return {name: value.clone() for name, value in network.state_dict().items()}, modes


def unchanged(network: nn.Module, before) -> bool:
    now = state_of(network)
    return now[1] == before[1] and all(torch.equal(now[0][name], value) for name, value in before[0].items())


def test_averages_are_those_of_the_mode_and_of_the_weights():
    given = problem()
    weights = one_path(cell(given), given.supernet.decisions, dtype=torch.float64)
    trained = supernet_averages(given, weights, 7, half(3)).score
    assert trained == pytest.approx(certainty(given.supernet, weights, half(3), 7), rel=1e-12)
    with evaluating(given.supernet):
        averages = supernet_averages(given, weights, 7)
        assert averages.score == pytest.approx(certainty(given.supernet, weights, given.valid, 7), rel=1e-12)
    assert (averages.count, averages.chance) == (20, 1 / 3)
    assert averages.score != trained


@pytest.mark.parametrize("single", [False, True])
def test_the_supernets_score_is_a_loop_with_each_batchs_own_statistics(single):
    given = problem(single)
    before, score = state_of(given.supernet), SupernetScore(given, 8)
    for seed in range(3):
        architecture = cell(given, seed)
        weights = one_path(architecture, given.supernet.decisions, dtype=torch.float64)
        measured = score(architecture)
        assert measured.values == {
            "certainty": pytest.approx(certainty(given.supernet, weights, given.valid, 8), rel=1e-12)
        }
        assert measured.cost == {"images": 20.0}
    assert unchanged(given.supernet, before)


def test_few_batches_are_the_same_at_every_call_and_depend_on_the_seed():
    given = problem()
    whole, architecture = SupernetScore(given, 4), cell(given)
    some = whole.on(2)
    order = torch.randperm(20, generator=generator(5, 3))[:8]
    weights = one_path(architecture, given.supernet.decisions, dtype=torch.float64)
    by_hand = certainty(given.supernet, weights, given.valid.subset(order), 4)
    assert some(architecture).values["certainty"] == pytest.approx(by_hand, rel=1e-12)
    assert some(architecture) == some(architecture)
    assert some(architecture).cost == {"images": 8.0}
    assert some.on(None) == whole
    other = SupernetScore(replace(given, run=Run(seed=6)), 4, batches=2)
    assert other(architecture) != some(architecture)


def test_a_mixture_is_scored_too():
    given, stream = problem(), torch.Generator().manual_seed(1)
    mixed = {
        name: torch.rand(len(decision.options), dtype=torch.float64, generator=stream)
        for name, decision in given.supernet.decisions.items()
    }
    expected = certainty(given.supernet, mixed, given.valid, 8)
    assert SupernetScore(given, 8).of_weights(mixed) == pytest.approx(expected, rel=1e-12)


def test_a_stop_is_heard_before_an_architecture_is_looked_at():
    interruption = Interruption()
    given = problem(interruption=interruption)
    score, architecture = SupernetScore(given, 8), cell(given)
    score(architecture)
    interruption.signal, ran = signal.SIGTERM, []
    given.supernet.register_forward_pre_hook(lambda *_: ran.append(1))
    for judge in (lambda: score(architecture), lambda: score.of_weights({}), lambda: score.on(1)(architecture)):
        with pytest.raises(Interrupted) as stopped:
            judge()
        assert stopped.value.exit_code == 143
    assert not ran


@pytest.mark.parametrize(("batches", "used"), [(1, 8), (2, 16), (9, 24)])
def test_recalibrated_statistics_are_the_mean_of_the_training_batches(batches, used):
    """Of 30 training images three whole batches of 8 at most; the last, smaller one takes no part."""
    given = problem()
    architecture, before = cell(given), state_of(given.supernet)
    weights = one_path(architecture, given.supernet.decisions, dtype=torch.float64)
    twin = copy.deepcopy(given.supernet).train()
    for norm in twin.norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's plain mean over the batches
    order = torch.randperm(30, generator=generator(5, 0xD0C2))[:used]
    with torch.no_grad():
        for pixels in given.train.images[order].split(8):
            twin(AUGMENTATION.normalise(pixels).double(), weights)
    measured = RecalibratedScore(given, 8, batches)(architecture)
    expected = certainty(twin.eval(), weights, given.valid, 8)
    assert measured.values == {"certainty": pytest.approx(expected, rel=1e-10)}
    assert measured.cost == {"images": 20.0 + used}
    assert unchanged(given.supernet, before)


def test_the_remembered_statistics_play_no_part_in_a_recalibrated_score():
    given = problem()
    score, architecture = RecalibratedScore(given, 8), cell(given)
    first = score(architecture)
    for norm in given.supernet.norms:
        norm.running_mean.fill_(100.0)
    assert score(architecture) == first


def test_a_recalibrated_score_runs_the_operations_of_the_architecture_alone():
    given, ran = problem(), []
    architecture = cell(given)
    for choice in (module for module in given.supernet.modules() if isinstance(module, OperationChoice)):
        kept = architecture.get(choice.decision.name, ())
        for name, candidate in choice.candidates.items():
            candidate.register_forward_hook(lambda *_, wanted=name in kept: ran.append(wanted))
    RecalibratedScore(given, 8, 1)(architecture)
    assert all(ran)
    assert len(ran) == 4 * (1 + 3)  # kept edges; a batch of training images and three of the others


def test_fewer_training_images_than_a_batch_are_all_taken():
    given = replace(problem(), train=half(1, 5))
    assert RecalibratedScore(given, 8)(cell(given)).cost == {"images": 25.0}


SPACES = {
    "darts": (SPACE, {}),
    "single paths": (SPACE, {"single": True}),
    "without an operation": (SPACE, {"excluded": ("none",)}),
    "an auxiliary skip": (SPACE, {"auxiliary": True}),
    "nasbench201": (NasBench201(channels=4, cells=1, stages=2), {}),
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("executor", ["reference", "fused"])
def test_the_score_is_that_of_the_decided_network_with_copied_weights(name, executor):
    """Written as a loop over a network that was built by itself, in float64."""
    space, chooser = SPACES[name]
    torch.manual_seed(1)
    used = engine(executor)
    supernet = Supernet(used.apply(space.network(Undecided(**chooser), (1, 6, 6), 3))).double()
    given = SearchProblem(supernet, half(1, 30), half(2), AUGMENTATION, Run(seed=5), Certainty())
    score = SupernetScore(given, 8)
    values = set()
    for seed in range(4):
        architecture = cell(given, seed)
        architecture = replace(architecture, space=space.name)
        alone = space.network(Decided(architecture, searching=True), (1, 6, 6), 3).double()
        alone.load_state_dict(weights_of(supernet, architecture))
        total = 0.0
        with torch.no_grad():
            for pixels, labels in zip(given.valid.images.split(8), given.valid.labels.split(8), strict=True):
                output = alone(AUGMENTATION.normalise(pixels).double()).softmax(1)
                total += output[torch.arange(len(labels)), labels].sum().item()
        assert score(architecture).values["certainty"] == pytest.approx(total / 20, abs=1e-10)
        values.add(total)
    assert len(values) == 4


def test_partial_channels_are_judged_by_their_path():
    torch.manual_seed(0)
    supernet = Supernet(SPACE.network(Undecided(channel_divisor=2), (1, 6, 6), 3)).double()
    given = SearchProblem(supernet, half(1, 30), half(2), AUGMENTATION, Run(), Certainty())
    assert not supernet.decidable
    weights = one_path(cell(given), supernet.decisions, dtype=torch.float64)
    expected = certainty(supernet, weights, given.valid, 8)
    assert SupernetScore(given, 8)(cell(given)).values["certainty"] == pytest.approx(expected, rel=1e-12)


@dataclass(frozen=True)
class Counted:
    """A source that notes how many images are read of it."""

    inner: Resident
    read: list

    labels = property(lambda self: self.inner.labels)
    shape = property(lambda self: self.inner.shape)

    def __len__(self):
        return len(self.inner)

    def subset(self, indices):
        return Counted(self.inner.subset(indices), self.read)

    def to(self, device):
        return self

    def raw(self, indices):
        self.read.append(len(indices))
        return self.inner.raw(indices)

    def fetch(self, batches):
        return map(self.raw, batches)


@pytest.mark.parametrize(
    ("room", "reads"), [(1 << 20, [[20], [], []]), (0, [[20]] * 3), (8 * 36 * 4, [[20], [12], [12]])]
)
def test_batches_are_made_once_as_far_as_memory_goes(monkeypatch, room, reads):
    monkeypatch.setattr(supernet_accuracy, "_KEPT", room)
    plain = problem()
    given = replace(plain, valid=Counted(half(2), []))
    score, expected = SupernetScore(given, 8), SupernetScore(plain, 8)
    for number, wanted in enumerate(reads):
        given.valid.read.clear()
        assert score(cell(given, number)) == expected(cell(given, number)), "the same to the bit"
        assert sum(given.valid.read) == sum(wanted)


def test_recalibrated_norms_can_be_judged_on_some_batches():
    asked = problem(single=True).on_device()
    found = cell(asked)
    few, whole = RecalibratedScore(asked, 4, 1, 2)(found), RecalibratedScore(asked, 4, 1)(found)
    assert few.cost["images"] == 4 + 2 * 4 < whole.cost["images"]
    assert few == RecalibratedScore(asked, 4, 1, 2)(found)


@pytest.mark.parametrize("judge", [SupernetScore, RecalibratedScore])
def test_nothing_is_dropped_where_an_architecture_is_judged(judge):
    """A mobile network drops inputs of its classifier in training mode, in which the supernet is judged."""

    def given(dropout):
        torch.manual_seed(0)
        space = Mobile((Stage((8,), kernels=(3, 5)),), stem=4, head=16, dropout=dropout)
        supernet = Supernet(space.network(Undecided(single=True), (1, 6, 6), 3)).double()
        return SearchProblem(supernet, half(1, 30), half(2), AUGMENTATION, Run(seed=5), Certainty())

    plain, dropping = given(0.0), given(0.9)
    architecture = random_architecture("mobile", plain.supernet.decisions, torch.Generator().manual_seed(0))
    before, random = state_of(dropping.supernet), torch.get_rng_state()
    assert judge(dropping, 8)(architecture).values == judge(plain, 8)(architecture).values
    assert torch.equal(torch.get_rng_state(), random)
    assert unchanged(dropping.supernet, before)
    assert [module.p for module in dropping.supernet.modules() if isinstance(module, nn.Dropout)] == [0.9]
