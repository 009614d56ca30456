"""What was read is said at the start and kept; data that are too large are one line."""

import json

import pytest
import torch
from common import tiny
from supernet.experiments import pipeline

from supernet.runtime.errors import out_of_memory


def test_what_was_read_is_said_and_kept(supernet, images, tmp_path):
    code, printed = supernet(*tiny(images), "baseline.random=0", "hydra.run.dir=run")
    assert code == 0, printed
    lines = printed.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("supernet: "))
    assert " images of 1 x 6 x 6 (channels, height, width): train " in lines[start + 1]
    assert lines[start + 2].startswith("3 classes (images): ")
    kept = json.loads((tmp_path / "run" / "summary.json").read_text())["reading"]
    assert kept["shape"] == [1, 6, 6]
    assert f"train {kept['images']['train']}" in lines[start + 1]


ALLOCATOR = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError(ALLOCATOR)])
def test_out_of_memory_says_what_to_lower(supernet, images, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(pipeline, "search_cell", full)
    code, printed = supernet(*tiny(images))
    assert code == 2
    assert printed.splitlines()[-1].startswith("supernet: the memory is full; lower data.size")
    assert "Traceback" not in printed


def test_real_ends_of_memory_are_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert not out_of_memory(RuntimeError("shapes do not fit"))
    assert not out_of_memory(ValueError("can't allocate memory"))
