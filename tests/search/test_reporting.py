"""What is reported at the end of an epoch, and what a search remembers of it."""

import math
from types import SimpleNamespace

import pytest
import torch

from supernet.estimation.scores import Measured
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.search.reporting import SearchRecord, report_epoch
from supernet.search.strategy import Strategy
from supernet.space.architecture import Architecture, Decision
from supernet.training.meters import Averages
from supernet.training.tasks import Classification

TRAIN, VALID = Averages(2.0, 0.25, 64), Averages(2.5, 0.125, 32, {"balanced_accuracy": 0.5}, 0.1)
OPTIONS = ("skip_connect", "conv")
DECISIONS = {
    "normal/1": Decision("normal/1", ("0",), 1, "inputs", "normal"),
    "normal/1/0": Decision("normal/1/0", OPTIONS, group="normal", when=(("normal/1", ("0",)),)),
    "reduce/1": Decision("reduce/1", ("0",), 1, "inputs", "reduce"),
    "reduce/1/0": Decision("reduce/1/0", ("conv",), group="reduce", when=(("reduce/1", ("0",)),)),
}
WEIGHTS = {"normal/1/0": torch.tensor([0.25, 0.75], dtype=torch.float64), "reduce/1/0": torch.ones(1)}


class Fixed(Strategy):
    space, decisions = "mine", DECISIONS

    def __init__(self, kept="skip_connect"):
        self.kept = kept

    def sample(self, step):
        return WEIGHTS

    def expected(self):
        return WEIGHTS

    def finish(self, score=None):
        edges = {"normal/1/0": (self.kept,), "reduce/1/0": ("conv",)}
        return Architecture("mine", {"normal/1": ("0",), "reduce/1": ("0",), **edges})

    def measures(self):
        return {"alpha/mine": 7.0}


class Noted(Silent):
    def __init__(self):
        self.values, self.lines, self.pictures, self.texts, self.tables = [], [], [], [], []

    def scalars(self, values, step):
        self.values.append((step, dict(values)))

    def line(self, message):
        self.lines.append(message)

    def figure(self, tag, draw, step):
        self.pictures.append(tag)

    def histogram(self, tag, values, step):
        self.tables.append((tag, values.tolist()))

    def text(self, tag, text, step=0):
        self.texts.append(text)


def reported(record, strategy, **more):
    report = Noted()
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.5)
    epochs = SimpleNamespace(step=9, epoch=3, epochs=10, images_per_second=50.0, seconds_left=12.4, optimizer=optimizer)
    problem = SimpleNamespace(run=Run(report=report), task=Classification())
    report_epoch(record, epochs, strategy, problem, more.pop("more", {}), **more)
    return report


def closed() -> SearchRecord:
    record = SearchRecord()
    record.close(TRAIN, VALID)
    return record


def test_scalars_by_hand():
    ((step, values),) = reported(closed(), Fixed(), more={"collapse/gap": 0.5}).values
    assert step == 9
    assert values.pop("sys/memory_gb") > 0
    entropy = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert values == {
        "search/loss/train": 2.0,
        "search/loss/valid": 2.5,
        "search/accuracy/train": 0.25,
        "search/accuracy/valid": 0.125,
        "search/balanced_accuracy/valid": 0.5,
        "lr/weights": 0.5,
        "sys/images_per_second": 100.0,  # of both halves
        "alpha/mine": 7.0,
        "collapse/gap": 0.5,
        "alpha/entropy/normal": pytest.approx(entropy),
        "alpha/skip_count/normal": 1,
    }


def test_what_is_decided_already_has_no_picture():
    report = reported(closed(), Fixed())
    assert report.pictures == ["alpha/normal", "genotype/normal"]
    assert report.tables == [("alpha_histogram/normal", [[0.25, 0.75]])]


def test_a_genotype_is_drawn_where_it_is_new():
    record = closed()
    first, second, third = (reported(record, Fixed(kept)) for kept in ("conv", "conv", "skip_connect"))
    told = "search   3/10  train loss 2.000 accuracy 0.250  valid 0.125  12 s left"
    assert [report.lines for report in (first, second, third)] == [
        [f"{told}  new genotype"],
        [told],
        [f"{told}  new genotype"],
    ]
    assert second.pictures == ["alpha/normal"]
    assert second.texts == []
    assert third.texts == [f"```json\n{Fixed().finish().to_json()}```"]
    assert record.genotype == Fixed().finish().to_json()


def test_what_is_known_of_the_current_architecture_is_reported():
    asked = []

    def truth(architecture):
        asked.append(architecture)
        return Measured({"top": 91.5, "unknown": math.nan})

    ((_, values),) = reported(closed(), Fixed(), truth=truth).values
    assert values["table/top"] == 91.5
    assert math.isnan(values["table/unknown"])
    assert asked == [Fixed().finish()]


def test_the_record_goes_through_a_checkpoint():
    record, twin = closed(), SearchRecord()
    record.genotype = "text"
    twin.load_state_dict(record.state_dict())
    assert twin == record
    assert twin.valid == VALID
    assert SearchRecord() == SearchRecord(Averages(0.0, 0.0, 0), Averages(0.0, 0.0, 0), "")
