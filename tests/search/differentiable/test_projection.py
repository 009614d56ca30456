import signal
from fractions import Fraction
from functools import partial

import pytest
import torch
from common import edge_decision, node_decision, slow_but
from waiting import waits

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Resident
from supernet.estimation.problem import SearchProblem
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.search.black_box.random_search import UniformStrategy
from supernet.search.differentiable.architects import first_order, unrolled
from supernet.search.differentiable.discretisers import argmax
from supernet.search.differentiable.gradient import GradientStrategy
from supernet.search.differentiable.projection import Projection, kept_inputs, kept_operation, projected
from supernet.search.differentiable.relaxations import Gumbel, Softmax, Uniform
from supernet.search.loop import search
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Step
from supernet.space.architecture import check
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.training.schedules import Cosine
from supernet.training.tasks import Classification

OPERATIONS = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
AUGMENTATION = Augmentation((0.5,), (0.25,), crop_padding=1)


def small(nodes: int = 3, device: str = "meta") -> Supernet:
    """Edges a kind: 2 + 3 + 4 with three nodes, 2 + 3 with two; all nodes but the first have inputs to choose."""
    torch.manual_seed(0)
    with torch.device(device):
        space = Darts(channels=2, cells=3, nodes=nodes, operations=OPERATIONS)
        return Supernet(space.network(Undecided(), (1, 6, 6), 3))


def gradient_strategy(decisions, inputs=None, relaxation=None, architect=first_order, seed=0, space="darts"):
    return GradientStrategy(
        space,
        decisions,
        operations=relaxation or Softmax(),
        inputs=inputs,
        architect=architect,
        optimizer=partial(torch.optim.Adam, lr=0.05),
        discretiser=argmax,
        seed=seed,
    )


class KnownJudge:
    """What an option that is on adds to the accuracy is known: its gain, drawn from its name. Remembers the trials."""

    def __init__(self, decisions, interrupt_at=None):
        generator = torch.Generator().manual_seed(7)
        draws = {name: torch.rand(len(d.options), generator=generator).tolist() for name, d in decisions.items()}
        self.gains = {name: dict(zip(d.options, draws[name], strict=True)) for name, d in decisions.items()}
        for name, d in decisions.items():
            if d.role == "operation" and "none" in d.options and not d.optional:
                self.gains[name]["none"] = 2.0  # it would be kept if it could be
        self.decisions, self.trials, self.batches, self.interrupt_at = decisions, [], set(), interrupt_at

    def on(self, batches):
        self.batches.add(batches)
        return self

    def of_weights(self, weights):
        if len(self.trials) == self.interrupt_at:
            raise Interrupted(signal.SIGTERM)
        self.trials.append({name: weight.clone() for name, weight in weights.items()})
        total = 0.0
        for name, decision in self.decisions.items():
            on = weights.get(name, torch.ones(len(decision.options)))
            pairs = zip(decision.options, on.tolist(), strict=True)
            total += sum(self.gains[name][option] for option, weight in pairs if weight > 0)
        return total / 100

    def best(self, name):
        decision = self.decisions[name]
        ranked = sorted(decision.answers, key=lambda o: -self.gains[name][o])[: decision.keep]
        return tuple(o for o in decision.options if o in ranked)


def run_through(projection, judge, epochs):
    """Rounds done after the beginning of each epoch."""
    done = []
    for epoch in range(epochs):
        projection.begin_epoch(epoch / epochs, judge)
        done.append(int(projection.measures()["projection/rounds"]))
    return done


@pytest.mark.parametrize("inputs", [None, Softmax()])
def test_what_adds_most_is_kept_and_every_trial_is_counted(inputs):
    decisions = small().decisions
    projection, judge = Projection(gradient_strategy(decisions, inputs)), KnownJudge(decisions)
    run_through(projection, judge, 50)
    found = projection.finish(judge)
    check(found, decisions)
    for name in found:
        assert found[name] == judge.best(name), name
    # of each kind: 9 edges with 3 answers (never "none"), a node that keeps 2 of 3 and one that keeps 2 of 4
    assert len(judge.trials) == 2 * (9 * 3 + 3 + (4 + 3))
    assert judge.batches == {None}


