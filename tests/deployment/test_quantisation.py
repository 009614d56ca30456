"""Eight bits: the form that a processor is fast with, where it applies, and what stays of the answers."""

import numpy as np
import onnx
import pytest
import torch
from exported import data_for, model, pictures
from onnx import numpy_helper

import supernet
from supernet import export
from supernet.deployment.deployable import Deployable
from supernet.deployment.onnx_graphs import onnx_graph, session
from supernet.deployment.quantisation import Int8, quantised
from supernet.space.mobile import Mobile, Stage

SHAPE = (3, 16, 16)


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
def original():
    stage = Stage((16,), depths=(2,), stride=2, activations=("relu6",))
    return model(Mobile((stage, stage), stem=8, head=32, stem_activation="relu6", head_activation="relu6"), SHAPE)


@pytest.fixture(scope="module")
def float32(original):
    return onnx_graph(Deployable(original.network, original.augmentation), SHAPE)


def weights(graph):
    return {each.name: numpy_helper.to_array(each) for each in graph.graph.initializer}


@pytest.mark.parametrize("form", [Int8("uint8"), Int8("int8"), Int8("uint8", reduced=True)], ids=str)
def test_operations_are_quantised_in_the_form_that_was_asked_for(form, original, float32):
    before = float32.SerializeToString()
    made = quantised(float32, pictures(64, SHAPE).float(), form)
    assert float32.SerializeToString() == before
    known = weights(made)
    of_weights = [known[n.input[0]] for n in made.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in known]
    of_weights = [w for w in of_weights if w.dtype == np.int8]
    assert len(of_weights) >= 10
    assert max(abs(int(w.min())) for w in of_weights) == (64 if form.reduced else 127)
    signs = {str(known[n.input[2]].dtype) for n in made.graph.node if n.op_type == "QuantizeLinear"}
    assert signs == {form.activations}
    scales = [known[n.input[1]].size for n in made.graph.node if n.op_type == "DequantizeLinear"]
    assert 96 in scales  # one for each channel of an expansion
    dequantised = {name for node in made.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    convolutions = [node for node in made.graph.node if node.op_type in ("Conv", "Gemm")]
    assert all(set(node.input[:2]) <= dequantised for node in convolutions)
    (first,) = [node for node in made.graph.node if "images" in node.input]
    assert first.op_type == "Mul"  # the normalisation stays as it is
    (last,) = [node for node in made.graph.node if "probabilities" in node.output]
    assert last.op_type == "Softmax"


def test_each_convolution_is_near_what_its_rounded_numbers_give(original, float32):
    """Answers lie as near as half a step of each tensor allows: far nearer than chance, and not equal."""
    images = pictures(64, SHAPE).float()
    made = quantised(float32, images, Int8("uint8"))
    (answers,) = session(made.SerializeToString()).run(None, {"images": images.numpy()})
    expected = original.probabilities(images).numpy()
    difference = np.abs(answers - expected)
    assert 0 < difference.max() < 0.25
    assert difference.mean() < 0.02
    assert (answers.argmax(1) == expected.argmax(1)).mean() > 0.9


def test_a_file_of_8_bits_is_read_and_says_what_it_is(original, tmp_path):
    data = data_for(original, 96)
    written = export(original, tmp_path / "model.onnx", int8=True, activations="int8", data=data)
    assert (written.precision, written.activations) == ("int8", "int8")
    again = supernet.load(written.path)
    assert again.about["calibration images"] == 96
    assert (again.about["activations"], again.about["precision"]) == ("int8", "int8")
    assert again.classes == original.classes
    images = pictures(40, SHAPE, seed=9)
    same = [a.probs.top1 == b.probs.top1 for a, b in zip(original(images), again(images), strict=True)]
    assert sum(same) / 40 > 0.85
    assert written.same > 0.85
    chosen = export(original, tmp_path / "chosen.onnx", int8=True, data=data)
    assert chosen.activations == Int8.for_this_processor().activations
    assert torch.isfinite(supernet.load(chosen.path).probabilities(images.float())).all()
    first, second = (export(original, tmp_path / f"{n}.onnx", int8=True, data=data).path.read_bytes() for n in "ab")
    assert first == second
    assert b"/tmp" not in first
    assert onnx.load(written.path).opset_import[0].version == 20
