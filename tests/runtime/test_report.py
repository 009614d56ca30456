import csv
import io
import math

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray

from supernet.runtime.report import Report, RunReport, Silent
from supernet.runtime.tensorboard import hparams, told_once


def report(directory, name="search", terminal=False):
    stream = io.StringIO()
    return RunReport(directory, name, Console(file=stream, force_terminal=terminal, width=100)), stream


def events(directory, name="search"):
    """What the server of TensorBoard itself would show: tag -> [(step, value)]."""
    accumulator = EventAccumulator(str(directory / "tb" / name), size_guidance={"tensors": 0})
    accumulator.Reload()
    points = {
        tag: [(event.step, make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
    }
    return points, accumulator


def rows(directory, name="search"):
    with (directory / "metrics" / f"{name}.csv").open(newline="") as file:
        return list(csv.reader(file))


def drawing():
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1])
    return figure


def write(target: Report, steps):
    for step in steps:
        target.scalars({"search/loss/train": 1.0 / (step + 1), "search/loss/valid": 0.1}, step)
        target.figure("alpha/normal", drawing, step)
        target.histogram("alpha/histogram/normal", torch.arange(8.0) * step, step)
        target.text("genotype", f"step {step}", step)


def layouts(points):
    return [layout_pb2.Layout.FromString(value.item()) for _, value in points["custom_scalars__config__"]]


def test_scalars_go_to_tensorboard_and_csv(tmp_path):
    target, _ = report(tmp_path)
    target.scalars({"search/loss/train": 0.1, "search/loss/valid": torch.tensor(0.5)}, 3)
    assert rows(tmp_path) == [  # flushed, before close
        ["step", "tag", "value"],
        ["3", "search/loss/train", "0.1"],
        ["3", "search/loss/valid", "0.5"],
    ]
    target.close()
    points, _ = events(tmp_path)
    assert points["search/loss/train"] == [(3, pytest.approx(0.1))]


def test_figures_histograms_texts_and_layout_can_be_read_back(tmp_path):
    target, _ = report(tmp_path)
    write(target, range(2))
    target.close()
    points, _ = events(tmp_path)
    width, height, png = points["alpha/normal"][0][1]
    assert (width, height) == (b"200", b"100")
    assert Image.open(io.BytesIO(png)).size == (200, 100)
    step, buckets = points["alpha/histogram/normal"][1]  # rows of (left, right, count)
    assert step == 1
    assert buckets[:, 2].sum() == 8
    assert points["genotype/text_summary"][1] == (1, [b"step 1"])
    (layout,) = layouts(points)
    charts = {category.title: [chart.title for chart in category.chart] for category in layout.category}
    assert charts == {
        "Search": ["loss", "score", "alpha entropy", "skip connections"],
        "Collapse": ["sharpness", "edges kept", "gap"],
        "Retrain": ["loss", "score"],
    }
    tags = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert tags["alpha entropy"] == ["alpha/entropy/.*"]
    assert tags["skip connections"] == ["alpha/skip_count/.*"]
    assert list(layout.category[0].chart[0].multiline.tag) == ["search/loss/train", "search/loss/valid"]


def test_figures_are_cleared(tmp_path):
    target, _ = report(tmp_path)
    figure = drawing()
    target.figure("a", lambda: figure, 0)
    assert figure.axes == []
    target.close()


@pytest.mark.parametrize("stopped_cleanly", [True, False])
def test_a_resumed_report_holds_every_point_once(tmp_path, stopped_cleanly):
    first, _ = report(tmp_path)
    first.resume(0)
    write(first, range(5))
    first.close()
    if not stopped_cleanly:
        with (tmp_path / "metrics" / "search.csv").open("a") as file:
            file.write("2,search/lo")  # what a crash leaves behind
    second, _ = report(tmp_path)
    second.resume(3)
    write(second, range(3, 7))
    second.close()

    points, _ = events(tmp_path)
    for tag in ("search/loss/train", "alpha/normal", "alpha/histogram/normal", "genotype/text_summary"):
        assert [step for step, _ in points[tag]] == list(range(7)), tag
    assert layouts(points)
    written = rows(tmp_path)
    assert written[0] == ["step", "tag", "value"]
    assert [int(row[0]) for row in written[1:]] == [step for step in range(7) for _ in range(2)]
    assert [path.name for path in (tmp_path / "metrics").iterdir()] == ["search.csv"]


