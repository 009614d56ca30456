import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from common import tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from supernet import Architecture, load


def the_run(root: Path) -> Path:
    (directory,) = (path.parent for path in root.glob("runs/*/*/.hydra"))
    return directory


def test_leaves_all_it_promises(supernet, pictures, images, tmp_path):
    code, printed = supernet(*tiny(images))
    assert code == 0, printed
    run = the_run(tmp_path)
    assert len(run.name.split("-")[-1]) == 6, "a directory with microseconds"
    files = ["genotype.json", "genotype.svg", "genotype.png", "genotype.dot", "summary.json", "env.json"]
    files += ["model.safetensors", "supernet.log", "test.json", ".hydra/overrides.yaml"]
    files += [f"{folder}/{name}" for name in ("search", "retrain", "random_0") for folder in ("tb",)]
    for name in files:
        assert (run / name).exists(), name
    for text in ("searched", "random 0", "validation", "model.safetensors", "tensorboard --logdir", "supernet-show"):
        assert text in printed
    summary = json.loads((run / "summary.json").read_text())
    assert [f["name"] for f in summary["finalists"]] == ["searched", "random 0"]
    assert json.loads((run / "env.json").read_text())["torch"] == torch.__version__
    assert "search   1/1" in (run / "supernet.log").read_text()

    arrays = np.load(images)
    predictor = load(run)
    assert predictor.architecture == Architecture.load(run / "genotype.json")
    answers = [r.probs.top1 for r in predictor(torch.from_numpy(arrays["test_images"]).unsqueeze(1))]
    accuracy = float(np.mean(np.array(answers) == arrays["test_labels"]))
    assert accuracy == pytest.approx(summary["finalists"][0]["test_score"])

    rows = list(csv.DictReader((run / "metrics" / "search.csv").open()))
    assert {"search/loss/train", "alpha/entropy/normal", "lr/alpha"} <= {row["tag"] for row in rows}
    events = EventAccumulator(str(run / "tb" / "search"), {"images": 0, "scalars": 0}).Reload()
    assert {"alpha/normal", "genotype/reduce"} <= set(events.Tags()["images"])
    assert "config/text_summary" in events.Tags()["tensors"]
    hparams = EventAccumulator(str(run / "tb" / "retrain")).Reload()
    assert "hparam/test_score" in hparams.Tags()["scalars"]

    # a finished run is not run again
    assert supernet(f"resume={run}") == (0, f"{run} is finished already; its figures are in {run}/summary.json\n")
    code, printed = supernet(f"hydra.run.dir={run}")
    assert (code, printed.count("\n")) == (2, 1)
    assert "holds a run already; use resume=" in printed


def test_a_given_genotype_skips_the_search(supernet, images, tmp_path):
    code, printed = supernet(
        *tiny(images, "genotype=darts_v1", "space.nodes=4", "baseline.random=0", "retrain_valid=0")
    )
    assert code == 0, printed
    run = the_run(tmp_path)
    assert not (run / "metrics" / "search.csv").exists()
    assert Architecture.load(run / "genotype.json")["normal/2/0"] == ("sep_conv_3x3",)
    (finalist,) = json.loads((run / "summary.json").read_text())["finalists"]
    assert finalist["valid_score"] is None


def test_second_order_gumbel_and_an_operation_of_ones_own(supernet, images, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\ndef blur(site):\n    return nn.AvgPool2d(5, site.stride, 2)\n"
    )
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # another test's
    monkeypatch.syspath_prepend(tmp_path)
    operation = "operations.blur={_target_: mine.blur, _partial_: true}"
    choices = ["architect=unrolled", "relaxation=gumbel", "inputs=softmax", "space.operations=[blur,skip_connect]"]
    code, printed = supernet(*tiny(images, *choices, f"+{operation}", "baseline.random=0"))
    assert code == 0, printed
    kept = {
        o for n, k in Architecture.load(the_run(tmp_path) / "genotype.json").items() if n.count("/") == 2 for o in k
    }
    assert kept <= {"blur", "skip_connect"}


def test_a_sweep_ends_with_mean_and_spread(supernet, images, tmp_path):
    few = ["space.operations=[none,skip_connect,sep_conv_3x3]"]
    code, printed = supernet("-m", *tiny(images, *few, "seed=range(2)", "architect=first_order,unrolled_exact"))
    assert code == 0, printed
    (sweep,) = tmp_path.glob("runs/quick/sweep_*")
    rows = list(csv.DictReader((sweep / "sweep.csv").open()))
    assert len(rows) == 4 * 2
    text = (sweep / "sweep.md").read_text()
    assert text in printed
    tests = [float(r["test"]) for r in rows if r["network"] == "searched" and "unrolled" in r["settings"]]
    spread = f"{np.mean(tests):.4f} ± {np.std(tests, ddof=1):.4f}"
    assert any("unrolled_exact | searched | 2 |" in line and spread in line for line in text.splitlines())
    assert "| random | 2 |" in text


def timeless(run: Path) -> dict:
    """The summary without what may differ: how long it took, and the words that were given again."""
    summary = json.loads((run / "summary.json").read_text())
    assert summary.pop("search_seconds") > 0
    assert all(finalist.pop("seconds") > 0 for finalist in summary["finalists"])
    assert "search.epochs=3" in summary.pop("overrides")
    return summary


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "supernet.experiments.pipeline", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def stop_once(process: subprocess.Popen, appears: Path, number: int) -> tuple[int, str]:
    deadline = time.monotonic() + 120
    while not list(appears.parent.glob(appears.name)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=120)
    return process.returncode, printed


@pytest.mark.slow
def test_interrupted_twice_and_resumed_is_bitwise_the_same(supernet, monkeypatch, images, tmp_path):
    """SIGTERM in the search, SIGINT in the retraining, then on to the end: the same model, byte for byte."""
    settings = tiny(images, "search.epochs=3", "retrain.epochs=8", "seed=5", "hydra.run.dir=run")
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    code, printed = supernet(*settings)
    assert code == 0, printed
    run = tmp_path / "parts" / "run"
    code, printed = stop_once(start(tmp_path / "parts", *settings), run / "metrics" / "search.csv", signal.SIGTERM)
    assert code == 143, printed
    assert "all is saved. Go on with: supernet resume=" in printed
    assert "Traceback" not in printed
    resumed = start(tmp_path / "parts", "resume=run")
    code, printed = stop_once(resumed, run / "metrics" / "retrain.csv", signal.SIGINT)
    assert code == 130, printed
    last = start(tmp_path / "parts", "resume=run", "runtime.save_seconds=5")
    printed, _ = last.communicate(timeout=120)
    assert last.returncode == 0, printed
    for name in ("model.safetensors", "genotype.json", "test.json"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / "run" / name).read_bytes(), name
    assert timeless(run) == timeless(tmp_path / "whole" / "run")
    for stage in ("search", "retrain", "random_0"):
        rows = [
            [r for r in csv.reader((folder / "run" / "metrics" / f"{stage}.csv").open()) if not r[1].startswith("sys/")]
            for folder in (tmp_path / "whole", tmp_path / "parts")
        ]
        assert rows[0] == rows[1], stage
