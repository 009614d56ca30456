import pytest
import torch

from supernet.runtime.errors import InputError
from supernet.search.progressive.stages import Part
from supernet.training.schedules import Cosine, Exponential, Linear


def torchs(make, epochs):
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)
    schedule = make(optimizer)
    rates = []
    for _ in range(epochs):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def test_cosine_is_torchs():
    theirs = torchs(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 12, eta_min=0.01), 12)
    assert [Cosine(0.1, 0.01)(epoch, 12) for epoch in range(12)] == pytest.approx(theirs)


def test_exponential_is_torchs():
    theirs = torchs(lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.97), 12)
    assert [Exponential(0.1, 0.97)(epoch, 12) for epoch in range(12)] == pytest.approx(theirs)


def test_linear_with_tail_is_that_of_the_imagenet_recipe():
    """PC-DARTS on ImageNet: 250 epochs from 0.5; the line spans 245, and its last step is shared by the last five."""
    schedule = Linear(0.5, 0.0, warm_up=5, tail=5)
    rates = [schedule(epoch, 250) for epoch in range(250)]
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert rates[5:245] == pytest.approx([0.5 * (245 - epoch) / 245 for epoch in range(5, 245)])
    assert rates[245:] == pytest.approx([0.5 * (250 - epoch) / (245 * 5) for epoch in range(245, 250)])
    plain = Linear(1.0, 0.2)
    assert [plain(e, 4) for e in range(4)] == pytest.approx([1.0, 0.8, 0.6, 0.4])


@pytest.mark.parametrize("schedule", [Cosine(0.5, warm_up=5), Exponential(0.5, 0.9, warm_up=5), Linear(0.5, warm_up=5)])
def test_warm_up_climbs_to_the_start(schedule):
    assert [schedule(epoch, 50) for epoch in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert schedule(5, 50) < 0.5


def test_part_is_a_stretch_of_a_longer_schedule():
    whole = Cosine(0.1)
    assert [Part(whole, start=20, whole=50)(e, 30) for e in range(30)] == [whole(e, 50) for e in range(20, 50)]
    assert Part(whole, rate=0.1)(3, 30) == pytest.approx(0.1 * whole(3, 30), rel=1e-15)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Cosine(0.0), "start=0.0"),
        (lambda: Cosine(0.1, 0.2), "end=0.2"),
        (lambda: Cosine(0.1, warm_up=-1), "warm_up=-1"),
        (lambda: Linear(0.1, tail=-1), "tail=-1"),
        (lambda: Linear(0.1, tail=5)(0, 5), "epochs=5"),
        (lambda: Exponential(0.1, 1.5), "factor=1.5"),
    ],
)
def test_nonsense_is_refused(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_a_short_training_can_see_the_beginning_of_a_long_cosine():
    """GAEA on NAS-Bench-201: 25 epochs of a curve of 50."""
    short, long = Cosine(0.025, 0.001, span=50), Cosine(0.025, 0.001)
    assert [short(epoch, 25) for epoch in range(25)] == [long(epoch, 50) for epoch in range(25)]
    assert Cosine(0.025, 0.001, span=10)(20, 30) == pytest.approx(0.001)  # a longer one does not climb again
    with pytest.raises(InputError, match=r"span=0"):
        Cosine(0.025, span=0)
