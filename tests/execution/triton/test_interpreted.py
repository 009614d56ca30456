"""Runs the tests of Triton's kernels in a process of their own, in which Triton interprets them on a CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_kernels_interpreted_on_a_processor(which):
    environment = {**os.environ, "TRITON_INTERPRET": "1", "SUPERNET_TRITON": "1", "OMP_NUM_THREADS": "1"}
    here = Path(__file__).parent / "test_kernels.py"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n0", "-m", which, str(here)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
