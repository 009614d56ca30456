"""The loss: held to torchvision's parts, finite everywhere, differentiable, and small where all is right."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss
from waiting import waits

from supernet.detection.assignment import assign
from supernet.detection.decoding import candidates
from supernet.detection.head import AnchorFree, level_sizes
from supernet.detection.losses import (
    centredness,
    detection_loss,
    distillation_loss,
    giou_loss,
    mean_overlap,
    predictions,
)

SIZE, STRIDES = (48, 64), (8, 16)


def outputs(images=2, classes=3, seed=0):
    """Of a head with random weights, so that boxes are all over the picture."""
    torch.manual_seed(seed)
    maps = [SimpleNamespace(channels=4, stride=stride) for stride in STRIDES]
    head = AnchorFree(classes, width=8, towers=1, strides=STRIDES).build(maps)
    for weight in head.parameters():
        if weight.dim() == 4:
            torch.nn.init.normal_(weight, std=0.3)
    return head(*(torch.randn(images, 4, SIZE[0] // s, SIZE[1] // s) for s in STRIDES)).detach()


def labels_of(*pictures):
    most = max(map(len, pictures))
    rows = torch.zeros(len(pictures), most, 7)
    rows[..., 0] = -1
    for number, boxes in enumerate(pictures):
        for row, box in enumerate(boxes):
            rows[number, row] = torch.tensor([*box, 0.0, 1.0] if len(box) == 5 else [*box, 1.0])
    return rows


LABELS = labels_of([(0, 4, 4, 40, 30), (2, 30, 10, 62, 46)], [(1, 0, 0, 20, 20)])


def by_parts(output, labels):
    """The loss place by place, of torchvision's parts."""
    found = predictions(output)
    given = assign(labels, found.places, level_sizes(*SIZE, STRIDES))
    positive, classes, boxes, quality, weights = 0, 0.0, 0.0, 0.0, 0.0
    for image in range(len(output)):
        for place in range(output.shape[1]):
            target = torch.zeros(found.classes.shape[-1])
            if given.positive[image, place]:
                kind, *box, _, _ = labels[image, given.box[image, place]].tolist()
                target[int(kind)] = 1
                x, y, _ = found.places[place].tolist()
                sides = (x - box[0], box[2] - x), (y - box[1], box[3] - y)
                centre = math.sqrt(min(sides[0]) / max(sides[0]) * min(sides[1]) / max(sides[1]))
                own = generalized_box_iou_loss(found.boxes[image, place][None], torch.tensor([box]))[0]
                boxes, weights, positive = boxes + own * centre, weights + centre, positive + 1
                logit = found.quality[image, place]
                quality = quality + F.binary_cross_entropy_with_logits(logit, torch.tensor(centre))
            classes = classes + sigmoid_focal_loss(found.classes[image, place], target, reduction="sum")
    return (classes + quality) / positive + 2 * boxes / max(weights, 1), positive


def test_the_loss_is_the_sum_of_its_parts():
    output = outputs()
    expected, positive = by_parts(output, LABELS)
    assert positive > 5
    torch.testing.assert_close(detection_loss(output, LABELS, SIZE, STRIDES), expected)


def test_a_single_place_at_the_rim_of_its_box_counts_by_its_centredness():
    """Weights of less than 1 together are divided by 1, so that a place that is hardly in the box moves it little."""
    labels = labels_of([(1, 11, 3, 20, 6)])
    output = outputs(images=1)
    given = assign(labels, predictions(output).places, level_sizes(*SIZE, STRIDES))
    weight = centredness(labels[:, :1, 1:5], predictions(output).places)[given.positive].sum()
    assert 0 < weight < 1
    expected, _ = by_parts(output, labels)
    torch.testing.assert_close(detection_loss(output, labels, SIZE, STRIDES), expected)


def test_giou_is_that_of_torchvision():
    torch.manual_seed(0)
    corner = torch.rand(2, 200, 2) * 30
    first, second = torch.cat((corner, corner + torch.rand(2, 200, 2) * 20), -1)
    torch.testing.assert_close(giou_loss(first, second), generalized_box_iou_loss(first, second))
    assert giou_loss(first, first).abs().max() < 1e-5


def test_gradients_are_those_of_finite_differences():
    output = outputs(images=1).double().requires_grad_()
    labels = LABELS[:1].double()
    (gradient,) = torch.autograd.grad(detection_loss(output, labels, SIZE, STRIDES), output)
    torch.manual_seed(1)
    direction, step = torch.randn_like(output), 1e-6
    direction[..., -3:] = 0  # the places are constants
    with torch.no_grad():
        ahead, behind = (detection_loss(output + s * direction, labels, SIZE, STRIDES) for s in (step, -step))
    assert (ahead - behind) / (2 * step) == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


