"""The scripts that measure run from start to end, on the CPU, with everything small."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def script(name, tmp_path, *arguments):
    output = tmp_path / "record.json"
    command = [sys.executable, "-m", f"experiments.benchmarks.{name}", *arguments, "--output", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(output.read_text()), done.stdout


def test_gpu_script_runs_without_a_gpu(tmp_path):
    record, printed = script("gpu", tmp_path, "--device", "cpu", "--tiny")
    sections = {name: part for name, part in record.items() if name.startswith(("check", "time"))}
    assert len(sections) == 6
    assert all("result" in part for part in sections.values())
    exact = record["check_stacked"]["result"]
    assert all(value < 1e-9 for name, value in exact.items() if "float64" in name and name.endswith("all"))
    rows = [row for name in ("time_searches", "time_trainings") for row in record[name]["result"]]
    assert all(row["times"][0]["median"] > 0 for row in rows)
    assert "stacked+graph+bf16" in printed


def test_kernels_are_counted(tmp_path):
    size = ["--channels", "2", "--cells", "1", "--batch", "2", "--side", "8", "--rounds", "1"]
    record, _ = script("kernels", tmp_path, *size)
    counts = {name: found["weights and alphas"]["operations"] for name, found in record["counts"].items()}
    assert counts["stacked"] < counts["reference"] / 3
    assert record["seconds"]["forward"]["stacked"]["n"] == 1
