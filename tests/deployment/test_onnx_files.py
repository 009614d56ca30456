"""An ONNX file that comes from anywhere: what none of ours has is refused in one line, before anything is run."""

import contextlib
import json
import os
from dataclasses import replace

import numpy as np
import onnx
import pytest
from exported import model, pictures, rewritten
from onnx import TensorProto, helper, numpy_helper

from supernet import InputError, export, load, spaces
from supernet.deployment.answers import Objects
from supernet.deployment.onnx_files import SizeCheck, described, read_onnx


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return export(model(spaces.micro(), (1, 8, 8)), tmp_path_factory.mktemp("file") / "model.onnx").path


def refused(path, says):
    with pytest.raises(InputError, match=says) as error:
        load(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_what_is_rewritten_without_a_change_is_read(written, tmp_path):
    again = load(rewritten(written, lambda graph: None, tmp_path / "same.onnx"))
    images = pictures(3, (1, 8, 8)).float()
    assert (again.probabilities(images) == load(written).probabilities(images)).all()


def test_no_file_is_a_detector(written, tmp_path):
    read = read_onnx(written)
    about = {name: read.about[name] for name in ("input", "output", "precision")}
    path = tmp_path / "detector.onnx"
    path.write_bytes(described(onnx.load(written), replace(read.description, answer=Objects()), about))
    refused(path, "says that it is a detector, which no ONNX file is; give its model.safetensors")


def elsewhere(graph, location="../weights.bin"):
    weight = graph.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location


def in_a_constant(graph):
    value = TensorProto(dims=[1], data_type=1, name="c", data_location=TensorProto.EXTERNAL)
    graph.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=value))


def loop(graph):
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"])],
        "body",
        [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("go", 9, [])],
        [helper.make_tensor_value_info("again", 9, [])],
    )
    graph.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    graph.graph.node.insert(0, helper.make_node("Loop", ["", "always"], [], body=body))


def function(graph):
    graph.functions.add().name = "mine"


def foreign(graph):
    graph.graph.node[0].domain = "com.microsoft"


def library(graph):
    graph.opset_import.add().domain = "mine"


def two_inputs(graph):
    graph.graph.input.add().CopyFrom(helper.make_tensor_value_info("more", 1, [1]))


def fixed_number(graph):
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def other_output(graph):
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7


def not_a_number(graph):
    weight = next(w for w in graph.graph.initializer if w.data_type == 1)
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] = np.inf
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def too_few_bytes(graph):
    weight = next(w for w in graph.graph.initializer if w.data_type == 1)
    weight.raw_data = weight.raw_data[:-1]


def broken(graph):
    graph.graph.node[2].input[0] = "nobody makes this"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (elsewhere, "weights in another file"),
        (in_a_constant, "weights in another file"),
        (loop, "a graph within 'Loop'"),
        (function, "functions"),
        (foreign, "operations of 'com.microsoft'"),
        (library, "operations of 'mine'"),
        (two_inputs, "does not take the images"),
        (fixed_number, "does not take the images"),
        (other_output, "does not take the images"),
        (not_a_number, "infinite values"),
        (too_few_bytes, "are damaged"),
        (broken, "its graph is damaged"),
    ],
)
def test_a_graph_that_does_more_is_not_run(change, says, written, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "weights.bin").write_bytes(b"\0" * 4096)
    refused(rewritten(written, change, tmp_path / "folder" / "model.onnx"), says)


def grown(operation):
    """Puts an operation that makes very much of a little before the last one."""

    def change(graph):
        last = graph.graph.node[-1]
        before, last.input[0] = last.input[0], "kept"
        nodes, weights = operation(before)
        graph.graph.initializer.extend(numpy_helper.from_array(np.array(v), n) for n, v in weights.items())
        nodes.append(helper.make_node("Add", [before, "little"], ["kept"]))
        del graph.graph.node[-1]
        graph.graph.node.extend([*nodes, last])

    return change


def constant(before):
    nodes = [helper.make_node("ConstantOfShape", ["size"], ["huge"])]
    return [*nodes, helper.make_node("ReduceMax", ["huge"], ["little"])], {"size": [10**6, 10**6]}


def tiled(before):
    nodes = [helper.make_node("Tile", [before, "times"], ["huge"])]
    return [*nodes, helper.make_node("ReduceMax", ["huge"], ["little"], keepdims=0)], {"times": [10**9, 1]}


