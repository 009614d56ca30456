"""The scripts that measure run from start to end, on the CPU, with everything small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
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


def test_gpu_script_runs_without_a_gpu(tmp_path):
    draw = np.random.default_rng(0)
    images = {f"{half}_images": draw.integers(0, 256, (40, 8, 8, 3), np.uint8) for half in ("train", "test")}
    np.savez(tmp_path / "images.npz", **images, train_labels=np.arange(40) % 4, test_labels=np.arange(40) % 4)
    small = ["space.channels=8", "space.cells=1", "space.nodes=2", "search.epochs=1", "search.batch_size=4"]
    small += ["search.warm_up=0", "runtime.precision=float32"]
    data = ["--data", str(tmp_path / "images.npz"), "--more", *small]
    record, printed = script("gpu", tmp_path, "--device", "cpu", "--tiny", *data)
    sections = {name: part for name, part in record.items() if name.startswith(("check", "time"))}
    assert len(sections) == 6
    assert all(part["complete"] for part in sections.values())
    exact = record["check_stacked"]["result"]
    assert all(value < 1e-9 for name, value in exact.items() if "float64" in name and name.endswith("all"))
    rows = {**record["time_searches"]["result"], **record["time_trainings"]["result"]}
    assert all(row["times"]["median"] > 0 for row in rows.values())
    assert rows["first_order 4 reference"]["speed"] == 1
    assert {"unrolled 4 stacked+graph+bf16", "single_path 4 stacked+product", "4 reference+product"} <= rows.keys()
    assert "stacked+graph+bf16" in printed
    for method in ("darts", "pc_darts"):
        found = record[f"search_{method}"]["result"]
        assert found["summary"]["search_epochs"] == 1
        assert any("reduce" in name for name in found["genotype"]["choices"])


def test_gpu_script_goes_on_with_what_is_there(tmp_path):
    """A row that was cut off or failed is measured, no other; another machine's file is not touched."""
    only = ["--device", "cpu", "--tiny", "--only", "time_trainings"]
    record, _ = script("gpu", tmp_path, *only)
    rows = record["time_trainings"]["result"]
    (gone, failed, *kept) = rows
    kept_times = {name: rows[name]["times"] for name in kept}
    del rows[gone]
    rows[failed] = {**rows[failed], "failed": "OutOfMemoryError"}
    record["time_trainings"] |= {"complete": False}
    (tmp_path / "record.json").write_text(json.dumps(record))
    again, _ = script("gpu", tmp_path, *only, "--rounds", "2")
    rows = again["time_trainings"]["result"]
    assert {name: row["times"]["n"] for name, row in rows.items()} == {**dict.fromkeys(kept, 1), gone: 2, failed: 2}
    assert kept_times == {name: rows[name]["times"] for name in kept}
    assert again["time_trainings"]["complete"]
    (tmp_path / "record.json").write_text(json.dumps({**again, "tiny": False}))
    with pytest.raises(AssertionError, match="of another machine, commit or size"):
        run("gpu", tmp_path, *only)


def test_gpu_script_says_what_its_searches_lack(tmp_path):
    """Without Hydra all that needs none runs."""
    blocked = "import sys; sys.modules.update(hydra=None, omegaconf=None, antlr4=None)"
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(blocked)
    bare = {"PYTHONPATH": str(tmp_path / "bare")}
    script("gpu", tmp_path, "--device", "cpu", "--tiny", "--only", "check_waiting", **bare)
    with pytest.raises(AssertionError, match="needs hydra, omegaconf, not installed here"):
        run("gpu", tmp_path, "--device", "cpu", "--tiny", "--only", "search_darts", "--data", "x.npz", **bare)


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
    assert [row["accuracy"] for row in random] == [None] * 4
    assert min(row["accuracy"] for row in learnt) > 0.5
    assert "mobilenet_v3_small seed 0: uint8" in printed
