import csv
import io
import math

import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from supernet.runtime.report import Report, RunReport, Silent
from supernet.runtime.tensorboard import hparams


def report(directory, name="search", terminal=False):
    stream = io.StringIO()
    return RunReport(directory, name, Console(file=stream, force_terminal=terminal, width=100)), stream


def events(directory, name="search"):
    accumulator = EventAccumulator(str(directory / "tb" / name), size_guidance={"tensors": 0, "images": 0})
    return accumulator.Reload()


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
        target.figure("arch/alpha/normal", drawing(), step)
        target.histogram("arch/alpha_hist/normal", torch.arange(8.0) * step, step)
        target.text("genotype", f"step {step}", step)


def test_scalars_go_to_tensorboard_and_csv(tmp_path):
    target, _ = report(tmp_path)
    target.scalars({"search/loss/train": 0.1, "search/loss/valid": torch.tensor(0.5)}, 3)
    assert rows(tmp_path) == [  # flushed, before close
        ["step", "tag", "value"],
        ["3", "search/loss/train", "0.1"],
        ["3", "search/loss/valid", "0.5"],
    ]
    target.close()
    (point,) = events(tmp_path).Scalars("search/loss/train")
    assert (point.step, point.value) == (3, pytest.approx(0.1))


def test_figures_histograms_texts_and_layout_can_be_read_back(tmp_path):
    target, _ = report(tmp_path)
    write(target, range(2))
    target.close()
    found = events(tmp_path)
    image = found.Images("arch/alpha/normal")[0]
    assert (image.width, image.height) == (200, 100)
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert [point.step for point in found.Histograms("arch/alpha_hist/normal")] == [0, 1]
    assert found.Tensors("genotype/text_summary")[1].tensor_proto.string_val == [b"step 1"]
    (record,) = found.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(record.tensor_proto.string_val[0])
    charts = {category.title: [chart.title for chart in category.chart] for category in layout.category}
    assert charts == {
        "Search": ["loss", "accuracy", "alpha entropy", "skip connections"],
        "Retrain": ["loss", "accuracy"],
    }


def test_figures_are_cleared_and_pyplot_keeps_none(tmp_path):
    target, _ = report(tmp_path)
    figure = drawing()
    target.figure("a", figure, 0)
    assert figure.axes == []
    target.close()


@pytest.mark.parametrize("stopped_cleanly", [True, False])
def test_a_resumed_report_holds_every_point_once(tmp_path, stopped_cleanly):
    first, _ = report(tmp_path)
    first.resume(0)
    write(first, range(5))
    if stopped_cleanly:
        first.close()
    else:
        first._events.writer().flush()
        with (tmp_path / "metrics" / "search.csv").open("a") as file:
            file.write("4,search/lo")  # what a crash leaves behind
    second, _ = report(tmp_path)
    second.resume(3)
    write(second, range(3, 7))
    second.close()

    found = events(tmp_path)
    for points in (
        found.Scalars("search/loss/train"),
        found.Images("arch/alpha/normal"),
        found.Histograms("arch/alpha_hist/normal"),
        found.Tensors("genotype/text_summary"),
    ):
        assert [point.step for point in points] == list(range(7))
    assert len(found.Tensors("custom_scalars__config__")) == 1
    written = rows(tmp_path)
    assert written[0] == ["step", "tag", "value"]
    assert [int(row[0]) for row in written[1:]] == [step for step in range(7) for _ in range(2)]
    assert sorted(path.name for path in (tmp_path / "metrics").iterdir()) == ["search.csv"]


def test_resuming_at_zero_forgets_everything_but_the_layout(tmp_path):
    first, _ = report(tmp_path)
    write(first, range(2))
    first.close()
    second, _ = report(tmp_path)
    second.resume(0)
    second.close()
    found = events(tmp_path)
    assert len(found.Tensors("custom_scalars__config__")) == 1
    assert found.Tags()["scalars"] == []
    assert found.Tags()["images"] == []
    assert rows(tmp_path) == [["step", "tag", "value"]]


def test_values_that_are_not_finite_are_recorded(tmp_path):
    target, _ = report(tmp_path)
    target.scalars({"loss": math.nan, "norm": math.inf}, 0)
    target.histogram("some", torch.tensor([1.0, math.nan, -math.inf]), 0)
    target.histogram("none", torch.tensor([math.nan]), 0)
    target.close()
    assert rows(tmp_path)[1:] == [["0", "loss", "nan"], ["0", "norm", "inf"]]
    found = events(tmp_path)
    assert math.isnan(found.Scalars("loss")[0].value)
    assert found.Histograms("some")[0].histogram_value.num == 1


def test_hparams_go_into_the_run_itself(tmp_path):
    target, _ = report(tmp_path)
    target.scalars({"search/loss/train": 0.5}, 0)
    target.close()
    hparams(tmp_path / "tb" / "search", {"method": "darts", "seed": 1, "lr": 0.1, "fast": True}, {"test/accuracy": 0.9})
    assert [path for path in (tmp_path / "tb" / "search").iterdir() if path.is_dir()] == []
    found = events(tmp_path)
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["method"].string_value == "darts"
    assert start.hparams["lr"].number_value == 0.1
    assert start.hparams["fast"].bool_value is True
    assert found.Scalars("test/accuracy")[0].value == pytest.approx(0.9)
    assert found.Scalars("search/loss/train")[0].value == 0.5


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