@pytest.mark.parametrize("epochs", [1, 3, 10, 11, 50, 80])
def test_rounds_are_spread_evenly_and_the_last_comes_at_the_end(epochs):
    decisions = small().decisions
    projection, judge = Projection(gradient_strategy(decisions)), KnownJudge(decisions)
    assert projection.rounds == 9 + 2
    done = run_through(projection, judge, epochs)
    due = [sum(Fraction(r, 10) <= Fraction(epoch, epochs) for r in range(10)) for epoch in range(epochs)]
    assert done == due
    projection.finish(judge)
    assert projection.measures()["projection/rounds"] == 11


def test_darts_has_seventeen_rounds_five_epochs_apart_in_eighty():
    with torch.device("meta"):
        decisions = Supernet(Darts(channels=4, cells=3).network(Undecided(), (3, 8, 8), 10)).decisions
    projection = Projection(gradient_strategy(decisions))
    assert projection.rounds == 17
    assert run_through(projection, KnownJudge(decisions), 80) == [1 + epoch // 5 for epoch in range(80)]


def test_operations_come_before_nodes_in_an_order_that_depends_on_the_seed():
    decisions = small().decisions

    def order(**settings):
        projection, judge = Projection(gradient_strategy(decisions, **settings)), KnownJudge(decisions)
        names, before = [], set()
        for epoch in range(10):
            projection.begin_epoch(epoch / 10, judge)
            now = set(projection.state_dict()["decided"])
            names.append(now - before)
            before = now
        return names

    first, again, other = order(), order(), order(seed=1)
    assert first == again != other
    for number, names in enumerate(first):
        assert {name.split("/")[0] for name in names} == {"normal", "reduce"}
        assert all((decisions[name].role == "inputs") == (number == 9) for name in names)
    sequences = [[n for names in first for n in names if n.startswith(kind)][:9] for kind in ("normal", "reduce")]
    assert [n.split("/", 1)[1] for n in sequences[0]] != [n.split("/", 1)[1] for n in sequences[1]]


def test_a_trial_takes_one_option_away_and_leaves_the_rest_alone():
    decisions = small().decisions
    strategy = gradient_strategy(decisions, Softmax())
    projection, judge = Projection(strategy), KnownJudge(decisions)
    before = projection.expected()
    assert all(torch.equal(before[n], w) for n, w in strategy.expected().items())
    projection.begin_epoch(0.0, judge)
    for trial in judge.trials[:3]:
        changed = [n for n in before if not torch.equal(trial[n], before[n])]
        assert len(changed) == 1
        (gone,) = (trial[changed[0]] != before[changed[0]]).nonzero().flatten().tolist()
        assert trial[changed[0]][gone] == 0
    after, decided = projection.expected(), projection.state_dict()["decided"]
    assert len(decided) == 2
    for name, weight in after.items():
        options = decisions[name].options
        one_hot = torch.tensor([float(o in decided.get(name, ())) for o in options])
        assert torch.equal(weight, one_hot if name in decided else before[name])
    second_kind = judge.trials[3]  # sees what the first has decided
    (first_name,) = [n for n in decided if n.startswith("normal")]
    assert torch.equal(second_kind[first_name], after[first_name])


def test_nothing_waits_for_a_gpu():
    """What is decided is a mask that stays on the device, and so is a trial's."""
    decisions = small(device="cpu").decisions
    weights = {n: torch.rand(len(d.options)) for n, d in decisions.items() if d.role == "operation"}
    decided = {n: (d.options[-1],) for n, d in decisions.items() if d.role == "operation"}
    assert not waits(projected, weights, decisions, decided)
    (first, *_) = decided
    assert not waits(kept_operation, decisions[first], weights, lambda _: 0.5)


def test_inputs_go_one_by_one_and_are_judged_again_each_time():
    """Two inputs can stand in for each other: either can go, but not both, though each alone seems worth nothing."""
    node, calls = node_decision("normal/4", ("0", "1", "2", "3"), 2), []

    def score(weights):
        on = [bool(w) for w in weights["normal/4"]]
        calls.append(tuple(on))
        return 0.5 * (on[0] or on[1]) + 0.1 * on[2] + 0.2 * on[3]

    assert kept_inputs(node, {"normal/4/0": torch.ones(2)}, score) == ("0", "3")
    assert calls[:4] == [tuple(i != gone for i in range(4)) for gone in range(4)]
    assert len(calls) == 7


def test_of_equal_operations_the_first_is_kept_and_of_equal_inputs_the_last_goes():
    edge = edge_decision("normal/2/0", ("none", "a", "b"))
    node = node_decision("normal/3", ("0", "1", "2"), 2)
    weights = {"normal/2/0": torch.ones(3)}
    assert kept_operation(edge, weights, lambda weights: 0.5) == ("a",)
    assert kept_inputs(node, weights, lambda weights: 0.5) == ("0", "1")


def test_what_has_one_answer_needs_no_judge():
    def never(weights):
        raise AssertionError

    assert kept_operation(edge_decision("normal/2/0", ("none", "a")), {"normal/2/0": torch.ones(2)}, never) == ("a",)


def test_nasbench201_has_one_kind_no_nodes_and_may_keep_none():
    with torch.device("meta"):
        decisions = Supernet(NasBench201(4, 1).network(Undecided(), (3, 8, 8), 10)).decisions
    projection = Projection(gradient_strategy(decisions, space="nasbench201"))
    judge = KnownJudge(decisions)
    first = next(name for name, d in decisions.items() if d.role == "operation")
    judge.gains[first]["none"] = 5.0
    assert projection.rounds == 6
    found = projection.finish(judge)
    assert found[first] == ("none",)
    assert len(judge.trials) == 6 * 5
    assert all(found[name] == judge.best(name) for name in found)


def test_an_interrupted_round_decides_nothing_and_ends_as_if_it_had_not_been():
    decisions = small().decisions
    straight = Projection(gradient_strategy(decisions))
    whole = straight.finish(KnownJudge(decisions))
    projection = Projection(gradient_strategy(decisions))
    projection.begin_epoch(0.35, KnownJudge(decisions))
    before = projection.state_dict()
    assert before["rounds"] == 4
    with pytest.raises(Interrupted):
        projection.begin_epoch(0.4, KnownJudge(decisions, interrupt_at=5))  # in the second kind
    assert projection.state_dict()["decided"] == before["decided"]
    assert projection.state_dict()["rounds"] == 4
    twin = Projection(gradient_strategy(decisions))
    twin.load_state_dict(before)
    for each in (projection, twin):
        each.begin_epoch(0.35, KnownJudge(decisions, interrupt_at=0))  # decides nothing a second time
        assert each.finish(KnownJudge(decisions)) == whole


def test_without_a_judge_what_is_decided_stands_and_argmax_answers_the_rest():
    decisions = small().decisions
    strategy = gradient_strategy(decisions)
    projection, judge = Projection(strategy), KnownJudge(decisions)
    assert projection.finish() == strategy.finish()
    projection.begin_epoch(0.65, judge)
    found, plain, decided = projection.finish(), strategy.finish(), projection.state_dict()["decided"]
    check(found, decisions)
    assert any(plain[name] != found[name] for name in decided if name in found and name in plain)
    for name in found:
        if decisions[name].role == "operation":
            assert found[name] == (tuple(decided[name]) if name in decided else argmax_of(strategy, name))


def argmax_of(strategy, name):
    decision, weights = strategy.decisions[name], strategy.expected()[name].tolist()
    return (max(decision.answers, key=lambda o: weights[decision.options.index(o)]),)


@pytest.mark.parametrize("architect", [first_order, unrolled])
def test_open_alphas_learn_with_what_is_decided_and_decided_ones_do_not(architect):
    supernet = small(2, "cpu").double()
    strategy = gradient_strategy(supernet.decisions, architect=architect)
    strategy.logits.double()
    projection = Projection(strategy)
    projection.begin_epoch(0.45, KnownJudge(supernet.decisions))
    decided = projection.state_dict()["decided"]
    assert len(decided) == 6
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(6, 1, 6, 6, generator=generator, dtype=torch.float64)
    batch = Batch(images, torch.randint(3, (6,), generator=generator))
    step = Step(supernet, batch, batch, Classification(), torch.optim.SGD(supernet.parameters(), 0.1), 0.5)
    open_ones = {n: p.detach().clone().requires_grad_() for n, p in strategy.logits.items() if n not in decided}
    fixed = {n: w for n, w in projection.expected().items() if n in decided}
    weights = {**fixed, **{n: p.softmax(-1) for n, p in open_ones.items()}}
    by_hand = torch.autograd.grad(
        torch.nn.functional.cross_entropy(supernet(images, weights), batch.labels), open_ones.values()
    )
    projection.update(step)
    for name in decided:
        assert not strategy.logits[name].grad.any()
    if architect is first_order:
        for name, gradient in zip(open_ones, by_hand, strict=True):
            torch.testing.assert_close(strategy.logits[name].grad, gradient, rtol=1e-9, atol=1e-12)
    for name, weight in projection.sample(step).items():
        assert not weight.requires_grad
        assert name not in decided or torch.equal(weight, fixed[name])


def test_fixed_alphas_stay_uniform():
    decisions = small().decisions
    projection, judge = Projection(gradient_strategy(decisions, relaxation=Uniform())), KnownJudge(decisions)
    found = projection.finish(judge)
    assert torch.equal(judge.trials[-1]["normal/2/0"], projection.expected()["normal/2/0"])
    assert all(found[name] == judge.best(name) for name in found)


def test_batches_are_handed_on_to_the_judge():
    decisions = small().decisions
    judge = KnownJudge(decisions)
    Projection(gradient_strategy(decisions), batches=3).begin_epoch(0.0, judge)
    assert judge.batches == {3}


def test_what_cannot_be_judged_so_is_refused():
    decisions = small().decisions
    with pytest.raises(InputError, match="draws one alone; use Softmax"):
        Projection(gradient_strategy(decisions, relaxation=Gumbel(hard=True)))
    with pytest.raises(InputError, match="needs a GradientStrategy"):
        Projection(UniformStrategy("darts", decisions))
    with pytest.raises(InputError, match=r"^batches=0"):
        Projection(gradient_strategy(decisions), batches=0)


class Stopping(Silent):
    """Stops the run after some steps."""

    def __init__(self, interruption, stop_after):
        self.interruption, self.stop_after = interruption, stop_after

    def progress(self, done, total, message):
        if done == self.stop_after:
            self.interruption.signal = signal.SIGTERM


def half(seed: int, count: int = 20) -> Resident:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=generator)
    return Resident(images, torch.arange(count) % 3)


