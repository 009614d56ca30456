import signal
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Resident, evaluation_batches
from supernet.estimation.problem import SearchProblem
from supernet.estimation.scores import Measured
from supernet.execution.modes import frozen_statistics
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.runtime.seeding import generator
from supernet.search.black_box.evolution import AgingEvolution, SposEvolution
from supernet.search.black_box.random_search import UniformStrategy
from supernet.search.loop import search, search_step
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Step
from supernet.space.architecture import Architecture, check, matters, one_hot, random_architecture
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.space.survey import decisions_of
from supernet.training.schedules import Cosine
from supernet.training.tasks import Classification

AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=1)
OPERATIONS = ("none", "skip_connect", "sep_conv_3x3")


def small(single: bool = True) -> Supernet:
    torch.manual_seed(0)
    space = Darts(channels=2, cells=3, nodes=2, operations=OPERATIONS)
    return Supernet(space.network(Undecided(single=single), (1, 6, 6), 3))


def half(seed: int, count: int = 20) -> Resident:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=generator)
    return Resident(images, torch.arange(count) % 3)


def step_of(supernet) -> Step:
    generator = torch.Generator().manual_seed(1)
    batch = Batch(torch.randn(6, 1, 6, 6, generator=generator), torch.randint(3, (6,), generator=generator))
    return Step(supernet, batch, batch, Classification(), torch.optim.SGD(supernet.parameters(), 0.1), 0.5)


def architecture_of(weights, decisions) -> Architecture:
    kept = {n: tuple(o for o, w in zip(decisions[n].options, v, strict=True) if w) for n, v in weights.items()}
    inputs = {n: k for n, k in kept.items() if decisions[n].role == "inputs"}
    return Architecture(
        "darts",
        {**inputs, **{n: kept[n] for n, d in decisions.items() if d.role == "operation" and matters(d, inputs)}},
    )


def test_each_step_is_one_valid_architecture_and_all_are_as_likely():
    supernet = small()
    strategy, step = UniformStrategy("darts", supernet.decisions), step_of(supernet)
    counts = dict.fromkeys(OPERATIONS, 0)
    pairs: dict[tuple[str, ...], int] = {}
    for _ in range(600):
        weights = strategy.sample(step)
        assert all(set(w.tolist()) <= {0.0, 1.0} for w in weights.values())
        architecture = architecture_of(weights, supernet.decisions)
        check(architecture, supernet.decisions)
        counts[architecture["normal/2/0"][0]] += 1
        pairs[architecture["normal/3"]] = pairs.get(architecture["normal/3"], 0) + 1
    assert counts["none"] == 0
    assert all(240 < counts[o] < 360 for o in OPERATIONS[1:])
    assert len(pairs) == 3
    assert all(150 < count < 250 for count in pairs.values())


def test_draws_depend_on_seed_and_count_and_state_goes_round():
    supernet = small()
    step, strategies = step_of(supernet), [UniformStrategy("darts", supernet.decisions, seed=s) for s in (0, 0, 1)]
    first, again, other = ([s.sample(step) for _ in range(5)] for s in strategies)

    def same(one, two):
        return all(torch.equal(a[n], b[n]) for a, b in zip(one, two, strict=True) for n in a)

    assert same(first, again)
    assert not same(first, other)
    twin = UniformStrategy("darts", supernet.decisions)
    twin.load_state_dict(strategies[0].state_dict())
    assert same([twin.sample(step)], [strategies[0].sample(step)])


@pytest.mark.parametrize("single", [False, True])
def test_a_step_trains_the_path_alone(single):
    """Parameters of operations that are off get no gradient, nor do those of edges that are not kept."""
    supernet = small(single)
    strategy, step = UniformStrategy("darts", supernet.decisions), step_of(supernet)
    search_step(step, strategy, 5.0)
    path = UniformStrategy("darts", supernet.decisions).sample(step)  # the same seed, the same first draw
    edges = dict(supernet.network.cells[0].edges)
    for name, edge in edges.items():
        source, node = name.split("-")
        on = path[f"normal/{node}/{source}"] * path[f"normal/{node}"][int(source)]
        for weight, operation in zip(on, edge.candidates.values(), strict=True):
            moved = any(p.grad is not None and p.grad.any() for p in operation.parameters())
            assert moved == (bool(weight) and any(True for _ in operation.parameters()))


