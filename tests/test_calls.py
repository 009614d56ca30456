"""Arguments of another kind than they have to be are one line, and nothing is written."""

import math

import pytest
import torch

import supernet
from supernet.runtime.errors import InputError
from supernet.search.progressive.restoring import Restored
from supernet.space.mobile_stages import Stage

SPACE = supernet.spaces.micro_mobile()
TABLE = supernet.tables.micro_mobile(["digits_valid"])
FEW = {"method": supernet.methods.spos(candidates=5, batches=1), "epochs": 1}


@pytest.fixture(scope="module")
def data():
    return supernet.data.digits()


@pytest.fixture(scope="module")
def restored(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    supernet.find(SPACE, data, directory=folder, **FEW)
    return supernet.restore(folder, SPACE, data, **FEW)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    yield tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


MISTAKES = [
    ({"limits": ["macs"]}, r"limits=\['macs'\]: needs numbers by the names of costs"),
    ({"limits": 5}, "limits=5: needs numbers by the names of costs"),
    ({"limits": {"macs": 10**400}}, "limits.macs=1000"),
    ({"limits": {"macs": "x"}}, "limits.macs=x: needs a number above 0"),
    ({"limits": {"macs": math.nan}}, "limits.macs=nan: needs a number above 0"),
    ({"limits": {3: 3}}, "limits.3: no cost has this name"),
    ({"limits": {"latency": 3}, "costs": {"latency": "file"}}, "costs: 'latency' is file; needs a table"),
    ({"costs": "file"}, "costs=file: needs costs by their names"),
    ({"directory": ""}, "directory=: an empty path"),
    ({"directory": "file"}, "directory=file: is a file"),
    ({"directory": "file/x"}, "directory=file/x: cannot be made"),
    ({"directory": "a\0b"}, "directory=a.x00b: cannot be made"),
    ({"directory": "n" * 300}, "directory=nnn.*a name of more than 255 bytes"),
    ({"seed": -1}, "seed=-1: needs"),
]


@pytest.mark.parametrize(("given", "says"), MISTAKES, ids=[says for _, says in MISTAKES])
def test_a_search_and_an_exploration_say_what_is_wrong(given, says, data, here):
    with pytest.raises(InputError, match=says) as first:
        supernet.find(SPACE, data, **FEW, **given)
    with pytest.raises(InputError, match=says) as second:
        supernet.explore(SPACE, TABLE, evaluations=4, **given)
    assert "\n" not in str(first.value) + str(second.value)


EXPLORED = [
    ({"score": None}, "score=None: needs a score"),
    ({"explorer": None}, "explorer=None: needs one of supernet.explorers"),
    ({"data": "digits"}, "data=digits: needs images"),
    ({"evaluations": "a"}, "evaluations=a: needs a whole number"),
]


@pytest.mark.parametrize(("given", "says"), EXPLORED, ids=[says for _, says in EXPLORED])
def test_an_exploration_says_what_is_wrong(given, says, here):
    with pytest.raises(InputError, match=says):
        supernet.explore(SPACE, **{"score": TABLE, "evaluations": 4, **given})


FRONTS = [
    ({"costs": None}, "costs=None: needs supernet.SpaceCosts"),
    ({"evaluations": 3.5}, "evaluations=3.5: needs a whole number"),
    ({"evaluations": True}, "evaluations=True: needs a whole number"),
    ({"population": "x"}, "population=x: needs a whole number"),
    ({"directory": ""}, "directory=: an empty path"),
    ({"directory": "file"}, "directory=file: is a file"),
]


@pytest.mark.parametrize(("given", "says"), FRONTS, ids=[says for _, says in FRONTS])
def test_a_front_says_what_is_wrong(given, says, restored, data, here):
    costs = supernet.SpaceCosts(SPACE, data.shape, 10)
    with pytest.raises(InputError, match=says):
        supernet.pareto(restored, **{"costs": costs, "evaluations": 8, **given})


def test_limits_and_images_of_another_kind(restored, data):
    front = supernet.pareto(restored, supernet.SpaceCosts(SPACE, data.shape, 10), evaluations=8, population=4)
    for limit in ("x", None, True):
        with pytest.raises(InputError, match=f"limit={limit}: needs a number"):
            front.at_most(limit)
    for images in ("a", 2.5):
        with pytest.raises(InputError, match=f"images={images}: needs a whole number"):
            supernet.subnetwork(restored, front.points[0].architecture, data, images=images)


def test_other_costs_or_images_are_other_explorations(restored: Restored, data, tmp_path):
    asked = {"evaluations": 10, "limits": {"macs": 400_000}, "directory": tmp_path / "explored"}
    first = supernet.explore(SPACE, TABLE, data=data, **asked)
    assert supernet.explore(SPACE, TABLE, data=data, **asked).best == first.best
    with pytest.raises(InputError, match="give the costs and the image size that the run was started with"):
        supernet.explore(SPACE, TABLE, **asked)
    asked = {"evaluations": 8, "population": 4, "directory": tmp_path / "front"}
    small, large = (supernet.SpaceCosts(space, data.shape, 10) for space in (SPACE, SPACE.resized(stem=8)))
    assert supernet.pareto(restored, small, **asked).points == supernet.pareto(restored, small, **asked).points
    with pytest.raises(InputError, match="give the costs and the image size that the run was started with"):
        supernet.pareto(restored, large, **asked)


def test_the_final_space_asks_what_the_search_decides(data):
    sizes = {"stem": 4, "stem_stride": 1, "head": 8}
    searched = supernet.Mobile((Stage((4,), kernels=(3, 5)),), **sizes)
    final = supernet.Mobile((Stage((4,), depths=(1, 2), kernels=(3, 5)),), **sizes)
    for one, other, says in ((searched, final, "asks 'stage1/"), (final, searched, "does not ask 'stage1/")):
        with pytest.raises(InputError, match=f"the final space {says}"):
            supernet.find(one, data, limits={"macs": 1e5}, final=other, **FEW)
    with pytest.raises(InputError, match="final=x: needs a space"):
        supernet.find(searched, data, final="x", **FEW)


@pytest.mark.parametrize("wrong", [None, 3])
def test_what_is_no_path_and_no_name(wrong, restored, data):
    for call in (
        lambda: supernet.load(wrong),
        lambda: supernet.read_latencies(wrong),
        lambda: supernet.load_torchvision("mobilenet_v2", wrong),
        lambda: supernet.load_torchvision(wrong, "weights.pth"),
        lambda: supernet.published(wrong),
        lambda: supernet.spaces.of(wrong),
        lambda: supernet.export(wrong, "model.onnx"),
    ):
        with pytest.raises(InputError, match=f"={wrong}: "):
            call()


def test_settings_of_published_networks():
    for settings, says in (
        ({"foo": 3}, "foo: no setting of this space; it has width"),
        ({"resolutions": 5}, "resolutions=5: needs sides in pixels"),
        ({"resolutions": "32"}, "resolutions=32: needs sides in pixels"),
        ({"width": True}, "width=True: needs to lie between"),
    ):
        with pytest.raises(InputError, match=says):
            supernet.spaces.of("mobilenet_v2", **settings)
        with pytest.raises(InputError, match=says):
            supernet.published("mobilenet_v2", **settings)


def test_weights_and_classes_of_torchvision():
    torchvision = pytest.importorskip("torchvision")
    weights = torchvision.models.mobilenet_v3_small(num_classes=3).state_dict()
    for classes in ("abc", (1, 2, 3)):
        with pytest.raises(InputError, match=r"classes=.*: needs names"):
            supernet.load_torchvision("mobilenet_v3_small", weights, classes=classes)
    weights["features.0.0.weight"] = torch.full_like(weights["features.0.0.weight"], torch.nan)
    with pytest.raises(InputError, match=r"weights: features\.0\.0\.weight holds infinite values or none"):
        supernet.load_torchvision("mobilenet_v3_small", weights)


def test_tunas_is_told_its_cost(data):
    found = supernet.find(SPACE, data, method=supernet.methods.tunas(costs="macs"), epochs=1)
    assert found.space == "mobile"
    with pytest.raises(InputError, match="costs=watts: no cost has this name"):
        supernet.find(SPACE, data, method=supernet.methods.tunas(costs="watts"), epochs=1)
