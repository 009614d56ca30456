import copy
import math
import signal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident, training_batches
from supernet.genotypes.literature import published
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.runtime.seeding import random_states, restore_random_states
from supernet.space.choosers import Decided
from supernet.space.darts import Darts
from supernet.space.dropout import DropPath
from supernet.training.evaluation import evaluate
from supernet.training.loop import Recipe, Training, train
from supernet.training.meters import NotFinite
from supernet.training.schedules import Cosine
from supernet.training.tasks import Classification

AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=1)
RECIPE = Recipe(
    epochs=3, batch_size=8, schedule=Cosine(0.05), drop_path=0.3, cutout=2, auxiliary_weight=0.4, label_smoothing=0.1
)


class Recorder(Silent):
    def __init__(self, interruption=None, stop_after=None):
        self.values, self.lines, self.interruption, self.stop_after = {}, [], interruption, stop_after

    def scalars(self, values, step):
        self.values |= {(step, tag): value for tag, value in values.items() if not tag.startswith("sys/")}

    def line(self, message):
        self.lines.append(message)

    def progress(self, done, total, message):
        if done == self.stop_after:
            self.interruption.signal = signal.SIGINT


def images(seed: int, count: int = 20) -> Resident:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=generator)
    return Resident(pixels, torch.arange(count) % 3)


def network() -> nn.Module:
    torch.manual_seed(0)
    return Darts(channels=2, cells=3, auxiliary=True).network(Decided(published("darts_v2")), (1, 6, 6), 3)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("stop_after", [1, 3, 5, 9])
def test_stopped_at_any_step_and_resumed_is_bitwise_the_same(tmp_path, stop_after, keep):
    recipe = Recipe(**{**RECIPE.__dict__, "keep": keep})
    whole, straight = Recorder(), network()
    expected = train(straight, images(1), images(2), AUGMENTATION, recipe, run=Run(report=whole))
    interruption = Interruption()
    first, resumed = Recorder(interruption, stop_after), network()
    run = Run(report=first, checkpoint=tmp_path / "retrain.pt", interruption=interruption)
    if stop_after < 9:
        with pytest.raises(Interrupted):
            train(resumed, images(1), images(2), AUGMENTATION, recipe, run=run)
    else:
        train(resumed, images(1), images(2), AUGMENTATION, recipe, run=run)
    fresh, second = network(), Recorder()
    torch.manual_seed(77)
    run = Run(report=second, checkpoint=tmp_path / "retrain.pt")
    assert train(fresh, images(1), images(2), AUGMENTATION, recipe, run=run) == expected
    assert same(fresh, straight)
    assert {**first.values, **second.values} == whole.values


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_training_that_rests_is_the_same_training(keep):
    """In one object, and in another one that takes over its state and the state of the global generators."""
    recipe = Recipe(**{**RECIPE.__dict__, "keep": keep})
    straight = network()
    expected = train(straight, images(1), images(2), AUGMENTATION, recipe, run=Run())
    resting = Training(first := network(), images(1), images(2), AUGMENTATION, recipe, run=Run())
    resting.to(1)
    state, states = copy.deepcopy(resting.state_dict()), random_states()
    resting.to(2)
    resting.to(1)  # is done already
    resting.to(9)  # there are three
    assert resting.finish() == expected
    assert same(first, straight)
    other = Training(second := network(), images(1), images(2), AUGMENTATION, recipe, run=Run())
    torch.rand(3)
    other.load_state_dict(state)
    restore_random_states(states)
    other.to(3)
    assert other.finish() == expected
    assert same(second, straight)
    assert other.losses == resting.losses
    assert (other.images, resting.images, other.epoch) == (40, 60, 3)


def test_a_checkpoint_without_the_losses_of_its_epochs_goes_on(tmp_path):
    """As older versions have written them."""
    run = Run(checkpoint=tmp_path / "retrain.pt")
    straight = network()
    expected = train(straight, images(1), None, AUGMENTATION, RECIPE, run=Run())
    Training(network(), images(1), None, AUGMENTATION, RECIPE, run=run).to(2)
    content = torch.load(run.checkpoint)
    del content["parts"]["record"]["losses"]
    torch.save(content, run.checkpoint)
    resumed = network()
    assert train(resumed, images(1), None, AUGMENTATION, RECIPE, run=run) == expected
    assert same(resumed, straight)


def test_equals_a_loop_written_out():
    """One epoch against plain PyTorch: auxiliary loss, label smoothing, clipping, SGD with momentum and decay."""
    recipe = Recipe(
        epochs=1, batch_size=8, schedule=Cosine(0.1), clip=0.5, drop_path=0.0, cutout=2, label_smoothing=0.1
    )
    trained, twin = network(), network()
    result = train(trained, images(1), None, AUGMENTATION, recipe, run=Run(seed=3))
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9, weight_decay=3e-4)
    batches = training_batches(images(1), 8, Augmentation((0.5,), (0.25,), crop_padding=1, cutout=2), seed=3)
    total = 0.0
    for _ in range(3):
        batch = next(batches)
        logits, auxiliary = twin(batch.images)
        losses = [F.cross_entropy(out, batch.labels, label_smoothing=0.1) for out in (logits, auxiliary)]
        loss = losses[0] + 0.4 * losses[1]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        optimizer.step()
        total += loss.item() * len(batch)
    assert same(trained, twin)
    assert result.train.loss == pytest.approx(total / 20)
    assert result.valid is None


