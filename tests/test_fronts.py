"""`supernet.pareto` and `supernet.subnetwork`: a person's calls, what they keep, and what they say to mistakes."""

import csv
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import pytest

import supernet
from supernet.estimation.scores import Measured
from supernet.runtime.interrupt import Interrupted
from supernet.space.mobile_stages import Stage
from supernet.training.tasks import Classification

SPACE = supernet.Mobile(
    (Stage((8,), depths=(1, 2), kernels=(3, 5), expansions=(2, 4)),), stem=8, stem_stride=2, head=16
)


@pytest.fixture(scope="module")
def data():
    return supernet.data.digits()


@pytest.fixture(scope="module")
def restored(tmp_path_factory, data):
    folder, search = tmp_path_factory.mktemp("search"), {"method": supernet.methods.spos(candidates=2), "epochs": 1}
    supernet.find(SPACE, data, directory=folder, **search)
    return supernet.restore(folder, SPACE, data, **search)


@pytest.fixture
def costs(data):
    return supernet.SpaceCosts(SPACE, data.shape, 10)


def test_of_a_small_space_the_whole_front(restored, costs):
    front = supernet.pareto(restored, costs, "parameters", evaluations=200)
    judge = supernet.scores.SupernetScore(restored.problem, batch_size=64)
    assert len(front.tried) == 20
    for point in front.tried:
        assert point.score == judge(point.architecture).values["accuracy"]
        assert point.cost == costs.of("parameters", point.architecture)
        best = front.at_most(point.cost)
        assert best.score == max(p.score for p in front.tried if p.cost <= point.cost)
    assert front.reference == (0.1, max(point.cost for point in front.tried))


@dataclass(frozen=True)
class Graded(Classification):
    """A task of one's own, with a score that nothing else knows."""

    score: ClassVar[str] = "within_one"

    def __post_init__(self):
        """Classification knows no such score."""

    def chance_without_labels(self, outputs):
        return (3 * outputs - 2) / outputs**2


def test_a_front_begins_where_the_task_says_that_chance_is(restored, costs):
    own = replace(restored, problem=replace(restored.problem, task=Graded()))
    front = supernet.pareto(own, costs, score=lambda one: Measured({"within_one": 0.5}), evaluations=3)
    assert front.reference[0] == 0.28
    assert front.score == "within_one"


def test_a_folder_keeps_it_and_the_same_call_goes_on(restored, costs, tmp_path):
    judge, asked = supernet.scores.SupernetScore(restored.problem, batch_size=64), []

    def stopping(architecture):
        if len(asked) == 7:
            raise Interrupted(15)
        asked.append(architecture)
        return judge(architecture)

    call = partial(supernet.pareto, restored, costs, evaluations=12, population=4)
    whole = call(score=judge)
    with pytest.raises(KeyboardInterrupt, match="all is saved in"):
        call(score=stopping, directory=tmp_path)
    assert call(score=judge, directory=tmp_path).tried == whole.tried
    assert len(list(csv.DictReader((tmp_path / "pareto.csv").open()))) == 12
    for changed in ({"seed": 1}, {"population": 5}):
        with pytest.raises(supernet.InputError, match=next(iter(changed))):
            call(score=judge, directory=tmp_path, **changed)


def test_a_cost_of_ones_own(restored, costs, data):
    own = supernet.SpaceCosts(SPACE, data.shape, 10, own={"latency": lambda one: costs.of("macs", one) / 1e6})
    front = supernet.pareto(restored, own, "latency", evaluations=30)
    assert front.points == front.first(20).points
    assert [p.cost for p in front.points] == [costs.of("macs", p.architecture) / 1e6 for p in front.points]


def test_a_network_out_of_the_supernet_is_a_model(restored, costs, data, tmp_path):
    chosen = supernet.pareto(restored, costs, evaluations=10).at_most(1e9)
    model = supernet.subnetwork(restored, chosen.architecture, data)
    model.save(tmp_path / "model.safetensors")
    again = supernet.load(tmp_path / "model.safetensors")
    first, second = (supernet.judge(one, supernet.data.digits()) for one in (model, again))
    assert (first.score, first.loss) == (second.score, second.loss)
    assert again.architecture == chosen.architecture
    assert again.provenance["validation accuracy"] == model.provenance["validation accuracy"]


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ("latency: needs a table", {"cost": "latency"}),
        ("watts: no cost has this name", {"cost": "watts"}),
        ("evaluations=0: needs a number above 0", {"evaluations": 0}),
        ("population=0: needs 1 or more", {"population": 0}),
        ("seed=-1", {"seed": -1}),
    ],
)
def test_mistakes_are_one_line(restored, costs, words, settings):
    with pytest.raises(supernet.InputError, match=words):
        supernet.pareto(restored, costs, **settings)


def test_other_mistakes(restored, costs, data):
    with pytest.raises(supernet.InputError, match=r"restored=3: needs what supernet\.restore gives"):
        supernet.pareto(3, costs)
    architecture = supernet.random_cell(SPACE, 0)
    with pytest.raises(supernet.InputError, match="images=0: needs 1 or more"):
        supernet.subnetwork(restored, architecture, data, images=0)
    with pytest.raises(supernet.InputError, match="architecture=3"):
        supernet.subnetwork(restored, 3, data)
