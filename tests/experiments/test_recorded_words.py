"""What a run directory from elsewhere can ask for: plain values, whatever the spelling of anything else."""

import pickle
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from supernet.experiments import resume
from supernet.experiments.recorded_words import check_composed, check_word, parse, values_of, write

from supernet.runtime.errors import InputError

BUILT = "{_${name}_: pathlib.Path.touch, self: pwned}"  # a resolver puts the key together
BAD = [
    # a target, spelt in every way
    "data._target_=pathlib.Path.touch",
    "+data._target_=x",
    "++data._target_=x",
    "~data._target_",
    "~data._target_=x",
    "data={_target_: x}",
    "stages=[{wrapper: {_target_: os.system, _partial_: true}}]",
    "stages=[{wrapper: {'_target_': os.system}}]",
    'stages=[{wrapper: {"_target_": os.system}}]',
    "stages=[{wrapper: {_targ\\ et_: os.system}}]",
    "stages=[[[{a: [{_target_: x}]}]]]",
    "+operations.x={_target_: os.system}",
    "+operations.x._target_=os.system",
    "+operations={x: {_target_: os.system}}",
    "+operations.x={a.b._target_: os.system}",
    "+operations.x={a/_target_: os.system}",
    # Hydra's other keys
    "strategy._partial_=false",
    "+optimizer._args_=[1]",
    "+search._convert_=all",
    "+search._recursive_=false",
    "+search._here_=x",
    "+search.__class__=x",
    # interpolations, and escapes that become some
    "name=${oc.env:HOME}",
    "name=$\\{oc.env:HOME\\}",
    "name=$\\{oc.env\\:HOME\\}",
    "name='${oc.env:HOME}'",
    'name="${oc.env:HOME}"',
    "name='a\\'${oc.env:HOME}'",
    "name=\\\\${oc.env:HOME}",
    "name='\\${oc.env:HOME}'",
    "name=x$\\{seed\\}y",
    "name=str($\\{seed\\})",
    "name=str('${seed}')",
    "+name=${hydra:runtime.cwd}",
    "data.path=$\\{oc.decode:x\\}",
    "data.path=$\\\\\\{x\\\\\\}",
    "stages=[$\\{oc.env:HOME\\}]",
    "stages=[{a: $\\{oc.env:HOME\\}}]",
    "stages=[{a: [b, '${oc.env:HOME}']}]",
    "+operations.x=$\\{relaxation\\}",
    f"+operations.x={BUILT}",
    "+operations.x={_$\\{name\\}_: os.system}",
    "+operations.x={$\\{name\\}: os.system}",
    "+operations.$x=1",
    "+operations.x={'${a}': 1}",
    # groups that lead to files, other packages, Hydra's own settings and flags
    "data=../../outside",
    "data=/tmp/outside",
    "data='../outside'",
    "data=file:///tmp/x",
    "data=[npz,../x]",
    "data=a.b",
    "data@hydra=npz",
    "data@_global_=npz",
    "+data@data._target_=npz",
    "hydra/launcher=x",
    "+hydra/job_logging=x",
    "hydra.run.dir=x",
    "+hydra.searchpath=[file:///tmp]",
    "hydra=x",
    "schema/config=x",
    "data/deeper=x",
    "+defaults=[x]",
    "+anything.else=1",
    "+resume=x",
    "-m",
    "--config-dir=/tmp",
    "-cd=/tmp",
    "--experimental-rerun=x",
    # several values, what is no word at all, and what is too much
    "seed=1,2",
    "seed=range(3)",
    "data=glob(*)",
    "seed=interval(0,1)",
    "seed=[1",
    "seed",
    "",
    " ",
    "a.b=1\nhydra.c=2",
    "name=猫",
    "stages=" + "[" * 3000 + "]" * 3000,
    "stages={1: 2}",
    # ranges without steps, control characters, halves of characters
    "seed=range(0,5,0)",
    "seed=range(0,1,0.0)",
    "name='\x1b[31mred'",
    "seed='a\rsupernet: all is well'",
    "stages=[{a: 'x\nsupernet: all is well'}]",
    "genotype='\x1b]0;title\x07'",
    "name=\ud800",
    "data=[npz,/tmp/x]",
    "objective=[entropy,{_target_: x}]",
    "method=glob(*)",
    "data.path=" + "x" * 200_000,
]


