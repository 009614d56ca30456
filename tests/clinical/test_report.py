import copy
import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from supernet.clinical.report import ClinicalReport, report
from supernet.clinical.scores import Scores
from supernet.runtime.errors import InputError


def binary(seed: int, images: int = 120) -> Scores:
    draws = np.random.default_rng(seed)
    labels = (draws.random(images) < 0.6).astype(int)
    return Scores(draws.normal(size=(images, 2)) * 2 + 3 * np.eye(2)[labels], labels)


def several(seed: int, images: int = 120) -> Scores:
    draws = np.random.default_rng(seed)
    labels = (draws.random((images, 3)) < 0.3).astype(int)
    logits = draws.normal(size=(images, 3)) + labels
    labels[:20, 0] = -1
    labels[:, 2] = 0  # no image has the last
    return Scores(logits, labels)


BINARY = report(binary(0), binary(1), ("normal", "pneumonia"), replicates=50)
SEVERAL = report(several(0), several(1), ("a", "b", "c"), replicates=50)


def test_two_classes_are_one_question():
    (only,) = BINARY.classes
    test = binary(1)
    margin = test.logits[:, 1] - test.logits[:, 0]
    assert only.name == "pneumonia"
    assert only.auroc.value == pytest.approx(roc_auc_score(test.labels, margin))
    assert BINARY.macro_auroc == only.auroc
    assert BINARY.macro_average_precision == only.average_precision.value
    assert BINARY.accuracy.value == accuracy_score(test.labels, margin > 0)
    assert (only.test_images, only.test_positives) == (120, test.labels.sum())


def test_thresholds_come_from_validation_alone():
    """Other test images, and nothing that was fitted changes."""
    other = report(binary(0), binary(2), ("normal", "pneumonia"), replicates=50)
    assert other.calibration == BINARY.calibration
    for one, two in zip(other.classes[0].points, BINARY.classes[0].points, strict=True):
        assert (one.log_odds, one.valid) == (two.log_odds, two.valid)
        assert one.test != two.test
    specific, sensitive, half = BINARY.classes[0].points
    assert specific.valid.specificity.value >= 0.95
    assert sensitive.valid.sensitivity.value >= 0.95
    assert half.probability == 0.5


def test_unknown_labels_are_left_out_and_what_is_not_defined_is_none():
    first, second, last = SEVERAL.classes
    assert (first.test_images, second.test_images) == (100, 120)
    assert (last.auroc, last.auroc_bootstrap, last.average_precision) == (None, None, None)
    assert last.points[1].log_odds is None, "no image tells the sensitivity"
    assert last.brier.after is not None
    assert SEVERAL.accuracy is None
    test = several(1)
    known = test.labels[:, 0] >= 0
    areas = [
        roc_auc_score(test.labels[known, 0], test.logits[known, 0]),
        roc_auc_score(test.labels[:, 1], test.logits[:, 1]),
    ]
    assert SEVERAL.macro_auroc.value == pytest.approx(np.mean(areas))
    assert SEVERAL.macro(lambda c: None if c.auroc is None else c.auroc.value) == pytest.approx(np.mean(areas))


@pytest.mark.parametrize("made", [BINARY, SEVERAL])
def test_json_and_back(made):
    text = made.to_json()
    assert ClinicalReport.from_json(text) == made
    assert "NaN" not in text


def damaged(content: dict) -> list[dict]:
    """The same, each with one value that is of another kind, missing, or out of its range."""
    found = []

    def walk(node, path):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            for wrong in ("x", -1, float("nan"), [], {}, 10**400):
                other = copy.deepcopy(content)
                inner = other
                for step in path:
                    inner = inner[step]
                inner[key] = wrong
                found.append(other)
            if isinstance(node[key], dict | list):
                walk(node[key], (*path, key))

    walk(content, ())
    return found


def test_damage_is_one_line_or_a_report():
    """Whatever a file holds: no other exception, and what is read has numbers for numbers."""
    refused = []
    for content in damaged(SEVERAL.plain() | {"classes": SEVERAL.plain()["classes"][:1]}):
        try:
            read = ClinicalReport.from_plain(content, "model.safetensors")
        except InputError as error:
            refused.append(str(error))
        else:
            read.to_json()
    assert len(refused) > 100
    assert all(line.startswith("model.safetensors: ") and "\n" not in line for line in refused)
    for text in ("", "[]", "null", "3", "[" * 100_000, '{"version": 2}'):
        with pytest.raises(InputError):
            ClinicalReport.from_json(text)


def test_a_name_from_a_file_cannot_write_to_the_terminal():
    content = json.loads(BINARY.to_json())
    content["classes"][0]["name"] = "a\x1b[31m\nb"
    assert ClinicalReport.from_plain(content).classes[0].name == "a\\x1b[31m\\nb"


@pytest.mark.parametrize(
    ("valid", "test", "classes", "said"),
    [
        (Scores(np.zeros((0, 2)), np.zeros(0, dtype=int)), binary(1), ("a", "b"), "valid: has no images"),
        (binary(0), binary(1), ("a", "b", "c"), "valid: has 2 outputs for 3 classes"),
        (binary(0), Scores(np.zeros((1, 2)), [[0, 1]]), ("a", "b"), "one has a label and the other several"),
    ],
)
def test_what_does_not_fit_is_one_line(valid, test, classes, said):
    with pytest.raises(InputError, match=said):
        report(valid, test, classes)


def test_the_accuracy_is_of_what_the_calibrated_model_answers():
    """Logits that a correction has shifted: the bias moves them back, and with it the most likely class."""

    def shifted(scores: Scores) -> Scores:
        return scores.with_logits(scores.logits + np.array([3.0, 0.0]))

    made = report(shifted(binary(0)), shifted(binary(1)), ("normal", "pneumonia"), bias=True, replicates=50)
    test = shifted(binary(1))
    calibrated = made.calibration.applied(test.logits)
    assert made.accuracy.value == accuracy_score(test.labels, calibrated.argmax(1))
    assert made.accuracy.value > accuracy_score(test.labels, test.logits.argmax(1)) + 0.1
