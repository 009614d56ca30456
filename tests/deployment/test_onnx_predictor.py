"""The predictor around an ONNX file takes what the one around a network takes, and answers the same."""

import numpy as np
import pytest
import torch
from exported import NAMES, data_for, model, pictures, rewritten
from onnx import numpy_helper
from PIL import Image

import supernet
from supernet import Darts, InputError, export
from supernet.deployment.answers import Objects, SeveralLabels


@pytest.fixture(scope="module")
def original():
    return model(supernet.spaces.micro(), (3, 8, 10))


@pytest.fixture(scope="module")
def written(original, tmp_path_factory):
    return export(original, tmp_path_factory.mktemp("file") / "model.onnx").path


@pytest.fixture(scope="module")
def both(original, written):
    return original, supernet.load(written)


def test_all_forms_of_images_have_the_same_answers(both, tmp_path):
    original, exported = both
    draws = np.random.default_rng(0)
    Image.fromarray(draws.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(draws.integers(0, 256, (9, 9, 4), dtype=np.uint8)).save(tmp_path / "b.png")  # transparent
    tensor = pictures(3, (3, 8, 10))
    forms = [tmp_path, str(tmp_path / "a.png"), Image.open(tmp_path / "b.png"), tensor, tensor / 255, tensor[0]]
    forms += [tensor.permute(0, 2, 3, 1).numpy(), torch.full((1, 40, 33), 100, dtype=torch.uint8), [tensor[1], tensor]]
    for form in forms:
        ours, theirs = original(form), exported(form)
        assert [(r.names, r.path) for r in ours] == [(r.names, r.path) for r in theirs]
        for one, two in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one.probs.data, two.probs.data, rtol=0, atol=2e-5)
    assert exported([]) == exported(torch.zeros(0, 3, 8, 10)) == []
    assert len(exported(pictures(300, (3, 8, 10)))) == 300


def test_mistakes_are_those_of_the_other(both):
    for wrong in (torch.zeros(3, 8, 10) - 1, "absent.png", torch.zeros(2, 8, 10)):
        says = []
        for use in both:
            with pytest.raises(InputError) as error:
                use(wrong)
            says.append(str(error.value))
        assert says[0] == says[1]


def test_it_is_judged_as_the_original(both):
    original, exported = both
    ours, theirs = (supernet.judge(each, data_for(original)) for each in both)
    assert ours.score == theirs.score == 1.0
    assert ours.others == theirs.others
    assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
    assert repr(exported) == f"OnnxPredictor(float32, {len(NAMES)} classes, images (3, 8, 10), {original.provenance})"


def test_the_timed_program_runs_the_graph(both):
    pixels = pictures(2, (3, 8, 10)).float()
    (answers,) = both[1].program(pixels)()
    assert np.array_equal(answers, both[1].probabilities(pixels).numpy())


def huge(graph):
    for weight in (each for each in graph.graph.initializer if each.data_type == 1 and len(each.dims) > 1):
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1e30), weight.name))


def without_softmax(graph):
    node = next(node for node in graph.graph.node if node.op_type == "Softmax")
    node.op_type = "Sigmoid"
    del node.attribute[:]


def raw_scores(graph):
    node = next(node for node in graph.graph.node if node.op_type == "Softmax")
    node.op_type = "Identity"
    del node.attribute[:]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (huge, "infinite values or none"),
        (without_softmax, "values whose sum is .* off 1"),
        (raw_scores, "values from -"),
    ],
)
def test_answers_that_are_no_probabilities_are_refused(written, change, says, tmp_path):
    forged = supernet.load(rewritten(written, change, tmp_path / "forged.onnx"))
    for use in (forged, lambda images: forged.probabilities(images.float())):
        with pytest.raises(
            InputError, match=rf"forged\.onnx: answers with {says}.*, which are no probabilities"
        ) as error:
            use(pictures(4, (3, 8, 10)))
        assert "\n" not in str(error.value)


def test_so_are_those_of_a_network(tmp_path):
    original = model(Darts(4, 3), (3, 8, 10))
    with torch.no_grad():
        original.network.classifier.bias.fill_(float("nan"))
    with pytest.raises(InputError, match="model: answers with infinite values or none"):
        original(pictures(4, (3, 8, 10)))


def test_several_labels_leave_as_they_are(tmp_path):
    original = model(supernet.spaces.micro(), (1, 8, 8))
    original.answer = SeveralLabels(2.0, (0.1, 0.0, -0.1, 0.0), (0.4, 0.5, 0.6, 0.7))
    exported = supernet.load(export(original, tmp_path / "model.onnx").path)
    assert exported.answer == original.answer
    images = pictures(5, (1, 8, 8))
    for one, two in zip(original(images), exported(images), strict=True):
        torch.testing.assert_close(one.probs.data, two.probs.data, rtol=0, atol=2e-5)
        assert one.probs.thresholds == two.probs.thresholds
    assert exported(images, conf=0.0)[0].probs.present == [0, 1, 2, 3]
    with pytest.raises(InputError, match="needs a model of PyTorch"):
        exported(images)[0].explain()


def test_a_detector_stays_here(tmp_path):
    original = model(supernet.spaces.micro(), (1, 8, 8))
    original.answer = Objects()
    for name, format in (("model.onnx", "onnx"), ("model.pt2", "pt2")):
        with pytest.raises(InputError) as error:
            export(original, tmp_path / name, format=format)
        assert str(error.value) == (
            "model: a detector, and an exported file gives probabilities of classes and no boxes; use its "
            "model.safetensors by supernet-predict, or supernet.load in Python"
        )
    assert list(tmp_path.iterdir()) == []
