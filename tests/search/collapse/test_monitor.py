"""What the monitor says and does, and that it leaves no trace."""

import math
import signal
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from common import slow_but
from torch import nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.estimation.problem import SearchProblem
from supernet.execution.engines import engine
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.search.black_box.random_search import UniformStrategy
from supernet.search.collapse import monitor as module
from supernet.search.collapse.measurements import Measurements
from supernet.search.collapse.monitor import signs
from supernet.search.collapse.settings import MonitorSettings
from supernet.search.differentiable.architects import first_order
from supernet.search.differentiable.discretisers import argmax
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.relaxations import Gumbel, Softmax
from supernet.search.loop import search
from supernet.search.recipe import SearchRecipe
from supernet.space.architecture import Architecture
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.training.schedules import Cosine

AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=1)
SPACE = Darts(channels=4, cells=3, nodes=2, operations=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"))
TINY = replace(SPACE, cells=1, operations=("skip_connect", "sep_conv_3x3"))
LOOKING = MonitorSettings(every=1, batch_size=6, iterations=3)
RECIPE = SearchRecipe(epochs=8, batch_size=8, schedule=Cosine(0.1, 0.01), weight_decay=1e-3, drop_path=0.3)


class Recorder(Silent):
    """Keeps scalars and words, forgets them on a roll back; stops the run after so many calls of progress."""

    def __init__(self, interruption=None, stop_after=None):
        self.values, self.lines, self.texts, self.calls = {}, [], [], 0
        self.interruption, self.stop_after = interruption, stop_after

    def scalars(self, values, step):
        for tag, value in values.items():
            if not tag.startswith("sys/"):
                assert (step, tag) not in self.values, "a doubled point"
                self.values[step, tag] = value

    def line(self, message):
        if message.startswith("monitor"):
            self.lines.append(message)

    def text(self, tag, text, step=0):
        if tag == "monitor":
            self.texts.append((text, step))

    def resume(self, step):
        self.values = {key: value for key, value in self.values.items() if key[0] < step}

    def progress(self, done, total, message):
        self.calls += 1
        if self.calls == self.stop_after:
            self.interruption.signal = signal.SIGTERM


def half(seed: int, count: int = 16) -> Resident:
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=stream)
    return Resident(images, torch.arange(count) % 3)


def made(kind="gradient", relaxation=None, space=TINY, used=None):
    torch.manual_seed(0)
    used = used or engine("reference")
    network = space.network(Undecided(single=kind == "uniform"), (1, 6, 6), 3)
    supernet = Supernet(used.apply(network))
    if kind == "uniform":
        return supernet, UniformStrategy(space.name, supernet.decisions, candidates=3, finalists=1)
    strategy = GradientStrategy(
        space.name,
        supernet.decisions,
        operations=relaxation or Softmax(),
        inputs=None,
        architect=first_order,
        optimizer=partial(torch.optim.Adam, lr=0.05),
        discretiser=argmax,
    )
    return supernet, strategy


def run_search(monitor, run=None, recipe=RECIPE, **parts):
    supernet, strategy = made(**parts)
    run = run or Run()
    result = search(SearchProblem(supernet, half(1), half(2), AUGMENTATION, run), strategy, recipe, monitor=monitor)
    return result, {**supernet.state_dict(), **getattr(strategy, "logits", nn.ParameterDict()).state_dict()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"relaxation": Gumbel(hard=True)},
        {"kind": "uniform"},
        {"space": NasBench201(channels=4, cells=1, stages=2, nodes=2)},
        {"used": engine("fused"), "space": SPACE},
    ],
    ids=["softmax", "gumbel", "uniform", "nasbench201", "fused"],
)
def test_a_search_with_the_monitor_ends_where_one_without_ends(parts):
    recipe = replace(RECIPE, epochs=2)
    plain, seen = Recorder(), Recorder()
    alone = run_search(MonitorSettings(every=0), Run(report=plain), recipe, **parts)
    watched = run_search(LOOKING, Run(report=seen), recipe, **parts)
    assert watched[0] == alone[0]
    assert same(watched[1], alone[1])
    assert plain.values == {key: value for key, value in seen.values.items() if not key[1].startswith("collapse/")}
    found = {tag for _, tag in seen.values if tag.startswith("collapse/")}
    assert ("collapse/lambda_max" in found) == ("kind" not in parts)
    kinds = {"cell"} if isinstance(parts.get("space"), NasBench201) else {"normal", "reduce"}
    kinds -= set() if "space" in parts else {"normal"}  # the only cell of a network of one halves the image
    shares = {f"collapse/{what}_share/{kind}" for what in ("skip", "parametric") for kind in kinds}
    assert found - {"collapse/lambda_max"} == {"collapse/gap", *shares}


# --- what follows -------------------------------------------------------------------------------------------------