def run_search(run):
    supernet = small(2, "cpu")
    projection = Projection(gradient_strategy(supernet.decisions))
    recipe = SearchRecipe(epochs=3, batch_size=8, schedule=Cosine(0.1, 0.01))
    result = search(SearchProblem(supernet, half(1), half(2), AUGMENTATION, run), projection, recipe)
    state = {**supernet.state_dict(), **{f"alpha {n}": p.detach() for n, p in projection.strategy.logits.items()}}
    return result, state, projection.state_dict()["decided"]


@pytest.fixture(scope="module")
def straight():
    return run_search(Run())


@pytest.mark.parametrize("stop_after", slow_but([4], [1, 4, 8]))  # 3 steps an epoch, 9 in all; 6 rounds
def test_stopped_at_any_step_and_resumed_is_bitwise_the_same(tmp_path, straight, stop_after):
    interruption = Interruption()
    run = Run(report=Stopping(interruption, stop_after), checkpoint=tmp_path / "search.pt", interruption=interruption)
    with pytest.raises(Interrupted):
        run_search(run)
    torch.manual_seed(1234)
    result, state, decided = run_search(Run(checkpoint=tmp_path / "search.pt"))
    assert (result, decided) == (straight[0], straight[2])
    assert len(decided) == 12
    assert all(torch.equal(state[name], value) for name, value in straight[1].items())
