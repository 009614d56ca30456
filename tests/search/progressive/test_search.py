"""A search in stages, from the library alone: a method, a space and images, and what is refused before it runs."""

from dataclasses import replace

import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.search import methods
from supernet.search.collapse.settings import MonitorSettings
from supernet.search.progressive.search import StagedSearch, build_stage, check_stages, search_stages
from supernet.search.progressive.stages import Stage, resolve_stages
from supernet.search.recipe import SearchRecipe
from supernet.space.choosers import Decided
from supernet.space.nasbench201 import NasBench201

SPACE = NasBench201(channels=4, cells=1, stages=1, nodes=2)
SHAPE = (1, 6, 6)
TWO = (Stage(keep=3), Stage(inherit_weights=True))
RECIPE = SearchRecipe(epochs=1, batch_size=6)


def planned(method=None, stages=TWO, **more) -> StagedSearch:
    method = method or methods.darts()
    resolved = resolve_stages(stages, SPACE, RECIPE, SHAPE, 3)
    return StagedSearch(resolved, method.chooser_for(SPACE), method.make_strategy, SHAPE, 3, **more)


def half(seed: int) -> Resident:
    stream = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (12, *SHAPE), generator=stream, dtype=torch.uint8)
    return Resident(images, torch.arange(12) % 3)


def found_by(search: StagedSearch, **more):
    return search_stages(search, half(0), half(1), Augmentation((0.0,), (1.0,)), **more)


def test_one_call_searches_and_what_is_found_is_a_network():
    found = found_by(planned())
    assert found == found_by(planned())
    SPACE.network(Decided(found.architecture), SHAPE, 3)(torch.zeros(2, *SHAPE))
    assert found.train != found_by(planned(seed=1)).train


@pytest.mark.parametrize("name", ["pc_darts", "gdas", "darts_pt", "oles", "random_search", "p_darts"])
def test_methods_of_every_kind(name):
    settings = {"random_search": {"candidates": 2, "finalists": 1, "batches": 1}, "pc_darts": {"channel_divisor": 2}}
    method = getattr(methods, name)(**settings.get(name, {}))
    found = found_by(planned(method, [replace(stage, depth=1.0) for stage in method.stages]))
    assert found.architecture.space == "nasbench201"


class Recorder(Silent):
    def __init__(self):
        self.lines, self.closed = [], False

    def line(self, message):
        self.lines.append(message)

    def close(self):
        self.closed = True


def test_each_stage_has_a_name_a_seed_and_a_report():
    runs = {}

    def run_of(name):
        runs[name] = Run(report=Recorder())
        return runs[name]

    found_by(planned(), run_of=run_of)
    assert list(runs) == ["search1", "search2"]
    assert all(run.report.closed for run in runs.values())
    assert runs["search2"].report.lines[:2] == [
        "search2: 4 channels, 1 cell, 3 operations an edge, 1 epoch",
        "search2: 12 images: 1 epoch of 2 steps in batches of 6",
    ]
    seeds = {planned(seed=5).stage_seed(number) for number in range(3)}
    assert 5 in seeds
    assert len(seeds) == 3


def test_stopped_in_the_second_stage_and_resumed_is_the_same(tmp_path):
    class Stop(Interruption):
        asked = 0

        def requested(self):
            self.asked += 1
            self.signal = 15 if self.asked > 3 else None  # two steps of the first stage, one of the second
            return self.asked > 3

    def run_of(name, interruption=None):
        return Run(checkpoint=tmp_path / f"{name}.pt", interruption=interruption or Interruption())

    stop = Stop()
    with pytest.raises(Interrupted):
        found_by(planned(), run_of=lambda name: run_of(name, stop))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["search1.pt", "search2.pt"]
    assert found_by(planned(), run_of=run_of) == found_by(planned())
    with pytest.raises(InputError, match="stage is depth"):
        found_by(planned(stages=(Stage(keep=2), TWO[1])), run_of=run_of)


def test_weights_and_alphas_go_on():
    search = planned()
    first = build_stage(search, 0)
    second = build_stage(search, 1, first.kept(3), first)
    name = "network.stem.0.weight"
    assert torch.equal(first.supernet.state_dict()[name], second.supernet.state_dict()[name])
    afresh = build_stage(search, 1, first.kept(3))
    assert not torch.equal(first.supernet.state_dict()[name], afresh.supernet.state_dict()[name])


@pytest.mark.parametrize(
    ("search", "says"),
    [
        (lambda: planned(methods.random_search()), r"stages\[0\]\.keep=3: this search ranks no operations"),
        (
            lambda: planned(methods.darts(), (Stage(), Stage(inherit_weights=True)), monitor=ACTS),
            "on_rise=stop: acts on a search in one stage, and this one has 2",
        ),
        (
            lambda: planned(monitor=MonitorSettings(spared=("normall",))),
            r"spared=\['normall'\]: no kind of cell is 'normall'; known: cell",
        ),
        (lambda: planned(methods.darts_pt_fixed(), (Stage(keep=2),)), r"stages\[0\]\.keep=2"),
        (lambda: planned(methods.random_search(), (Stage(),), monitor=ACTS), "no alphas"),
        (
            lambda: planned(methods.gdas(), methods.darts_pt().stages),
            "selection by perturbation leaves one operation out",
        ),
    ],
)
def test_what_cannot_be_is_said_before_the_first_stage(search, says):
    with pytest.raises(InputError, match=says):
        check_stages(search())


ACTS = MonitorSettings(on_rise="stop")


def test_checking_gives_the_decisions_of_each_stage():
    assert [len(decisions) for decisions in check_stages(planned())] == [5, 5]
