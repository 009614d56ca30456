"""The scripts that measure run from start to end, on the CPU, with everything small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def run(name, tmp_path, *arguments, **variables):
    """What the script printed."""
    output = ["--output", str(tmp_path / "record.json")]
    command = [sys.executable, "-m", f"experiments.benchmarks.{name}", *arguments, *output]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def script(name, tmp_path, *arguments, **variables):
    """Its record, and what it printed."""
    printed = run(name, tmp_path, *arguments, **variables)
    return json.loads((tmp_path / "record.json").read_text()), printed


def test_kernels_are_counted(tmp_path):
    size = ["--channels", "2", "--cells", "1", "--batch", "2", "--side", "8", "--rounds", "1"]
    record, _ = script("kernels", tmp_path, *size)
    counts = {name: found["weights and alphas"]["operations"] for name, found in record["counts"].items()}
    assert counts["stacked"] < counts["reference"] / 3
    assert record["seconds"]["forward"]["stacked"]["n"] == 1


def test_a_search_step_is_timed_and_held_against_the_reference(tmp_path):
    size = ["--channels", "8", "--cells", "1", "--batch", "2", "--side", "8", "--rounds", "1"]
    printed = run("search_step", tmp_path, *size)
    for kind in ("first_order", "second_order", "partial_channels", "single_path"):
        record = json.loads((tmp_path / f"record_{kind}.json").read_text())
        assert {"reference", "fused"} <= record["seconds"].keys()
        assert record["seconds"]["fused"]["n"] == 1
        assert kind in printed
        if kind != "single_path":
            assert record["agreement"]["fused, float64"] < 1e-8


def test_a_retraining_step_is_timed(tmp_path):
    size = ["--channels", "4", "--cells", "3", "--batch", "2", "--rounds", "1", "--bfloat16"]
    record, _ = script("retrain_step", tmp_path, *size)
    assert record["seconds"].keys() == {"reference", "fused", "fused, bfloat16"}


def test_memory_is_measured_in_processes_of_their_own(tmp_path):
    record, _ = script("memory", tmp_path, "--channels", "4", "--cells", "1", "--batch", "2")
    for found in record["gigabytes"].values():
        assert 0 < found["before"] <= found["peak"]


def test_augmentation_is_timed(tmp_path):
    record, printed = script("data", tmp_path, "--images", "128", "--rounds", "1")
    assert len(record["seconds"]) == 3
    assert "images a second" in printed


def test_the_hosts_part_of_a_step_is_timed(tmp_path):
    size = ["--channels", "4", "--cells", "2", "--training-cells", "3", "--rounds", "1"]
    record, printed = script("host", tmp_path, *size)
    steps = {"first order", "second order", "partial channels", "retraining"}
    assert record["seconds"].keys() == {*steps, "clipping and SGD alone"}
    assert all(times["n"] == 1 for times in record["seconds"].values())
    assert "| retraining |" in printed


def test_a_straight_through_gradient_is_held_against_the_exact_one(tmp_path):
    record, printed = script("straight_through", tmp_path, "--seeds", "1", "--steps", "3", "--draws", "5")
    (found,) = record["results"]["3"]
    assert found["loss"] > 0
    assert -1 <= found["cosine"] <= 1
    assert "cosine of the first edge" in printed


def test_eight_bits_are_measured(tmp_path):
    networks = ["--networks", "mobilenet_v3_small", "digits_micro_mobile", "--side", "32", "--seeds", "1"]
    record, printed = script("int8", tmp_path, *networks)
    (random,), (learnt,) = record["networks"].values()
    assert [row["name"] for row in random] == ["PyTorch", "float32", "uint8", "int8"]
    assert all(0 < row["low"] <= row["milliseconds"] <= row["high"] for row in [*random, *learnt])
    assert random[2]["bytes"] < random[1]["bytes"] / 2
    assert [row["score"] for row in random] == [None] * 4
    assert min(row["score"] for row in learnt) > 0.5
    assert "mobilenet_v3_small seed 0: uint8" in printed


def test_step_traffic_is_written_row_by_row(tmp_path):
    """On a processor there are no launches; rows of another label stay."""
    small = ["--device", "cpu", "--tiny", "--times", "1", "--steps", "first order", "retraining"]
    script("step_traffic", tmp_path, *small, "--label", "before")
    record, printed = script("step_traffic", tmp_path, *small)
    rows = record["rows"]
    assert len(rows) == 4
    assert sum(name.endswith("before") for name in rows) == 2
    assert all(row["gigabytes"] > 0.01 and row["host_ms"] > 0 and row["launches"] is None for row in rows.values())
    assert "| first order 4 stacked+product |" in printed


def test_average_precision_is_faster_than_the_reference_and_agrees(tmp_path):
    pytest.importorskip("pycocotools")
    record, printed = script("detection_map", tmp_path, "--images", "60", "--classes", "3", "--repeats", "1")
    assert record["largest_difference"] < 1e-9
    assert "times as fast" in printed


def test_a_detector_is_timed(tmp_path):
    size = ["--images", "1", "--size", "96", "128", "--threads", "1", "--rounds", "1"]
    record, _ = script("detection_speed", tmp_path, *size)
    assert record["seconds"].keys() == {"network", "boxes", "torchvision SSDLite"}
    assert all(len(rounds) == 1 for rounds in record["seconds"].values())


def test_a_folder_shards_and_the_library_are_timed(tmp_path):
    pytest.importorskip("webdataset")
    size = ["--images", "256", "--side", "32", "--size", "16", "--shard", "64", "--batches", "2"]
    record, printed = script("shards", tmp_path, *size, "--workers", "0", "--rounds", "1")
    ways = {"folder", "shards", "shards, the library"}
    assert record["seconds"].keys() == ways | {f"{way}, cold" for way in ways}
    assert printed.count("images a second") == 6


def test_workers_are_timed_and_give_the_same_values(tmp_path):
    record, printed = script("workers", tmp_path, "--candidates", "2", "--seeds", "1", "--channels", "2")
    judged = record["candidates_per_second"]
    assert judged.keys() == {"zero-cost proxies", "short trainings", "supernet"}
    assert all(figures.keys() == {"1", "2"} and min(map(min, figures.values())) > 0 for figures in judged.values())
    assert "| supernet | 2 |" in printed


def test_one_process_and_two_are_timed(tmp_path):
    """Synchronised norms meet in each norm of each pass, and in its gradient, and lose what one process loses."""
    size = ["--channels", "4", "--cells", "1", "--batch", "4", "--side", "8", "--divisor", "1", "--threads", "1"]
    final = ["--training-channels", "4", "--training-cells", "3", "--training-batch", "4", "--rounds", "1"]
    record, printed = script("processes", tmp_path, *size, *final)
    assert record["steps"].keys() == {"first order", "second order", "retraining"}
    for found in record["steps"].values():
        one, two, plain, synchronised = found["ways"].values()
        assert one.keys() == plain.keys() == {"median", "least", "most", "n", "images", "images_per_second"}
        assert 0 < two["share"] < 1
        assert 0 < synchronised["share"] < 1
        assert synchronised["bytes"] > 0
        assert synchronised["collectives"] > two["collectives"] > 1
    assert record["steps"]["second order"]["ways"]["two processes"]["bytes"] > first_order(record)
    assert "| retraining | two processes, norms synchronised | 4 |" in printed
    assert printed.splitlines()[-1] in (tmp_path / "record.md").read_text()


def first_order(record):
    """What a step of first order hands over."""
    return record["steps"]["first order"]["ways"]["two processes"]["bytes"]


def test_a_rank_is_killed_and_all_start_again(tmp_path):
    record, _ = script("kills", tmp_path, "--ranks", "--kills", "1", "--jobs", "search")
    assert record["summary"] == "1 of 1 restarted and equal"
    assert sum(record["kills_by_phase"].values()) == 1
    assert record["wrong"] == []


def test_a_command_is_killed_and_gone_on_with(tmp_path):
    record, _ = script("kills", tmp_path, "--kills", "1", "--jobs", "search")
    assert record["kills"] == sum(record["by_signal"].values()) == 1
    assert record["jobs"] >= 1
    assert record["wrong"] == []
