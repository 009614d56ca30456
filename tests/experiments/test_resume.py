"""What a run directory may ask for when it is resumed: values and named options, nothing that runs code."""

import pickle
import shlex
from pathlib import Path

import pytest
import yaml
from supernet.experiments import resume

from supernet.runtime.errors import InputError


class Payload:
    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


def record(folder: Path, *overrides: str) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    return folder


def test_flags_and_files_of_a_stranger_are_never_read(supernet, tmp_path):
    (tmp_path / "job.pkl").write_bytes(pickle.dumps(Payload()))
    (tmp_path / "outside.yaml").write_text("_target_: pathlib.Path.touch\nself: pwned\n")
    up = "../" * 20
    words = ["--experimental-rerun=job.pkl", f"--config-dir={tmp_path}", f"data={up}{str(tmp_path)[1:]}/outside"]
    for number, word in enumerate(words):
        code, printed = supernet(f"resume={record(tmp_path / str(number), word)}")
        assert (code, printed.count("\n")) == (2, 1), word
        assert "could run code" in printed
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "word",
    [
        "-m",
        " hydra.job.name=x",
        "hydra=x",
        "+hydra/job_logging=x",
        "data@hydra=digits",
        "schema/config=x",
        "space=[darts,../x]",
        "space={_target_: x}",
        "a.b=1\nhydra.c=2",
    ],
)
def test_refused(tmp_path, word):
    wrapped = record(tmp_path / "wrapped", "stages=[{wrapper: {_target_: os.system, _partial_: true}}]")
    with pytest.raises(InputError, match="could run code"):
        resume.arguments([f"resume={wrapped}"])
    with pytest.raises(InputError, match="could run code"):
        resume.arguments([f"resume={record(tmp_path / 'run', word)}"])


def test_flags_may_stand_anywhere():
    """Hydra, with argparse, understands none that stand between two overrides."""
    words = ["seed=1,2", "-m", "data=npz", "--config-dir", "conf", "name=x"]
    assert resume.arguments(words) == ["--config-dir", "conf", "-m", "seed=1,2", "data=npz", "name=x"]


def test_values_and_options_pass(tmp_path):
    words = ["experiment=none", "data=npz", "data.path=../a b/x.npz", "genotype=../run", "+search.x=[1,2]", "seed=1"]
    words.append("stages=[{keep: 3, channel_divisor: 4}, {inherit_weights: true}]")
    run = record(tmp_path / "it's a run", *words)
    given = resume.arguments([f"resume={run}", "runtime.threads=1"])
    assert given[:-1] == [*words, "runtime.threads=1"]
    assert given[-1] == f"hydra.run.dir='{tmp_path}/it\\'s a run'"


def test_a_folder_of_ones_own_settings_is_given_again(tmp_path):
    run = record(tmp_path / "run", "relaxation=sharp")
    for folder in (["--config-dir", "my conf"], ["-cd", "conf"], ["--config-dir=conf"]):
        words = [*folder, f"resume={run}", "runtime.threads=1"]
        assert resume.arguments(words) == [*folder, "relaxation=sharp", "runtime.threads=1", f"hydra.run.dir='{run}'"]
    for word in ("seed=3", "--config-name=other", "-m", "--multi", "--experimental-rerun=x", "conf"):
        with pytest.raises(InputError, match=f"goes on with the run's own settings; leave out {word}"):
            resume.arguments([f"resume={run}", word])


def test_what_could_run_code_has_to_be_typed_again(tmp_path):
    operation = "+operations.blur={_target_: mine.blur, _partial_: true}"
    run = record(tmp_path / "run", operation, "seed=1")
    with pytest.raises(InputError, match="could run code; if you trust it, give it again"):
        resume.arguments([f"resume={run}"])
    given = [operation, "seed=1", f"hydra.run.dir='{run}'"]
    assert resume.arguments([f"resume={run}", operation]) == given
    with pytest.raises(InputError, match="could run code"):
        resume.arguments([f"resume={run}", operation.replace("blur,", "blur2,")])
    with pytest.raises(InputError, match=r"leave out \+operations"):
        resume.arguments([f"resume={record(tmp_path / 'other', 'seed=1')}", operation])


def test_the_command_to_go_on_with_can_be_typed(tmp_path):
    operation = "+operations.blur={_target_: mine.blur, _partial_: true}"
    started = ["--config-dir", "my conf", "relaxation=sharp", operation, "hydra.run.dir=run", "seed=1"]
    run = record(tmp_path / "a run", "relaxation=sharp", operation, "seed=1")
    command = resume.command(run, started)
    folder = Path("my conf").absolute()
    assert command == f"supernet --config-dir '{folder}' 'resume={run}' '{operation}'"
    resumed = resume.arguments(shlex.split(command)[1:])
    assert resumed == ["--config-dir", str(folder), "relaxation=sharp", operation, "seed=1", f"hydra.run.dir='{run}'"]
    assert resume.command(run, resumed) == command
    assert resume.command(Path("run"), ["-m", "seed=0,1"]) == "supernet resume=run"


@pytest.mark.parametrize("word", ["hydra.run.dir=", "hydra.sweep.dir=runs/", "name=", "resume="])
def test_a_name_that_no_folder_can_have(tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"255 bytes at most|no run there"):
        resume.arguments([word + "x" * 300])
    assert resume.finished([word + "x" * 300]) is None
    if not word.startswith("resume"):
        resume.arguments([word + "x" * 255])
        resume.arguments([word.replace("=", "='") + "x" * 255 + "'"])
