"""The command line: what Hydra could not read is quoted for it, and what does not exist is named at once."""

import re
from importlib.resources import files

import pytest
from hydra.errors import ConfigCompositionException
from omegaconf.errors import OmegaConfBaseException
from supernet.experiments.command_line import AS_THEY_ARE, check_options, prepared, readable, told
from supernet.experiments.recorded_words import parse

from supernet.runtime.errors import InputError

TEXTS = [
    "photos (1)",
    "a=b",
    "猫犬",
    "cats,dogs",
    "[x]",
    "{a: b}",
    "it's",
    'say "x"',
    "C:\\new\\x",
    "end\\",
    " x ",
    "a:b",
]
TEXTS += [
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|",
    "Genotype(normal=[('skip_connect', 0)], normal_concat=range(2, 6))",
]
TEXTS += ["007", "1_000", "1e3", "true", "nan", "#1", "a#b", "x;y", "a&b", "100%", "~/x", "range(3)", "\U0001f408"]


@pytest.mark.parametrize("key", AS_THEY_ARE)
@pytest.mark.parametrize("text", TEXTS)
def test_paths_genotypes_and_names_are_taken_letter_by_letter(key, text):
    assert parse(readable(f"{key}={text}")).value() == text


@pytest.mark.parametrize(
    "word",
    [
        "data.path='a (1)'",
        'data.path="a"',
        "genotype=null",
        "name=",
        "data.path=/a/b-c.npz",
        "hydra.run.dir=runs/${name}",
    ],
)
def test_what_hydra_can_read_stays(word):
    assert readable(word) == word


def test_commas_of_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert readable("data.path=a,b", sweeping=True) == "data.path=a,b"
    assert readable("data.path='a,b'", sweeping=True) == "data.path='a,b'"
    (tmp_path / "a,b").mkdir()
    assert readable("data.path=a,b", sweeping=True) == "data.path='a,b'"
    assert readable("seed=1,2") == "seed=1,2"


def test_other_values_with_letters_that_hydra_lacks():
    assert readable("data.classes=[猫,dog]") == "data.classes=['猫',dog]"
    assert parse(readable("data.classes=[猫,犬 x,dog]")).value() == ["猫", "犬 x", "dog"]
    assert parse(readable("+data.note=é#")).value() == "é#"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--seed", "1"], "--seed: settings have no dashes; write seed=..."),
        (["--seed=1"], "--seed=1: settings have no dashes; write seed=1"),
        (["--cofig"], "--cofig: no such flag; did you mean --cfg"),
        (["epoch=3"], "did you mean retrain.epochs, search.epochs"),
        (["sed=3"], "did you mean seed"),
        (["relaxtion=gumbel"], "did you mean relaxation"),
        (["serch.epochs=3"], "did you mean search.epochs"),
        (["search.epoch=3"], "did you mean search.epochs"),
        (["runtime.thread=3"], "did you mean runtime.threads"),
        (["seed"], "settings are written key=value"),
        (["seed=[1"], "brackets and quotes need to close"),
        (["name='x"], None),
        (["data path=x"], "'data path' is no name of a setting"),
        (["data.path=x"], "data=digits has no path; add data=coco or data=image_folder or"),
        (["data=cifar10", "data.path=x"], "data=cifar10 has no path; add data=coco or data=image_folder or"),
        (["protocol.search.epochs=3"], "protocol has no settings of its own; supernet --cfg job shows those"),
        (["candidats=seven"], "did you mean candidates"),
        (["--config-dir", "absent"], "--config-dir absent: no such folder"),
        (["-m", "seed=1,2", "--cfg", "job"], "-m and --cfg: only one of them at a time"),
        (["--cfg=job", "-i", "all"], "--cfg and -i: only one of them at a time"),
        (["hydra/launcher=null"], "hydra/launcher=null: needs the name of an option"),
        (["--config-dir=" + "x" * 300, "search.epochs=1"], "no such folder"),
        (["operations_of=seven"], "no such setting"),
    ],
)
def test_one_line_before_hydra(given, says):
    if says is None:
        assert prepared(given) == ["name='\\'x'"]
        return
    with pytest.raises(InputError) as error:
        prepared(given)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("protocol=nope", "protocol=nope: no such option; known: few_steps, nasbench201, published"),
        ("candidates=[full,seven]", "needs the name of an option"),
        ("data=mine", "data=mine: no such option"),
        ("data=null", "data=null: needs the name of an option"),
        ("~protocol", "~protocol: other settings follow from it; use protocol=NAME"),
        ("~space=darts", "use space=NAME"),
        ("~method", "use method=null"),
    ],
)
def test_options_that_do_not_exist(word, says):
    with pytest.raises(InputError) as error:
        check_options([word])
    assert says in str(error.value)


