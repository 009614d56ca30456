"""The clinical report of a run: what is written, from which images, and what goes into the model's file."""

import io
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from common import composed, tiny
from rich.console import Console
from supernet.experiments import clinical_report
from supernet.experiments.job import prepare
from supernet.experiments.schema import checked
from torch import nn

import supernet as library
from supernet.clinical.report import ClinicalReport, report
from supernet.clinical.scores import Scores
from supernet.deployment.answers import ONE_LABEL, Objects, SeveralLabels
from supernet.deployment.values import Probabilities
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Two classes that differ in brightness, with validation images."""
    draws, arrays = np.random.default_rng(0), {}
    for part, count in (("train", 60), ("val", 40), ("test", 50)):
        labels = np.arange(count) % 2
        pixels = draws.integers(0, 150, (count, 6, 6)) + 40 * labels[:, None, None]
        arrays |= {f"{part}_images": pixels.astype(np.uint8), f"{part}_labels": labels}
    path = tmp_path_factory.mktemp("films") / "films.npz"
    np.savez(path, **arrays)
    return path


class Bright(nn.Module):
    """Says how bright an image is."""

    def __init__(self, outputs: int = 2, gain: float = 3.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.outputs = outputs

    def forward(self, x):
        return torch.stack([n * self.gain * x.mean((1, 2, 3)) for n in range(self.outputs)], 1)


def job_of(images, folder, *words: str):
    before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    try:
        settings = composed(*tiny(images), "runtime.progress=false", *words)
        return prepare(settings, folder, Interruption())
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads)


NETWORKS = {"searched": Bright(), "random 0": Bright(gain=-1.0)}


@pytest.fixture(scope="module")
def written(films, tmp_path_factory):
    job = job_of(films, tmp_path_factory.mktemp("run"))
    test = job.data.test.open()
    clinical_report.keep_answers(job, NETWORKS, test)
    return job, test, clinical_report.write_reports(job, NETWORKS)


def test_what_is_written_is_what_the_networks_say(written):
    job, test, reports = written
    found = {path.name for path in job.directory.iterdir()}
    assert {"answers.npz", "clinical.json", "clinical.md", "clinical.html"} <= found
    kept = np.load(job.directory / "answers.npz")
    with torch.no_grad():
        logits = NETWORKS["searched"](job.data.augmentation.normalise(test.raw(torch.arange(len(test)))))
    assert kept["test/searched"] == pytest.approx(logits.numpy(), abs=1e-5)
    assert kept["test/labels"].tolist() == test.labels.tolist()
    assert len(kept["valid/random 0"]) == 40
    read = json.loads((job.directory / "clinical.json").read_text())
    assert {name: ClinicalReport.from_plain(each) for name, each in read.items()} == reports
    areas = {name: each.macro_auroc.value for name, each in reports.items()}
    assert areas["random 0"] == pytest.approx(1 - areas["searched"])
    text = (job.directory / "clinical.md").read_text()
    assert "not for clinical use" in text
    assert "searched less" in text
    assert str(reports["searched"].macro_auroc) in text


def test_an_interrupted_run_makes_the_same_report_of_what_was_kept(written, monkeypatch):
    job, _, reports = written
    page = (job.directory / "clinical.html").read_bytes()
    monkeypatch.setattr(clinical_report, "answers", lambda *_, **__: pytest.fail("the networks are asked again"))
    assert clinical_report.write_reports(job, NETWORKS) == reports
    assert (job.directory / "clinical.html").read_bytes() == page


@pytest.mark.parametrize(("patients", "said"), [(None, False), (60, False), (20, True)])
def test_the_report_says_where_images_are_not_independent(written, tmp_path, patients, said):
    job, *_ = written
    (tmp_path / "answers.npz").write_bytes((job.directory / "answers.npz").read_bytes())
    groups = None if patients is None else torch.arange(60) % patients
    clinical_report.write_reports(replace(job, directory=tmp_path, data=replace(job.data, groups=groups)), NETWORKS)
    for name in ("clinical.md", "clinical.html"):
        assert ("the intervals are too narrow" in (tmp_path / name).read_text()) == said


def test_the_terminal_shows_names_as_they_are(written):
    _, _, reports = written
    console = Console(width=80, file=io.StringIO())
    clinical_report.show(console, {"[red]x": reports["searched"]})
    printed = console.file.getvalue()
    assert "[red]x" in printed
    assert "not for clinical use" in " ".join(printed.split())
    assert max(map(len, printed.splitlines())) <= 80


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_a_damaged_record_is_one_line(written, tmp_path, content):
    job, _, _ = written
    (tmp_path / "answers.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"answers\.npz: is not what this run wrote"):
        clinical_report.write_reports(replace(job, directory=tmp_path), NETWORKS)


def test_objects_in_a_record_are_not_read(written, tmp_path):
    job, _, _ = written
    np.savez(tmp_path / "answers.npz", **{"valid/labels": np.array([{}], dtype=object), "test/labels": np.zeros(1)})
    with pytest.raises(InputError, match="is not what this run wrote"):
        clinical_report.write_reports(replace(job, directory=tmp_path), NETWORKS)


@pytest.mark.parametrize(
    ("kind", "classes", "setting", "made"),
    [
        ("classes", 2, None, True),
        ("classes", 3, None, False),
        ("labels", 3, None, True),
        ("boxes", 2, None, False),
        ("boxes", 2, True, False),
        ("classes", 3, True, True),
        ("classes", 2, False, False),
    ],
)
def test_when_a_report_is_made(kind, classes, setting, made):
    data = SimpleNamespace(kind=kind, classes=["x"] * classes)
    assert clinical_report.wanted(SimpleNamespace(data=data, settings={"clinical": setting})) is made


def test_of_boxes_a_report_that_is_asked_for_is_refused():
    data = SimpleNamespace(name="cells", kind="boxes", classes=["x"])
    job = SimpleNamespace(data=data, settings={"clinical": True}, retrain_recipe=None)
    with pytest.raises(InputError, match=r"clinical=true: cells has boxes of objects.*leave it out.*detection\.md"):
        clinical_report.check(job)
    for setting in (None, False):
        clinical_report.check(SimpleNamespace(data=data, settings={"clinical": setting}))


def test_without_images_to_choose_by_there_is_none(images, tmp_path, capsys):
    job = job_of(images, tmp_path, "clinical=true", "retrain_valid=0")
    clinical_report.check(job)
    (line,) = capsys.readouterr().err.splitlines()
    assert "no clinical report: its thresholds need validation images" in line
    assert "retrain_valid=0.1" in line
    clinical_report.keep_answers(job, {"searched": Bright(3)}, job.data.test.open())
    assert clinical_report.write_reports(job, ["searched"]) == {}
    held = job_of(images, tmp_path, "clinical=true", "retrain_valid=0.2")
    assert len(clinical_report.validation(held)) == 18
    clinical_report.check(held)
    assert capsys.readouterr().err == ""


def test_a_model_answers_with_calibrated_probabilities(written):
    _, _, reports = written
    found = clinical_report.calibrated(ONE_LABEL, reports["searched"])
    assert found.temperature == reports["searched"].calibration.temperature != 1.0
    assert clinical_report.calibrated(ONE_LABEL, None) is ONE_LABEL
    several = clinical_report.calibrated(SeveralLabels(), reports["searched"])
    assert several.bias == reports["searched"].calibration.bias
    (known,) = reports["searched"].classes
    (log_odds,) = [point.log_odds for point in known.points if point.aim == "specificity"]
    assert several.thresholds == pytest.approx([1 / (1 + math.exp(-log_odds))], rel=2e-5)
    nothing = replace(known, points=())
    assert clinical_report.calibrated(SeveralLabels(), replace(reports["searched"], classes=(nothing,))).thresholds == (
        0.5,
    )
    assert clinical_report.calibrated(Objects(), reports["searched"]) == Objects()


def test_a_run_keeps_it_in_the_model(films, tmp_path, supernet):
    """The thresholds of the file are of the probabilities that the model gives."""
    code, printed = supernet(*tiny(films), "baseline.random=0", "task.score=auroc", f"hydra.run.dir={tmp_path}/run")
    assert code == 0, printed
    assert "Clinical figures" in printed
    assert "clinical.html" in printed
    model = library.load(tmp_path / "run")
    report = ClinicalReport.from_plain(model.report)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["score"] == "auroc"
    assert summary["finalists"][0]["test_score"] == pytest.approx(report.macro_auroc.value)
    arrays = np.load(films)
    said = [r.probs.data[1].item() for r in model(torch.from_numpy(arrays["test_images"]).unsqueeze(1))]
    named = np.array(said) >= report.classes[0].points[0].probability
    assert (
        named.sum()
        == report.classes[0].points[0].test.true_positives + report.classes[0].points[0].test.false_positives
    )


def test_a_correction_that_the_task_would_not_take_is_refused():
    settings = composed("imbalance=focal")
    assert checked(settings)["task"]["imbalance"]["gamma"] == 2.0
    del settings["task"]["imbalance"]
    with pytest.raises(InputError, match="imbalance: the task does not take one"):
        checked(settings)


def test_a_model_says_a_label_of_as_many_images_as_the_report_counts():
    """The image that has fixed a threshold is one of them, though the model's probabilities are rounded."""
    draws = np.random.default_rng(0)
    for _ in range(20):
        labels = draws.integers(0, 2, (40, 3))
        logits = (3 * draws.normal(size=(40, 3)) + labels - 5).astype(np.float32)
        made = report(Scores(logits, labels), Scores(logits, labels), "abc", replicates=2)
        answer = clinical_report.calibrated(SeveralLabels(), made)
        named = [Probabilities(row, answer.thresholds).present for row in answer.values(torch.tensor(logits))]
        for number, of_class in enumerate(made.classes):
            counts = of_class.points[0].valid
            if counts is not None:
                assert sum(number in one for one in named) == counts.true_positives + counts.false_positives
