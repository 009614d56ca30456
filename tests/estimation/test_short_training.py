"""Short trainings: the rungs of one training are that training, bit for bit."""

import io
import math
import signal
from dataclasses import replace

import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.estimation.short_training import Fidelity, ShortTrainingScore
from supernet.genotypes.literature import published
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NasBench201, from_string
from supernet.training import loop
from supernet.training.evaluation import evaluate
from supernet.training.from_scratch import FinalNetwork
from supernet.training.loop import Recipe, Training, train
from supernet.training.schedules import Cosine, Linear
from supernet.training.tasks import CLASSIFICATION

CELL, OTHER = from_string("|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|"), from_string("|nor_conv_1x1~0|")
AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=2)
RECIPE = Recipe(epochs=4, batch_size=8, schedule=Cosine(0.05), cutout=4, auxiliary_weight=0.4, label_smoothing=0.1)
SPACE = NasBench201(channels=2, cells=1, stages=2, nodes=2)


def images(seed: int, count: int = 20) -> Resident:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return Resident(pixels, torch.arange(count) % 3)


def score_of(**settings) -> ShortTrainingScore:
    given = {"final": FinalNetwork(SPACE, (1, 8, 8), 3), "recipe": RECIPE, "run": Run(seed=5), **settings}
    return ShortTrainingScore(given.pop("final"), images(1), images(2, 9), AUGMENTATION, given.pop("recipe"), **given)


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


def test_it_is_the_training_from_scratch_judged_after_its_last_epoch():
    measured = score_of()(CELL)
    network = FinalNetwork(SPACE, (1, 8, 8), 3).build(CELL)
    trained = train(network, images(1), None, AUGMENTATION, RECIPE, run=Run(seed=5))
    settings = {"batch_size": 8, "device": torch.device("cpu"), "task": CLASSIFICATION}
    assert measured.values["accuracy"] == evaluate(network, images(2, 9), AUGMENTATION, **settings).score
    assert measured.values["training_speed"] == -trained.train.loss
    assert (measured.cost["epochs"], measured.cost["images"]) == (4, 4 * 20 + 9)
    assert measured.cost["seconds"] > 0


def kept_states(score) -> dict:
    """What a score keeps of each training, by the name of its architecture: from memory or from its folder."""
    if score.states is None:
        kept = {name: torch.load(io.BytesIO(state), weights_only=True) for name, state in score._kept.items()}
        return {name: (state["training"], state["random"]["torch"]) for name, state in kept.items()}
    files = {path.stem: torch.load(path, weights_only=True) for path in score.states.glob("*.pt")}
    return {name: (state["parts"], state["random"]["torch"]) for name, state in files.items()}


@pytest.mark.parametrize("folder", [False, True])
def test_rungs_are_one_training_bit_for_bit(tmp_path, folder):
    """With drop path, which draws from the global generator, and another training between the rungs."""
    settings = {
        "final": FinalNetwork(Darts(channels=2, cells=1, auxiliary=True), (1, 8, 8), 3),
        "recipe": replace(RECIPE, drop_path=0.5),
    }
    whole, rungs = (score_of(states=tmp_path / str(n) if folder else None, **settings) for n in range(2))
    at_once = whole(published("darts_v2"), 3)
    first = rungs(published("darts_v2"), 1)
    rungs(published("darts_v1"), 2)
    torch.rand(9)
    second = rungs(published("darts_v2"), 3)
    assert second.values == at_once.values
    assert (first.cost["epochs"], second.cost["epochs"], at_once.cost["epochs"]) == (1, 2, 3)
    assert first.cost["images"] + second.cost["images"] == at_once.cost["images"] + 9
    ((name, (state, random)),) = kept_states(whole).items()
    other, drawn = kept_states(rungs)[name]
    assert len(kept_states(rungs)) == 2
    assert torch.equal(random, drawn)
    assert same(state["network"], other["network"])
    momenta = [[entry["momentum_buffer"] for entry in s["optimizer"]["state"].values()] for s in (state, other)]
    assert all(torch.equal(a, b) for a, b in zip(*momenta, strict=True))


