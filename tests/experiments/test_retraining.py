"""The trainings of the main job, its one look at the test images, and the model that it keeps."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from common import composed, tiny
from supernet.experiments import retraining  # `test_once` by its own name would be run as a test
from supernet.experiments.job import prepare, random_cell
from supernet.experiments.records.summary import Finalist
from torch import nn

from supernet import load
from supernet.estimation.costs import macs, parameters
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.training.evaluation import evaluate
from supernet.training.meters import Averages

AVERAGES = Averages(1.5, 0.75, 30, {"balanced_accuracy": 0.5}, 0.4)
FINALIST = Finalist("searched", 10, 20, 0.9, None)


@pytest.fixture
def job(images, tmp_path):
    before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    yield prepare(composed(*tiny(images), "runtime.progress=false"), tmp_path, Interruption())
    torch.use_deterministic_algorithms(before)
    torch.set_num_threads(threads)


class Constant(nn.Module):
    """Says one class of every image."""

    def __init__(self, label):
        super().__init__()
        self.logits = nn.Parameter(torch.eye(3)[label])

    def forward(self, x):
        return self.logits.expand(len(x), 3)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_scores_stand_under_their_part(part):
    found = retraining.scored(FINALIST, part, AVERAGES)
    scores = {f"{part}_score": 0.75, f"{part}_others": {"balanced_accuracy": 0.5}, f"{part}_chance": 0.4}
    assert found == replace(FINALIST, **scores)
    plain = retraining.scored(FINALIST, part, Averages(1.5, 0.75, 30))
    assert plain == replace(FINALIST, **{f"{part}_score": 0.75, f"{part}_others": {}})


@pytest.mark.parametrize(
    ("counts", "found"), [((4, 6), True), ((4, 7), False), ((5, 5, 5), True), ((3, 0), False), ((2, 3, 4), False)]
)
def test_a_class_may_be_half_as_large_again_as_the_smallest(counts, found):
    labels = torch.tensor([label for label, count in enumerate(counts) for _ in range(count)])
    data = SimpleNamespace(train=SimpleNamespace(labels=labels), classes=["a"] * len(counts))
    assert retraining.balanced(data) is found


def test_the_test_images_are_opened_once(job, monkeypatch):
    """Always one class of three: a third is right. The second time the record answers."""
    trained = {"searched": (Constant(0), FINALIST), "random 1": (Constant(2), replace(FINALIST, name="random 1"))}
    first = retraining.test_once(job, trained)
    assert [(f.name, f.test_score, f.test_chance) for f in first] == [
        ("searched", pytest.approx(1 / 3), pytest.approx(1 / 3)),
        ("random 1", pytest.approx(1 / 3), pytest.approx(1 / 3)),
    ]
    assert json.loads((job.directory / "test.json").read_text()).keys() == trained.keys()
    monkeypatch.setattr(retraining, "evaluate", lambda *_, **__: pytest.fail("the test images are opened again"))
    assert retraining.test_once(job, trained) == first


SOUND = {"loss": 1.0, "score": 0.5, "count": 30, "others": {}, "chance": 0.3}
WRONG = [{"score": "x"}, {"score": 1.5}, {"score": -0.1}, {"score": float("nan")}, {"accuracy": 0.5}]
UNSEEN = [{"loss": None}, {"others": 3}]


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"searched": 0.5}', "[" * 99999, json.dumps({"random 1": SOUND})),
        *(json.dumps({"searched": {**SOUND, **change}}) for change in WRONG),
        *(json.dumps({"searched": {**SOUND, **change}}) for change in UNSEEN),
    ],
)
def test_a_damaged_record_of_the_test_is_one_line(tmp_path, content):
    (tmp_path / "test.json").write_text(content)
    job = SimpleNamespace(directory=tmp_path, retrain_recipe=SimpleNamespace(batch_size=8))
    with pytest.raises(InputError, match="is not what this run wrote; remove it") as error:
        retraining.test_once(job, {"searched": (nn.Identity(), FINALIST)})
    assert "\n" not in str(error.value)


def test_a_sound_record_is_taken_as_it_is(tmp_path):
    (tmp_path / "test.json").write_text(json.dumps({"searched": SOUND}))
    job = SimpleNamespace(directory=tmp_path, retrain_recipe=SimpleNamespace(batch_size=8))
    (found,) = retraining.test_once(job, {"searched": (nn.Identity(), FINALIST)})
    assert (found.test_score, found.test_chance) == (0.5, 0.3)


def test_a_training_is_reported_and_its_model_loads(job, monkeypatch):
    """On the images that are left, judged by those that are held out, and kept in one file."""
    cell = random_cell(job, 0)
    network, finalist = retraining.retrain(job, "random 1", cell)
    learnt, held = job.divided.retrain
    assert len(learnt) + len(held) == len(job.data.train)
    assert (finalist.parameters, finalist.macs) == (parameters(network), macs(network, job.data.shape))
    settings = {"batch_size": 16, "device": job.device, "task": job.task}
    valid = evaluate(network, job.data.train.subset(held), job.data.augmentation, **settings)
    assert finalist.valid_score == pytest.approx(valid.score)
    assert finalist.valid_chance == valid.chance
    assert {path.name for path in (job.directory / "metrics").iterdir()} == {"random_1.csv"}
    assert (job.directory / "checkpoints" / "random_1.pt").exists()
    retraining.keep_model(job, network, cell, finalist)
    model = load(job.directory)
    assert model.architecture == cell
