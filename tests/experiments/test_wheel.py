"""The recipes of docs/extending.md, word for word, with an installed wheel, from a folder that is not the project."""

import csv
import importlib.util
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from supernet import load
from supernet.space.operations import OPERATIONS

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
EXTENDING = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
BASH = shutil.which("bash")
TINY = ["experiment=quick", "data=npz", "search.epochs=1", "search.batch_size=16", "retrain.epochs=1"]
TINY += ["retrain.batch_size=16", "baseline.random=0", "runtime.threads=1", "hydra.run.dir=run"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A folder into which pip has installed the project's wheel."""
    if BASH is None:
        pytest.skip("needs bash")
    version = importlib.util.find_spec("setuptools") and __import__("setuptools").__version__
    if not version or int(version.split(".")[0]) < 77:
        pytest.skip(f'setuptools>=77 is not installed (found: {version}); pip install -e ".[dev]" brings it')
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__")
    for part in ("supernet", "experiments", "conf"):  # a copy, so that nothing is left in the project
        shutil.copytree(PROJECT / part, folder / "project" / part, ignore=ignored)
    for name in ("README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder / "project")
    settings = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"-O3"' in settings
    hasty = settings.replace('"-O3"', '"-O0"')  # the compiler's optimisations are most of the time
    (folder / "project" / "pyproject.toml").write_text(hasty, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "-q"]
    options = ["--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", *options, "--no-build-isolation", "-w", folder, folder / "project"], check=True)
    (built,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", *options, "--target", folder / "installed", built], check=True)
    return folder / "installed"


def follow(heading: str, home: Path) -> list[str]:
    """Writes the files of a section of docs/extending.md, behind what they hold already, and returns its commands."""
    section = EXTENDING.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    commands = []
    for language, text in re.findall(r"```(\w*)\n(.*?)```", section, re.DOTALL):
        if named := re.match(r"# (\S+\.\w+)\n", text):
            path = home / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
        elif not language:
            commands.append(text.strip())
    return commands


class User:
    """Somebody with the wheel and a folder of their own, who types into bash."""

    def __init__(self, wheel: Path, home: Path) -> None:
        self.wheel, self.home = wheel, home
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSTARTUP")}
        path = f"{wheel / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**kept, "PATH": path, "PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1"}

    def follow(self, heading: str) -> str:
        """As the function, the first command; the file of Python code also tells which package it runs in."""
        command = follow(heading, self.home)[0]
        with (self.home / "mine.py").open("a", encoding="utf-8") as file:
            file.write("\n\nimport supernet\n\nprint('the package is', supernet.__file__)\n")
        return command

    def types(self, line: str, *more: str) -> str:
        """What a line prints; PYTHONPATH also has the wheel, which is no real installation."""
        line = line.replace("PYTHONPATH=.", f"PYTHONPATH=.:{self.wheel}")
        done = subprocess.run(
            [BASH, "-c", f"{line} {shlex.join(more)}"],
            cwd=self.home,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture
def user(wheel, tmp_path) -> User:
    return User(wheel, tmp_path)


@pytest.mark.slow
def test_a_relaxation_of_ones_own(user, images, tmp_path):
    command = user.follow("A relaxation")
    printed = user.types(command, *TINY, f"data.path={images}", "relaxation.power=40")
    assert f"the package is {user.wheel / 'supernet' / '__init__.py'}" in printed
    run = tmp_path / "run"
    assert "_target_: mine.Sharp\n  power: 40" in (run / ".hydra" / "config.yaml").read_text()

    # what was recorded is the entropy of this class' weights, and of no other's
    parts = torch.load(run / "checkpoints" / "search.pt", weights_only=True)["parts"]
    logits = [v.double() for name, v in parts["strategy"]["logits"].items() if "normal" in name and len(v) == 8]
    assert logits, parts["strategy"]["logits"].keys()
    rows = list(csv.DictReader((run / "metrics" / "search.csv").open()))
    (recorded,) = [float(row["value"]) for row in rows if row["tag"] == "alpha/entropy/normal"]

    def entropy(power: float) -> float:
        shares = [(power * v).softmax(-1) for v in logits]
        return sum(-(p * p.log()).sum().item() / math.log(8) for p in shares) / len(shares)

    assert recorded == pytest.approx(entropy(40.0), abs=1e-6)
    assert abs(recorded - entropy(1.0)) > 1e-4

    arrays = np.load(images)
    answers = [r.probs.top1 for r in load(run)(torch.from_numpy(arrays["test_images"][:, None]))]
    (finalist,) = json.loads((run / "summary.json").read_text())["finalists"]
    assert np.mean(answers == arrays["test_labels"]) == pytest.approx(finalist["test_score"])


@pytest.mark.slow
def test_an_operation_of_ones_own(user, images, tmp_path):
    words = [*TINY, f"data.path={images}", "space.operations=[none,blur]"]
    printed = user.types(user.follow("An operation"), *words)
    assert f"the package is {user.wheel / 'supernet' / '__init__.py'}" in printed
    spec = importlib.util.spec_from_file_location("mine", tmp_path / "mine.py")
    mine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mine)
    predictor = load(tmp_path / "run", factories={**OPERATIONS, "blur": mine.blur})
    kept = {o for name, k in predictor.architecture.items() if name.count("/") == 2 for o in k}
    assert kept == {"blur"}
    assert predictor(torch.from_numpy(np.load(images)["test_images"][:2, None]))[1].probs.top1conf > 0


def test_settings_of_ones_own_can_be_resumed(supernet, monkeypatch, images, tmp_path):
    """Both recipes at once, as yamls, stopped after the search; the wheel has no part in this."""
    follow("A relaxation", tmp_path)
    command = follow("An operation", tmp_path)[1]
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # another test's
    monkeypatch.syspath_prepend(tmp_path)
    given = shlex.split(command)[2:]  # behind PYTHONPATH=. and the command
    words = [*given, "relaxation=sharp", *TINY, f"data.path={images}", "space.operations=[none,blur]"]
    code, printed = supernet(*words)
    assert code == 0, printed
    model = (tmp_path / "run" / "model.safetensors").read_bytes()
    for name in ("summary.json", "test.json", "model.safetensors", "genotype.json"):
        (tmp_path / "run" / name).unlink()
    code, printed = supernet("--config-dir", "my_conf", "resume=run")
    assert code == 0, printed
    assert "search   1/1" not in printed
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == model
    assert sys.modules.pop("mine").Sharp


@pytest.mark.parametrize(("heading", "names"), [("A strategy", "normal/2"), ("A space", "chain/2")])
def test_a_strategy_and_a_space_of_ones_own(heading, names, supernet, monkeypatch, images, tmp_path):
    (command,) = follow(heading, tmp_path)
    command = command.replace("my_conf", str(tmp_path / "my_conf"))  # this process knows another my_conf by now
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    code, printed = supernet(*shlex.split(command)[2:], *TINY, f"data.path={images}")
    assert code == 0, printed
    mine = sys.modules.pop("mine")
    space = mine.Chain if heading == "A space" else None
    assert names in load(tmp_path / "run", space=space).architecture


def test_every_command_is_installed_and_says_what_it_takes(user):
    scripts = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    commands = ("explore", "export", "plan", "predict", "report", "show")
    assert {"supernet", *(f"supernet-{name}" for name in commands)} <= set(scripts)
    assert all((user.wheel / "bin" / script).is_file() for script in scripts)
    assert "runs, sweeps or folders of them" in user.types("supernet-report --help")


def test_models_come_with_the_wheel(user):
    from_python = (
        "from supernet import NAS; import numpy; print(len(NAS('digits')(numpy.zeros((9, 9), 'uint8'))[0].names))"
    )
    typed = f"supernet-zoo && supernet-zoo digits && {shlex.join(['python', '-c', from_python])}"
    printed = user.types(typed).splitlines()
    assert any("digits" in line and "CC BY" in line for line in printed)
    assert "  not for clinical use" in printed
    assert printed[-1] == "10"


@pytest.mark.slow
def test_bash_completes_groups_and_options(user):
    install = re.search(r'`(eval "\$\(supernet -sc install=bash\)")`', README)[1]
    pressed = 'COMP_POINT=${#COMP_LINE} COMP_CWORD=1; hydra_bash_completion; echo "${COMPREPLY[@]}"'
    printed = user.types(f'{install}; complete -p supernet; COMP_LINE="supernet relaxation="; {pressed}')
    assert "-F hydra_bash_completion supernet" in printed
    options = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "relaxation").glob("*.yaml"))
    assert printed.splitlines()[-1] == " ".join(f"relaxation={option}" for option in options)
