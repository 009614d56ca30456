"""Bytes that a step moves, counted without a GPU: by hand, on a processor, and by both forms."""

import json
import sys
from collections import Counter
from functools import cache

import pytest
import torch

pytest.importorskip("triton")

from experiments.benchmarks import kernel_traffic as benchmark
from experiments.benchmarks.setting import Variant
from experiments.benchmarks.step_traffic import Size, build
from experiments.benchmarks.traffic import Traffic
from supernet.execution import triton
from supernet.execution.stacked.depthwise import Frame, depthwise
from supernet.execution.stacked.norms import Piece, Statistics, add_up
from supernet.execution.triton import depthwise as convolutions
from supernet.execution.triton import norms

SMALL = Size((4, 1), (4, 3), dict.fromkeys(benchmark.STEPS, 2))


@cache
def moved(name, way):
    return benchmark.moved(name, SMALL, way)


@pytest.mark.parametrize("name", benchmark.STEPS)
def test_plain_bytes_are_those_of_the_same_passes_on_a_processor(name):
    steps = build(name, SMALL, Variant("stacked-matmul"), torch.device("cpu"))
    steps()
    with Traffic() as expected:
        benchmark.passes(steps)
    traffic, launched = moved(name, "plain")
    found, there = Counter(traffic.by_name), Counter(expected.by_name)
    there["linalg_vector_norm"] += there.pop("_foreach_norm", 0)  # a processor takes the norms of all tensors at once
    assert found == there
    assert launched.total == 0


@pytest.mark.parametrize("name", benchmark.STEPS)
def test_tritons_kernels_move_fewer_bytes(name):
    traffic, launched = moved(name, "Triton")
    plain, _ = moved(name, "plain")
    assert traffic.total + launched.total < 0.8 * plain.total
    assert launched.by_name.keys() == {*benchmark.CONVOLUTIONS, *benchmark.NORMS}
    assert min(launched.by_name.values()) > 0


def test_a_convolution_reads_its_source_once():
    """Two branches of three channels and 3x3 kernels read four pictures of 8x8 pixels."""
    x = torch.empty(4, 3, 8, 8, device="meta", requires_grad=True)
    kernels = torch.empty(6, 1, 3, 3, device="meta", requires_grad=True)
    with benchmark.on_meta(), benchmark.kernels_counted() as launched:
        y = depthwise([x], [2], kernels, Frame((3, 1), 1, ((3, 1), (3, 1))), relu=True)
        y.backward(torch.empty_like(y))
    source, small, result, tables = 4 * 4 * 3 * 64, 4 * 6 * 9, 4 * 4 * 6 * 64, 4 * (2 * 6 + 1 * 2)
    assert launched.by_name["_forward"] == source + small + result + tables
    assert launched.by_name["_source_gradient"] == result + small + 2 * source + 4 * (2 * 6 + 1 * 4 + 2)
    assert launched.launches == dict.fromkeys(benchmark.CONVOLUTIONS, 1)


def test_statistics_are_of_stacks_with_a_norm_alone():
    """Two stacks of one block go to one node; numbers of a norm and tables are small beside them."""
    one, two = (torch.empty(4, 3, 64, 64, device="meta", requires_grad=True) for _ in range(2))
    pieces, scales = [Piece(one, (0,), (0,), (0,)), Piece(two, (0,), (0,), None)], [torch.empty(3, device="meta")] * 2
    with benchmark.on_meta(), benchmark.kernels_counted() as launched:
        (total,) = add_up(pieces, scales, [0], Statistics(1e-5, 0.1, None))
        total.backward(torch.empty_like(total))
    stacks = {name: round(count / (4 * 4 * 3 * 64 * 64), 1) for name, count in launched.by_name.items()}
    sums = {"_moments": 1.0, "_add": 3.0, "_products": 3.0, "_spread": 1.0 + 1.0 + 2.0}
    assert stacks == {**sums, "_settle": 0.0, "_conclude": 0.0}


def test_everything_is_put_back():
    def patched():
        kernels = [getattr(convolutions, name) for name in benchmark.CONVOLUTIONS]
        kernels += [getattr(norms, name) for name in benchmark.NORMS]
        return [torch.autocast, torch.is_autocast_enabled, triton.serves, norms.lines, norms.gradients, *kernels]

    def broken():
        with benchmark.on_meta(), benchmark.kernels_counted():
            assert not any(now is then for now, then in zip(patched(), before, strict=True))
            raise KeyError("an error while it counts")

    before = patched()
    with pytest.raises(KeyError):
        broken()
    assert all(now is then for now, then in zip(patched(), before, strict=True))


def test_the_script_writes_both_rows(tmp_path, monkeypatch, capsys):
    output = tmp_path / "record.json"
    monkeypatch.setattr(benchmark, "TINY", SMALL)
    monkeypatch.setattr(sys, "argv", ["", "--tiny", "--steps", "first order", "--output", str(output)])
    benchmark.main()
    rows = json.loads(output.read_text())["rows"]
    assert list(rows) == ["first order 2 Triton", "first order 2 plain"]
    for row in rows.values():
        for part, names in (("by_operations", "operations"), ("by_kernels", "kernels")):
            assert row[part] == pytest.approx(sum(found["gigabytes"] for found in row[names].values()))
    assert "| first order 2 plain |" in capsys.readouterr().out
