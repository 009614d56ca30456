import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from supernet import Darts, Decided, NasBench201, load, published
from supernet.data.augmentation import Augmentation
from supernet.data.preparation import Preparation
from supernet.deployment.answers import Objects, OneLabel, SeveralLabels
from supernet.deployment.bundle import save_bundle
from supernet.deployment.predictor import Predictor
from supernet.detection.head import AnchorFree
from supernet.runtime.errors import InputError
from supernet.space.nasbench201 import from_string
from supernet.space.operations import OPERATIONS

AUGMENTATION = Augmentation((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), crop_padding=2)
NAMES = ("ant", "bee", "cat", "dog", "elk", "fox")


def make(path, shape=(3, 8, 10), space=None, architecture=None, factories=OPERATIONS):
    torch.manual_seed(0)
    space = space or Darts(channels=4, cells=3, auxiliary=True)
    architecture = architecture or published("darts_v2")
    network = space.network(Decided(architecture, factories), shape, len(NAMES))
    mean, std = AUGMENTATION.mean[: shape[0]], AUGMENTATION.std[: shape[0]]
    save_bundle(
        path,
        network,
        space=space,
        architecture=architecture,
        classes=NAMES,
        augmentation=Augmentation(mean, std),
        shape=shape,
        provenance={"data": "toy", "seed": 3, "test accuracy": None},
    )
    return network.eval()


@pytest.fixture
def model(tmp_path):
    return make(tmp_path / "model.safetensors"), tmp_path


