"""What a run directory may ask for when it is resumed: values and named options, nothing that runs code."""

import pickle
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
    with pytest.raises(InputError, match="could run code"):
        resume.arguments([f"resume={record(tmp_path / 'run', word)}"])


def test_values_and_options_pass(tmp_path):
    words = ["experiment=none", "data=npz", "data.path=../a b/x.npz", "genotype=../run", "+search.x=[1,2]", "seed=1"]
    run = record(tmp_path / "it's a run", *words)
    given = resume.arguments([f"resume={run}", "runtime.threads=1"])
    assert given[:-1] == [*words, "runtime.threads=1"]
    assert given[-1] == f"hydra.run.dir='{tmp_path}/it\\'s a run'"