def test_the_schedule_spans_the_recipe_and_not_the_rung():
    """One epoch of four has the rate of the first of four; annealed in the rung it is another training."""
    linear = replace(RECIPE, schedule=Linear(0.05))
    assert score_of(recipe=linear)(CELL, 1).values == score_of(recipe=replace(linear, epochs=1))(CELL, 1).values
    two = {"once": score_of(recipe=linear), "each_rung": score_of(recipe=linear, schedule="each_rung")}
    short = score_of(recipe=replace(linear, epochs=2))(CELL)
    assert two["each_rung"](CELL, 2).values == short.values != two["once"](CELL, 2).values


@pytest.mark.parametrize("folder", [False, True])
def test_annealed_in_each_rung_it_starts_anew_and_costs_the_whole(tmp_path, folder):
    score = score_of(schedule="each_rung", states=tmp_path if folder else None)
    assert not score.continues
    first, second = score(CELL, 1), score(CELL, 3)
    assert second.cost["epochs"] == 3
    assert second.values == score_of(recipe=replace(RECIPE, epochs=3))(CELL).values
    assert first.values == score_of(recipe=replace(RECIPE, epochs=1))(CELL).values


@pytest.mark.parametrize("folder", [False, True])
def test_fewer_epochs_than_the_state_are_trained_again_and_the_state_stays(tmp_path, folder):
    score, fresh = (score_of(states=tmp_path / str(n) if folder else None) for n in range(2))
    score(CELL, 3)
    down = score(CELL, 2)
    assert down.values == fresh(CELL, 2).values
    assert down.cost["epochs"] == 2
    assert score(CELL, 4).cost["epochs"] == 1


def test_a_state_on_disk_outlives_the_score_and_one_of_another_training_is_refused(tmp_path):
    score_of(states=tmp_path)(CELL, 2)
    assert score_of(states=tmp_path)(CELL, 3).cost["epochs"] == 1
    for other, what in (
        ({"run": Run(seed=6)}, "seed"),
        ({"fidelity": Fidelity(share=0.5)}, "images"),
        ({"fidelity": Fidelity(channels=4)}, "network"),
        ({"recipe": replace(RECIPE, epochs=5)}, "retrain.epochs"),
    ):
        with pytest.raises(InputError, match=what) as error:
            score_of(states=tmp_path, **other)(CELL, 3)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("stop_after", [1, 4, 8])
def test_a_training_that_a_signal_stops_goes_on_from_the_folder(tmp_path, stop_after, monkeypatch):
    """Three steps an epoch: the signal comes in the first, second and third epoch."""
    whole, steps, interruption = score_of()(CELL), [], Interruption()
    step = loop.train_step

    def counting(*arguments):
        steps.append(1)
        if len(steps) == stop_after:
            interruption.signal = signal.SIGTERM
        return step(*arguments)

    monkeypatch.setattr(loop, "train_step", counting)
    with pytest.raises(Interrupted):
        score_of(run=Run(seed=5, interruption=interruption), states=tmp_path)(CELL)
    assert score_of(states=tmp_path)(CELL).values == whole.values
    assert len(steps) == 12  # no step was made twice


def test_the_global_generators_stay_as_they_were():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    score_of()(CELL, 1)
    assert torch.equal(torch.rand(4), expected)


