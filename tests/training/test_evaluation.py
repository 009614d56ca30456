"""Loss and scores over a whole set."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.data.preparation import Preparation
from supernet.runtime.errors import InputError
from supernet.training.evaluation import evaluate, evaluate_probabilities
from supernet.training.tasks import Classification

AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=1, cutout=2)
LABELS = torch.tensor([0, 0, 0, 1, 2, 2, 0])


def source() -> Resident:
    pixels = torch.randint(0, 256, (7, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Resident(pixels, LABELS)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(16, 3))


def measured(forward, images=None, size=3):
    settings = {"batch_size": size, "device": torch.device("cpu"), "task": Classification()}
    return evaluate(forward, source() if images is None else images, AUGMENTATION, **settings)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_every_image_counts_alike_whatever_the_batches(size):
    net = network().eval()
    with torch.no_grad():
        logits = net(AUGMENTATION.normalise(source().images))
    averages = measured(net, size=size)
    assert averages.loss == pytest.approx(F.cross_entropy(logits, LABELS).item(), rel=1e-6)
    assert averages.score == (logits.argmax(1) == LABELS).double().mean().item()
    assert averages.count == 7


def test_images_are_neither_cut_nor_moved():
    seen = []
    measured(lambda images: [seen.append(images), torch.zeros(len(images), 3)][1])
    assert torch.equal(torch.cat(seen), AUGMENTATION.normalise(source().images))


def test_scores_and_chance_by_hand():
    """Always the first class: 4 of 7 are right, which is one class of three, and no other such answer is better."""
    averages = measured(lambda images: F.one_hot(torch.zeros(len(images), dtype=torch.int64), 3).double())
    assert (averages.score, averages.chance) == (4 / 7, 4 / 7)
    assert averages.others == {"balanced_accuracy": pytest.approx(1 / 3)}
    log = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).log_softmax(0)
    assert averages.loss == pytest.approx(-(4 * log[0] + 3 * log[1]).item() / 7, rel=1e-12)


def test_a_module_is_evaluated_in_evaluation_mode_and_left_as_it_was():
    net = network().train()
    net[1].eval()  # one norm is frozen
    before, modes = copy.deepcopy(net.state_dict()), [module.training for module in net.modules()]
    assert measured(net) == measured(copy.deepcopy(net).eval())
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_mode_comes_back_where_the_network_fails():
    net = network().train()
    with pytest.raises(RuntimeError):
        measured(net, Resident(torch.zeros(3, 1, 9, 9, dtype=torch.uint8), LABELS[:3]))
    assert all(module.training for module in net.modules())


def test_a_function_runs_in_the_mode_that_the_caller_chose():
    net, modes = network().train(), []
    measured(lambda images: [modes.append(net.training), net(images)][1], size=7)
    assert modes == [True]


def test_nothing_is_kept_for_a_gradient():
    seen = []
    net = network()
    measured(lambda images: [seen.append(net(images)), seen[-1]][1])
    assert not any(output.requires_grad for output in seen)


def test_no_images_are_refused():
    with pytest.raises(InputError, match="without images"):
        measured(network(), source().subset(torch.tensor([], dtype=torch.int64)))


def test_a_model_that_normalises_itself_is_given_levels_and_measured_alike():
    net, seen = network().eval(), []

    def probabilities(pixels):
        seen.append(pixels)
        return net((pixels / 255 - 0.5) / 0.25).softmax(1)

    ours = evaluate_probabilities(probabilities, source(), AUGMENTATION, batch_size=3, task=Classification())
    expected = measured(net)
    assert (ours.score, ours.others, ours.count) == (expected.score, expected.others, 7)
    assert ours.loss == pytest.approx(expected.loss, rel=1e-4)
    torch.testing.assert_close(torch.cat(seen), source().images.float(), rtol=1e-5, atol=1e-4)


def test_a_border_that_training_draws_on_is_cut_away_for_such_a_model():
    wide = Augmentation((0.5,), (0.25,), preparation=Preparation(fit="crop", border=1), scale=(0.5, 1.0))
    seen = []
    given = {"batch_size": 7, "task": Classification()}
    evaluate_probabilities(lambda x: [seen.append(x), torch.full((len(x), 3), 1 / 3)][1], source(), wide, **given)
    torch.testing.assert_close(seen[0], source().images[:, :, 1:3, 1:3].float(), rtol=1e-5, atol=1e-4)