def test_drop_path_and_learning_rate_follow_their_ramps():
    recorder, trained = Recorder(), network()
    train(trained, images(1), None, AUGMENTATION, RECIPE, run=Run(report=recorder))
    assert [recorder.values[s, "retrain/drop_path"] for s in (3, 6, 9)] == pytest.approx([0.0, 0.1, 0.2])
    rates = [0.025 * (1 + math.cos(math.pi * epoch / 3)) for epoch in range(3)]
    assert [recorder.values[s, "lr/weights"] for s in (3, 6, 9)] == pytest.approx(rates)
    assert [m.probability for m in trained.modules() if isinstance(m, DropPath)] == pytest.approx([0.2] * 3)


def test_keep_best_returns_the_weights_of_the_best_epoch():
    recipe = Recipe(epochs=6, batch_size=8, schedule=Cosine(0.3), drop_path=0.0, cutout=0, keep="best")
    recorder, trained = Recorder(), network()
    result = train(trained, images(1), images(2), AUGMENTATION, recipe, run=Run(report=recorder))
    accuracies = [recorder.values[3 * e, "retrain/accuracy/valid"] for e in range(1, 7)]
    assert result.valid.score == max(accuracies)
    assert result.epochs == accuracies.index(max(accuracies)) + 1
    settings = {"batch_size": 8, "device": torch.device("cpu"), "task": Classification()}
    assert evaluate(trained, images(2), AUGMENTATION, **settings).score == max(accuracies)


def test_divergence_stops_and_keeps_the_good_checkpoint(tmp_path):
    path = tmp_path / "retrain.pt"
    bad = Recipe(epochs=2, batch_size=8, schedule=Cosine(1e30), clip=math.inf, drop_path=0.0)
    with pytest.raises(NotFinite, match="not finite") as error:
        train(network(), images(1), None, AUGMENTATION, bad, run=Run(checkpoint=path))
    assert "\n" not in str(error.value)
    assert not path.exists()


class Poisoned(nn.Module):
    """A linear network whose fifth training output is not a number."""

    def __init__(self):
        super().__init__()
        self.linear, self.calls = nn.Linear(36, 3), 0

    def forward(self, x):
        self.calls += self.training
        return self.linear(x.flatten(1)) * (float("nan") if self.calls == 5 else 1.0)


def test_divergence_is_named_by_its_step_before_anything_is_written(tmp_path):
    """Step 5 is the middle of the second epoch of three steps: epoch 1 stays as it was saved and reported."""
    path, recorder = tmp_path / "retrain.pt", Recorder()
    recipe = Recipe(epochs=4, batch_size=8, schedule=Cosine(0.01))
    with pytest.raises(NotFinite, match=f"loss is not finite at step 5; the last good checkpoint is {path}"):
        train(Poisoned(), images(1), images(2), AUGMENTATION, recipe, run=Run(report=recorder, checkpoint=path))
    assert torch.load(path)["parts"]["epochs"]["step"] == 3
    assert {step for step, _ in recorder.values} == {3}


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    run = Run(checkpoint=tmp_path / "retrain.pt", fingerprint={"data": "toy"})
    train(network(), images(1), None, AUGMENTATION, RECIPE, run=run)
    other = Recipe(**{**RECIPE.__dict__, "batch_size": 10})
    with pytest.raises(InputError, match=r"retrain\.batch_size"):
        train(network(), images(1), None, AUGMENTATION, other, run=run)


def test_speed_counts_the_images_there_were(monkeypatch):
    """20 images in batches of 16 and 4, on a clock that shows one second more each time it is read."""
    seen, clock = {}, iter(range(1000))
    recorder = Recorder()
    recorder.scalars = lambda values, step: seen.update(values)
    monkeypatch.setattr("supernet.training.epochs.time.monotonic", lambda: next(clock))
    recipe = Recipe(epochs=1, batch_size=16, schedule=Cosine(0.01), drop_path=0.0, cutout=0)
    train(network(), images(1), None, AUGMENTATION, recipe, run=Run(report=recorder))
    ticks = 20 / seen["sys/images_per_second"]
    assert ticks == int(ticks)


def test_an_epoch_goes_over_few_images_as_often_as_it_takes():
    """20 images in batches of 8 are 3 steps; 7 steps take three passes."""
    recorder = Recorder()
    recipe = Recipe(**{**RECIPE.__dict__, "epochs": 2, "least_steps": 7})
    train(network(), images(1), images(2), AUGMENTATION, recipe, run=Run(report=recorder))
    assert {step for step, _ in recorder.values} == {9, 18}
    assert recorder.values[9, "lr/weights"] == RECIPE.schedule(0, 2)
    assert 0 <= recorder.values[18, "retrain/balanced_accuracy/valid"] <= 1


def test_best_needs_validation_images():
    with pytest.raises(InputError, match="keep=best"):
        train(network(), images(1), None, AUGMENTATION, Recipe(keep="best"), run=Run())


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"momentum": -0.1},
        {"weight_decay": math.inf},
        {"nesterov": True, "momentum": 0.0},
        {"clip": 0.0},
        {"drop_path": 1.0},
        {"cutout": -1},
        {"auxiliary_weight": -1.0},
        {"label_smoothing": 1.0},
        {"keep": "first"},
        {"least_steps": -1},
        {"auxiliary_weight": math.inf},
    ],
)
def test_recipe_refuses_nonsense_by_name(settings):
    with pytest.raises(InputError, match=f"^{next(iter(settings))}="):
        Recipe(**settings)