def of_values(before):
    """Its size is what the network answers: no look at the graph tells it."""
    nodes = [
        helper.make_node("ReduceMax", [before], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["whole"], to=7),
        helper.make_node("Reshape", ["whole", "one"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["little"], keepdims=0),
    ]
    return nodes, {"one": [1]}


def doubled(before):
    """Each step is small beside the one before it."""
    nodes = [helper.make_node("Concat", [f"d{n}" if n else before] * 2, [f"d{n + 1}"], axis=0) for n in range(40)]
    return [*nodes, helper.make_node("ReduceMax", ["d40"], ["little"], keepdims=0)], {}


@pytest.mark.parametrize("operation", [constant, tiled, of_values, doubled], ids=lambda f: f.__name__)
def test_a_graph_that_asks_for_any_memory_is_not_run(operation, written, tmp_path):
    says = "depends on values" if operation is of_values else "are run at most, so take smaller images"
    refused(rewritten(written, grown(operation), tmp_path / "model.onnx"), says)


def test_sizes_are_known_for_each_number_of_images(written, tmp_path):
    check = SizeCheck(onnx.load(written), written)
    check(1)
    check(256)

    def squared(before):  # all images beside all images
        nodes = [
            helper.make_node("Unsqueeze", [before, "zero"], ["row"]),
            helper.make_node("Unsqueeze", [before, "one"], ["column"]),
            helper.make_node("Sub", ["row", "column"], ["all"]),
            helper.make_node("Tile", ["all", "times"], ["huge"]),
            helper.make_node("ReduceSum", ["huge"], ["little"], keepdims=0),
        ]
        return nodes, {"zero": [0], "one": [1], "times": [1, 1, 1 << 20]}

    grows = load(rewritten(written, grown(squared), tmp_path / "model.onnx"))
    with pytest.raises(InputError, match="are run at most"):
        grows.probabilities(pictures(200, (1, 8, 8)).float())


def test_damage_is_found(written, tmp_path):
    raw = written.read_bytes()
    path = tmp_path / "model.onnx"
    for says, changed in {
        "not an ONNX file that supernet-export has written": b"",
        "truncated, damaged or not an ONNX file": b"\x80\x81 no protobuf",
        "truncated|not an ONNX file": raw[: len(raw) // 2],
    }.items():
        path.write_bytes(changed)
        refused(path, says)
    graph = onnx.load(written)
    weight = max(graph.graph.initializer, key=lambda each: len(each.raw_data))
    place = raw.index(weight.raw_data) + 40
    path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    refused(path, "changed or damaged since it was exported")


def test_any_changed_byte_is_one_line(written, tmp_path):
    """But for those of the few fields that mean nothing, such as the name of the exporter."""
    raw, draws, path = written.read_bytes(), np.random.default_rng(0), tmp_path / "model.onnx"
    found = 0
    for _ in range(60):
        changed = bytearray(raw)
        for place in draws.integers(0, len(raw), 3):
            changed[place] = draws.integers(0, 256)
        path.write_bytes(bytes(changed))
        with contextlib.suppress(InputError):
            read_onnx(path)
            found -= 1
        found += 1
    assert found > 50


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "other"}, "not an ONNX file that supernet-export has written"),
        ({"version": 9}, "version 9 of the file; this supernet reads 1"),
        ({"classes": None}, "damaged"),
        ({"classes": ["a", "b"]}, "does not take the images"),
        ({"shape": [1, 8]}, "damaged"),
        ({"shape": [3, 8, 8]}, "do not go together"),
        ({"normalisation": {"mean": [0.5], "std": [0.0]}}, "std="),
        ({"preparation": {"white": "x"}}, "white='x'"),
        ({"genotype": {}}, "not a genotype"),
        ({"space": {"name": "darts", "settings": {}}}, "its genotype is of space 'nasbench201', not of 'darts'"),
    ],
)
def test_other_descriptions_are_refused(changes, says, written, tmp_path):
    class Otherwise:
        """Stands for a description when a file is written."""

        def plain(self):
            return read_onnx(written).description.plain() | changes

    (tmp_path / "model.onnx").write_bytes(described(onnx.load(written), Otherwise(), changes))
    refused(tmp_path / "model.onnx", says)


def test_other_files_are_refused(tmp_path):
    value = helper.make_tensor_value_info("x", 1, [1])
    plain = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [])
    onnx.save(helper.make_model(plain), tmp_path / "theirs.onnx")
    refused(tmp_path / "theirs.onnx", "not an ONNX file that supernet-export has written; export the model again")
    refused(tmp_path / "absent.onnx", "no such model")
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "no such model")
    json.dump({}, (tmp_path / "json.onnx").open("w"))
    refused(tmp_path / "json.onnx", "ONNX file")