def scripted(monkeypatch, script):
    """Looks that find what the script says: (decay of the weights, epoch) -> lambda_max."""

    def look(self, epoch, accuracy):
        architecture = self._strategy.finish()
        self._measurements = Measurements(architecture, {}, {}, accuracy, accuracy, script(self._decay, epoch))
        return self._measurements.scalars()

    monkeypatch.setattr(module.CollapseMonitor, "look", look)


def rising(decay: float, epoch: int) -> float:
    """Doubles from epoch 4 on under the first decay and under the second; is at rest under the third."""
    return 2.0 if epoch >= (4 if decay < 5e-3 else 6) and decay < 0.02 else 1.0


ADAPTING = MonitorSettings(every=1, window=3, delta=1, rise=1.3, not_before=1, on_rise="adapt", factor=10.0, most=0.03)


def test_adapt_goes_back_as_computed_by_hand(monkeypatch):
    # Means over 3 looks: epochs 3, 4, 5: 1, 4/3, 5/3. 4/3 > 1.3 after epoch 4; the older mean, of epochs 1 to 3, lies
    # around epoch 4 - 3 // 2 - 1 = 2: back to the end of epoch 2 with ten times 1e-3. Then after epoch 6, back to
    # epoch 4 with 0.03, where 0.1 would be beyond the most.
    scripted(monkeypatch, rising)
    recorder = Recorder()
    run_search(ADAPTING, Run(report=recorder))
    assert [(line.split("epoch ")[1][0], line.rsplit(" ", 1)[1]) for line in recorder.lines] == [
        ("3", "0.01"),
        ("5", "0.03"),
    ]
    assert [step for _, step in recorder.texts] == [6, 10]  # two steps an epoch
    assert recorder.calls == 16 + 4 + 4
    assert {step for step, tag in recorder.values if tag == "collapse/lambda_max"} == set(range(2, 17, 2))


def test_going_back_ends_as_a_search_that_had_the_decay_from_there_on(monkeypatch):
    """No drop path here, whose draws go on: then the second half is that of a run whose decay was changed by hand."""
    recipe = replace(RECIPE, drop_path=0.0)
    scripted(monkeypatch, lambda decay, epoch: 2.0 if epoch >= 4 and decay < 5e-3 else 1.0)
    rolled = run_search(ADAPTING, recipe=recipe)
    scripted(monkeypatch, lambda decay, epoch: 1.0)
    conclude = module.CollapseMonitor.conclude

    def by_hand(self, epoch, step):
        if epoch == 2:
            self._optimizer.param_groups[0]["weight_decay"] = 1e-2
        return conclude(self, epoch, step)

    monkeypatch.setattr(module.CollapseMonitor, "conclude", by_hand)
    changed = run_search(ADAPTING, recipe=recipe)
    assert rolled[0] == changed[0]
    assert same(rolled[1], changed[1])


@cache
def straight_through():
    """What a search comes to that nothing but the monitor stops: result, state and what was reported."""
    with pytest.MonkeyPatch.context() as patch:
        scripted(patch, rising)
        recorder = Recorder()
        return *run_search(ADAPTING, Run(report=recorder)), recorder


@pytest.mark.parametrize("stop_after", slow_but([10, 18], [7, 10, 11, 18]))  # before, at and after both roll backs
def test_stopped_around_a_roll_back_and_resumed_is_bitwise_the_same(monkeypatch, tmp_path, stop_after):
    straight, state, whole = straight_through()
    scripted(monkeypatch, rising)
    interruption = Interruption()
    first = Recorder(interruption, stop_after)
    path = tmp_path / "search.pt"
    with pytest.raises(Interrupted):
        run_search(ADAPTING, Run(report=first, checkpoint=path, interruption=interruption))
    second = Recorder()
    second.values = first.values  # one file goes on
    torch.manual_seed(99)
    resumed, again = run_search(ADAPTING, Run(report=second, checkpoint=path))
    assert resumed == straight
    assert same(state, again)
    assert second.values == whole.values
    assert [*first.lines, *second.lines] == whole.lines


def test_a_rise_while_the_alphas_stand_still_is_no_rise(monkeypatch):
    """As in `test_adapt_goes_back_as_computed_by_hand`, but the older mean lies in a warm-up of three epochs."""
    scripted(monkeypatch, lambda decay, epoch: 2.0 if epoch >= 4 else 1.0)
    for warm_up, acts in ((2, True), (3, False)):
        recorder = Recorder()
        run_search(replace(ADAPTING, on_rise="stop"), Run(report=recorder), recipe=replace(RECIPE, warm_up=warm_up))
        assert any("the search stops" in line for line in recorder.lines) == acts


