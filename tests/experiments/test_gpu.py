"""The script for a GPU: its rows, its clock, its checks and its pieces, on the CPU with everything small."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.benchmarks import gpu, gpu_checks, gpu_precision, gpu_rows, gpu_searches, gpu_table, setting
from experiments.benchmarks.gpu_precision import compare_precisions
from experiments.benchmarks.gpu_rows import Clock, Record, Rows, TimeIsUp, Wrong, read_rows
from experiments.benchmarks.gpu_searches import Pieces
from experiments.benchmarks.gpu_sizes import TINY
from experiments.benchmarks.gpu_steps import short_name, time_whole
from supernet.execution.fused.executor import fused
from tests.standin.building import why_not

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
HEAD = {"machine": {"device": "a", "commit": "b", "date": "today"}, "tiny": True}


def rows_of(path, section="steps", seconds=None, head=HEAD):
    return Rows(Record(path, head), section, Clock(seconds))


def kept(path):
    """What the file says of each row, the later one where it is there twice."""
    return Record(path, HEAD).rows


def test_a_second_call_measures_what_is_missing_or_has_failed(tmp_path):
    path = tmp_path / "gpu.jsonl"
    rows = rows_of(path)
    rows.measure("good", lambda: {"ms": 1.5})
    rows.measure("bad", lambda: {"ms": 1 / 0})
    assert rows.failed == ["bad"]
    assert "ZeroDivisionError" in kept(path)["steps", "bad"]["failed"]
    again = rows_of(path, head={**HEAD, "machine": {**HEAD["machine"], "date": "tomorrow"}})
    again.measure("good", lambda: pytest.fail("is known"))
    again.measure("bad", lambda: {"ms": 2.5})
    assert again.failed == []
    assert {name: row["ms"] for (_, name), row in kept(path).items()} == {"good": 1.5, "bad": 2.5}


def test_a_line_that_was_cut_off_is_measured_again(tmp_path):
    path = tmp_path / "gpu.jsonl"
    rows_of(path).measure("whole", lambda: {"ms": 1.0})
    path.write_text(path.read_text() + '{"section": "steps", "row": "cut", "m')
    rows_of(path).measure("cut", lambda: {"ms": 2.0})
    assert [json.loads(line).get("row") for line in path.read_text().splitlines()] == [None, "whole", "cut"]


def test_rows_of_another_machine_are_left_alone(tmp_path):
    path = tmp_path / "gpu.jsonl"
    rows_of(path).measure("one", lambda: {"ms": 1.0})
    before = path.read_text()
    for other in ({**HEAD, "tiny": False}, {**HEAD, "machine": {**HEAD["machine"], "commit": "c"}}):
        with pytest.raises(SystemExit, match="of another machine, commit or size"):
            rows_of(path, head=other)
    assert path.read_text() == before


def test_a_wrong_value_is_kept_with_what_is_wrong(tmp_path):
    def find():
        raise Wrong("too far", {"all": 0.5})

    rows = rows_of(tmp_path / "gpu.jsonl")
    rows.measure("far", find)
    row = kept(tmp_path / "gpu.jsonl")["steps", "far"]
    assert (row["all"], row["failed"]) == (0.5, "too far")


def test_no_row_is_begun_that_would_not_end_in_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(gpu_rows.time, "monotonic", lambda: now[0])
    rows = Rows(Record(tmp_path / "gpu.jsonl", HEAD), "steps", Clock(seconds=30.0, began=0.0))

    def ten_seconds():
        now[0] += 10.0
        return {}

    rows.measure("first", ten_seconds)
    rows.measure("second", ten_seconds)
    with pytest.raises(TimeIsUp):
        rows.measure("third", ten_seconds)
    rows.measure("first", ten_seconds)  # is known, and so takes no time
    assert now[0] == 20.0
    assert [rows.clock.part(most).left() for most in (4.0, 60.0, None)] == [4.0, 10.0, 10.0]
    assert Clock().part(None).left() == float("inf")


def test_a_section_that_runs_out_of_time_leaves_the_others(tmp_path, capsys):
    def late(scale, device, rows):
        raise TimeIsUp

    def bad(scale, device, rows):
        rows.measure("one", lambda: {"x": {}["y"]})

    def good(scale, device, rows):
        rows.measure("two", lambda: {"x": 1})

    record = Record(tmp_path / "gpu.jsonl", HEAD)
    with pytest.raises(SystemExit, match="failed: bad: one"):
        gpu.run_sections({"late": late, "bad": bad, "good": good}, TINY, CPU, record, Clock())
    assert ("good", "two") in record.rows
    assert "the same command goes on from here" in capsys.readouterr().out


def test_groups_of_sections_and_the_order_by_worth():
    assert gpu.chosen(["checks", "steps"])[-1] == "steps"
    assert gpu.chosen(["checks"])[:2] == ["check_graphs", "check_executors"]
    assert gpu.chosen(["searches"]) == ["search_darts", "search_pc_darts", "retrain"]
    assert not set(gpu.chosen(None)) & set(gpu.SEARCHES)  # they want folder and time of their own
    assert set(gpu.sections_of(Pieces(Path("work")))) == {*gpu.SECTIONS, *gpu.SEARCHES}


def test_an_earlier_calls_rows_are_taken_over(tmp_path, monkeypatch, capsys):
    def call(output, *more):
        settings = ["--device", "cpu", "--tiny", "--only", "bandwidth", "--output", str(tmp_path / output), *more]
        monkeypatch.setattr(sys, "argv", ["gpu", *settings])
        gpu.main()
        return capsys.readouterr().out

    assert "tb_per_s" in call("first.jsonl")
    assert "tb_per_s" not in call("second.jsonl", "--known", str(tmp_path / "first.jsonl"))
    assert (tmp_path / "second.jsonl").read_text() == (tmp_path / "first.jsonl").read_text()
    with pytest.raises(SystemExit):
        call("third.jsonl", "--only", "no_section")


def wrong_number(state):
    """Off by a part in a million, and by so much more in float32 that rounding is no excuse."""
    return state * (1 + (1e-6 if state.dtype == torch.float64 else 1e-2))


def wrong_gradient(state):
    """The same number, with half of its gradient."""
    return (state + state.detach()) / 2


@pytest.mark.parametrize("wrong", [wrong_number, wrong_gradient])
def test_a_wrong_executor_is_found(tmp_path, monkeypatch, wrong):
    monkeypatch.delenv("SUPERNET_TRITON", raising=False)
    computed = Counter()  # cells, by whether they may be computed with Triton

    def off(cell, inputs):
        computed[os.environ.get("SUPERNET_TRITON")] += 1
        return [wrong(state) for state in fused(cell, inputs)]

    monkeypatch.setitem(setting.EXECUTORS, gpu_checks.EXECUTORS[0], off)
    monkeypatch.setattr(gpu_checks, "EXECUTORS", gpu_checks.EXECUTORS[:2])
    rows = rows_of(tmp_path / "gpu.jsonl", "check_executors")
    gpu_checks.check_executors(TINY, CPU, rows)
    kinds = ("float64", "float64 partial", "float32", "float32 partial")
    first = gpu_checks.EXECUTORS[0]
    without = ", without Triton"
    assert rows.failed == [f"{k} {first}{words}" for k in kinds for words in ("", without) if words == "" or "32" in k]
    assert kept(tmp_path / "gpu.jsonl")["check_executors", f"float64 {gpu_checks.EXECUTORS[1]}"]["all"] < 1e-12
    assert computed == {None: 4 * TINY.check.cells, "0": 2 * TINY.check.cells}  # without Triton it is computed anew


def test_a_graph_that_changes_the_numbers_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(type(TINY), "checks", property(lambda self: {}))  # the retraining alone
    monkeypatch.setattr(gpu_checks, "STEPS", 2)
    end = gpu_checks._end
    ended = []

    def the_first_is_off(steps):
        ended.append(steps)
        return [tensor + 1e-3 * (len(ended) == 1) for tensor in end(steps)]

    rows = rows_of(tmp_path / "gpu.jsonl", "check_graphs")
    monkeypatch.setattr(gpu_checks, "_end", the_first_is_off)
    gpu_checks.check_graphs(TINY, CPU, rows)
    (failed,) = rows.failed
    assert failed == f"retraining {gpu_checks.WHOLE}"
    assert len(ended) == 4  # whole, plain, plain again for the noise, by pass, which is equal and needs no more


def test_rounding_to_bfloat16_loses_the_second_term_unless_its_differences_are_exact(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_precision, "SEEDS", (0,))
    rows = rows_of(tmp_path / "gpu.jsonl", "precision")
    compare_precisions(TINY, CPU, rows)
    found = {name: row for (_, name), row in kept(tmp_path / "gpu.jsonl").items()}
    assert found["float32"]["term_cosine"] > 0.999
    assert found["bfloat16, differences in float32"]["term_cosine"] > 0.9
    assert found["bfloat16"]["term_distance"] > 5 * found["bfloat16, differences in float32"]["term_distance"]


def test_every_kind_of_step_is_timed(tmp_path):
    rows = rows_of(tmp_path / "gpu.jsonl", "steps")
    time_whole(replace(TINY, warm_up=1), CPU, rows)
    names = {name.split()[0] for _, name in rows.record.rows}
    assert names == {"first_order", "second_order", "partial_channels", "single_path", "retraining"}
    assert len(rows.record.rows) == 10
    for row in rows.record.rows.values():
        assert 0 < row["least"] <= row["ms"] <= row["most"]
        assert 0 < row["host_ms"] <= row["most"]


@pytest.mark.parametrize("section", ["search_darts", "retrain"])
def test_a_search_in_pieces_ends_as_one_in_a_single_call(tmp_path, section):
    def go(name, epochs, calls):
        for _ in range(calls):
            sections = gpu.sections_of(Pieces(tmp_path / name, epochs=epochs))
            sections[section](TINY, CPU, rows_of(tmp_path / f"{name}.jsonl", section))
        return {row: value for (_, row), value in kept(tmp_path / f"{name}.jsonl").items()}

    whole, pieces = go("whole", None, 1), go("pieces", 1, 2)
    assert pieces["so far"]["steps"] * 2 == pieces["so far"]["of"]  # after the first call
    for epoch in ("epoch 1", "epoch 2"):
        assert pieces[epoch]["loss"] == whole[epoch]["loss"]
    del whole["end"]["took_s"], pieces["end"]["took_s"]
    assert pieces["end"] == whole["end"]


def test_a_search_that_has_no_time_left_saves_and_goes_on(tmp_path):
    def go(seconds):
        section = gpu.sections_of(Pieces(tmp_path / "work"))["search_darts"]
        section(TINY, CPU, rows_of(tmp_path / "gpu.jsonl", "search_darts", seconds))
        return {row for _, row in kept(tmp_path / "gpu.jsonl")}

    assert go(gpu_searches._MARGIN) == {"of", "so far"}  # stops where it first looks at the clock
    assert (tmp_path / "work" / "search_darts.pt").exists()
    assert go(None) == {"of", "so far", "epoch 1", "epoch 2", "end"}


def test_names_of_kernels_are_short():
    copies = "void at::native::elementwise_kernel<128, 2, at::native::gpu_kernel_impl_nocast<at::native::direct_copy_"
    assert short_name(copies + "kernel_cuda(at::TensorIteratorBase&)::{lambda()#3}>(int)").startswith(
        "elementwise_kernel direct_copy_kernel_cuda"
    )
    added = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, int>"
    assert short_name(added) == "vectorized_elementwise_kernel CUDAFunctor_add"
    assert short_name("sm80_xmma_gemm_f32f32_nt_n__5x_cublas") == "sm80_xmma_gemm_f32f32_nt_n__5x_cublas"
    assert short_name("Memset (Device)") == "Memset"


def test_the_record_becomes_tables(tmp_path, capsys, monkeypatch):
    path = tmp_path / "gpu.jsonl"
    rows = rows_of(path)
    rows.measure("a", lambda: {"ms": 12.345678})
    rows.measure("b", lambda: {"ms": 1 / 0})
    rows_of(path, "other").measure("c", lambda: {"all": 1e-7})
    monkeypatch.setattr(sys, "argv", ["gpu_table", str(path), "--only", "steps"])
    gpu_table.main()
    printed = capsys.readouterr().out.splitlines()[-4:]
    assert printed[0] == "|  | ms | failed | at |"
    assert printed[2] == "| a | 12.35 |  |  |"
    assert printed[3].startswith("| b |  | ZeroDivisionError: division by zero |")


BARE = "import sys; sys.modules.update(hydra=None, omegaconf=None, antlr4=None, onnx=None)"


@pytest.mark.slow
def test_all_of_it_runs_without_a_gpu_and_without_hydra(tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text(BARE)
    command = [sys.executable, "-m", "experiments.benchmarks.gpu", "--device", "cpu", "--tiny"]
    command += ["--output", str(tmp_path / "gpu.jsonl"), "--work", str(tmp_path / "work")]
    command += ["--only", *gpu.SECTIONS, "searches"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path / "bare")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()[1:]]
    assert {line["section"] for line in lines} == {*gpu.SECTIONS, *gpu.SEARCHES}
    assert not [line for line in lines if "failed" in line]
    assert max(map(len, done.stdout.splitlines())) < 400


@pytest.mark.slow
@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_graphs_and_searches_run_on_the_stand_in_for_a_gpu(tmp_path):
    """Two calls: the second one goes on with the searches, from checkpoints on the device."""
    command = [sys.executable, "-m", "tests.standin", "-m", "experiments.benchmarks.gpu", "--tiny"]
    command += ["--output", str(tmp_path / "gpu.jsonl"), "--work", str(tmp_path / "work"), "--epochs-a-call", "1"]
    command += ["--only", "check_graphs", "steps", "search_darts", "retrain"]
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    found = read_rows(tmp_path / "gpu.jsonl")[1]
    checks = {name: row for (section, name), row in found.items() if section == "check_graphs"}
    assert len(checks) == 8
    assert all(row["all"] == 0 and row["graphs"] for row in checks.values())
    steps = {name: row["graphs"] for (section, name), row in found.items() if section == "steps"}
    assert all((graphs == 1) != name.startswith("single_path") for name, graphs in steps.items())
    for section in ("search_darts", "retrain"):
        assert {"epoch 1", "epoch 2", "end"} <= {name for of, name in found if of == section}