def test_values_that_are_not_finite_are_recorded(tmp_path):
    target, _ = report(tmp_path)
    target.scalars({"loss": math.nan, "norm": math.inf}, 0)
    target.histogram("some", torch.tensor([1.0, math.nan, -math.inf]), 0)
    target.histogram("none", torch.tensor([math.nan]), 0)
    target.close()
    assert rows(tmp_path)[1:] == [["0", "loss", "nan"], ["0", "norm", "inf"]]
    points, _ = events(tmp_path)
    assert math.isnan(points["loss"][0][1])
    assert points["some"][0][1][:, 2].sum() == 1
    assert "none" not in points


def test_hparams_go_into_the_run_itself(tmp_path):
    target, _ = report(tmp_path)
    target.scalars({"search/loss/train": 0.5}, 0)
    target.close()
    directory = tmp_path / "tb" / "search"
    hparams(directory, {"method": "darts", "seed": 1, "lr": 0.1, "fast": True}, {"test/accuracy": 0.9})
    assert [path for path in directory.iterdir() if path.is_dir()] == []
    points, accumulator = events(tmp_path)
    content = accumulator.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["method"].string_value == "darts"
    assert start.hparams["seed"].number_value == 1
    assert start.hparams["lr"].number_value == 0.1
    assert start.hparams["fast"].string_value == "true"
    assert points["test/accuracy"] == [(0, pytest.approx(0.9))]
    assert points["search/loss/train"] == [(0, 0.5)]


def test_lines_are_plain_and_a_file_gets_no_progress(tmp_path):
    target, stream = report(tmp_path)
    target.progress(1, 10, "epoch 1")
    target.line("epoch 1 [darts] loss 0.1 " + "x" * 200)
    target.close()
    assert stream.getvalue() == "epoch 1 [darts] loss 0.1 " + "x" * 200 + "\n"
    assert list(tmp_path.iterdir()) == []  # nothing was recorded, so nothing was created


def test_a_terminal_gets_a_bar_and_gets_its_cursor_back(tmp_path):
    target, stream = report(tmp_path, terminal=True)
    target.progress(1, 10, "search [1]")
    target.line("epoch 1")
    target.progress(2, 10, "search [1]")
    target.close()
    output = stream.getvalue()
    assert "search [1]" in output
    assert "2/10" in output
    assert "epoch 1" in output
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")


def test_silent_takes_everything_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    silent = Silent()
    write(silent, range(2))
    silent.progress(1, 2, "x")
    silent.line("x")
    silent.resume(1)
    silent.close()
    assert list(tmp_path.iterdir()) == []


def test_a_clock_set_back_hides_no_curve(tmp_path):
    first, _ = report(tmp_path)
    first.resume(0)
    write(first, range(3))
    first.close()
    for number, path in enumerate(sorted((tmp_path / "tb" / "search").iterdir())):
        parts = path.name.split(".")
        path.rename(path.with_name(".".join([*parts[:3], str(int(parts[3]) + 3600 + number), *parts[4:]])))
    second, _ = report(tmp_path)
    second.resume(2)
    write(second, range(2, 4))
    second.close()
    points, _ = events(tmp_path)
    assert [step for step, _ in points["search/loss/train"]] == [0, 1, 2, 3]


def test_hyper_parameters_are_there_once(tmp_path):
    for accuracy in (0.1, 0.2):
        hparams(tmp_path, {"lr": 0.1}, {"hparam/accuracy": accuracy})
    accumulator = EventAccumulator(str(tmp_path)).Reload()
    assert [round(float(make_ndarray(p.tensor_proto)), 3) for p in accumulator.Tensors("hparam/accuracy")] == [0.2]


def test_a_full_disk_is_not_told_of_by_a_traceback_of_tensorboards_thread(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)
    with told_once():
        made, _ = report(tmp_path)
        with pytest.raises(OSError, match="No space left"):  # noqa: PT012 - it comes at one of them
            for step in range(1000):
                made.scalars({"search/loss/train": 1.0}, step)
                made.text("config", "x" * 100, step)
    assert "Traceback" not in capsys.readouterr().err
