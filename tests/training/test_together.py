"""A training of several processes, and what it is made of: shares of batches, joined losses, norms and dropout."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from supernet.experiments.rehearsal import Rehearsal
from together import taken_together
from torch import nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, JoinedBatch, Resident, steps_per_epoch, training_batches
from supernet.data.box_changes import BoxChanges
from supernet.detection.head import AnchorFree
from supernet.runtime.errors import InputError
from supernet.runtime.processes import ALONE, Processes
from supernet.runtime.run import Run
from supernet.space.dropout import Dropout, DropPath, SkipDropout, draw_for
from supernet.space.joined_norms import JoinedBatchNorm2d
from supernet.training.evaluation import evaluate
from supernet.training.joining import prepare_network
from supernet.training.loop import Recipe, train
from supernet.training.schedules import Cosine
from supernet.training.tasks import Classification, Detection, MultiLabel
from supernet.training.tasks.joined import joined

CHANGES = Augmentation((0.5,), (0.25,), crop_padding=1, flip=True, cutout=2, rotation=10.0)


def images(count: int) -> Resident:
    stream = torch.Generator().manual_seed(3)
    pixels = torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=stream)
    return Resident(pixels, torch.randint(3, (count,), generator=stream))


@pytest.mark.parametrize("count", [2, 3])
def test_shares_of_a_batch_are_its_images_with_its_changes(count):
    source, whole = images(17), {"seed": 5, "start": 1}
    batch = next(training_batches(source, 7, CHANGES, **whole))
    shares = [next(training_batches(source, 7, CHANGES, **whole, processes=Processes(r, count))) for r in range(count)]
    assert torch.equal(torch.cat([share.images for share in shares]), batch.images)
    assert torch.equal(torch.cat([share.labels for share in shares]), batch.labels)
    assert all(torch.equal(share.joined.labels, batch.labels) for share in shares)
    assert {share.count for share in shares} == {batch.count} == {7}


def test_a_pass_ends_where_a_process_would_have_less_than_two_images():
    assert [steps_per_epoch(images(19), 8, processes=n) for n in (1, 2)] == [3, 2]
    assert steps_per_epoch(images(20), 8, processes=2) == 3
    assert steps_per_epoch(images(20), 8, least=7, processes=2) == 9


@pytest.mark.parametrize(
    ("count", "size", "line"),
    [
        (20, 4, "batch_size=4: 3 processes share a batch, and each needs 2 images; 6 or more"),
        (5, 8, "5 images: too few for 3 processes, which need 2 each"),
    ],
)
def test_too_few_images_for_all_are_refused(count, size, line):
    with pytest.raises(InputError, match=line):
        training_batches(images(count), size, CHANGES, seed=0, processes=Processes(0, 3))


def boxed(count: int) -> Resident:
    stream = torch.Generator().manual_seed(1)
    corners = torch.rand(count, 2, 2, generator=stream) * 12
    rest = torch.zeros(count, 2, 1), corners, corners + 6, torch.zeros(count, 2, 1), torch.full((count, 2, 1), 36.0)
    labels = torch.cat(rest, 2)
    labels[0, 1, 0] = -1  # a row of padding: positives differ between images
    return Resident(torch.randint(256, (count, 1, 24, 24), dtype=torch.uint8, generator=stream), labels)


def test_boxes_that_moved_are_known_to_all():
    changes = Augmentation((0.5,), (0.25,), boxes=BoxChanges())

    def take(processes):
        return next(training_batches(boxed(9), 5, changes, seed=0, processes=processes))

    (whole,) = (next(training_batches(boxed(9), 5, changes, seed=0)),)
    one, other = taken_together(take, 2)
    assert torch.equal(one.joined.labels, whole.labels)
    assert torch.equal(torch.cat([one.images, other.images]), whole.images)


def task_and_batch(name: str) -> tuple[Any, Batch, torch.Tensor]:
    """A task, a batch of five images, and outputs of a network for them."""
    stream = torch.Generator().manual_seed(0)
    if name == "detection":
        task = Detection(("cell",), AnchorFree(1, width=8, strides=(8,)))
        places = [[x + 4.0, y + 4.0, 8.0] for y in range(0, 24, 8) for x in range(0, 24, 8)]
        learnt = torch.randn(5, 9, 6, generator=stream, dtype=torch.float64)
        outputs = torch.cat([learnt[..., :2], learnt[..., 2:].abs() * 8, torch.tensor(places).expand(5, 9, 3)], 2)
        source = boxed(5)
        return task, Batch(source.images.double(), source.labels), outputs
    outputs = torch.randn(5, 3, generator=stream, dtype=torch.float64)
    if name == "labels":
        labels = torch.tensor([[1, 0, -1], [0, 0, 1], [-1, -1, -1], [1, 1, 0], [-1, 1, 0]], dtype=torch.int8)
        return MultiLabel(), Batch(torch.zeros(5, 1, 2, 2), labels), outputs
    return Classification(label_smoothing=0.1), Batch(torch.zeros(5, 1, 2, 2), torch.tensor([0, 1, 2, 2, 1])), outputs


@pytest.mark.parametrize("name", ["classes", "labels", "detection"])
def test_a_joined_loss_is_that_of_the_whole_batch(name):
    """Also where it is divided by what differs between shares: labels that are known, places that are positive."""
    task, batch, outputs = task_and_batch(name)
    leaf = outputs.clone().requires_grad_()
    loss = task.loss(leaf, batch) + task.distillation(leaf, outputs.flip(0)) ** 2
    (slope,) = torch.autograd.grad(loss, leaf)

    def take(processes):
        rows = processes.rows(5)
        own = Batch(batch.images[rows], batch.labels[rows], JoinedBatch(batch.labels, rows))
        over_all, mine = joined(task, processes), outputs[rows].clone().requires_grad_()
        over_all.inputs(own)
        value = over_all.loss(mine, own) + over_all.distillation(mine, outputs.flip(0)[rows]) ** 2
        (part,) = torch.autograd.grad(value, mine)
        others = mine.detach().flip(0)  # an output that no loss has seen
        scores = [over_all.score_sum(output, own).item() for output in (mine, mine, others)]
        over_all.loss(mine, own)
        return value.item(), part / processes.count, scores, over_all.score_sum(others, own).item()

    one, other = taken_together(take, 2)
    assert one[0] == other[0] == pytest.approx(loss.item(), abs=1e-12)
    torch.testing.assert_close(torch.cat([one[1], other[1]]), slope, rtol=0, atol=1e-12)
    turned = float(task.score_sum(torch.cat([outputs[:3].flip(0), outputs[3:].flip(0)]), batch))
    assert one[2] == other[2] == pytest.approx([float(task.score_sum(outputs, batch))] * 2 + [turned])
    assert one[3] == other[3] == pytest.approx(turned)


def test_outputs_are_gathered_once_for_a_loss_and_its_score():
    processes = Rehearsal(count=2)
    task, batch, outputs = task_and_batch("classes")
    own = Batch(batch.images[:3], batch.labels[:3], JoinedBatch(batch.labels, slice(0, 3)))
    over_all = joined(task, processes)
    over_all.loss(outputs[:3], own)
    again = outputs[:3].clone()
    over_all.score_sum(again, own)
    assert len(processes.held) == 2
    over_all.loss(again, own)
    over_all.score_sum(again, own)
    assert len(processes.held) == 3


def test_dropout_is_that_of_the_joined_batch():
    x = torch.ones(5, 2, 3, 3)
    for kind in (Dropout(0.5), DropPath(), SkipDropout()):
        kind.probability = 0.5
        torch.manual_seed(0)
        whole, after = kind(x), torch.get_rng_state()
        for rank in range(2):
            rows = Processes(rank, 2).rows(5)
            torch.manual_seed(0)
            draw_for(5, rows)
            try:
                assert torch.equal(kind(x[rows]), whole[rows]), kind
            finally:
                draw_for(0)
            assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("channels", [3, 2])
def test_joined_norms_are_those_of_the_whole_batch(channels):
    """Values, statistics, gradients and gradients of gradients, of all channels and of the first ones."""
    torch.manual_seed(0)
    x = 100 + torch.randn(5, channels, 2, 2, dtype=torch.float64)
    weights = torch.randn(5, channels, 2, 2, dtype=torch.float64)

    def of(norm: nn.Module, own: torch.Tensor, rows: slice, processes: Processes) -> tuple[torch.Tensor, ...]:
        own = own.clone().requires_grad_()
        out = norm(own)
        loss = (out**3 * weights[rows]).sum()
        (slope,) = torch.autograd.grad(loss, own, create_graph=True)
        (curve,) = torch.autograd.grad((slope * weights[rows].flip(1)).sum(), own)
        return out.detach(), slope.detach(), curve, norm.running_mean, norm.running_var

    def made() -> nn.BatchNorm2d:
        norm = nn.BatchNorm2d(3).double()
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        return norm

    def take(processes):
        norm, rows = made(), processes.rows(5)
        prepare_network(nn.Sequential(norm), processes)
        assert type(norm) is JoinedBatchNorm2d
        return of(norm, x[rows], rows, processes)

    plain = nn.BatchNorm2d(channels).double()
    with torch.no_grad():
        plain.weight.copy_(torch.tensor([1.0, 2.0, 3.0])[:channels])
    whole = of(plain, x, slice(None), ALONE)
    one, other = taken_together(take, 2, synchronised=True)
    for number in range(3):
        torch.testing.assert_close(torch.cat([one[number], other[number]]), whole[number], rtol=1e-9, atol=1e-9)
    for number in (3, 4):
        assert torch.equal(one[number], other[number])
        torch.testing.assert_close(one[number][:channels], whole[number], rtol=1e-12, atol=1e-12)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def trained(processes: Processes) -> tuple[Any, dict[str, torch.Tensor]]:
    recipe = Recipe(epochs=2, batch_size=8, schedule=Cosine(0.05), cutout=2, average=0.5, keep="best")
    made = network()
    result = train(made, images(29), images(13), CHANGES, recipe, run=Run(processes=processes))
    return result, dict(made.state_dict())


def test_a_training_is_that_of_one_process():
    alone = trained(ALONE)
    one, other = taken_together(trained, 2, synchronised=True, every=1)
    assert not isinstance(one, str), one
    for key, value in alone[1].items():
        assert torch.equal(one[1][key], other[1][key])
        torch.testing.assert_close(one[1][key], value, rtol=1e-4, atol=1e-6)
    assert one[0] == other[0]
    assert one[0].valid.count == 13
    assert replace(one[0].valid, loss=0.0) == replace(alone[0].valid, loss=0.0)
    assert one[0].train.loss == pytest.approx(alone[0].train.loss, rel=1e-5)


@pytest.mark.parametrize("score", ["accuracy", "auroc"])
def test_an_evaluation_in_turns_is_that_of_one_process(score):
    made, task = network().eval(), Classification(score=score)
    settings = {"batch_size": 3, "device": torch.device("cpu"), "task": task}

    def take(processes):
        return evaluate(made, images(10), CHANGES, processes=processes, **settings)

    alone = evaluate(made, images(10), CHANGES, **settings)
    for found in taken_together(take, 3):
        assert replace(found, loss=0.0) == replace(alone, loss=0.0)
        assert found.loss == pytest.approx(alone.loss, rel=1e-12)
