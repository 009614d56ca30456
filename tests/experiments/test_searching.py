"""Searches in several stages: what goes from one to the next, and stopping and going on anywhere."""

from pathlib import Path

import pytest
import torch
from common import composed, slow_but, tiny
from supernet.experiments import job as job_module
from supernet.experiments.job import prepare, random_cell
from supernet.experiments.searching import named_parts, search_cell

from supernet import load
from supernet.data import npz
from supernet.data.splits import search_halves
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.search import methods
from supernet.search.progressive.search import StagedSearch, build_stage, search_stages, size_in_words
from supernet.search.progressive.stages import resolve_stages
from supernet.space.architecture import Architecture
from supernet.space.darts import Darts
from supernet.space.dropout import SkipDropout
from supernet.training.lengths import batch_size_for

METHODS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "method").glob("*.yaml"))
WIDENED = (
    "[{channel_divisor: 4, keep: 3, schedule: whole}, "
    "{channel_divisor: 2, keep: 2, inherit_weights: true, schedule: whole}]"
)


class StopAfter(Interruption):
    """Asks for a stop when it is asked for the so manieth time: once before each step."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def requested(self) -> bool:
        self.left -= 1
        self.signal = 15 if self.left < 0 else None
        return self.left < 0


def job_of(directory, images, *more, steps=10**9):
    settings = composed(*tiny(images), "runtime.progress=false", *more)
    directory.mkdir(exist_ok=True)
    return prepare(settings, directory, StopAfter(steps))


def built(job, number, kept=None, before=None):
    with named_parts(job):
        return build_stage(job.search, number, kept, before)


@pytest.fixture
def silent(monkeypatch):
    """Pictures and event files take longer than the searches."""
    monkeypatch.setattr(job_module, "RunReport", lambda directory, name, console: Silent())


def flat(value, name=""):
    if isinstance(value, dict):
        return [row for key in value for row in flat(value[key], f"{name}/{key}")]
    if isinstance(value, list | tuple):
        return [row for number, each in enumerate(value) for row in flat(each, f"{name}/{number}")]
    return [(name, value)]


def state_of(directory: Path) -> dict:
    """All that is saved, but for times."""
    return {
        path.name: flat(torch.load(path, weights_only=True))
        for path in sorted((directory / "checkpoints").glob("*.pt"))
    }


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        a == b and (torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y)
        for (a, x), (b, y) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(
    "settings",
    [
        [f"stages={WIDENED}", "relaxation=dirichlet"],
        ["stages=[{keep: 3, skip_dropout: 0.5}, {depth: 2, skip_dropout: 0.3}]", "relaxation=gumbel"],
    ],
)
def test_stopped_in_any_stage_and_resumed_is_bitwise_the_same(silent, tmp_path, images, settings):
    settings = ["space=micro", *settings]
    whole, found = tmp_path / "whole", search_cell(job_of(tmp_path / "whole", images, *settings), "")
    straight = state_of(whole)
    assert list(straight) == ["search1.pt", "search2.pt"]
    parts = tmp_path / "parts"
    for steps in (1, 2, 2):  # 3 steps a stage: in the first, then at the start and in the middle of the second
        with pytest.raises(Interrupted):
            search_cell(job_of(parts, images, *settings, steps=steps), "")
        torch.manual_seed(steps)  # whatever has happened to the process in between
    assert sorted(state_of(parts)) == ["search1.pt", "search2.pt"]
    again = search_cell(job_of(parts, images, *settings), "")
    assert again == found
    for name, rows in state_of(parts).items():
        assert same(rows, straight[name]), name


def test_a_checkpoint_of_another_stage_is_refused(silent, tmp_path, images):
    stages = "stages=[{keep: %d}, {}]"
    search_cell(job_of(tmp_path, images, "space=micro", stages % 3), "")
    with pytest.raises(InputError, match=r"stage is depth=1\.0"):
        search_cell(job_of(tmp_path, images, "space=micro", stages % 4), "")


def test_what_goes_on_to_the_next_stage(tmp_path, images, capsys):
    job = job_of(tmp_path, images, "space.channels=8", f"stages={WIDENED}")
    first = built(job, 0)
    with torch.no_grad():
        for logits in first.inner.logits.values():
            logits.copy_(torch.tensor([0.0, 0.1, 0.2, 0.9, 0.8, 0.3, 0.7, 0.4]))
    kept = first.kept(3)
    assert set(kept.values()) == {("skip_connect", "sep_conv_3x3", "dil_conv_3x3")}
    second = built(job, 1, kept, first)
    assert all(torch.equal(p.detach(), torch.tensor([0.9, 0.8, 0.7])) for p in second.inner.logits.values())
    names = ["network.stem.0.weight", "network.classifier.weight"]
    states = [made.supernet.state_dict() for made in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in names)
    edge = "network.cells.0.edges.0-2.choice.candidates.sep_conv_3x3.1.weight"
    assert [len(state[edge]) for state in states] == [2, 4]
    afresh = built(job_of(tmp_path, images, "stages=[{keep: 3}, {}]"), 1, kept, first)
    assert not any(torch.equal(p.detach(), torch.tensor([0.9, 0.8, 0.7])) for p in afresh.inner.logits.values())
    assert "one channel in 2" in size_in_words(job.search.stages[1], second.supernet)


def test_a_divisor_that_does_not_fit_is_told(tmp_path, images):
    job = job_of(tmp_path, images, "stages=[{channel_divisor: 6}, {}]")
    assert "one channel in 2 (not in 6" in size_in_words(job.search.stages[0], built(job, 0).supernet)


def test_dropout_follows_identity_skips_alone(tmp_path, images):
    job = job_of(tmp_path, images, "stages=[{skip_dropout: 0.5}, {}]", "runtime.engine=fused")
    dropped, plain_ = (built(job, n).supernet for n in (0, 1))
    skips = {n: m for n, m in dropped.named_modules() if n.endswith("candidates.skip_connect")}
    assert {type(m).__name__ for m in skips.values()} == {"SkipDropout", "FactorizedReduce"}
    assert not any(isinstance(m, SkipDropout) for m in plain_.modules())


def test_a_wrapper_stands_in_for_the_strategy_and_rivals_come_from_the_whole_space(tmp_path, images, monkeypatch):
    (tmp_path / "my_wrapping.py").write_text("def wrap(strategy, word):\n    return [strategy, word]\n")
    monkeypatch.syspath_prepend(tmp_path)
    stages = "stages=[{wrapper: {_target_: my_wrapping.wrap, _partial_: true, word: you}}]"
    job = job_of(tmp_path, images, stages, "chooser.excluded=[max_pool_3x3,avg_pool_3x3,skip_connect,sep_conv_3x3]")
    made = built(job, 0)
    assert made.strategy == [made.inner, "you"]
    assert made.supernet.decisions["normal/2/0"].options == ("none", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
    drawn = {o for n in range(8) for name, kept in random_cell(job, n).items() if name.count("/") == 2 for o in kept}
    assert {"max_pool_3x3", "skip_connect"} <= drawn


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["stages=[3]"], r"stages\[0\]=3: needs settings of a stage, such as {keep: 4}"),
        (["stages=[{},{kept: 4}]"], r"stages\[1\].kept: unknown setting; known: depth"),
        (["stages=[{keep: few}]"], r"stages\[0\].keep=few: needs a whole number"),
        (["stages=[{depth: 0}]"], r"stages\[0\].depth=0.0: multiplies"),
        (["stages=[{warm_up: -1}]"], r"stages\[0\].warm_up=-1.0: multiplies the warm-up"),
        (["stages=[{inherit_weights: true}]"], r"stages\[0\].inherit_weights=True: there is no stage before the first"),
        (["stages=[{wrapper: 3}]"], r"stages\[0\].wrapper=3: needs an object"),
        (["stages=[{schedule: half}]"], r"stages\[0\].schedule=half: use one of own, whole"),
    ],
)
def test_mistakes_are_found_before_anything_runs(tmp_path, images, more, says):
    with pytest.raises(InputError, match=says):
        job_of(tmp_path, images, *more)


def test_leaving_out_too_much_is_told(tmp_path, images):
    with pytest.raises(
        InputError, match=r"chooser.excluded=\['skip_connect'\]: leaves none of none, skip_connect at normal/2/0"
    ):
        built(job_of(tmp_path, images, "space.operations=[none,skip_connect]", "chooser.excluded=[skip_connect]"), 0)


@pytest.mark.parametrize("name", slow_but(["pc_darts"], ["pc_darts", "p_darts", "random_search"]))
def test_the_library_alone_searches_as_the_job_does(silent, tmp_path, images, name):
    """Without settings: images, a space and a method, in few steps; all that is saved is the same, to the bit."""
    words = ["experiment=laptop", "data=npz", f"data.path={images}", "space=darts_quick", "space.channels=8"]
    short = ["search.epochs=1", "search.warm_up=0", "monitor.every=0", "runtime.threads=1", f"method={name}"]
    few = {"candidates": 3, "finalists": 2} if name == "random_search" else {}
    short += [f"strategy.{key}={value}" for key, value in few.items()]
    (tmp_path / "job").mkdir()
    job = prepare(composed(*words, *short, "runtime.progress=false"), tmp_path / "job", Interruption())
    found = search_cell(job, "")

    data, space = npz(str(images)), Darts(channels=8, cells=3, nodes=2)
    halves = search_halves(data.train.labels, 0.5, 0, data.classes)
    method = getattr(methods, name)(**few).few_steps(epochs=1, batch_size=batch_size_for(len(halves[0]), 11))
    planned = StagedSearch(
        stages=resolve_stages(method.stages, space, method.recipe, data.shape, len(data.classes)),
        chooser=method.chooser_for(space),
        make_strategy=method.make_strategy,
        shape=data.shape,
        outputs=len(data.classes),
    )
    folder = tmp_path / "library" / "checkpoints"
    alone = search_stages(
        planned,
        *(data.train.subset(half) for half in halves),
        data.augmentation,
        run_of=lambda stage: Run(checkpoint=folder / f"{stage}.pt"),
    )
    assert alone.architecture == found
    saved = [state_of(tmp_path / side) for side in ("job", "library")]
    assert list(saved[0]) == list(saved[1]) != []
    for name in saved[0]:
        rows = [[row for row in side[name] if row[0].startswith("/parts/")] for side in saved]
        assert len(rows[0]) > 20
        assert same(*rows)


FEW = ("darts", "drnas_progressive", "darts_pt", "p_darts", "pc_darts", "random_search", "spos", "enas")


@pytest.mark.parametrize("method", slow_but(FEW, [name for name in METHODS if name not in ("bignas", "once_for_all")]))
def test_every_method_searches_micro(silent, images, tmp_path, method):
    """Two steps a stage, and a network of what was found."""
    length = ["search.epochs=1", "search.warm_up=0", "search.batch_size=23"]
    uniform = composed(f"method={method}")["strategy"]["_target_"].endswith("UniformStrategy")
    few = ["strategy.candidates=3", "strategy.finalists=2"] if uniform else []
    job = job_of(
        tmp_path, images, "experiment=micro", "table=none", f"method={method}", "monitor.every=1", *length, *few
    )
    found = search_cell(job, "")
    assert found.space == "nasbench201"
    assert job.final.build(found)(torch.zeros(2, *job.data.shape)).shape == (2, 3)


PATHS = ["aging", "enas", "fairnas", "fbnet", "proxyless", "proxyless_r", "spos", "tunas"]


@pytest.mark.parametrize("experiment", ["quick", "nasbench201"])
@pytest.mark.parametrize("method", slow_but(("enas", "fairnas", "proxyless", "tunas"), PATHS))
def test_methods_of_paths_and_policies_search_other_spaces(silent, images, tmp_path, experiment, method):
    """In the DARTS space, where nodes choose inputs, and in NAS-Bench-201 with its published settings of the method."""
    words = ["experiment=nasbench201", "space.channels=4", "space.cells=1", "space.nodes=2", "retrain=quick"]
    words = words if experiment == "nasbench201" else ["experiment=quick"]
    few = ["strategy.candidates=3"] if method in ("aging", "enas", "fairnas", "spos") else []
    length = ["search.epochs=2", "search.batch_size=23"]
    job = job_of(tmp_path, images, *words, f"method={method}", *length, *few)
    found = search_cell(job, "")
    assert found.space == ("nasbench201" if experiment == "nasbench201" else "darts")
    assert job.final.build(found)(torch.zeros(2, *job.data.shape)).shape == (2, 3)


def test_a_job_in_two_stages(supernet, images, tmp_path):
    """From the command line: each stage reports under its own name, and the model loads."""
    code, printed = supernet(*tiny(images, "stages=[{keep: 3}, {inherit_weights: true}]", "baseline.random=0"))
    assert code == 0, printed
    (run,) = tmp_path.glob("runs/quick/*")
    assert sorted(path.stem for path in (run / "metrics").glob("*.csv")) == ["retrain", "search1", "search2"]
    assert {path.name for path in (run / "tb").iterdir()} == {"search1", "search2", "retrain"}
    assert "search2: 4 channels, 3 cells, 3 operations an edge, 1 epoch" in printed
    assert load(run).architecture == Architecture.load(run / "genotype.json")