def test_only_epochs_that_may_be_returned_to_are_kept(monkeypatch):
    scripted(monkeypatch, lambda decay, epoch: 1.0)
    conclude, kept = module.CollapseMonitor.conclude, []

    def watched(self, epoch, step):
        back = conclude(self, epoch, step)
        kept.append(sorted(self._snapshots))
        tensors = self._snapshots[epoch]["supernet"].values() if epoch in self._snapshots else []
        assert all(tensor.device.type == "cpu" for tensor in tensors)
        return back

    monkeypatch.setattr(module.CollapseMonitor, "conclude", watched)
    run_search(ADAPTING)
    # Not before epoch 1; two looks back; after epoch 4 nothing that could be decided before the last, number 7.
    assert kept == [[], [1], [1, 2], [1, 2, 3], [2, 3, 4], [3, 4], [4], []]


def test_stop_returns_the_older_architecture_and_answers_at_once_when_resumed(monkeypatch, tmp_path):
    scripted(monkeypatch, rising)
    monitor, path, genotypes = replace(ADAPTING, on_rise="stop"), tmp_path / "search.pt", []
    conclude = module.CollapseMonitor.conclude

    def watched(self, epoch, step):
        genotypes.append(self._measurements.architecture)
        return conclude(self, epoch, step)

    monkeypatch.setattr(module.CollapseMonitor, "conclude", watched)
    recorder = Recorder()
    found, _ = run_search(monitor, Run(report=recorder, checkpoint=path))
    assert len(genotypes) == 5
    assert found.architecture == genotypes[2]
    assert recorder.calls == 10
    again = Recorder()
    assert run_search(monitor, Run(report=again, checkpoint=path))[0] == found
    assert again.calls == 0


def test_without_being_told_to_act_it_warns_once(monkeypatch):
    scripted(monkeypatch, lambda decay, epoch: 2.0**epoch)
    recorder = Recorder()
    run_search(replace(ADAPTING, on_rise="go_on"), Run(report=recorder))
    (line,) = recorder.lines
    assert "2.00 times what it was around epoch 2" in line
    assert "try on_rise=stop" in line
    assert len(recorder.texts) == 1


def test_signs_are_told_once_and_late_enough():
    architecture = Architecture("darts", {})
    bad = Measurements(architecture, {"normal": 0.75, "reduce": 1.0}, {"normal": 0.0, "reduce": 0.0}, 0.9, 0.1, 1.0)
    said = signs(MonitorSettings(), bad)
    assert set(said) == {"skips/normal", "parametric/normal", "gap"}
    assert "75% of the kept edges of normal cells are skip connections" in said["skips/normal"]
    assert all("; try " in words for words in said.values())
    good = Measurements(architecture, {"normal": 0.25}, {"normal": 0.75}, 0.9, 0.2, 1.0)
    assert signs(MonitorSettings(), good) == {}
    recorder, eager = Recorder(), replace(LOOKING, few_parametric=1.0, many_skips=1.0, large_gap=1.0, spared=())
    run_search(eager, Run(report=recorder), space=replace(TINY, operations=("skip_connect", "max_pool_3x3")))
    assert recorder.lines == [line for line in recorder.lines if "have weights to learn" in line]
    assert [step for _, step in recorder.texts] == [8]  # after the fourth of eight epochs, and not again


def test_a_rise_from_nothing_is_none():
    assert module.risen([1.0, 1.0, 1.0, 1.0], 3, 1) == 1.0
    assert module.risen([1.0, 1.0], 3, 1) is None
    for nothing in (0.0, -1.0, math.nan):
        assert module.risen([nothing] * 3 + [5.0], 3, 1) is None


@pytest.mark.parametrize(
    ("monitor", "recipe", "says"),
    [
        (replace(ADAPTING), replace(RECIPE, weight_decay=0.0), "of the recipe; 0 needs to lie above 0"),
        (replace(ADAPTING), replace(RECIPE, weight_decay=0.05), r"below most=0\.03"),
    ],
)
def test_a_decay_that_cannot_grow_is_refused(monitor, recipe, says):
    with pytest.raises(InputError, match=says):
        run_search(monitor, recipe=recipe)


def test_acting_wants_alphas():
    with pytest.raises(InputError, match=r"^on_rise=stop: this strategy has no alphas"):
        run_search(replace(LOOKING, on_rise="stop"), kind="uniform")


@pytest.mark.parametrize(
    "settings",
    [
        {"every": -1},
        {"batch_size": 1},
        {"iterations": 0},
        {"tolerance": 1.0},
        {"recalibration": 0},
        {"since": 1.5},
        {"many_skips": -0.1},
        {"window": 0},
        {"delta": 0},
        {"rise": 0.0},
        {"not_before": -1},
        {"on_rise": "pray"},
        {"factor": 1.0},
        {"most": 0.0},
        {"every": 0, "on_rise": "stop"},
    ],
)
def test_refuses_nonsense_by_name(settings):
    name = list(settings)[-1]
    with pytest.raises(InputError, match=f"^{name}="):
        MonitorSettings(**settings)