def pictures(count=3):
    return torch.randint(0, 256, (count, 3, 8, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_goes_round(model):
    network, folder = model
    predictor = load(folder / "model.safetensors")
    images = pictures()
    with torch.no_grad():
        expected = network(AUGMENTATION.normalise(images)).softmax(1)
    results = predictor(images)
    torch.testing.assert_close(torch.stack([r.probs.data for r in results]), expected)
    assert predictor.architecture == published("darts_v2")
    assert (predictor.classes, predictor.shape) == (NAMES, (3, 8, 10))
    assert predictor.provenance == {"data": "toy", "seed": 3, "test accuracy": None}
    assert not predictor.network.training
    assert not any("auxiliary" in name for name in predictor.network.state_dict())


@pytest.mark.parametrize("space", [Darts(4, 3, auxiliary=True, stem="imagenet"), NasBench201(4, 1, 1, nodes=2)])
def test_a_predictor_saves_itself(tmp_path, space):
    """The same outputs to the bit, the same description and the same bytes, also for the third file."""
    cell = published("darts_v2") if space.name == "darts" else from_string("|nor_conv_3x3~0|+|none~0|skip_connect~1|")
    make(tmp_path / "one.safetensors", (3, 32, 32), space, cell)
    first = load(tmp_path / "one.safetensors")
    first.save(str(tmp_path / "two.safetensors"))
    again = load(tmp_path / "two.safetensors")
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for one, two in zip(first(images), again(images), strict=True):
        assert torch.equal(one.probs.data, two.probs.data)
    for name in ("space", "architecture", "classes", "shape", "augmentation", "provenance"):
        assert getattr(first, name) == getattr(again, name)
    again.save(tmp_path / "three.safetensors")
    written = [(tmp_path / f"{n}.safetensors").read_bytes() for n in ("one", "two", "three")]
    assert written[0] == written[1] == written[2]


def test_a_predictor_saves_what_it_has_become(model):
    predictor, path = load(model[1]), model[1] / "other.safetensors"
    with torch.no_grad():
        predictor.network.classifier.bias.add_(1)
    predictor.save(path)
    assert torch.equal(load(path).network.classifier.bias, predictor.network.classifier.bias)


def test_a_place_that_no_file_can_have_is_one_line(model):
    predictor = load(model[1])
    for place, says in ((model[1], r"^path=.*: a folder; give a file"), (model[1] / "a" / "b", "there is no folder")):
        with pytest.raises(InputError, match=says) as error:
            predictor.save(place)
        assert "\n" not in str(error.value)
    assert [path.name for path in model[1].iterdir()] == ["model.safetensors"]


def test_results_have_the_familiar_shape(model):
    predictor = load(model[1])  # a run directory
    result = predictor(pictures(1))[0]
    assert result.names == dict(enumerate(NAMES))
    order = result.probs.data.argsort(descending=True).tolist()
    assert result.probs.top1 == order[0]
    assert result.probs.top1conf == pytest.approx(float(result.probs.data[order[0]]))
    assert result.probs.top1conf.item() == float(result.probs.top1conf)
    assert f"{result.probs.top1conf:.1%}" == f"{float(result.probs.data[order[0]]):.1%}"
    assert result.probs.top5 == order[:5]
    assert result.probs.top5conf.tolist() == sorted(result.probs.top5conf.tolist(), reverse=True)
    assert result.path is None


def test_all_forms_of_one_image_agree(model, tmp_path):
    predictor = load(model[1])
    tensor = pictures(1)[0]
    array = tensor.permute(1, 2, 0).numpy()
    Image.fromarray(array).save(tmp_path / "x.png")
    forms = [tensor, tensor[None], tensor / 255, array, array[None], Image.fromarray(array), tmp_path / "x.png"]
    forms += [str(tmp_path / "x.png"), [tensor], (array,)]
    expected = predictor(tensor)[0].probs.data
    for form in forms:
        (result,) = predictor(form)
        torch.testing.assert_close(result.probs.data, expected, rtol=1e-4, atol=1e-5)
    several = predictor([tmp_path / "x.png", tensor])
    assert [r.path for r in several] == [str(tmp_path / "x.png"), None]
    assert torch.equal(tensor, pictures(1)[0])


def test_grey_colour_and_size_are_converted(model, tmp_path):
    predictor = load(model[1])
    grey = torch.full((1, 8, 10), 100, dtype=torch.uint8)
    torch.testing.assert_close(predictor(grey)[0].probs.data, predictor(grey.expand(3, 8, 10))[0].probs.data)
    torch.testing.assert_close(predictor(grey / 255)[0].probs.data, predictor(grey)[0].probs.data)
    large = torch.full((3, 40, 33), 100, dtype=torch.uint8)
    torch.testing.assert_close(predictor(large)[0].probs.data, predictor(grey)[0].probs.data, rtol=1e-3, atol=1e-4)
    make(tmp_path / "grey.safetensors", (1, 8, 10))
    predictor = load(tmp_path / "grey.safetensors")
    a, b = (predictor(torch.full((c, 8, 10), 100, dtype=torch.uint8))[0].probs.data for c in (1, 3))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert len(predictor(np.zeros((300, 8, 10, 1), np.uint8))) == 300


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (torch.zeros(3, 8, 10) - 1, "normalised already"),
        (torch.full((3, 8, 10), float("nan")), "normalised already"),
        (torch.zeros(3, 8, 10, dtype=torch.int64), "uint8 or of floats"),
        (torch.zeros(8, 10), r"not of shape \(8, 10\)"),
        (torch.zeros(2, 8, 10), "2 channels"),
        (np.zeros((8, 10)), "not float64; pass floats"),
        (np.zeros(8, np.uint8), "not of shape"),
        (3, "not int"),
        ("absent.png", "absent.png: no such file"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(model, image, says):
    with pytest.raises(InputError, match=says) as error:
        load(model[1])(image)
    assert "\n" not in str(error.value)


def rewrite(path, **changes):
    """Changes the description inside a model file."""
    with safe_open(path, "pt") as file:
        described = json.loads(file.metadata()["supernet"])
    described.update(changes)
    save_file(load_file(path), path, {"supernet": json.dumps(described)})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "other"}, "not a model saved by supernet"),
        ({"version": 99}, "version 99"),
        ({"space": {"name": "nasbench999", "settings": {}}}, "space 'nasbench999' is unknown; known: darts"),
        ({"space": {"name": "darts", "settings": {"surprise": 1}}}, "setting 'surprise'"),
        ({"space": {"name": "darts", "settings": {"channels": "x"}}}, "damaged"),
        ({"space": {"name": "darts", "settings": {"channels": 6, "cells": 3}}}, "tensors do not fit its genotype"),
        ({"classes": None}, "damaged"),
        ({"shape": [3, 8]}, "damaged"),
        ({"genotype": {}}, "not a genotype"),
    ],
)
def test_other_descriptions_are_refused_in_one_line(model, changes, says):
    path = model[1] / "model.safetensors"
    rewrite(path, **changes)
    with pytest.raises(InputError, match=says) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_unknown_operation_is_named(model):
    path = model[1] / "model.safetensors"
    genotype = json.loads(published("darts_v2").to_json())
    genotype["choices"]["normal/2/0"] = ["sep_conv_9x9"]
    rewrite(path, genotype=genotype)
    with pytest.raises(InputError, match="sep_conv_9x9"):
        load(path)


