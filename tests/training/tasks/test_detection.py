"""The detection task: scores by name, and searches, trainings and models that end in boxes."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import supernet
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Resident
from supernet.data.dataset import Data, Sealed
from supernet.data.targets import AREA, padded
from supernet.detection.head import AnchorFree
from supernet.execution.fused.executor import fused
from supernet.execution.modes import running
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.search.differentiable.architects import first_order, unrolled
from supernet.search.differentiable.discretisers import argmax
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.relaxations import Softmax
from supernet.search.loop import search_step
from supernet.search.strategy import Step
from supernet.space.architecture import check
from supernet.space.cells import reference
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.heads import Feature
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.supernet import Supernet
from supernet.space.survey import decisions_of, random_cell
from supernet.training.evaluation import evaluate
from supernet.training.loop import Recipe, train
from supernet.training.schedules import Cosine
from supernet.training.tasks import Detection, Focal, detection, implied

METHODS = sorted(path.stem for path in (Path(__file__).parents[3] / "conf" / "method").glob("*.yaml"))
NESTED = ("bignas", "once_for_all")  # methods for spaces whose sizes are nested
OF_CELLS = [name for name in METHODS if name not in NESTED]
SIDE = 64
OPERATIONS = ("skip_connect", "sep_conv_3x3", "max_pool_3x3")
SPACE = Darts(channels=8, cells=3, nodes=2, stem="imagenet", operations=OPERATIONS)
PLAIN = Augmentation((0.5,) * 3, (0.25,) * 3)


def pictures(count: int, seed: int = 0) -> Resident:
    """Bright and dark rectangles on noise, up to three, each in a quarter of its own; some pictures have none."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(100, 140, (count, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    boxes = []
    for image in images:
        rows = []
        for kind in range(int(torch.randint(4, (), generator=draw))):
            (left, top), (across, down) = (torch.randint(*e, (2,), generator=draw).tolist() for e in ((0, 8), (16, 24)))
            left, top = left + 32 * (kind % 2), top + 32 * (kind // 2)
            image[:, top : top + down, left : left + across] = 230 if kind % 2 else 20
            rows.append([kind % 2, left, top, left + across, top + down, 0, across * down])
        boxes.append(torch.tensor(rows).float().reshape(-1, 7))
    return Resident(images, padded(boxes))


@pytest.fixture(scope="module")
def data() -> Data:
    test = pictures(4, 2)
    return Data("rectangles", ("dark", "bright"), pictures(16), pictures(6, 1), Sealed(test), PLAIN)


def task_of(data, **settings) -> Detection:
    return detection(data, **{"width": 16, "towers": 1, **settings})


def test_data_with_boxes_imply_the_task(data):
    assert implied(data) == detection(data)
    assert implied(data).outputs(data.classes) == AnchorFree(2)
    classes = Resident(data.valid.images, torch.zeros(len(data.valid), dtype=torch.int64))
    with pytest.raises(InputError, match="rectangles: images have classes, and detection needs the boxes of objects"):
        detection(replace(data, train=classes))
    with pytest.raises(InputError, match="imbalance: rectangles has boxes of objects, whose loss takes no correction"):
        implied(data, imbalance=Focal())
    with pytest.raises(InputError, match="score=accuracy: detectors are compared by map50_95 or map50"):
        detection(data, score="accuracy")


def right_output(task, labels):
    """What a network would give that knows all: each place near an object is sure of it."""
    head = task.head.build([Feature(4, stride) for stride in task.head.strides])
    output = head(*(torch.zeros(len(labels), 4, SIDE // s, SIDE // s) for s in task.head.strides)).detach()
    output[..., :3] = -9
    for image, rows in enumerate(labels):
        for row in rows[rows[:, 0] >= 0]:
            x, y = output[image, :, -3], output[image, :, -2]
            inside = (x > row[1]) & (x < row[3]) & (y > row[2]) & (y < row[4])
            output[image, inside, int(row[0])] = 9
            output[image, inside, 2] = 9
            output[image, inside, 3:7] = row[1:5]
    return output


def test_sizes_of_objects_are_those_in_the_original_pictures(data):
    """All truths are large there. So is what is found, also where nothing is, and no range of areas excuses it."""
    task, labels = task_of(data), data.valid.labels.clone()
    labels[..., AREA] *= 1000
    output = right_output(task, labels)
    empty = (output[0, :, :2] < 0).all(1).nonzero()[0]
    x, y, _ = output[0, empty, -3:][0].tolist()
    output[0, empty, 0], output[0, empty, 2] = 12.0, 12.0
    output[0, empty, 3:7] = torch.tensor([x - 4, y - 4, x + 4, y + 4])
    judged = task.judged([task.tally(output, Batch(torch.zeros(6, 3, SIDE, SIDE), labels))])
    assert 0.5 < judged.of_range("large") == judged.map50_95 < 0.99
    assert math.isnan(judged.of_range("small"))


def test_scores_of_right_and_of_wrong_answers(data):
    task = task_of(data)
    halves = [Batch(torch.zeros(3, 3, SIDE, SIDE), data.valid.labels[part]) for part in (slice(0, 3), slice(3, 6))]
    assert float(task.score_sum(right_output(task, halves[0].labels), halves[0])) == pytest.approx(len(halves[0]))
    right = task.scores([task.tally(right_output(task, batch.labels), batch) for batch in halves])
    assert right["map50"] > 0.95
    assert right["map50_95"] > 0.95
    assert right["precision"] > 0.95
    assert {"map75", "recall", "ap50_dark", "ap50_bright"} <= right.keys()
    moved = []
    for batch in halves:
        output = right_output(task, batch.labels)
        output[..., 3:7] += 2
        moved.append(task.tally(output, batch))
    wrong = task.scores(moved)
    assert wrong["map50_95"] < wrong["map50"] <= right["map50"]
    assert wrong["map75"] < 0.3
    assert task.chance(moved) is None
    assert task.chance_without_labels(task.outputs(data.classes)) == 0.0


def test_what_is_hardly_sure_counts_as_far_as_coco_counts_it(data):
    """Average precision is of a ranking: where all is right, a score of .01 is as good as one of .99."""
    task, batch = task_of(data), Batch(torch.zeros(6, 3, SIDE, SIDE), data.valid.labels)
    output = right_output(task, batch.labels)
    output[..., :3] = torch.where(output[..., :3] > 0, math.log(0.01 / 0.99), -20.0)
    assert task.scores([task.tally(output, batch)])["map50"] > 0.95


def test_scores_without_any_object(data):
    task = task_of(data)
    empty = Batch(torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1, 0, 7))
    output = right_output(task, [torch.zeros(0, 7)])
    assert task.scores([task.tally(output, empty)]) == {"map50_95": 0.0}
    assert task.loss(output, empty).isfinite()
    assert task.score_sum(output, empty) == 0


def step_of(architect, executor=None):
    torch.manual_seed(0)
    task = Detection(("dark", "bright"), AnchorFree(2, width=16, towers=1))
    network = Supernet(SPACE.network(Undecided(), (3, SIDE, SIDE), task.head)).double()
    with running(network, executor or reference):
        optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
        strategy = GradientStrategy(
            "darts",
            network.decisions,
            operations=Softmax(),
            inputs=None,
            architect=architect,
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
            discretiser=argmax,
            seed=0,
        )
        strategy.logits.double()
        batches = []
        for seed in (3, 4):
            source = pictures(2, seed)
            batches.append(Batch(PLAIN.normalise(source.images).double(), source.labels))
        losses = []
        for _ in range(2):
            loss, score = search_step(Step(network, *batches, task, optimizer, 0.0), strategy, 10.0)
            losses.append(loss.item())
            assert 0 <= score <= 2
    return losses, [value.detach().clone() for value in strategy.logits.values()]


@pytest.mark.parametrize("architect", [first_order, unrolled])
def test_steps_of_a_search_are_those_of_the_reference(architect):
    losses, logits = step_of(architect)
    assert losses[-1] < losses[0]
    assert any(value.abs().max() > 0.02 for value in logits)
    quick, own = step_of(architect, fused)
    assert quick == pytest.approx(losses, rel=1e-6)
    for ours, theirs in zip(own, logits, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_one_image_is_learnt_by_heart():
    """All boxes of a picture are found, each in its place: mAP 1.0."""
    source = pictures(12, 5)
    crowded = source.labels[..., 0].ge(0).sum(1).argmax()
    one = source.subset(crowded.repeat(8))
    task = Detection(("dark", "bright"), AnchorFree(2, width=32, towers=1))
    torch.manual_seed(0)
    space = SPACE.resized(channels=8)
    network = space.network(supernet.Decided(random_cell(space)), (3, SIDE, SIDE), task.head)
    recipe = Recipe(epochs=60, batch_size=4, schedule=Cosine(0.05), weight_decay=0.0, clip=10.0, drop_path=0, cutout=0)
    trained = train(network, one, None, PLAIN, recipe, run=Run(), task=task)
    assert trained.train.loss < 1.5  # the centredness has an entropy of its own
    judged = evaluate(network, one, PLAIN, batch_size=4, device=torch.device("cpu"), task=task)
    assert judged.others["map50"] == 1.0
    assert judged.score > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_CELLS)
def test_every_method_searches_with_the_loss_of_the_detector(name, data):
    method = getattr(supernet.methods, name)()
    tables = supernet.Darts(channels=8, cells=3, nodes=2, stem="imagenet")
    space = tables if name in ("p_darts", "drnas_progressive") else SPACE
    small = replace(data, train=pictures(8))
    found = supernet.find(space, small, method=method, epochs=2, task=task_of(data))
    check(found, decisions_of(space, outputs=task_of(data).head))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spos", "fbnet", "once_for_all", "bignas"])
def test_mobile_spaces_are_searched_too(name, data):
    stages = tuple(Stage((8,), (1,), 2, (3, 5), (2, 3)) for _ in range(4))
    space = Mobile(stages, stem=8, sharing="nested" if name in NESTED else "separate")
    found = supernet.find(space, data, method=getattr(supernet.methods, name)(), epochs=2, task=task_of(data))
    model = supernet.train(found, space, data, epochs=1, task=task_of(data))
    assert supernet.judge(model, replace(data, test=Sealed(pictures(4, 2))), task=task_of(data)).loss > 0
