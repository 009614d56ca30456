"""Jobs that are killed at random moments and resumed end, bit for bit, where undisturbed ones end."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from common import tiny
from forked import ended, printed, started
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = pytest.mark.slow

OFTEN = ["runtime.save_seconds=0", "runtime.progress=false", "seed=1"]
JOBS = {
    "darts": ["monitor.every=1", "monitor.iterations=2", "search.epochs=2", "retrain.epochs=3", "retrain.keep=best"],
    "pc_darts": ["method=pc_darts", "space.channels=8", "search.epochs=2", "search.warm_up=1"],
    "p_darts": ["method=p_darts", "search.epochs=6", "search.warm_up=1", "baseline.random=0"],
    "gdas": ["method=gdas", "search.epochs=2", "baseline.random=0"],
    "random_search": [
        "method=random_search",
        "strategy.candidates=25",
        "strategy.batches=2",
        "strategy.finalists=3",
        "baseline.random=0",
    ],
    "fairnas": [
        "method=fairnas",
        "strategy.candidates=60",
        "strategy.batches=2",
        "strategy.finalists=3",
        "baseline.random=0",
    ],
    "enas": ["method=enas", "search.epochs=3", "strategy.updates.batches=2", "baseline.random=0"],
    "darts_pt": ["method=darts_pt", "search.epochs=2", "baseline.random=0"],
    "oles": ["method=oles", "search.epochs=2", "baseline.random=0"],
    "adapt": [
        *("search.epochs=6", "monitor.every=1", "monitor.on_rise=adapt", "monitor.window=1", "monitor.delta=1"),
        *("monitor.rise=0.9", "monitor.not_before=0", "monitor.batch_size=8", "monitor.iterations=2"),
        "baseline.random=0",
    ],
}
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]


def results(run: Path) -> dict:
    """All that a job leaves and that time does not change."""
    with safe_open(run / "model.safetensors", "pt") as file:
        model = {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118
    metrics = {
        path.name: [row for row in csv.reader(path.open()) if not row[1].startswith("sys/")]
        for path in sorted((run / "metrics").glob("*.csv"))
    }
    curves = {}
    for folder in sorted((run / "tb").iterdir()):
        events = EventAccumulator(str(folder)).Reload()
        for tag in events.Tags()["scalars"]:
            if not tag.startswith("sys/"):
                curves[folder.name, tag] = [(point.step, point.value) for point in events.Scalars(tag)]
    read = {name: json.loads((run / name).read_text()) for name in ("genotype.json", "test.json")}
    return {"model": model, "metrics": metrics, "curves": curves, **read}


def words_of(job: str, images: Path) -> list[str]:
    given = JOBS[job]
    monitor = any(word.startswith("monitor.") for word in given)
    return [word for word in tiny(images, *OFTEN, *given) if not (monitor and word == "monitor.every=0")]


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    @cache
    def of(job: str) -> tuple[dict, int]:
        run = tmp_path_factory.mktemp(job) / "run"
        output = run.parent / "output"
        assert ended(started("supernet", [*words_of(job, images), f"hydra.run.dir={run}"], output)) == 0
        return results(run), output.read_text().count("\n")

    return of


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("job", JOBS)
def test_killed_and_resumed(job, seed, images, undisturbed, tmp_path):
    wanted, lines = undisturbed(job)
    rng, run, output = random.Random(f"{job} {seed}"), tmp_path / "run", tmp_path / "output"
    code, kills = -1, 0
    while code != 0:
        there = (run / ".hydra" / "overrides.yaml").exists()
        words = [f"resume={run}"] if there else [*words_of(job, images), f"hydra.run.dir={run}"]
        process = started("supernet", words, output)
        if kills < 4:
            printed(process, output, rng.randrange(lines))
            time.sleep(rng.random() * 0.2)
            number = rng.choice(SIGNALS)
            with suppress(ProcessLookupError):  # it has ended just now
                os.kill(process.pid, number)
            kills += 1
            code = ended(process)
            assert code in (0, -number, 128 + number), output.read_text()
        else:
            code = ended(process)
            assert code == 0, output.read_text()
        assert "Traceback" not in output.read_text()
    assert results(run) == wanted


@pytest.mark.parametrize("number", SIGNALS)
def test_the_real_command_killed_and_resumed(number, images, undisturbed, tmp_path):
    """As a person starts it, in its own interpreter; stopped in the search and again in the retraining."""
    wanted, _ = undisturbed("darts")
    run, output = tmp_path / "run", tmp_path / "output"
    command = str(Path(sys.executable).parent / "supernet")
    for words, moment in (
        ([*words_of("darts", images), f"hydra.run.dir={run}"], "search   1/"),
        ([f"resume={run}"], "retrain   1/"),
        ([f"resume={run}"], None),
    ):
        with output.open("w") as file:
            process = subprocess.Popen(
                [command, *words], stdout=file, stderr=file, env={**os.environ, "COLUMNS": "300"}
            )
        while moment and process.poll() is None and moment not in output.read_text():
            time.sleep(0.005)
        if moment:
            process.send_signal(number)
        assert process.wait(120) in ((0, -number, 128 + number) if moment else (0,)), output.read_text()
        assert "Traceback" not in output.read_text()
    assert results(run) == wanted
