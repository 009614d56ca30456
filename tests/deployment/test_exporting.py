"""What is written answers as the model does, or is not written."""

import json
import re
import sys
import zipfile

import numpy as np
import onnx
import pytest
import torch
from common import slow_but
from exported import NAMES, data_for, model, pictures
from torch import nn

import supernet
from supernet import Darts, InputError, NasBench201, export, spaces
from supernet.deployment.deployable import Deployable
from supernet.deployment.exporting import DESCRIPTION, load_program
from supernet.deployment.onnx_graphs import onnx_graph
from supernet.execution.fused.executor import fused
from supernet.space.cells import reference
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.nasbench201 import from_string
from supernet.space.operations import OPERATIONS

OPEN = Stage((8, 16), depths=(1, 2), kernels=(3, 5), expansions=(3, 6), squeeze=(False, True), stride=2)
APART = Stage((16,), depths=(2,), kernels=(3,), expansions=(1, 3), skip=True, grouped=True, activations=("hardswish",))
EVERYTHING = from_string("|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|")
SPACES = {
    "darts": (Darts(4, 3, auxiliary=True), (1, 8, 8), None),
    "imagenet stem": (Darts(4, 3, stem="imagenet"), (3, 33, 31), None),
    "nasbench201": (NasBench201(4, 1, 3), (3, 7, 7), EVERYTHING),  # 7: pooling rounds up
    "micro": (spaces.micro(), (1, 8, 8), None),
    "nested": (Mobile((OPEN, OPEN), stem=8, head=16, resolutions=(12, 16)), (3, 16, 16), None),
    "separate": (Mobile((APART, APART), stem=8, head=16, sharing="separate"), (3, 16, 16), None),
}


@pytest.mark.parametrize("name", slow_but(("darts", "micro"), list(SPACES)))
def test_every_space_leaves_and_answers_the_same(name, tmp_path):
    space, shape, cell = SPACES[name]
    original = model(space, shape, cell=cell)
    written = export(original, tmp_path / "model.onnx")
    again = supernet.load(written.path)
    images = pictures(5, shape)
    expected = original.probabilities(images.float())
    assert expected.max() - expected.min() > 0.5  # answers that could differ
    torch.testing.assert_close(again.probabilities(images.float()), expected, rtol=0, atol=2e-4)
    torch.testing.assert_close(again.probabilities(images[:1].float()), expected[:1], rtol=0, atol=2e-4)
    assert written.difference < 2e-4
    assert (written.same, written.bytes) == (1.0, written.path.stat().st_size)


def test_a_file_says_all_that_a_model_says(tmp_path):
    original = model(spaces.micro(), (3, 8, 10))
    export(original, tmp_path / "model.onnx")
    again = supernet.load(tmp_path / "model.onnx")
    for fact in ("classes", "shape", "architecture", "augmentation", "provenance"):
        assert getattr(again, fact) == getattr(original, fact), fact
    graph = onnx.load(tmp_path / "model.onnx")
    plain = json.loads({entry.key: entry.value for entry in graph.metadata_props}["supernet"])
    assert plain["classes"] == list(NAMES)
    assert plain["input"] == {"name": "images", "levels": [0, 255]}
    assert [d.dim_param or d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim] == ["batch", 3, 8, 10]


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_the_same_model_gives_the_same_bytes_and_no_path_of_this_machine(format, tmp_path):
    original = model(spaces.micro(), (1, 8, 8))
    paths = [export(original, tmp_path / f"{number}.{format}", format=format).path for number in range(2)]
    raw = paths[0].read_bytes()
    assert raw == paths[1].read_bytes()
    if format == "pt2":
        with zipfile.ZipFile(paths[0]) as archive:
            raw = b"".join(archive.read(name) for name in archive.namelist())
    assert b"classes" in raw
    assert not re.search(rb"\.py\b|/site-packages|/supernet/", raw)


def test_a_program_of_torch_takes_any_number_of_images_and_says_its_classes(tmp_path):
    original = model(Darts(4, 3, auxiliary=True), (1, 8, 8))
    written = export(original, tmp_path / "model.pt2", format="pt2")
    found = {DESCRIPTION: ""}
    program = torch.export.load(written.path, extra_files=found)
    assert json.loads(found[DESCRIPTION])["classes"] == list(NAMES)
    images = pictures(5, (1, 8, 8)).float()
    expected = original.probabilities(images)
    for count in (1, 5):
        torch.testing.assert_close(program.module()(images[:count]), expected[:count], rtol=0, atol=2e-5)
        torch.testing.assert_close(load_program(written.path)(images[:count]), expected[:count], rtol=0, atol=2e-5)
    with pytest.raises(InputError, match=r"model\.pt2: a program for torch\.export\.load"):
        supernet.load(written.path)