def test_each_part_of_a_fidelity_makes_the_training_smaller():
    share = score_of(fidelity=Fidelity(epochs=1, share=0.5))(CELL)
    assert (share.cost["epochs"], share.cost["images"]) == (1, 10 + 9)
    built = []

    class Counting:
        name = SPACE.name

        def __init__(self, space):
            self.space = space

        def __str__(self):
            return str(self.space)

        def resized(self, **sizes):
            return Counting(self.space.resized(**sizes))

        def network(self, choose, shape, outputs):
            built.append((self.space.channels, self.space.cells, shape))
            return self.space.network(choose, shape, outputs)

    final = FinalNetwork(Counting(SPACE.resized(channels=4, cells=2)), (1, 8, 8), 3)
    score_of(final=final)(CELL, 1)
    score_of(final=final, fidelity=Fidelity(channels=2, cells=1, height=4))(CELL, 1)
    assert built == [(4, 2, (1, 8, 8)), (2, 1, (1, 4, 4))]


def test_a_lower_resolution_is_the_training_on_smaller_images(monkeypatch):
    """Padding and cut-out are halved with the images."""
    seen = []
    monkeypatch.setattr("supernet.training.loop.Training.__init__", recording(Training.__init__, seen))
    final = FinalNetwork(SPACE, (1, 8, 8), 3)
    ShortTrainingScore(final, images(1), images(2), AUGMENTATION, RECIPE, fidelity=Fidelity(height=4))(CELL, 1)
    (train_images, augmentation, recipe) = seen[0]
    assert train_images.shape == (1, 4, 4)
    assert (augmentation.crop_padding, recipe.cutout) == (1, 2)


def recording(init, seen):
    def wrapped(self, network, train, valid, augmentation, recipe, **named):
        seen.append((train, augmentation, recipe))
        init(self, network, train, valid, augmentation, recipe, **named)

    return wrapped


def test_training_speed_sums_the_last_losses():
    network, losses = FinalNetwork(SPACE, (1, 8, 8), 3).build(CELL), []

    class Losses(Silent):
        def scalars(self, values, step):
            losses.append(values["retrain/loss/train"])

    train(network, images(1), None, AUGMENTATION, RECIPE, run=Run(seed=5, report=Losses()))
    score = score_of(summed=3)
    assert score(CELL, 2).values["training_speed"] == -sum(losses[:2])  # there are but two
    assert score(CELL, 4).values["training_speed"] == -sum(losses[1:])  # also of the rung before


def test_a_training_that_diverges_is_judged_as_it_is_and_said():
    lines = []

    class Lines(Silent):
        def line(self, message):
            lines.append(message)

    bad = replace(RECIPE, schedule=Cosine(1e30), clip=math.inf)
    measured = score_of(recipe=bad, run=Run(report=Lines()))(CELL, 2)
    assert measured.values["training_speed"] == -math.inf
    assert 0 <= measured.values["accuracy"] <= 0.5
    assert measured.cost["epochs"] == 1
    assert measured.cost["images"] == 20 + 9
    assert "not finite" in lines[0]


def test_memory_holds_no_state_of_a_complete_training():
    score = score_of()
    score(CELL, 2)
    assert len(score._kept) == 1
    score(CELL, 4)
    assert not score._kept


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: score_of()(CELL, 0), "^epochs=0: the recipe's schedule has 4; ask for 1 to 4$"),
        (lambda: score_of()(CELL, 5), "^epochs=5: the recipe's schedule has 4"),
        (lambda: score_of(schedule="twice"), "^schedule=twice: use once or each_rung"),
        (lambda: score_of(summed=0), "^summed=0"),
        (lambda: Fidelity(epochs=0), "^epochs=0"),
        (lambda: Fidelity(share=0.0), "^share=0"),
        (lambda: Fidelity(share=1.5), "^share=1.5"),
        (lambda: Fidelity(height=0), "^height=0"),
        (lambda: Fidelity(channels=0), "^channels=0"),
        (lambda: Fidelity(cells=-1), "^cells=-1"),
        (lambda: score_of(fidelity=Fidelity(height=9))(CELL), "^height=9: the images have 8"),
        (lambda: score_of()(OTHER), "genotype|operation"),
    ],
)
def test_refuses_nonsense_in_one_line(make, says):
    with pytest.raises(InputError, match=says) as error:
        make()
    assert "\n" not in str(error.value)