@pytest.mark.parametrize("word", BAD, ids=lambda word: word[:40])
def test_refused_whatever_its_spelling(word):
    assert check_word(word) is None


@pytest.mark.parametrize(
    "word",
    [
        "seed=3",
        "experiment=none",
        "method=null",
        "data=npz",
        "+data=npz",
        "objective=[beta_decay,entropy]",
        "~table",
        "search.epochs=3",
        "search.schedule.start=1e-3",
        "+search.x=[1,2]",
        "retrain.network={darts: {cells: 3}}",
        "stages=[{keep: 3, channel_divisor: 4}, {inherit_weights: true}]",
        "stages.0.keep=3",
        "data.path=../a b/x.npz",
        "genotype=../run",
        "name=",
        "retrain_valid=0",
    ],
)
def test_plain_words_stay_as_they_are(word):
    assert check_word(word) == word


@pytest.mark.parametrize(
    "word",
    [
        "data.path='a (1)/$x'",
        r"data.path=a\ b\,c",
        r"data.path='it\'s \\ here\\'",
        'genotype="|nor_conv_3x3~0|+|none~0|skip_connect~1|"',
        "data.classes=['猫', 'a b', \"'\"]",
        "name=str(3)",
        "search.schedule.start=float(1)",
        "monitor.least=nan",
        "retrain.clip=inf",
        r"data.path=C:\\photos",
    ],
)
def test_what_is_written_anew_means_the_same(word):
    made = check_word(word)
    assert made is not None
    assert repr(list(values_of(parse(made)))) == repr(list(values_of(parse(word))))
    assert check_word(made) == made


def test_patterns_of_options_and_pasted_genotypes_go_on():
    assert check_word("method=glob(*)", swept=True) == "method=glob(*)"
    assert check_word("method=glob([darts*,gdas],exclude=darts_2nd)", swept=True)
    assert check_word("name=glob(*)", swept=True) is None
    assert check_word("method=glob('../*')", swept=True) is None
    assert parse(check_word("genotype='Genotype(\n  normal=[])'")).value() == "Genotype(\n  normal=[])"


def test_a_folder_of_ones_own_makes_groups_whose_options_are_no_paths(tmp_path):
    """With my_conf/operations/ there, Hydra would read operations=../../run/x as a file, and that could set Hydra."""
    for name in ("operations", "hydra"):
        (tmp_path / name).mkdir()
    assert check_word("+operations=blur", folders=[tmp_path]) == "+operations=blur"
    for word in ("+operations=../../run/x", "operations='../x'", "+operations=/tmp/x", "hydra=x", "+own=x"):
        assert check_word(word, folders=[tmp_path]) is None
    (tmp_path / "own").mkdir()
    assert check_word("+own=x", folders=[tmp_path]) == "+own=x"


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z]\w{2,5}x", fullmatch=True), inner),
    max_leaves=8,
)


@given(PLAIN)
def test_a_plain_value_is_written_and_read_back(value):
    override = parse(f"stages={write(value)}")
    if override is not None:  # what Hydra's grammar cannot hold even in quotes is refused
        assert repr(list(values_of(override))) == repr([value])