def test_training_images_are_compared_too(tmp_path):
    original = model(spaces.micro(), (1, 8, 8))
    assert export(original, tmp_path / "a.onnx").compared == 16
    written = export(original, tmp_path / "b.onnx", data=data_for(original))
    assert (written.compared, written.same) == (16 + 48, 1.0)


def test_fast_executors_are_not_in_the_way_and_stay_where_they_are(tmp_path):
    original = model(NasBench201(4, 1, 1), (1, 8, 8), cell=EVERYTHING)
    cells = [m for m in original.network.modules() if "execute" in vars(m)]
    expected = original.probabilities(pictures(3, (1, 8, 8)).float())
    for cell in cells:
        cell.execute = fused
    original.network.to(memory_format=torch.channels_last)
    copied = Deployable(original.network, original.augmentation)
    assert all(m.execute is reference for m in copied.modules() if "execute" in vars(m))
    export(original, tmp_path / "model.onnx")
    assert all(cell.execute is fused for cell in cells)
    assert all(p.requires_grad for p in original.network.parameters())
    answers = supernet.load(tmp_path / "model.onnx").probabilities(pictures(3, (1, 8, 8)).float())
    torch.testing.assert_close(answers, expected, rtol=0, atol=2e-5)


class LooksAtValues(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


class OtherImages(nn.Module):
    def forward(self, x):
        return x - x.mean(0, keepdim=True)


class Sorted(nn.Module):
    def forward(self, x):
        return x.sort(1)[0].cumsum(1)


OWN = {"looks": LooksAtValues, "bessel": Bessel, "others": OtherImages, "sorted": Sorted}


def with_operation(name):
    """A model of which one edge has an operation of one's own."""
    space = NasBench201(4, 1, 1, nodes=1, operations=("nor_conv_1x1", name))
    factories = {**OPERATIONS, **({name: lambda site: OWN[name]()} if name in OWN else {})}
    return model(space, (1, 8, 8), cell=from_string(f"|{name}~0|"), factories=factories)


@pytest.fixture(scope="module")
def older(tmp_path_factory):
    """An export of each format: its bytes."""
    folder, original = tmp_path_factory.mktemp("older"), model(spaces.micro(), (1, 8, 8), 1)
    return {
        format: export(original, folder / f"model.{format}", format=format).path.read_bytes()
        for format in ("onnx", "pt2")
    }


@pytest.mark.parametrize(
    ("name", "format", "says"),
    [
        ("noise", "onnx", "'noise' draws random numbers"),
        ("noise", "pt2", "'noise' draws random numbers"),
        ("looks", "onnx", "cannot be traced"),
        ("looks", "pt2", "cannot be traced"),
        ("bessel", "onnx", r"model: its operation prims\.bessel_j0 cannot be written as ONNX"),
    ],
)
def test_what_cannot_leave_is_one_line_and_writes_nothing(name, format, says, older, tmp_path, capfd):
    path = tmp_path / f"model.{format}"
    path.write_bytes(older[format])
    with pytest.raises(InputError, match=says) as error:
        export(with_operation(name), path, format=format)
    assert "\n" not in str(error.value)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(path.name, older[format])]
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_an_older_export_is_replaced_and_no_other_file(format, older, tmp_path):
    original, path = model(spaces.micro(), (1, 8, 8)), tmp_path / f"model.{format}"
    path.write_bytes(older[format])
    export(original, path, format=format)
    assert path.read_bytes() != older[format]
    foreign = onnx.load_from_string(onnx_graph(nn.ReLU().eval(), (2,)).SerializeToString()).SerializeToString()
    for content in (b"", b"mine", foreign, older[format][: len(older[format]) // 2]):
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=r"path=.*: is there already, and is no export that could be replaced; give"
        ):
            export(original, path, format=format)
        assert path.read_bytes() == content
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/extra/other.json", "{}")
    with pytest.raises(InputError, match="is no export"):
        export(original, path, format=format)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is no export"):
        export(original, path, format=format)


def test_a_file_that_could_take_any_memory_is_not_written_and_is_called_by_its_name(tmp_path, monkeypatch):
    with pytest.raises(
        InputError, match=r"path=.*/model\.onnx: not written: the size of .* depends on values"
    ) as error:
        export(with_operation("sorted"), tmp_path / "model.onnx")
    assert "partial" not in str(error.value)
    monkeypatch.setattr("supernet.deployment.onnx_files._MOST_VALUES", 100)
    with pytest.raises(InputError, match=r"path=.*/model\.onnx: not written: .* values for an image"):
        export(model(spaces.micro(), (1, 8, 8)), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_program_of_torch_has_what_onnx_lacks(tmp_path):
    original = with_operation("bessel")
    assert export(original, tmp_path / "model.pt2", format="pt2").difference < 2e-5


def test_a_file_that_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    original = model(spaces.micro(), (1, 8, 8))

    def wrong(module, shape):
        graph = onnx_graph(module, shape)
        (bias,) = [w for w in graph.graph.initializer if w.name == "network.classifier.bias"]
        shifted = np.add(onnx.numpy_helper.to_array(bias), [1, 0, 0, 0])
        bias.CopyFrom(onnx.numpy_helper.from_array(shifted.astype("float32"), bias.name))
        return graph

    monkeypatch.setattr("supernet.deployment.exporting.onnx_graph", wrong)
    for more in ({}, {"int8": True, "data": data_for(original)}):  # what is rounded besides hides nothing
        with pytest.raises(InputError, match=r"path=.*/model\.onnx: not written: its answers differ by 0\.\d+"):
            export(original, tmp_path / "model.onnx", **more)
        assert list(tmp_path.iterdir()) == []


def test_a_diverged_model_is_refused(tmp_path):
    original = model(spaces.micro(), (1, 8, 8))
    with torch.no_grad():
        original.network.classifier.bias.fill_(float("nan"))
    with pytest.raises(InputError, match="infinite values or none"):
        export(original, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"format": "tflite"}, "format=tflite: use onnx or pt2"),
        ({"path": "model.safetensors"}, r"path=.*model\.safetensors: needs the ending \.onnx"),
        ({"path": "model.pt2"}, r"path=.*needs the ending \.onnx"),
        ({"path": "no/model.onnx"}, "there is no folder"),
        ({"path": "folder.onnx"}, "a folder; give a file"),
        ({"path": "barred.onnx"}, r"path=.*barred\.onnx: cannot be written"),
        ({"int8": True}, "int8=True: needs data"),
        ({"int8": True, "format": "pt2", "path": "model.pt2"}, "int8=True: is there for format='onnx' alone"),
        ({"activations": "int8"}, "activations=int8: is of int8=True alone"),
        ({"activations": "int4", "int8": True, "data": "own"}, "activations=int4: use uint8"),
        ({"data": "other"}, r"data: images \(1, 8, 8\), and the model is of images \(1, 6, 6\)"),
        ({"model": "exported"}, "model=exported: needs a model of PyTorch"),
    ],
)
def test_mistakes_are_one_line(given, says, tmp_path):
    original = model(spaces.micro(), (1, 6, 6))
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "barred.onnx.partial").mkdir()
    data = {"own": data_for(original), "other": data_for(model(spaces.micro(), (1, 8, 8))), None: None}
    known = {"path": tmp_path / given.get("path", "model.onnx"), "data": data[given.get("data")]}
    with pytest.raises(InputError, match=says) as error:
        export(given.get("model", original), **{k: v for k, v in {**given, **known}.items() if k != "model"})
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"folder.onnx", "barred.onnx.partial"}


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_packages_one_line_says_so(package, older, tmp_path, monkeypatch):
    original = model(spaces.micro(), (1, 8, 8))
    (tmp_path / "there.onnx").write_bytes(older["onnx"])
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf'^{package} is not installed; pip install "supernet\[export\]" brings it$'):
        export(original, tmp_path / "model.onnx")
    if package != "onnxscript":  # which only writes
        with pytest.raises(InputError, match=rf"{package} is not installed"):
            supernet.load(tmp_path / "there.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]
    if package == "onnx":  # torch's own format needs none of them
        assert export(original, tmp_path / "model.pt2", format="pt2").difference < 2e-5
