import sys

import numpy as np
import pytest
from supernet.experiments import pipeline


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


def tiny(images, *more: str) -> list[str]:
    settings = ["experiment=quick", "data=npz", f"data.path={images}", "search.epochs=1", "search.batch_size=16"]
    return [*settings, "retrain.epochs=1", "retrain.batch_size=16", "runtime.threads=1", *more]


@pytest.fixture
def supernet(monkeypatch, tmp_path, capfd):
    """Runs the console command in this process, in a directory of its own: (exit code, what it printed)."""
    monkeypatch.chdir(tmp_path)
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