def test_finish_is_the_best_of_all_candidates_in_two_rounds():
    """Few batches pick the finalists, all data the best of them; every candidate is another architecture."""
    decisions = small().decisions
    strategy = UniformStrategy("darts", decisions, candidates=40, finalists=3, batches=7)
    calls = []

    class Judge:
        problem, batches = SimpleNamespace(task=Classification()), None

        def on(self, batches):
            judge = Judge()
            judge.batches = batches
            return judge

        def __call__(self, architecture):
            calls.append((architecture, self.batches))
            skips = float(sum(kept == ("skip_connect",) for kept in architecture.values()))
            return Measured({"accuracy": -skips if self.batches else skips})  # the full data disagree with the batches

    found = strategy.finish(Judge())
    first, second = [a for a, b in calls if b == 7], [a for a, b in calls if b is None]
    assert len(first) == len(set(first)) > 30
    assert len(second) == 3

    def skips(architecture):
        return sum(kept == ("skip_connect",) for kept in architecture.values())

    assert sorted(map(skips, first))[:3] == sorted(map(skips, second))
    assert skips(found) == max(map(skips, second))
    assert found in second
    assert strategy.finish() == strategy.finish()
    check(strategy.finish(), decisions)


def run_search(run, strategy_seed=0):
    supernet = small()
    strategy = UniformStrategy("darts", supernet.decisions, candidates=6, finalists=2, batches=1, seed=strategy_seed)
    recipe = SearchRecipe(epochs=2, batch_size=8, schedule=Cosine(0.1, 0.01))
    result = search(SearchProblem(supernet, half(1), half(2), AUGMENTATION, run), strategy, recipe)
    return result, supernet


def test_the_judge_is_accuracy_with_the_batches_own_statistics():
    """The search's answer is that of an exhaustive evaluation of the same candidates, written out by hand."""
    result, supernet = run_search(Run())
    state = {name: value.clone() for name, value in supernet.state_dict().items()}
    valid, everything = half(2), small(single=False)
    everything.load_state_dict(state)

    def accuracy(architecture, source):
        right = 0
        with torch.no_grad(), frozen_statistics(everything):
            for batch in evaluation_batches(source, 8, AUGMENTATION, torch.device("cpu")):
                logits = everything(batch.images, one_hot(architecture, supernet.decisions))
                right += (logits.argmax(1) == batch.labels).sum().item()
        return right / len(source)

    candidates = [random_architecture("darts", supernet.decisions, generator(0, 0xCA2D, n)) for n in range(6)]
    some = valid.subset(torch.randperm(20, generator=generator(0, 3))[:8])
    finalists = sorted(dict.fromkeys(candidates), key=lambda a: -accuracy(a, some))[:2]
    assert result.architecture == max(finalists, key=lambda a: accuracy(a, valid))
    assert all(torch.equal(value, state[name]) for name, value in supernet.state_dict().items())


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_stopped_and_resumed_is_bitwise_the_same(tmp_path, stop_after):
    straight, whole = run_search(Run())
    interruption = Interruption()

    class Stopper(Silent):
        def progress(self, done, total, message):
            if done == stop_after:
                interruption.signal = signal.SIGTERM

    with pytest.raises(Interrupted):
        run_search(Run(report=Stopper(), checkpoint=tmp_path / "search.pt", interruption=interruption))
    resumed, again = run_search(Run(checkpoint=tmp_path / "search.pt"))
    assert resumed == straight
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in whole.state_dict().items())


def test_interrupted_while_judging_goes_on_from_the_end(tmp_path):
    interruption = Interruption()

    class Stopper(Silent):
        def line(self, message):  # after the last step's save the judging begins
            if "2/2" in message:
                interruption.signal = signal.SIGINT

    run = Run(report=Stopper(), checkpoint=tmp_path / "search.pt", interruption=interruption)
    with pytest.raises(Interrupted):
        run_search(run)
    assert run_search(Run(checkpoint=tmp_path / "search.pt"))[0] == run_search(Run())[0]


