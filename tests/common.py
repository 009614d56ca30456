"""What several test modules share."""

import copy
import json
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from supernet.experiments import pipeline
from supernet.experiments.schema import plain

from supernet.runtime.report import RunReport
from supernet.space.architecture import Decision


@cache
def _composed(overrides: tuple[str, ...]) -> dict:
    with initialize_config_module("supernet.conf", version_base="1.3"):
        return plain(compose("config", overrides=list(overrides)))


def composed(*overrides: str) -> dict:
    """The settings that these words make: a copy of one's own, while Hydra, which is slow, is asked once."""
    return copy.deepcopy(_composed(overrides))


def slow_but(quick: Sequence[Any], of: Sequence[Any]) -> list[Any]:
    """Parameters of a test of which all but a few are of the slow tests."""
    assert set(quick) <= set(of)
    return [each if each in quick else pytest.param(each, marks=pytest.mark.slow) for each in of]


def tiny(images, *more: str) -> list[str]:
    """Words for a run of a second or two; without the monitor, unless asked for."""
    settings = ["experiment=quick", "data=npz", f"data.path={images}", "search.epochs=1", "search.batch_size=16"]
    return [*settings, "retrain.epochs=1", "retrain.batch_size=16", "runtime.threads=1", "monitor.every=0", *more]


def finalist(name: str, genotype: str, valid, test, **table) -> dict:
    scores = {"train_score": valid, "valid_score": valid, "test_score": test, "seconds": 1800.0}
    return {"name": name, "parameters": 1000, "macs": 5, **scores, "genotype": genotype, "table": table}


def fabricate(folder: Path, method: str, seed: int, *finalists: dict, **changes) -> Path:
    """A finished run that never ran."""
    facts = {
        "version": 2,
        "score": "accuracy",
        "name": "made",
        "experiment": "",
        "method": method,
        "data": "digits",
        "space": "micro",
    }
    facts |= {"seed": seed, "overrides": ["space=micro", f"method={method}", f"seed={seed}", "runtime.threads=1"]}
    facts |= {"settings": f"s-{method}", "training": "t", "images": [1, 8, 8], "search_epochs": 8}
    facts |= {"search_seconds": 1800.0, "search_train_score": 0.9, "search_valid_score": 0.1 * seed}
    facts |= {"genotype": "g", "table_best": {"truth": 95.0} if finalists[0]["table"] else {}, "table_regret": {}}
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({**facts, "finalists": finalists, **changes}))
    return folder


def node_decision(name: str, sources: Sequence[str], keep: int = 1) -> Decision:
    """The decision about the inputs of a node, such as "normal/2", as a cell asks it."""
    return Decision(name, tuple(sources), keep, "inputs", name.split("/")[0])


def edge_decision(name: str, options: Sequence[str], **more: Any) -> Decision:
    """The decision about the operation of an edge, such as "normal/2/0", as a cell asks it."""
    inputs, source = name.rsplit("/", 1)
    return Decision(name, tuple(options), group=name.split("/")[0], when=((inputs, (source,)),), **more)


def typed_words(
    main: Callable[[], None], name: str, monkeypatch: Any, capsys: Any, *words: object
) -> tuple[int, str, str]:
    """Runs a console command in this process as if its words had been typed: exit code, output, errors."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    out, err = capsys.readouterr()
    return code, out, err


def only_run(tmp_path: Path, monkeypatch: Any, capfd: Any, *words: str) -> tuple[int, str, Path]:
    """Runs the command in this process and a folder of its own: exit code, what was printed, the run's folder."""
    folder = tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RunReport, "figure", lambda *_: None)
    monkeypatch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)
    monkeypatch.setattr(sys, "argv", ["supernet", *words, f"hydra.run.dir={folder}"])
    code = 0
    try:
        pipeline.main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    out, err = capfd.readouterr()
    return code, out + err, folder