def test_options_that_exist(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("path: x")
    check_options(["data=mine"], [tmp_path])
    check_options(["data=digits,npz", "objective=[beta_decay]", "method=null", "~table", "data.path=x", "+method=gdas"])


def test_what_other_settings_follow_from():
    """`~GROUP` of those would be several lines of Hydra's."""
    text = files("supernet.conf").joinpath("config.yaml").read_text()
    groups = set(re.findall(r"\$\{(\w+)\}", text.partition("\nname:")[0]))
    assert groups
    for group in groups:
        with pytest.raises(InputError, match="other settings follow"):
            check_options([f"~{group}"])


def test_what_is_there_passes(tmp_path):
    (tmp_path / "own").mkdir()
    given = [
        "-m",
        "--config-dir",
        str(tmp_path),
        "own=x",
        "experiment=quick",
        "data=npz",
        "data.path=x",
        "+data.more=1",
    ]
    given += ["search.epochs=1,2", "retrain.network.darts.cells=3", "optimizer.lr=1", "~table", "--package", "x"]
    assert prepared(given) == given
    assert prepared(["help"]) == prepared(["-h"]) == ["--help"]
    assert prepared(["resume=a (1)"]) == ["resume=a (1)"]
    assert prepared(["--cfg", "job", "seed=1"]) == ["--cfg", "job", "seed=1"]


@pytest.mark.parametrize(
    ("given", "laptop"),
    [
        (["data=npz", "data.path=x"], True),
        (["data=cifar10", "method=pc_darts"], True),
        (["-m", "data=npz", "data.path=x", "seed=0,1"], True),
        ([], False),
        (["data=digits"], False),
        (["data=npz", "data.path=x", "experiment=digits"], False),
        (["data=npz", "data.path=x", "space=darts"], False),
        (["resume=runs/x", "data.download=true"], False),
    ],
)
def test_images_of_another_kind_take_the_laptops_experiment(given, laptop):
    """The default's network is one small cell for 8 x 8 digits: photographs want a larger one."""
    assert ("experiment=laptop" in prepared(given)) == laptop


def test_the_version_is_ours(supernet):
    code, printed = supernet("--version")
    assert (code, printed) == (0, "supernet 0.1.0\n")
    code, printed = supernet("--seed", "1")
    assert (code, printed.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("init.freeze", "init.freeze: there is none, as init is chosen; add init=RUN, or leave it out"),
        ("table.columns", "; add table=micro or table=micro_mobile"),
        ("retrain.epochs", "; add retrain=cifar or retrain=detection"),
        ("resume", "resume: no such setting; supernet --cfg job shows them"),
    ],
)
def test_a_setting_of_a_group_that_is_not_chosen_has_a_way_out(key, says):
    """Hydra says that a key "is not in struct", which tells nobody what to type."""
    last = key.rpartition(".")[2]
    for cause in (f"Key '{last}' is not in struct", f"Key '{last}' not in 'Config'"):
        error = ConfigCompositionException(f"Could not override '{key}'.")
        error.__cause__ = OmegaConfBaseException(f"{cause}\n    full_key: {key}")
        assert says in told(error)


def test_an_unknown_key_of_a_value_is_named():
    error = ConfigCompositionException("Could not override 'retrain.network.darts'.")
    error.__cause__ = OmegaConfBaseException("Key 'nodes' is not in struct\n    full_key: retrain.network.darts.nodes")
    assert told(error) == "retrain.network.darts.nodes: no such setting; supernet --cfg job shows them"


def test_a_launcher_that_there_is_not_is_told_with_those_that_there_are():
    error = ConfigCompositionException("In 'hydra/config': Could not find 'hydra/launcher/joblb'\n\nAvailable: ...")
    assert told(error) == "hydra/launcher=joblb: no such option; known: basic, processes, slurm, slurm_local"