class KnownJudge:
    """Few batches say how many convolutions there are, all data how many skip connections."""

    def __init__(self, calls, batches=None):
        self.calls, self.batches = calls, batches
        self.problem = SimpleNamespace(task=Classification(), run=Run())

    def on(self, batches):
        return KnownJudge(self.calls, batches)

    def __call__(self, architecture):
        self.calls.append((architecture, self.batches))
        count = sum(
            kept == (("nor_conv_3x3",) if self.batches else ("skip_connect",)) for kept in architecture.values()
        )
        return Measured({"accuracy": count / 3})


MICRO = NasBench201(nodes=2)


@pytest.mark.parametrize("explorer", [SposEvolution, partial(AgingEvolution, population=10, sample=3)])
def test_an_explorer_tries_the_whole_of_a_small_space_and_ends(explorer):
    """125 cells, 1,000 candidates: the authors' SPOS would never end. The finalists are judged on all data."""
    decisions = decisions_of(MICRO)
    strategy = UniformStrategy("nasbench201", decisions, explorer=explorer, finalists=30, batches=2)
    calls = []
    found = strategy.finish(KnownJudge(calls))
    tried, judged = ([a for a, b in calls if b == batches] for batches in (2, None))
    assert len(tried) == len(set(tried)) == 125
    assert len(judged) == 30
    convolutions = [sum(kept == ("nor_conv_3x3",) for kept in a.values()) for a in tried]
    first = [tried[i] for i in sorted(range(125), key=lambda i: -convolutions[i])[:30]]
    assert judged == first
    assert found == max(judged, key=lambda a: sum(kept == ("skip_connect",) for kept in a.values()))
    check(found, decisions)


def test_an_explorer_learns_from_the_candidates_before():
    """Of 60 candidates evolution finds the best cell, where 60 draws by chance hold other cells."""
    decisions = decisions_of(MICRO)
    means = {}
    for name, explorer in {"chance": None, "aging": partial(AgingEvolution, population=10, sample=5)}.items():
        calls = []
        UniformStrategy("nasbench201", decisions, explorer=explorer, candidates=60, batches=1, seed=1).finish(
            KnownJudge(calls)
        )
        tried = [a for a, b in calls if b == 1]
        means[name] = sum(kept == ("nor_conv_3x3",) for a in tried for kept in a.values()) / len(tried)
        assert len(tried) <= 60
    assert means["aging"] > means["chance"] + 0.3


def test_an_exploration_that_is_interrupted_is_made_again_from_the_end_of_the_training(tmp_path):
    def explored(run):
        supernet = small()
        explorer = partial(AgingEvolution, population=4, sample=2)
        strategy = UniformStrategy("darts", supernet.decisions, explorer=explorer, candidates=9, finalists=2, batches=1)
        problem = SearchProblem(supernet, half(1), half(2), AUGMENTATION, run)
        return search(problem, strategy, SearchRecipe(epochs=1, batch_size=8)).architecture

    interruption, shown, begun = Interruption(), [], []

    class Stopper(Silent):
        def progress(self, done, total, message):
            shown.append(message)
            if "explore" in message and done == 5:
                interruption.signal = signal.SIGINT

        def resume(self, step):
            begun.append(step)

    with pytest.raises(Interrupted):
        explored(Run(report=Stopper(), checkpoint=tmp_path / "search.pt", interruption=interruption))
    assert shown[-1] == "explore: 5 architectures"
    assert begun == [1], "the exploration would empty the files of the search"
    assert explored(Run(checkpoint=tmp_path / "search.pt")) == explored(Run())
    assert [path.name for path in tmp_path.iterdir()] == ["search.pt"]


def test_refuses_another_sampler_and_what_is_no_explorer():
    with pytest.raises(InputError, match=r"^sampler=biased: use uniform or fair"):
        UniformStrategy("mine", {}, sampler="biased")
    with pytest.raises(InputError, match=r"^explorer: makes a int; needs an Explorer"):
        UniformStrategy("mine", {}, explorer=lambda candidates, seed: 3)
    with pytest.raises(InputError, match=r"^population=0: needs 1 or more"):
        UniformStrategy("mine", {}, explorer=partial(AgingEvolution, population=0))


@pytest.mark.parametrize("setting", ["candidates", "finalists", "batches"])
def test_refuses_nonsense(setting):
    with pytest.raises(InputError, match=f"^{setting}=0"):
        UniformStrategy("darts", {}, **{setting: 0})
