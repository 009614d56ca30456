"""What the loops of a search and of a training share, on a loop of three lines."""

import math
import signal
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

from supernet.data.batches import Resident
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.processes import Processes
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.training.epochs import Epochs
from supernet.training.meters import Averages, NotFinite
from supernet.training.schedules import Cosine, Schedule


@dataclass(frozen=True)
class Settings:
    epochs: int = 3
    batch_size: int = 4
    least_steps: int = 0
    schedule: Schedule = field(default_factory=lambda: Cosine(0.1))
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.01


@dataclass(frozen=True)
class Watch:
    every: int = 1


class Stopper(Silent):
    """Asks the run to stop after some step; keeps what a loop tells of its progress."""

    def __init__(self, interruption=None, stop_after=None):
        self.interruption, self.stop_after, self.told, self.from_step = interruption, stop_after, [], None

    def progress(self, done, total, message):
        self.told.append((done, total, message))
        if done == self.stop_after:
            self.interruption.signal = signal.SIGTERM

    def resume(self, step):
        self.from_step = step


SOURCE = Resident(torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.arange(10) % 3)
SIZES = (4, 4, 2)  # of the three batches of a pass


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1).double()


def loss_of(net: nn.Module, step: int) -> torch.Tensor:
    inputs = torch.randn(SIZES[step % 3], 3, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
    return (net(inputs) - 1).square().mean()


def loop(net, run, recipe=None, **settings) -> list[Averages]:
    """A loop as `train` and `search` have one; the averages of its epochs."""
    recipe, closed = recipe or Settings(), []
    epochs = Epochs(net, SOURCE, recipe, run, name="toy")
    epochs.resume({"network": net}, **settings)
    while epochs.epoch < recipe.epochs:
        for _ in epochs.steps():
            loss = loss_of(net, epochs.step)
            epochs.optimizer.zero_grad()
            loss.backward()
            epochs.optimizer.step()
            epochs.meter.add(loss.detach(), torch.tensor(1.0), SIZES[epochs.step % 3])
        closed.append(epochs.close())
        epochs.save()
    return closed


def written_out(net) -> list[Averages]:
    """The same in plain PyTorch."""
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    closed = []
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * epoch / 3))
        total = 0.0
        for step in range(3 * epoch, 3 * epoch + 3):
            loss = loss_of(net, step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * SIZES[step % 3]
        closed.append(Averages(total / 10, 3 / 10, 10))
    return closed


def test_equals_a_loop_written_out():
    """Each epoch has its learning rate, SGD has momentum and decay, and an average weighs every image alike."""
    net, twin = network(), network()
    for ours, theirs in zip(loop(net, Run()), written_out(twin), strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-12)
        assert (ours.score, ours.count) == (pytest.approx(theirs.score), 10)
    torch.testing.assert_close(net.weight, twin.weight, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("least", "steps"), [(0, 3), (3, 3), (4, 6), (7, 9)])
def test_an_epoch_has_as_many_steps_as_the_recipe_says(least, steps):
    epochs = Epochs(network(), SOURCE, Settings(least_steps=least), Run(), name="toy")
    assert epochs.per_epoch == steps == len(list(epochs.steps()))
    assert (epochs.step, epochs.epoch) == (steps, 0)
    assert list(epochs.steps()) == []  # until the epoch is closed
    epochs.close()
    assert len(list(epochs.steps())) == steps


def test_progress_begins_at_nothing_and_stays_below_one():
    seen, report = [], Stopper()
    epochs = Epochs(network(), SOURCE, Settings(), Run(report=report), name="toy")
    for _ in range(3):
        seen += [epochs.progress for _ in epochs.steps()]
        epochs.close()
    assert seen == pytest.approx([step / 9 for step in range(9)])
    assert report.told[3] == (4, 9, "toy: epoch 2 of 3")
    assert [done for done, _, _ in report.told] == list(range(1, 10))


@pytest.mark.parametrize("stop_after", [1, 3, 4, 8])
def test_stopped_at_any_step_and_resumed_is_bitwise_the_same(tmp_path, stop_after):
    straight, resumed, interruption = network(), network(), Interruption()
    expected, run = loop(straight, Run()), Run(checkpoint=tmp_path / "toy.pt")
    with pytest.raises(Interrupted):
        loop(resumed, replace(run, report=Stopper(interruption, stop_after), interruption=interruption))
    resumed, report = network(), Stopper()
    closed = loop(resumed, replace(run, report=report))
    assert report.from_step == stop_after + 1
    assert closed == expected[-len(closed) :]
    assert len(closed) == 3 - stop_after // 3
    assert torch.equal(resumed.weight, straight.weight)


def test_a_checkpoint_of_another_recipe_is_refused_by_name(tmp_path):
    run = Run(checkpoint=tmp_path / "toy.pt")
    loop(network(), run, watch=Watch())
    with pytest.raises(InputError, match=r"toy\.momentum is 0\.9 there and 0\.5 in this run"):
        loop(network(), run, Settings(momentum=0.5), watch=Watch())
    with pytest.raises(InputError, match=r"watch\.every is 1 there and 2 in this run"):
        loop(network(), run, watch=Watch(every=2))
    with pytest.raises(InputError, match=r"watch\.every"):
        loop(network(), run)
    assert loop(network(), run, watch=Watch()) == []


@pytest.mark.parametrize(("seconds", "saved"), [(0.0, [0, 1, 2]), (1e6, [None, None, None])])
def test_between_steps_the_state_is_saved_when_it_is_time(tmp_path, seconds, saved):
    path, net = tmp_path / "toy.pt", network()
    epochs = Epochs(net, SOURCE, Settings(), Run(checkpoint=path, save_seconds=seconds), name="toy")
    epochs.resume({"network": net})
    assert [torch.load(path)["parts"]["epochs"]["step"] if path.exists() else None for _ in epochs.steps()] == saved


@pytest.mark.parametrize("poisoned", ["loss", "weight"])
def test_what_is_not_finite_is_never_saved(tmp_path, poisoned):
    path, net = tmp_path / "toy.pt", network()
    epochs = Epochs(net, SOURCE, Settings(), Run(checkpoint=path), name="toy")
    epochs.resume({"network": net})
    epochs.save()
    before, nan = path.read_bytes(), torch.tensor(math.nan)
    if poisoned == "loss":
        epochs.meter.add(nan, torch.tensor(0.0), 4)
    else:
        net.weight.data[0, 0] = nan
    with pytest.raises(NotFinite, match=f"{poisoned} is not finite"):
        epochs.save()
    with pytest.raises(NotFinite, match=f"{poisoned} is not finite"):
        list(epochs.steps())
    assert path.read_bytes() == before


@pytest.mark.parametrize("state", [{"step": 4, "epoch": 0}, {"step": 2, "epoch": 1}, {"step": "1", "epoch": 0}])
def test_a_state_that_no_loop_can_be_in_is_refused(state):
    epochs = Epochs(network(), SOURCE, Settings(), Run(), name="toy")
    with pytest.raises(InputError, match="3 epochs of 3 steps"):
        epochs.load_state_dict({**epochs.state_dict(), **state})
    assert (epochs.step, epochs.epoch) == (0, 0)


def test_epochs_of_another_number_of_processes_are_refused_with_the_way_out():
    """Two images are left of a pass: a step for one process, and none for two."""
    alone = Epochs(network(), SOURCE, Settings(), Run(), name="loop")
    two = Epochs(network(), SOURCE, Settings(), Run(processes=Processes(0, 2)), name="loop")
    assert (alone.per_epoch, two.per_epoch) == (3, 2)
    state = {**alone.state_dict(), "step": 8, "epoch": 2}
    alone.load_state_dict(state)
    line = "step 8, epoch 2; this run has 3 epochs of 2 steps in 2 processes; take as many as it was begun in"
    with pytest.raises(InputError, match=line):
        two.load_state_dict(state)


def test_speed_and_time_left_are_those_of_the_last_epoch(monkeypatch):
    """A clock on which an epoch takes five seconds."""
    ticks = iter(range(0, 1000, 5))
    epochs = Epochs(network(), SOURCE, Settings(), Run(), name="toy")
    monkeypatch.setattr("supernet.runtime.autosave.time.monotonic", lambda: 0.0)
    monkeypatch.setattr("supernet.training.epochs.time", type("Clock", (), {"monotonic": lambda: next(ticks)}))
    for _ in epochs.steps():
        epochs.meter.add(torch.tensor(1.0), torch.tensor(0.0), SIZES[epochs.step])
    assert epochs.images_per_second == 2.0
    assert epochs.seconds_left == pytest.approx(10.0)
