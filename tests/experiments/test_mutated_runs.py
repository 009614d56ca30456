"""A run directory that was damaged, or that somebody made to do harm, is refused in a line or ends where it should."""

import io
import json
import os
import pickle
import random
import shutil
import time
from pathlib import Path

import pytest
import torch
import yaml
from common import tiny
from forked import ran, started
from mutations import mutated
from safetensors import safe_open

pytestmark = pytest.mark.slow

BLOCKS = 10  # of twenty each: what fails is found again in less time


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def end(run: Path):
    with safe_open(run / "model.safetensors", "pt") as file:
        model = {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118
    return model, (run / "genotype.json").read_bytes(), json.loads((run / "test.json").read_text())


def stopped(images: Path, run: Path, stage: str) -> Path:
    """A run that was killed as soon as it had a checkpoint of this stage."""
    words = tiny(images, "search.epochs=2", "retrain.epochs=400", "baseline.random=0", "runtime.save_seconds=0")
    if stage == "search":
        words = [word.replace("search.epochs=2", "search.epochs=400") for word in words]
    process = started("supernet", [*words, f"hydra.run.dir={run}", "runtime.progress=false"], run.parent / "output")
    while not (run / "checkpoints" / f"{stage}.pt").exists():
        assert process.exitcode is None, (run.parent / "output").read_text()
        time.sleep(0.002)
    process.kill()
    process.join()
    overrides = run / ".hydra" / "overrides.yaml"
    overrides.write_text(overrides.read_text().replace("epochs=400", "epochs=2"))
    return run


@pytest.fixture(scope="module")
def runs(images, tmp_path_factory):
    """Name of a stage -> a run that was stopped there, and how it ends."""
    made = {}
    for stage in ("search", "retrain"):
        folder = tmp_path_factory.mktemp(stage)
        run = stopped(images, folder / "run", stage)
        for checkpoint in (run / "checkpoints").iterdir():
            content = torch.load(checkpoint, weights_only=True)
            content["fingerprint"] = {
                key: value.replace("400", "2") if key.endswith(".epochs") else value
                for key, value in content["fingerprint"].items()
            }
            torch.save(content, checkpoint)
        whole = folder / "whole"
        shutil.copytree(run, whole)
        code, said = ran("supernet", [f"resume={whole}"], folder / "output")
        assert code == 0, said
        made[stage] = run, end(whole)
    return made


def judged(run: Path, wanted: tuple | None, folder: Path, what: str) -> None:
    """Resumes a damaged run; where `wanted` is None it may end elsewhere."""
    began = time.monotonic()
    code, said = ran("supernet", [f"resume={run}"], folder / "output", seconds=100)
    assert code is not None, f"{what}: no end after {time.monotonic() - began:.0f} s: {said}"
    assert "Traceback" not in said, f"{what}: {said}"
    assert code in (0, 2), f"{what}: exit {code}: {said}"
    if code == 0:
        assert wanted is None or end(run) == wanted, f"{what}: another end: {said}"
    else:
        last = said.rstrip("\n").rsplit("\n", 1)[-1]
        assert last.startswith("supernet: "), f"{what}: {said}"
        assert last.isprintable(), f"{what}: {said}"


@pytest.mark.parametrize("block", range(BLOCKS))
def test_mutated_checkpoints(block, runs, tmp_path):
    rng = random.Random(block)
    for number in range(20):
        source, wanted = runs[rng.choice(["search", "retrain"])]
        run = tmp_path / f"run{number}"
        shutil.copytree(source, run)
        file = max((run / "checkpoints").glob("*.pt"), key=lambda path: path.stat().st_mtime)
        whole = file.read_bytes()
        file.write_bytes(changed := mutated(whole, rng))
        judged(run, wanted, tmp_path, f"block {block} number {number}")
        if not (run / "summary.json").exists():
            assert file.read_bytes() == changed, "what was refused is left as it was"
        shutil.rmtree(run)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_mutated_checkpoints_with_one_before(block, runs, tmp_path):
    """The one before is sound, or damaged too: the run ends where it should, or is refused."""
    rng = random.Random(300 + block)
    for number in range(10):
        source, wanted = runs[rng.choice(["search", "retrain"])]
        run = tmp_path / f"run{number}"
        shutil.copytree(source, run)
        file = max((run / "checkpoints").glob("*.pt"), key=lambda path: path.stat().st_mtime)
        before = file.with_name(f"{file.name}.previous")
        before.write_bytes(file.read_bytes())
        file.write_bytes(rng.choice([b"", mutated(file.read_bytes(), rng), file.read_bytes()[: rng.randrange(9000)]]))
        if rng.random() < 0.4:
            before.write_bytes(mutated(before.read_bytes(), rng))
        judged(run, wanted, tmp_path, f"block {block} number {number}")
        shutil.rmtree(run)


@pytest.fixture(scope="module")
def swept(images, tmp_path_factory):
    """A sweep of which one job has ended and one has not begun."""
    folder = tmp_path_factory.mktemp("swept")
    words = tiny(images, "space.operations=[none,skip_connect]", "baseline.random=0", "seed=0,1")
    code, said = ran("supernet", ["-m", *words, f"hydra.sweep.dir={folder / 's'}"], folder / "output")
    assert code == 0, said
    shutil.rmtree(folder / "s" / "1")
    return folder / "s"


_RECORDS = ["multirun.yaml", "multirun.yaml.previous", "0/summary.json", "0/.hydra/overrides.yaml", "0/env.json"]
_BAD = [
    "hydra/launcher=joblib",
    "hydra.launcher.setup=[touch MARK]",
    "hydra/launcher=slurm",
    "hydra.sweep.subdir=../x",
    "+hydra.callbacks.x={_target_: os.getcwd}",
    "hydra.launcher._target_=os.getcwd",
    "hydra.sweeper.params={seed: 3}",
]


@pytest.mark.parametrize("block", range(BLOCKS))
def test_mutated_sweeps(block, swept, tmp_path):
    rng = random.Random(400 + block)
    mark, outside = tmp_path / "MARK", tmp_path / "outside.txt"
    for number in range(6):
        outside.write_text("mine")
        sweep = tmp_path / f"s{number}"
        shutil.copytree(swept, sweep)
        (sweep / "multirun.yaml.previous").write_bytes((sweep / "multirun.yaml").read_bytes())
        path = sweep / rng.choice(_RECORDS)
        how = rng.choice(["bytes", "empty", "gone", "words", "link", "folder"])
        if how == "words":
            record = yaml.safe_load((sweep / "multirun.yaml").read_text())
            record["hydra"]["overrides"]["hydra"].append(rng.choice(_BAD))
            (sweep / "multirun.yaml").write_text(yaml.safe_dump(record))
        elif how == "bytes":
            path.write_bytes(mutated(path.read_bytes(), rng))
        elif how == "empty":
            path.write_bytes(b"")
        else:
            path.unlink()
            if how == "link":
                path.symlink_to(outside)
            elif how == "folder":
                path.mkdir()
        what = f"block {block} number {number}: {how} {path.name}"
        code, said = ran("supernet", [f"resume={sweep}"], tmp_path / "output", seconds=100)
        assert code in (0, 1, 2), f"{what}: exit {code}: {said}"
        assert "Traceback" not in said, f"{what}: {said}"
        assert not mark.exists(), what
        assert outside.read_text() == "mine", what
        shutil.rmtree(sweep)


def _values(content: dict, path: tuple = ()):
    """Places of everything in a checkpoint that is no tensor, and of some that are."""
    for key, value in content.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from _values(value, (*path, key))


WRONG = [None, -1, 10**12, float("nan"), "text", [], {}, torch.zeros(3), 2.5, True]


@pytest.mark.parametrize("block", range(BLOCKS))
def test_checkpoints_with_parts_of_the_wrong_kind(block, runs, tmp_path):
    rng = random.Random(100 + block)
    for number in range(20):
        source, wanted = runs[rng.choice(["search", "retrain"])]
        run = tmp_path / f"run{number}"
        shutil.copytree(source, run)
        file = max((run / "checkpoints").glob("*.pt"), key=lambda path: path.stat().st_mtime)
        content = torch.load(file, weights_only=True)
        # What a training goes on from may be another one, and then its end is: weights and the state of chance may not.
        places = [p for p in _values(content) if p[0] not in ("random",) and not _continuous(content, p)]
        *above, last = rng.choice(places)
        node = content
        for key in above:
            node = node[key]
        value = rng.choice(WRONG)
        if rng.random() < 0.2:
            del node[last]
        else:
            node[last] = value
        torch.save(content, file)
        what = f"block {block} number {number}: {'/'.join(map(str, [*above, last]))} = {value!r}"
        judged(run, wanted, tmp_path, what)
        shutil.rmtree(run)


def _continuous(content: dict, path: tuple) -> bool:
    """Whether a place holds a number that another training could have brought there: a sum, an average, a score."""
    node = content
    for key in path:
        node = node[key]
    return isinstance(node, float)


def harmful(run: Path, rng: random.Random, outside: Path, mark: Path) -> str:
    """Does one bad thing to a run directory and says what."""
    files = sorted(path for path in run.rglob("*") if path.is_file())
    kind = rng.choice(
        ["bytes", "bytes", "bytes", "empty", "gone", "link", "pipe", "folder", "words", "words", "pickle"]
    )
    path = rng.choice(files)
    if kind == "words":
        path = run / ".hydra" / "overrides.yaml"
        words = yaml.safe_load(path.read_text())
        words.insert(rng.randrange(len(words) + 1), word := rng.choice(_words(mark)))
        path.write_text(yaml.safe_dump(words))
        return f"the recorded word {word!r}"
    if kind == "bytes":
        path.write_bytes(mutated(path.read_bytes(), rng))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pickle":
        file = io.BytesIO()
        pickle.dump(Payload(mark), file)
        path.write_bytes(file.getvalue())
    elif kind == "link":
        path = rng.choice([path, path.with_name(path.name + ".partial")])
        path.unlink(missing_ok=True)
        path.symlink_to(outside)
    else:
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
    return f"{kind}: {path.relative_to(run)}"


def _words(mark: Path) -> list[str]:
    touch = f"_target_: pathlib.Path.touch, self: {{_target_: pathlib.Path, _args_: [{mark}]}}"
    target = r"\$\{oc.decode:_}target\$\{oc.decode:_}"
    return [
        f"+operations.x={{{touch}}}",
        f"stages=[{{wrapper: {{{touch}}}}}]",
        f"+x._target_={mark}",
        r"name=$\{oc.env:HOME}",
        r"name=\$\{oc.env:HOME}",
        "name='\\${oc.env:HOME}'",
        "data.path=${oc.env:HOME}",
        "+data.x=$\\{oc.env:HOME}",
        f"+operations.x={{{target}: os.getcwd}}",
        "hydra.run.dir=/tmp/elsewhere",
        "--config-dir=/tmp",
        "hydra/launcher=x",
        "+hydra.callbacks.x={_target_: os.getcwd}",
        "data.download=true",
        "runtime.threads=x",
        "seed=7",
        "name=\x1b[31mred",
        "~retrain",
        "search.epochs=3",
        "schema/config=x",
        "retrain_valid=0.5",
    ]


@pytest.mark.parametrize("block", range(BLOCKS))
def test_mutated_run_directories(block, runs, tmp_path):
    rng = random.Random(200 + block)
    outside, mark = tmp_path / "outside.txt", tmp_path / "mark"
    for number in range(20):
        outside.write_text("mine")
        source, wanted = runs[rng.choice(["search", "retrain"])]
        run = tmp_path / f"run{number}"
        shutil.copytree(source, run)
        done = [harmful(run, rng, outside, mark) for _ in range(rng.choice([1, 1, 2]))]
        record = Path(".hydra") / "overrides.yaml"
        same = (run / record).is_file() and (run / record).read_bytes() == (source / record).read_bytes()
        judged(run, wanted if same else None, tmp_path, f"block {block} number {number}: {done}")
        assert not mark.exists(), f"code ran: {done}"
        assert outside.read_text() == "mine", done
        shutil.rmtree(run)
