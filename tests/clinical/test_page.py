"""The page: whole XML, nothing that runs or loads, and lines where the figures are."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from supernet.clinical.page import NOTICE, Judged, page
from supernet.clinical.report import report
from supernet.clinical.scores import Scores

EVIL = '<img src=x onerror=alert(1)>"&\n'


def judged(gain: float, outputs: int = 2, several: bool = False, seed: int = 0) -> Judged:
    draws = np.random.default_rng(seed)
    sets = []
    for images in (80, 100):
        labels = draws.integers(2, size=(images, outputs)) if several else np.arange(images) % outputs
        logits = draws.normal(size=(images, outputs)) + gain * (labels if several else np.eye(outputs)[labels])
        sets.append(Scores(logits, labels))
    names = (EVIL, *(f"class {n}" for n in range(1, outputs)))
    return Judged(report(*sets, names, replicates=20), sets[1])


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.removeprefix("<!doctype html>\n").replace('<meta charset="utf-8">', ""))


def test_it_is_whole_and_needs_nothing_else():
    text = page(EVIL, {"searched": judged(3.0), EVIL: judged(1.0)})
    root = parsed(text)
    tags = {element.tag for element in root.iter()}
    assert not tags & {"script", "img", "link", "iframe", "object", "image", "use"}
    assert not [name for e in root.iter() for name in e.attrib if name.startswith("on") or name in ("href", "src")]
    assert NOTICE in text
    assert "url(" not in text


def test_a_figure_for_each_class_with_a_line_for_each_network():
    root = parsed(page("t", {name: judged(g, 3, True) for name, g in (("searched", 3.0), ("a", 1.0), ("b", 0.5))}))
    assert len(root.findall(".//svg")) == 9
    assert len(root.findall(".//svg")[0].findall("polyline")) == 3
    assert len(root.findall(".//svg")[0].findall("circle")) == 2, "two operating points"


def test_the_roc_line_has_the_area_that_is_said():
    made = judged(2.0)
    root = parsed(page("t", {"searched": made}))
    (line,) = root.find(".//svg").findall("polyline")
    points = np.array([[float(v) for v in pair.split(",")] for pair in line.attrib["points"].split()])
    (left, bottom), (right, top) = points[0], points[-1]
    across, up = (points[:, 0] - left) / (right - left), (points[:, 1] - bottom) / (top - bottom)
    assert np.trapezoid(up, across) == pytest.approx(made.report.macro_auroc.value, abs=2e-3)
    assert f"searched .{round(made.report.macro_auroc.value * 1000)}" in "".join(root.itertext())


def test_a_class_without_images_has_axes_and_no_line():
    nothing = Scores(np.zeros((5, 2)), [[0, 1]] * 5)
    root = parsed(page("t", {"searched": Judged(report(nothing, nothing, ("a", "b"), replicates=2), nothing)}))
    assert root.find(".//svg").findall("polyline") == []
    assert [cell.text for cell in root.findall(".//td")][1:3] == ["-"] * 2


def test_lines_stay_short_for_large_sets():
    draws = np.random.default_rng(0)
    labels = draws.integers(2, size=20_000)
    scores = Scores(np.stack((np.zeros(20_000), draws.normal(size=20_000) + labels), 1), labels)
    assert len(page("t", {"searched": Judged(report(scores, scores, "ab", replicates=1), scores)})) < 40_000
    assert re.search(r"20,000", page("t", {"searched": Judged(report(scores, scores, "ab", replicates=1), scores)}))