@pytest.mark.parametrize("labels", [labels_of([], [(0, 4, 4, 40, 30)]), labels_of([], []), LABELS[:, :0]])
def test_pictures_without_objects_have_a_loss(labels):
    output = outputs().requires_grad_()
    loss = detection_loss(output, labels, SIZE, STRIDES)
    loss.backward()
    assert loss.isfinite()
    assert output.grad.isfinite().all()
    assert output.grad[0, :, :3].abs().sum() > 0  # it learns that nothing is there
    if not (labels[..., 0] >= 0).any():
        assert mean_overlap(output, labels, SIZE, STRIDES) == 0


def test_places_in_ignored_boxes_learn_nothing():
    output = outputs(images=1).requires_grad_()
    detection_loss(output, labels_of([(0, 0, 0, 32, 48, 1)]), SIZE, STRIDES).backward()
    hidden = predictions(output).places[:, 0] < 32
    assert output.grad[0, hidden].abs().max() == 0
    assert output.grad[0, ~hidden].abs().max() > 0


def test_right_answers_cost_little_and_overlap_wholly():
    output = outputs(images=1)
    found = predictions(output)
    given = assign(LABELS[:1], found.places, level_sizes(*SIZE, STRIDES))
    own = LABELS[0, given.box[0]]
    output[..., :3] = -20
    output[0, torch.arange(len(own)), own[:, 0].long()] = torch.where(given.positive[0], 20.0, -20.0)
    output[0, :, 4:8] = own[:, 1:5]
    output[0, :, 3] = centredness(LABELS[:1].gather(1, given.box[..., None].expand(-1, -1, 7))[..., 1:5],
                                  found.places)[0].clamp(1e-4, 1 - 1e-4).logit()  # fmt: skip
    assert mean_overlap(output, LABELS[:1], SIZE, STRIDES) == pytest.approx(1.0)
    assert detection_loss(output, LABELS[:1], SIZE, STRIDES) < 0.7  # the entropy of the centredness itself is left
    output[0, :, 4:8] += 8
    assert detection_loss(output, LABELS[:1], SIZE, STRIDES) > 0.8
    assert mean_overlap(output, LABELS[:1], SIZE, STRIDES) < 0.9


def test_half_precision_does_not_reach_the_loss():
    output = outputs()
    with torch.autocast("cpu", torch.bfloat16):
        half = detection_loss(output, LABELS, SIZE, STRIDES)
    assert half.dtype == torch.float32
    assert torch.equal(half, detection_loss(output, LABELS, SIZE, STRIDES))


def test_no_device_is_waited_for():
    output = outputs().requires_grad_()
    assert waits(lambda: detection_loss(output, LABELS, SIZE, STRIDES).backward()) == []
    assert waits(lambda: mean_overlap(output, LABELS, SIZE, STRIDES)) == []
    assert waits(lambda: candidates(output, conf=0.001, size=SIZE)) == []


def test_distillation_is_the_sum_of_its_parts():
    """Place by place: Li et al. 2020, equation 4, beta = 2, the teacher's probability as y; GIoU by torchvision."""
    output, teacher = outputs(seed=1), outputs(seed=0)
    own, wanted = predictions(output), predictions(teacher)
    total = scores = torch.zeros(())
    for image in range(len(output)):
        for place in range(output.shape[1]):
            s, y = own.classes[image, place].sigmoid(), wanted.classes[image, place].sigmoid()
            total = total - ((y - s).abs() ** 2 * ((1 - y) * (1 - s).log() + y * s.log())).sum()
            s, y_q = own.quality[image, place].sigmoid(), wanted.quality[image, place].sigmoid()
            entropy = -((1 - y_q) * (1 - s).log() + y_q * s.log())
            score = (y.max() * y_q) ** 0.5
            box = generalized_box_iou_loss(own.boxes[image, place], wanted.boxes[image, place])
            total, scores = total + score * (2 * box + entropy), scores + score
    assert scores > 1
    torch.testing.assert_close(distillation_loss(output, teacher), total / scores)


def test_distillation_leads_nearer_to_the_teacher():
    teacher, output = outputs(seed=0), outputs(seed=1).requires_grad_()
    before = distillation_loss(output, teacher)
    (gradient,) = torch.autograd.grad(before, output)
    gradient[..., -3:] = 0
    assert distillation_loss(output - 0.5 * gradient, teacher) < before
    equal = teacher.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distillation_loss(equal, teacher), equal)
    assert gradient.abs().max() < 1e-5
    assert waits(lambda: distillation_loss(output, teacher).backward()) == []