def record(folder: Path, *words: str) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(words)))
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["name=target", f"+operations.x={BUILT}"],
        ["name=target", "+operations.x={_$\\{name\\}_: pathlib.Path.touch, self: pwned}"],
        ["stages=[{wrapper: {_target_: pathlib.Path.touch, self: pwned}}]"],
        ["optimizer._target_=pathlib.Path.touch", "+optimizer.self=pwned"],
        ["name=$\\{oc.env:SECRET\\}", "experiment=quick"],
    ],
)
def test_no_marker_is_made_and_no_secret_is_written(supernet, tmp_path, monkeypatch, words):
    monkeypatch.setenv("SECRET", "s3cr3t")
    run = record(tmp_path / "run", *words)
    code, printed = supernet(f"resume={run}")
    assert (code, printed.count("\n")) == (2, 1), printed
    assert "could run code; if you trust it, give it again" in printed
    assert not (tmp_path / "pwned").exists()
    assert not any("s3cr3t" in path.read_text() for path in run.rglob("*") if path.is_file())


def test_composed_settings_are_held_against_what_a_person_chose(tmp_path):
    """The second guard, alone: as if the first had let a word pass."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text("_target_: mine.trusted\n")
    with initialize_config_module("supernet.conf", version_base="1.3"):
        sound = compose("config", overrides=["experiment=quick", "method=drnas", "data.flip=true"])
        for word, value in (("+operations.x={_target_: os.system}", "os.system"), ("name=${seed}", "${seed}")):
            made = compose("config", overrides=[word])
            with pytest.raises(InputError, match="could run code"):
                check_composed(made, [], [])
            check_composed(made, [word], [])
            assert value in OmegaConf.to_yaml(made)
        own = compose("config", overrides=["+operations.x={_target_: mine.trusted}"])
    check_composed(sound, [], [])
    check_composed(own, [], [tmp_path / "own"])
    with pytest.raises(InputError, match=r"mine\.trusted"):
        check_composed(own, [], [])


def test_the_guard_of_the_composed_settings_stands_in_the_way(supernet, tmp_path, monkeypatch):
    word = "+operations.x={_target_: pathlib.Path.touch}"
    monkeypatch.setattr(resume, "check_words", lambda words, *_, **__: list(words))
    code, printed = supernet(f"resume={record(tmp_path / 'run', 'experiment=quick', word)}")
    assert code == 2
    assert "._target_=pathlib.Path.touch: this run's directory could run code with it" in printed


def sweep(folder: Path, *words: str, hydra=(), subdir="${hydra.job.num}") -> Path:
    folder.mkdir(parents=True)
    overrides = {"task": list(words), "hydra": ["hydra.mode=MULTIRUN", *hydra]}
    settings = {"hydra": {"overrides": overrides, "sweep": {"subdir": subdir}}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.mark.parametrize(
    ("words", "more", "says"),
    [
        (["name=a,$\\{oc.env:HOME\\}"], {}, "could run code"),
        (["data=npz,../x"], {}, "could run code"),
        (["seed=shuffle(range(3))"], {}, "could run code"),  # another order every time
        (["seed=range(0,100000000)"], {}, "a sweep of"),
        (["seed=1,2"], {"hydra": ["hydra/sweeper=mine"]}, "could run code; give it again"),
        (["seed=1,2"], {"subdir": "../${seed}"}, "could lie outside"),
        (["seed=1,2"], {"subdir": "/tmp/${seed}"}, "could lie outside"),
        (["seed=1,2"], {"subdir": "${oc.env:HOME}"}, "could lie outside"),
        (["seed=1,2"], {"subdir": "${hydra.runtime.cwd}"}, "could lie outside"),
        (["data.path=a,../../b"], {"subdir": "${data.path}"}, "could lie outside"),
        (["data.path=a,/b"], {"subdir": "${data.path}"}, "could lie outside"),
        (["+operations.x.y=a", "+operations={x: {y: ../../b}}"], {"subdir": "${operations.x.y}"}, "could lie outside"),
        (["name=../b", "+name=a"], {"subdir": "${name}"}, "could lie outside"),
        (["seed=1,2"], {"subdir": ["a"]}, "could lie outside"),
        (["seed=1,2"], {"subdir": "a" * 600}, "could lie outside"),
        (["seed=range(0,5,0)"], {}, "could run code"),
        (["data.path=a/../../../b,c"], {"subdir": "${hydra.job.override_dirname}"}, "could lie outside"),
    ],
)
def test_a_strangers_sweep_is_judged_as_a_run_is(supernet, tmp_path, words, more, says):
    code, printed = supernet(f"resume={sweep(tmp_path / 'sweep', *words, **more)}")
    assert (code, printed.count("\n")) == (2, 1), printed
    assert says in printed


def test_the_words_of_a_sweep_that_goes_on(tmp_path):
    folder = sweep(
        tmp_path / "sweep", "experiment=quick", "seed=range(2)", "name=choice(a,'b c')", subdir="s_${seed}/run"
    )
    made = resume.arguments([f"resume={folder}", "-m", "runtime.threads=1"])
    assert made == [
        "-m",
        "experiment=quick",
        "seed=0,1",
        "name=a,'b c'",
        "runtime.threads=1",
        "hydra.sweep.subdir='s_${seed}/run'",
        f"hydra.sweep.dir='{folder}'",
    ]


BOMB = "a: &a {k: 1}\n" + "".join(
    f"b{n}: &{b} {{<<: [*{a}, *{a}]}}\n" for n, (a, b) in enumerate(pairwise("abcdefghij"))
)


@pytest.mark.parametrize("text", [BOMB * 3, "- &a [x, x]\n- *a\n", "- " + "x" * 10**6], ids=["merge", "alias", "large"])
def test_records_that_stand_for_more_than_they_hold_are_not_read(supernet, tmp_path, text):
    run = record(tmp_path / "run")
    (run / ".hydra" / "overrides.yaml").write_text(text)
    code, printed = supernet(f"resume={run}")
    assert (code, printed.count("\n")) == (2, 1)
    assert "is not a list of overrides" in printed
    (run / "multirun.yaml").write_text(text)
    (run / ".hydra" / "overrides.yaml").unlink()
    assert supernet(f"resume={run}")[0] == 2


def test_a_job_outside_its_sweep_does_not_begin(supernet, tmp_path, monkeypatch):
    """The second guard, alone."""
    monkeypatch.setattr(resume, "_subfolder", lambda *_: "../elsewhere")
    _, printed = supernet(f"resume={sweep(tmp_path / 'sweep', 'experiment=quick')}")
    assert "elsewhere: lies outside" in printed
    assert not (tmp_path / "elsewhere" / "checkpoints").exists()


def test_nothing_is_fetched_unless_it_is_typed_again(tmp_path, monkeypatch):
    settings = {"data": {"download": True, "root": "there"}, "table": None, "genotype": None}
    run = record(tmp_path / "run", "data=cifar10", "data.download=true")
    monkeypatch.chdir(tmp_path)
    for typed, fetched in (([], False), (["data.download=true"], True)):
        made = resume.for_the_parts(settings, resume.start([f"resume={run}", *typed]))
        assert made["data"]["download"] is fetched
    assert resume.for_the_parts(settings, resume.Start([]))["data"]["download"] is True
    assert settings["data"]["download"] is True


def test_paths_of_shards_are_meant_from_where_the_run_began(tmp_path):
    began = resume.Start([], directory=tmp_path / "run", origin=tmp_path)
    settings = {"data": {"train": "sh/{0..2}.tar", "valid": None, "test": "/t.tar"}, "table": None, "genotype": None}
    made = resume.for_the_parts(settings, began)["data"]
    assert made == {"train": f"{tmp_path}/sh/{{0..2}}.tar", "valid": None, "test": "/t.tar"}


def test_no_pickle_is_read(supernet, tmp_path):
    (tmp_path / "config.pickle").write_bytes(pickle.dumps(1))
    code, printed = supernet(f"resume={record(tmp_path / 'run', '--experimental-rerun=config.pickle')}")
    assert (code, printed.count("\n")) == (2, 1)
