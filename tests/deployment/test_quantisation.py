"""Eight bits: the form that a processor is fast with, where it applies, and what stays of the answers."""

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import supernet
from supernet import export
from supernet.deployment.answers import SeveralLabels
from supernet.deployment.deployable import Deployable
from supernet.deployment.exporting import training_pixels
from supernet.deployment.onnx_graphs import onnx_graph, session
from supernet.deployment.quantisation import Int8, quantised
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage

SHAPE = (1, 8, 8)


@pytest.mark.parametrize(
    ("machine", "flags", "form"),
    [
        ("x86_64", "flags\t: sse2 avx2 avx512_vnni", Int8("uint8")),
        ("AMD64", "flags: avx2 avx_vnni", Int8("uint8")),
        ("x86_64", "flags: avx2 avx512f", Int8("uint8", reduced=True)),
        ("x86_64", "", Int8("uint8", reduced=True)),  # not known: the form that is safe on all of them
        ("aarch64", "Features : asimddp i8mm", Int8("int8")),
        ("arm64", "", Int8("int8")),
    ],
)
def test_the_fast_form_of_a_processor(machine, flags, form):
    assert Int8.for_processor(machine, flags) == form


@pytest.fixture(scope="module")
def data():
    return supernet.data.digits()


@pytest.fixture(scope="module")
def original(data):
    """A trained network: with random weights, rounding means more than the image."""
    first, second = (Stage((c,), stride=s, expansions=(3,), activations=("relu6",)) for c, s in ((16, 1), (32, 2)))
    space = Mobile((first, second), stem=16, stem_stride=1, head=64, stem_activation="relu6", head_activation="relu6")
    return supernet.train(supernet.random_cell(space, 0, 0), space, data, epochs=4)


@pytest.fixture(scope="module")
def float32(original):
    return onnx_graph(Deployable(original.network, original.augmentation), SHAPE)


def weights(graph):
    return {each.name: numpy_helper.to_array(each) for each in graph.graph.initializer}


@pytest.mark.parametrize("form", [Int8("uint8"), Int8("int8"), Int8("uint8", reduced=True)], ids=str)
def test_operations_are_quantised_in_the_form_that_was_asked_for(form, data, float32):
    before = float32.SerializeToString()
    made = quantised(float32, training_pixels(data, 64), form)
    assert float32.SerializeToString() == before
    known = weights(made)
    of_weights = [known[n.input[0]] for n in made.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in known]
    of_weights = [w for w in of_weights if w.dtype == np.int8]
    assert len(of_weights) >= 8
    assert max(abs(int(w.min())) for w in of_weights) == (64 if form.reduced else 127)
    signs = {str(known[n.input[2]].dtype) for n in made.graph.node if n.op_type == "QuantizeLinear"}
    assert signs == {form.activations}
    scales = [known[n.input[1]].size for n in made.graph.node if n.op_type == "DequantizeLinear"]
    assert 48 in scales  # one for each channel of an expansion
    dequantised = {name for node in made.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    convolutions = [node for node in made.graph.node if node.op_type in ("Conv", "Gemm")]
    assert all(set(node.input[:2]) <= dequantised for node in convolutions)
    (first,) = [node for node in made.graph.node if "images" in node.input]
    assert first.op_type == "Mul"  # the normalisation stays as it is
    (last,) = [node for node in made.graph.node if "probabilities" in node.output]
    assert last.op_type == "Softmax"


@pytest.mark.parametrize("form", [Int8("uint8"), Int8("int8"), Int8("uint8", reduced=True)], ids=str)
def test_what_is_rounded_to_8_bits_answers_nearly_the_same(form, data, original, float32):
    made = quantised(float32, training_pixels(data, 256), form)
    images = data.train.raw(torch.arange(200)).float()
    (answers,) = session(made.SerializeToString()).run(None, {"images": images.numpy()})
    expected = original.probabilities(images).numpy()
    assert 1e-4 < np.abs(answers - expected).mean() < 0.02  # rounded, and no more
    assert (answers.argmax(1) == expected.argmax(1)).mean() > 0.95


@pytest.mark.slow
def test_a_file_of_8_bits_is_read_and_says_what_it_is(data, original, tmp_path):
    written = export(original, tmp_path / "model.onnx", int8=True, activations="int8", data=data)
    assert (written.precision, written.activations) == ("int8", "int8")
    again = supernet.load(written.path)
    assert {k: again.about[k] for k in ("activations", "precision", "calibration images")} == {
        "activations": "int8",
        "precision": "int8",
        "calibration images": 512,
    }
    assert again.classes == original.classes
    assert written.same > 0.9
    chosen = [export(original, tmp_path / f"{n}.onnx", int8=True, data=data) for n in "ab"]
    assert chosen[0].activations == Int8.for_this_processor().activations
    raw = [each.path.read_bytes() for each in chosen]
    assert raw[0] == raw[1]
    assert b"/tmp" not in raw[0]
    assert onnx.load(written.path).opset_import[0].version == 20


@pytest.mark.slow
def test_several_labels_agree_where_the_same_ones_reach_their_thresholds(data, original, tmp_path):
    several, agreement = copy.copy(original), {}
    for threshold in (0.0, 0.5, 1.0):
        several.answer = SeveralLabels(thresholds=(threshold,) * len(original.classes))
        written = export(several, tmp_path / f"{threshold}.onnx", int8=True, activations="int8", data=data)
        agreement[threshold] = written.same
    assert agreement[0.0] == agreement[1.0] == 1  # all labels, and none
    assert 0 < agreement[0.5] < 1
