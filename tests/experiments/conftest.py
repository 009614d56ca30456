import sys

import numpy as np
import pytest
from supernet.experiments import pipeline

from supernet.runtime.report import RunReport


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A data set that trains in a second: three classes of 6x6 images that differ in brightness."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 90), ("test", 30)):
        labels = np.arange(count) % 3
        noise = rng.integers(0, 60, (count, 6, 6))
        arrays |= {f"{part}_images": (noise + 60 * labels[:, None, None]).astype(np.uint8), f"{part}_labels": labels}
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture
def pictures():
    """Asked for by tests of what TensorBoard shows: its pictures take half the time of a tiny run."""


@pytest.fixture
def supernet(request, monkeypatch, tmp_path, capfd):
    """Runs the console command in this process, in a directory of its own: (exit code, what it printed)."""
    monkeypatch.chdir(tmp_path)
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(RunReport, "figure", lambda *_: None)
    # Hydra takes a coverage measurement for a debugger, and then raises instead of printing its one line.
    monkeypatch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["supernet", *arguments])
        code = 0
        try:
            pipeline.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        out, err = capfd.readouterr()
        return code, out + err

    return run
