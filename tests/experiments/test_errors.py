"""What a person sees who makes a mistake: one line, exit code 2 (Hydra's own: 1), and nothing is lost."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from supernet.runtime.checkpoint import Checkpoint

BASE = ["experiment=quick", "runtime.threads=1"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("search.epochs=abc", "search.epochs=abc: needs a whole number"),
        ("search.epochs=0", "search.epochs=0: needs at least 1"),
        ("search.warm_up=99", "search.warm_up=99"),
        ("search.batch_size=1", "search.batch_size=1"),
        ("search.share=1.5", "search.share=1.5"),
        ("search.schedule.start=-1", "search.schedule.start=-1"),
        ("retrain.auxiliary_weight=inf", "retrain.auxiliary_weight=inf: needs a finite number"),
        ("runtime.deterministic=-1", "runtime.deterministic=-1: needs true or false"),
        ("architect._partial_=5", "architect._partial_=5: needs true or false"),
        ("monitor.spared=['']", "monitor.spared=['']: an empty text in it"),
        ("monitor.spared=[redcue]", "monitor.spared=['redcue']: no kind of cell is 'redcue'; known: normal, reduce"),
        ("strategy.discretiser=null", "strategy.discretiser=None: needs an object"),
        ("table=[]", "table=[]: needs the name of an option"),
        ("inputs=[]", "inputs=[]: needs the name of an option"),
        ("genotype=''", "genotype=: an empty text"),
        ("name=../x", "name=../x: runs lie in runs/NAME"),
        ("chooser.excluded=[1,2]", "no operation is named '1'"),
        ("+strategy.transforms.a={b: 1}", "strategy.transforms.a={'b': 1}: needs an object"),
        ("strategy.transforms=[none,none]", "strategy.transforms=[none,none]"),
        ("optimizer._target_=builtins.dict", "optimizer._target_: dict does not say which settings it takes"),
        ("+search.speed=3", "search.speed: unknown setting; known: epochs"),
        ("search.drop_path=1", "search.drop_path=1.0: needs to lie in [0, 1)"),
        ("monitor.on_rise=pray", "monitor.on_rise=pray: use one of go_on, stop, adapt"),
        ("monitor.every=-2", "monitor.every=-2: needs 1 epoch or more, or 0 for never"),
        ("retrain.keep=first", "retrain.keep=first: use one of last, best"),
        ("retrain.clip=-1", "retrain.clip=-1"),
        ("space.nodes=1", "space.nodes=1: needs to be at least 2"),
        ("space.channels=few", "space.channels=few: needs a whole number"),
        ("space.operations=[sep_conv_9x9]", "'sep_conv_9x9'"),
        ("space.operations=skip_connect", "needs a list"),
        ("retrain.network.darts.stem=mnist", "retrain.network.darts.stem=mnist: use one of cifar, imagenet"),
        (
            "relaxation._target_=supernet.search.differentiable.relaxations.Hardmax",
            "supernet: relaxation._target_=supernet.search.differentiable.relaxations.Hardmax: cannot",
        ),
        ("relaxation._target_=pathlib.Path", "relaxation=.: needs something that can be called"),
        ("architect._target_=os.system", "_target_=os.system"),
        ("optimizer.lr=fast", "supernet: optimizer.lr=fast: needs a number"),
        ("seed=-1", "seed=-1: needs to lie between 0"),
        ("runtime.device=tpu9", "runtime.device=tpu9"),
        ("runtime.threads=0", "runtime.threads=0"),
        ("runtime.precision=float8", "runtime.precision=float8: use float32, tf32, bfloat16"),
        ("retrain_valid=1.5", "retrain_valid=1.5"),
        ("baseline.random=-1", "baseline.random=-1"),
        ("optimizer.betas=0.5", "supernet: optimizer.betas=0.5: needs a list"),
        ("retrain.network.darts.cells=0", "retrain.network.darts.cells=0: needs to be at least 1"),
        ("retrain.auxiliary_weight=-1", "retrain.auxiliary_weight=-1.0: needs 0 or more"),
        ("retrain.label_smoothing=1", "retrain.label_smoothing=1.0: needs to lie in"),
        ("runtime.device=mps", "runtime.device=mps: use auto, cpu, cuda or cuda:N"),
        ("runtime.save_seconds=-1", "runtime.save_seconds=-1.0: needs 0 or more"),
        ("+operations.mine=3", "operations.mine=3: needs a function, such as {_target_: mine.mine}"),
        ("relaxation=null", "relaxation=null: needs the name of an option; supernet --help shows them"),
        ("architect={_target_: mine.best}", "needs the name of an option"),
        ("runtime=3", "needs the name of an option"),
        ("genotype=nothing", "genotype=nothing: neither a file nor a published name; names: nasnet_a"),
        # what shows only when a part is called
        (
            "chooser.channel_divisor=3",
            "supernet: chooser.channel_divisor=3: 4 channels at normal/2/0 cannot be divided",
        ),
        ("chooser.auxiliary=true", "supernet: strategy.transforms: AuxiliarySkip gives"),
        ("optimizer.lr=-1", "supernet: optimizer: Invalid learning rate: -1.0"),
        ("+discretiser.kind=normal", "supernet: discretiser.kind: unknown setting; known: space, decisions, weights"),
        # what Hydra and OmegaConf find
        ("relaxation=nope", "relaxation=nope: no such option; known: binary_gates, dirichlet, gumbel"),
        ("seed=abc", "seed=abc: Value 'abc' of type 'str' could not be converted to Integer"),
        ("+seed=3", "An item is already at 'seed'"),
        ("stages=5", "stages=5: Invalid value assigned: int is not a ListConfig"),
        ("runtime.threads=${nowhere}", "Interpolation key 'nowhere' not found"),
        ("seed=1,2", "seed=1,2: several values are a sweep, which needs -m; one list has brackets: 'seed=[...]'"),
    ],
)
def test_one_line_and_exit_code_two(supernet, override, says):
    code, printed = (
        supernet(*BASE, override, "search.epochs=1") if "epochs" not in override else supernet(*BASE, override)
    )
    assert code == 2, printed
    lines = [line for line in printed.splitlines() if line.startswith("supernet: ") and "seed 0" not in line]
    assert len(lines) == 1, printed
    assert says in lines[0]
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["optimizer=exponentiated_gradient", "relaxation=simplex", "optimizer.lr=-1"],
            "supernet: optimizer.lr=-1.0: needs 0 or more",
        ),
        (["discretiser=limit_skips", "discretiser.most=-1"], "supernet: discretiser.most=-1: needs 0 or more"),
        (
            ["objective=expected_cost", "~objective.expected_cost.costs.skip_connect"],
            "supernet: objective.expected_cost.costs: none for 'skip_connect'; give each of none, max_pool_3x3",
        ),
        (["architect=unrolled", "architect.epsilon=0"], "supernet: architect.epsilon=0.0: needs to be above 0"),
        (
            ["search.schedule._target_=supernet.training.schedules.Linear", "+search.schedule.tail=99"],
            "needs more than tail=99; lower the tail or train longer",
        ),
        (
            ["retrain.keep=best", "retrain_valid=0"],
            "supernet: retrain.keep=best: needs validation images to choose by; use retrain.keep=last",
        ),
        (["space=micro", "table=micro", "space.nodes=3"], "; table=none does without it"),
        (["data=npz"], "data.path: needs a value; give one with data.path=..."),
        (["data=npz", "data.path=absent.npz"], "data.path=absent.npz: no such file"),
        (["data=image_folder", "data.path=absent"], "data.path=absent: no such folder"),
        (["data=cifar10"], "; use download=True, or digits()"),
        (
            ["limits=5"],
            "limits=5: has settings with names, and no value of its own; give one of those, such as limits.lat",
        ),
        (["operations=x"], "operations=x: has settings with names"),
        (["runtime.device=cuda:99"], "CUDA devices are visible; use auto or cpu"),
        (["+operations={odd: {_target_: nowhere.to.be.found}}"], "operations.odd._target_=nowhere.to.be.found"),
        (["genotype=genotype.json"], "is unknown; known: none, max_pool_3x3"),
        (["resume=absent"], "resume=absent: no run there"),
        (["genotype=.."], "genotype=..: no genotype.json in this folder"),
        (["hydra.run.dir=genotype.json/x"], "genotype.json is no folder that can be written to"),
    ],
)
def test_mistakes_of_several_words(supernet, tmp_path, arguments, says):
    broken = {"format": "supernet.genotype", "version": 1, "space": "darts", "choices": {}}
    kinds = {f"{k}/{n}": [str(s) for s in range(2)] for k in ("normal", "reduce") for n in (2, 3)}
    edges = {f"{k}/{s}": ["sep_9x9"] for k, sources in kinds.items() for s in sources}
    (tmp_path / "genotype.json").write_text(json.dumps({**broken, "choices": {**kinds, **edges}}))
    base = [] if arguments[0].startswith("resume") else BASE
    code, printed = supernet(*base, *arguments)
    assert code == 2, printed
    assert says in printed
    assert "Traceback" not in printed


def test_cfg_and_help_do_not_run_anything(supernet, tmp_path):
    code, printed = supernet("--cfg", "job")
    assert code == 0
    assert yaml.safe_load(printed)["search"]["_target_"] == "supernet.search.recipe.SearchRecipe"
    code, printed = supernet("--help")
    assert code == 0
    assert printed.count("\nsupernet ") >= 8
    assert "relaxation: binary_gates, dirichlet, gumbel, sigmoid" in printed
    assert not (tmp_path / "runs").exists()


def recorded(tmp_path: Path, overrides: object) -> Path:
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "overrides.yaml").write_text(
        overrides if isinstance(overrides, str) else yaml.safe_dump(overrides)
    )
    return run


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["relaxation._target_=os.system"], "could run code"),
        (["hydra.searchpath=[file:///tmp]"], "could run code"),
        (["+name=${oc.env:HOME}"], "could run code"),
        ({"a": 1}, "not a list of overrides"),
        ("[unclosed", "not a list of overrides"),
        ("!!python/object/apply:os.system [echo]", "not a list of overrides"),
    ],
)
def test_a_strangers_run_directory_cannot_run_code(supernet, tmp_path, overrides, says):
    code, printed = supernet(f"resume={recorded(tmp_path, overrides)}")
    assert (code, printed.count("\n")) == (2, 1)
    assert says in printed


def test_resume_refuses_a_checkpoint_of_something_else(supernet, tmp_path):
    class Part:
        def state_dict(self):
            return {}

    run = recorded(tmp_path, BASE)
    parts = {name: Part() for name in ("supernet", "strategy", "optimizer", "epochs")}
    Checkpoint(run / "checkpoints" / "search.pt", {"space": "nasbench201", "data": "digits", "seed": 0}, parts).save()
    before = (run / "checkpoints" / "search.pt").read_bytes()
    code, printed = supernet(f"resume={run}")
    assert code == 2
    assert "space is nasbench201 there and darts in this run" in printed
    (run / "checkpoints" / "search.pt").write_bytes(before[:500])
    code, printed = supernet(f"resume={run}")
    assert code == 2
    assert "truncated, damaged or not a checkpoint" in printed
    assert (run / "checkpoints" / "search.pt").read_bytes() == before[:500]


def test_a_search_that_diverges_stops_in_one_line(supernet):
    code, printed = supernet(*BASE, "search.schedule.start=1e30", "search.clip=.inf", "search.schedule.end=0")
    assert code == 2, printed
    assert "not finite" in printed
    assert "lower the learning rate" in printed
    assert "Traceback" not in printed


def test_out_of_gpu_memory_says_what_to_lower(supernet, monkeypatch):
    from supernet.experiments import pipeline

    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(pipeline, "search_cell", full)
    code, printed = supernet(*BASE)
    assert code == 2
    assert "lower search.batch_size or retrain.batch_size" in printed
    assert sys.argv[0] == "supernet"