def test_other_files_are_refused_in_one_line(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    whole = tmp_path / "model.safetensors"
    make(whole)
    files = {
        "pickle.safetensors": pickle.dumps(Payload()),
        "short.safetensors": whole.read_bytes()[:1000],
        "empty.safetensors": b"",
        "huge.safetensors": struct.pack("<Q", 2**60) + b"{}",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="truncated, damaged or not") as error:
            load(tmp_path / name)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "touched").exists()
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(InputError, match="not a model saved by supernet"):
        load(tmp_path / "foreign.safetensors")
    with pytest.raises(InputError, match="no such model"):
        load(tmp_path / "absent")


def test_operations_and_spaces_of_ones_own(tmp_path):
    class Mine(Darts):
        name = "mine"

    factories = {**OPERATIONS, "double": lambda site: torch.nn.AvgPool2d(site.stride)}
    genotype = published("darts_v2")
    architecture = type(genotype)("mine", {**genotype.choices, "normal/2/0": ("double",)})
    path = tmp_path / "mine.safetensors"
    make(path, space=Mine(4, 3), architecture=architecture, factories=factories)
    with pytest.raises(InputError, match="pass your own as space="):
        load(path)
    with pytest.raises(InputError, match="operation 'double'"):
        load(path, space=Mine)
    assert load(path, space=Mine, factories=factories)(pictures(1))[0].names[0] == "ant"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"channels": 10**6}, "tensors do not fit"),
        ({"channels": 4.5}, "no network can be built"),
        ({"table": 3}, "damaged"),
    ],
)
def test_settings_that_make_no_network_are_refused_in_one_line(model, changes, says):
    _, folder = model
    path = folder / "model.safetensors"
    with safe_open(path, "pt") as file:
        space = json.loads(file.metadata()["supernet"])["space"]
    rewrite(path, space={**space, "settings": {**space["settings"], **changes}})
    with pytest.raises(InputError, match=says) as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes", [{"classes": []}, {"shape": [3, -8, 10]}, {"normalisation": {"mean": [0], "std": [1]}}]
)
def test_parts_that_do_not_go_together_are_refused(model, changes):
    _, folder = model
    rewrite(folder / "model.safetensors", **changes)
    with pytest.raises(InputError, match="do not go together"):
        load(folder / "model.safetensors")


