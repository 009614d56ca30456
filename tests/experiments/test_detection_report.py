import io
import json
import math

import numpy as np
import pytest
import torch
from boxed import drawn, parts_of, write_voc
from PIL import Image
from supernet.experiments.detection_page import Curve, page
from supernet.experiments.detection_report import confident, plain

import supernet as library
from supernet.deployment.answers import Objects, OneLabel
from supernet.detection.average_precision import average_precision
from supernet.detection.decoding import Detections
from supernet.runtime.report import RunReport


def small(root, *more):
    """Words for a run of a few seconds that finds objects."""
    sizes = ["space.channels=4", "space.cells=3", "space.nodes=2", "retrain.network.darts={channels: 4, cells: 3}"]
    search = ["search.epochs=1", "search.warm_up=0", "search.schedule.warm_up=0", "search.batch_size=4"]
    retrain = ["retrain.epochs=1", "retrain.schedule.warm_up=0", "retrain.batch_size=4"]
    others = ["data.size=[32,64]", "runtime.threads=1", "task.width=8", "task.towers=1"]
    return [
        "experiment=detection",
        "data=voc",
        f"data.path={root}",
        *sizes,
        *search,
        *retrain,
        *others,
        *more,
    ]


def test_a_run_that_finds_objects(supernet, tmp_path, monkeypatch):
    figures = {}
    monkeypatch.setattr(RunReport, "figure", lambda _, tag, draw, step: figures.update({tag: draw}))
    root = write_voc(tmp_path / "cells", parts_of(drawn(14)))
    code, printed = supernet(*small(root))
    assert code == 0, printed
    assert "map50" in printed
    assert "detection.html" in printed
    (run,) = (path.parent for path in tmp_path.glob("runs/*/*/.hydra"))
    report, summary = (json.loads((run / name).read_text()) for name in ("detection.json", "summary.json"))
    assert list(report) == [f["name"] for f in summary["finalists"]] == ["searched", "random 0"]
    for found in summary["finalists"]:
        own = report[found["name"]]
        assert own["test"]["map50_95"] == pytest.approx(found["test_score"], abs=1e-6)
        assert own["test"]["map50"] == pytest.approx(found["test_others"]["map50"], abs=1e-6)
        assert own["validation"]["map50_95"] == pytest.approx(found["valid_score"], abs=1e-6)
        assert list(own["test"]["classes"]) == ["cell", "dot", "rod"]
    text, html = (run / "detection.md").read_text(), (run / "detection.html").read_text()
    assert "## Validation" in text
    assert "| searched |" in text
    assert html.count("<svg") == 3
    assert html.count("data:image/jpeg;base64,") == 2
    assert "<script" not in html
    assert {"detection/test (there, found)", "detection/validation (there, found)"} <= set(figures)
    drawing = io.BytesIO()
    figures["detection/test (there, found)"]().savefig(drawing, format="png")
    assert Image.open(drawing).size == (4 * 6 * 64 + 8, 2 * (6 * 32 + 8)), "four pairs, six times as large"
    model = library.load(run)
    assert model(str(root / "JPEGImages" / "train_0.png"))[0].boxes.xyxy.shape[1] == 4
    assert model.report == report["searched"]
    assert model.answer == confident(model.answer, model.report, model.classes)
    assert len(model.answer.conf) == 3


def test_figures_of_what_was_not_there_are_null():
    truth = torch.tensor([[0.0, 0, 0, 8, 8, 0, 64]])
    found = Detections(torch.tensor([[0.0, 0, 8, 6]]), torch.tensor([0.9]), torch.tensor([0]))
    figures = plain(average_precision([found], [truth], 2), ("cell", "dot"))
    assert figures["map50"] == 1.0
    assert figures["large"] is None
    assert figures["classes"]["cell"] == {
        "truths": 1,
        "ap50_95": pytest.approx(0.6),
        "ap50": 1.0,
        "precision": 1.0,
        "recall": 1.0,
        "confidence": pytest.approx(0.9),
    }
    assert figures["classes"]["dot"] == {
        "truths": 0,
        "ap50_95": None,
        "ap50": None,
        "precision": None,
        "recall": None,
        "confidence": None,
    }
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_the_page_shows_names_and_runs_nothing():
    evil = "<script>alert(1)</script>"
    curve = Curve(evil, np.linspace(1, 0, 101), 0.5)
    none = Curve("none", np.full(101, math.nan), math.nan)
    text = page(evil, [(evil, (evil,), [[evil]])], {evil: [curve, none], "empty": [none]}, {evil: "AAAA"})
    assert "<script" not in text
    assert text.count("&lt;script") == 10
    assert text.count("<polyline") == 1
    assert "nan" not in text.casefold()
    assert "no objects to be found" in text


def test_a_model_shows_objects_from_the_confidences_of_the_validation_images_on():
    own = {name: {"confidence": best} for name, best in {"a": 0.6, "b": None, "c": 0.0}.items()}
    figures = {"validation": {"classes": own}}
    answer = confident(Objects(), figures, ("c", "a", "b"))
    assert answer.conf == (0.05, 0.6, 0.25)
    assert confident(Objects(), {"test": {}}, ("a",)) == Objects()  # those of the test choose nothing
    assert confident(OneLabel(), figures, ("a",)) == OneLabel()