def put(path, described=None, change=None, checksum=None):
    """Writes a model file anew with another description or other tensors, as one who tampers with it would."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    for name, value in (change or {}).items():
        state[name] = value(state[name])
    metadata["supernet"] = json.dumps({**json.loads(metadata["supernet"]), **(described or {})})
    metadata.pop("supernet.sha256")
    save_file(state, path, metadata | ({} if checksum is None else {"supernet.sha256": checksum}))


def test_a_file_of_version_one_is_one_label_an_image():
    """Bytes that an earlier version has written, and what it answered then."""
    predictor = load(Path(__file__).parent / "version1.safetensors")
    ramp = torch.arange(192).reshape(1, 3, 8, 8).to(torch.uint8)
    assert predictor(ramp)[0].probs.data.tolist() == pytest.approx([0.4055897891521454, 0.5944101810455322], abs=1e-6)
    assert (predictor.classes, predictor.shape, predictor.answer) == (("cat", "dog"), (3, 8, 8), OneLabel())
    assert predictor.augmentation.preparation == Preparation(white=65535, ground=30)
    assert (predictor.report, predictor.card) == ({}, {})


ANSWERS = [
    (OneLabel(1.5, (0.0, 0.1, -0.1, 0.0, 0.0, 0.2)), NAMES),
    (SeveralLabels(2.0, thresholds=(0.4,)), ("cell",)),
    (Objects(AnchorFree(1, width=16, towers=1), conf=0.3), ("cell",)),
]


@pytest.mark.parametrize(("answer", "classes"), ANSWERS, ids=lambda value: getattr(value, "name", ""))
def test_a_file_keeps_task_report_and_card(tmp_path, answer, classes):
    torch.manual_seed(0)
    space, cell, shape = Darts(8, 6, stem="imagenet"), published("darts_v2"), (3, 32, 48)
    network = space.network(Decided(cell), shape, answer.outputs(classes)).eval()
    about = {"report": {"auroc": 0.9}, "card": {"title": "toy"}, "answer": answer, "classes": classes}
    original = Predictor(
        network, space=space, architecture=cell, shape=shape, augmentation=AUGMENTATION, provenance={}, **about
    )
    original.save(tmp_path / "model.safetensors")
    again = load(tmp_path)
    assert {name: getattr(again, name) for name in about} == about
    pixels = torch.randint(0, 256, (2, *shape), generator=torch.Generator().manual_seed(1)).float()
    assert torch.equal(again.values(pixels), original.values(pixels))
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_half_precision_halves_the_file_and_hardly_changes_answers(model):
    original, path = load(model[1]), model[1] / "half.safetensors"
    original.save(path, half=True)
    rounded, stored = load(path), load_file(path)
    assert {str(value.dtype) for value in stored.values()} == {"torch.float16", "torch.float32", "torch.int64"}
    assert stored["classifier.bias"].dtype == torch.float32
    assert all(v.dtype == original.network.state_dict()[n].dtype for n, v in rounded.network.state_dict().items())
    assert sum(v.nbytes for v in stored.values()) < 0.7 * sum(v.nbytes for v in original.network.state_dict().values())
    for one, two in zip(original(pictures()), rounded(pictures()), strict=True):
        torch.testing.assert_close(one.probs.data, two.probs.data, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ({"name": "os.system", "settings": {}}, "task 'os.system' is unknown"),
        ({"name": "one_label", "settings": {"bias": [1.0]}}, "bias: 1 number for 6 classes"),
        ({"name": "objects", "settings": {"width": 10**9}}, "width"),
        ({"name": "objects", "settings": {"width": 4096, "towers": 16}}, "no map of stride 8"),
        ({"name": "several_labels"}, "incomplete or damaged"),
        ("one_label", "incomplete or damaged"),
    ],
)
def test_tasks_that_a_stranger_has_changed_are_refused_in_one_line(model, task, says):
    rewrite(model[1] / "model.safetensors", task=task)
    with pytest.raises(InputError, match=says) as error:
        load(model[1])
    assert "model.safetensors" in str(error.value)
    assert "\n" not in str(error.value)


FIRST = "stem.0.weight"


@pytest.mark.parametrize("where", ["tensors", "description"])
def test_a_flipped_bit_is_refused(model, where):
    path = model[1] / "model.safetensors"
    raw = bytearray(path.read_bytes())
    at = raw.index(b"ant") if where == "description" else len(raw) - 3
    raw[at] ^= 2
    path.write_bytes(raw)
    with pytest.raises(InputError, match="damaged: its checksum is not that of its content") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_the_same_model_is_the_same_file(tmp_path):
    for number in range(8):
        make(tmp_path / str(number))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    header = int.from_bytes((tmp_path / "0").read_bytes()[:8], "little")
    assert header % 8 == 0


def test_models_of_versions_without_a_checksum_load(model):
    network, folder = model
    put(folder / "model.safetensors")
    with torch.no_grad():
        expected = network(AUGMENTATION.normalise(pictures())).softmax(1)
    torch.testing.assert_close(torch.stack([r.probs.data for r in load(folder)(pictures())]), expected)


def test_a_checksum_of_something_else_is_refused(model):
    put(model[1] / "model.safetensors", checksum="0" * 64)
    with pytest.raises(InputError, match="checksum"):
        load(model[1])


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (lambda v: v.double(), "is of torch.float64, its network has torch.float32"),
        (lambda v: v.int(), "is of torch.int32"),
        (lambda v: v.bool(), "is of torch.bool"),
        (lambda v: v * float("nan"), "holds infinite values or none"),
        (lambda v: v / 0, "holds infinite values or none"),
        (lambda v: v[:1].clone(), "1 tensor does not fit its genotype: stem.0.weight"),
    ],
)
def test_tensors_that_are_no_weights_are_refused(model, value, says):
    put(model[1] / "model.safetensors", change={FIRST: value})
    with pytest.raises(InputError, match=says) as error:
        load(model[1])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("setting", ["cells", "nodes", "channels", "stem_multiplier"])
def test_sizes_that_would_take_forever_are_refused_before_anything_is_built(model, setting):
    path = model[1] / "model.safetensors"
    with safe_open(path, "pt") as file:
        space = json.loads(file.metadata()["supernet"])["space"]
    rewrite(path, space={**space, "settings": {**space["settings"], setting: 10**12}})
    with pytest.raises(InputError, match=r"do not fit|no network can be built|takes|no operation"):
        load(path)


def test_cells_without_a_tensor_are_counted_as_well(tmp_path):
    path = tmp_path / "model.safetensors"
    cell = from_string("|skip_connect~0|+|none~0|skip_connect~1|")
    make(path, space=NasBench201(4, 1, 1, 2), architecture=cell)
    rewrite(path, space={"name": "nasbench201", "settings": {"channels": 4, "cells": 10**12, "stages": 1, "nodes": 2}})
    with pytest.raises(InputError, match="do not fit its description"):
        load(path)


def test_an_edge_of_thousands_of_operations_is_refused(model):
    genotype = json.loads(published("darts_v2").to_json())
    genotype["choices"]["normal/2/0"] = ["skip_connect"] * 4000
    rewrite(model[1] / "model.safetensors", genotype=genotype)
    with pytest.raises(InputError, match="do not fit its"):
        load(model[1])


@pytest.mark.parametrize(
    "described",
    [
        {"classes": "abcdef"},
        {"classes": [1, 2, 3, 4, 5, 6]},
        {"shape": [3, 8.5, 10]},
        {"shape": [3, True, 10]},
        {"shape": [3, 10**12, 10]},
        {"shape": [3, 60000, 60000]},
        {"normalisation": {"mean": [0, 0, 0], "std": [1, 0, 1]}},
        {"normalisation": {"mean": [0, 0, 0], "std": [1, -1, 1]}},
        {"normalisation": {"mean": [0, 0, 0], "std": [1, 1]}},
        {"normalisation": {"mean": [0, float("nan"), 0], "std": [1, 1, 1]}},
    ],
)
def test_descriptions_that_would_predict_nonsense_are_refused(model, described):
    put(model[1] / "model.safetensors", described)
    with pytest.raises(InputError, match=r"model.safetensors: .*(do not go together|std)"):
        load(model[1])


def test_names_from_a_file_are_shown_escaped(model):
    path = model[1] / "model.safetensors"
    state = load_file(path)
    state["\x1b[31m\n" + FIRST] = state.pop(FIRST)
    with safe_open(path, "pt") as file:
        save_file(state, path, {"supernet": file.metadata()["supernet"]})
    with pytest.raises(InputError) as error:
        load(path)
    assert "\\x1b[31m\\nstem" in str(error.value)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "."])
def test_names_that_no_file_can_have_are_refused_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such model"):
        load(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"space": {"name": "x" * 10**6, "settings": {}}},
        {"space": {"name": "darts", "settings": {"x" * 10**6: 1}}},
        {"normalisation": {"mean": ["x" * 10**6], "std": [1.0]}},
        {"preparation": {"fit": "x" * 10**6}},
    ],
)
def test_a_refusal_is_a_line_however_long_what_is_wrong_may_be(model, changes):
    path = model[1] / "model.safetensors"
    rewrite(path, **changes)
    with pytest.raises(InputError, match=r"xxx \.\.\.$") as error:
        load(path)
    assert len(str(error.value)) < 1000
