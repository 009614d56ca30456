import copy
import math
import signal
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from common import edge_decision, node_decision
from torch import nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Resident
from supernet.estimation.problem import SearchProblem
from supernet.estimation.scores import Measured
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.report import Silent
from supernet.runtime.run import Run
from supernet.search import methods
from supernet.search.black_box.policies import ControllerPolicy, IndependentPolicy
from supernet.search.black_box.reinforce import Baseline, ReinforceStrategy, Updates
from supernet.search.black_box.rewards import AbsoluteReward
from supernet.search.loop import search
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Step, has_alphas
from supernet.space.architecture import check
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.training.schedules import Cosine
from supernet.training.tasks import Classification

SHAPE = (1, 6, 6)
DECISIONS = {
    d.name: d
    for d in (
        node_decision("cell/2", ("0", "1", "2"), keep=2),
        edge_decision("cell/2/0", ("none", "a", "b")),
        edge_decision("cell/2/1", ("a", "b", "c", "d")),
        edge_decision("cell/2/2", ("a", "b")),
    )
}
WORTH = {"none": 0.0, "a": 0.1, "b": 0.45, "c": 0.3, "d": 0.2}


class Known(nn.Module):
    """A network that is right on as many of 100 images as the operations on the edges that are kept are worth."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images, weights):
        self.seen.append({name: weight.clone() for name, weight in weights.items()})
        worth = 0.0
        for name, weight in weights.items():
            if name != "cell/2":
                share = weights["cell/2"][int(name[-1])].item()
                worth += share * sum(
                    w * WORTH[o] for w, o in zip(weight.tolist(), DECISIONS[name].options, strict=True)
                )
        right = round(100 * worth)
        return torch.eye(2)[torch.tensor([0] * right + [1] * (100 - right))]

    def drawn(self, number):
        """The architecture of a pass, as options by decision."""
        weights = self.seen[number]
        kept = {n: tuple(o for o, w in zip(DECISIONS[n].options, v, strict=True) if w) for n, v in weights.items()}
        return {n: k for n, k in kept.items() if n == "cell/2" or n[-1] in kept["cell/2"]}


def accuracy(architecture) -> float:
    return round(100 * sum(WORTH[k[0]] for n, k in architecture.items() if n != "cell/2")) / 100


def step_of(network, progress: float = 0.5) -> Step:
    batch = Batch(torch.zeros(100, *SHAPE), torch.zeros(100, dtype=torch.long))
    return Step(network, batch, batch, Classification(), None, progress)


def strategy_of(policy=None, optimizer=None, **settings) -> ReinforceStrategy:
    policy = policy or partial(IndependentPolicy, spread=0.5)
    optimizer = optimizer or partial(torch.optim.SGD, lr=1.0)
    return ReinforceStrategy("mine", DECISIONS, policy=policy, optimizer=optimizer, **settings)


def rows_of(policy) -> dict[str, torch.Tensor]:
    return {q.name: row[: len(q.answers)].detach() for q, row in zip(policy.questions, policy.logits, strict=True)}


def slope(policy, architecture) -> dict[str, torch.Tensor]:
    """The gradient of the logarithm of the probability, written out: one-hot minus softmax where it matters, else 0."""
    found = {}
    for question, row in zip(policy.questions, policy.logits.detach(), strict=True):
        row = row[: len(question.answers)]
        one = torch.zeros_like(row)
        if question.name in architecture:
            one[question.answers.index(architecture[question.name])] = 1.0
            found[question.name] = one - row.softmax(0)
        else:
            found[question.name] = one
    return found


def test_the_policy_moves_along_reward_minus_the_rewards_before():
    """Up where a path is better. The first reward is no part of its own baseline, nor is the second one."""
    strategy, network = strategy_of(memory=0.9), Known()
    start = copy.deepcopy(strategy.policy)
    strategy.update(step_of(network))
    assert torch.equal(strategy.policy.logits, start.logits), "there is nothing to compare the first reward with"
    strategy.update(step_of(network))
    first, second = network.drawn(0), network.drawn(1)
    advantage = accuracy(second) - accuracy(first)
    assert abs(advantage) > 0.05
    for name, direction in slope(start, second).items():
        torch.testing.assert_close(rows_of(strategy.policy)[name] - rows_of(start)[name], advantage * direction)
    before = copy.deepcopy(strategy.policy)
    strategy.update(step_of(network))
    third = network.drawn(2)
    baseline = (0.9 * accuracy(first) + accuracy(second)) / 1.9  # corrected for its start
    for name, direction in slope(before, third).items():
        moved = rows_of(strategy.policy)[name] - rows_of(before)[name]
        torch.testing.assert_close(moved, (accuracy(third) - baseline) * direction, atol=1e-6, rtol=1e-5)


def test_decisions_that_do_not_matter_do_not_move():
    strategy, network = strategy_of(), Known()
    for number in range(8):
        before = rows_of(copy.deepcopy(strategy.policy))
        strategy.update(step_of(network))
        after = rows_of(strategy.policy)
        (gone,) = set(DECISIONS) - set(network.drawn(number))
        assert torch.equal(before[gone], after[gone])


def test_paths_of_one_batch_are_compared_with_the_others():
    """ProxylessNAS: 1 % of the old baseline, 99 % the mean reward; of the other paths, not of itself."""
    strategy, network = strategy_of(updates=Updates(paths=3), memory=0.01), Known()
    start = copy.deepcopy(strategy.policy)
    strategy.update(step_of(network))
    drawn = [network.drawn(number) for number in range(3)]
    values = [accuracy(a) for a in drawn]
    for name, row in rows_of(start).items():
        expected = sum(
            (value - (sum(values) - value) / 2) * slope(start, a)[name] for value, a in zip(values, drawn, strict=True)
        )
        torch.testing.assert_close(rows_of(strategy.policy)[name] - row, expected / 3, atol=1e-6, rtol=1e-5)
    assert strategy.baseline.value == pytest.approx(sum(values) / 3)


def test_several_batches_make_one_step_of_their_mean():
    strategy, network = strategy_of(updates=Updates(batches=2), memory=0.5), Known()
    start = copy.deepcopy(strategy.policy)
    for _ in range(2):  # the first only begins the baseline
        strategy.update(step_of(network))
        assert torch.equal(strategy.policy.logits, start.logits)
    strategy.update(step_of(network))
    first, second, third = (network.drawn(number) for number in range(3))
    advantages = [
        accuracy(second) - accuracy(first),
        accuracy(third) - (0.5 * accuracy(first) + accuracy(second)) / 1.5,
    ]
    for name, row in rows_of(start).items():
        expected = (advantages[0] * slope(start, second)[name] + advantages[1] * slope(start, third)[name]) / 2
        torch.testing.assert_close(rows_of(strategy.policy)[name] - row, expected, atol=1e-6, rtol=1e-5)


def test_entropy_is_part_of_the_reward_and_has_no_gradient_of_its_own():
    for seed in range(20):  # until two draws in a row have other inputs, so that their entropies differ
        strategy, network = strategy_of(entropy=10.0, seed=seed), Known()
        start = copy.deepcopy(strategy.policy)
        for _ in range(2):
            strategy.update(step_of(network))
        first, second = network.drawn(0), network.drawn(1)
        if first["cell/2"] != second["cell/2"]:
            break
    with torch.no_grad():
        rewards = [accuracy(a) + 10.0 * start.entropy(a).item() for a in (first, second)]
    assert abs(rewards[1] - rewards[0] - accuracy(second) + accuracy(first)) > 0.1, "the entropies differ"
    for name, direction in slope(start, second).items():
        moved = rows_of(strategy.policy)[name] - rows_of(start)[name]
        torch.testing.assert_close(moved, (rewards[1] - rewards[0]) * direction, atol=1e-5, rtol=1e-4)


def test_the_cost_is_part_of_the_reward():
    costs = {"none": 0.0, "a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    strategy, network = strategy_of(reward=AbsoluteReward(costs, target=2.0, weight=-0.5)), Known()
    start = copy.deepcopy(strategy.policy)
    for _ in range(2):
        strategy.update(step_of(network))
    rewards = []
    for number in range(2):
        found = network.drawn(number)
        cost = sum(costs[kept[0]] for name, kept in found.items() if name != "cell/2")
        rewards.append(accuracy(found) - 0.5 * abs(cost / 2.0 - 1.0))
    for name, direction in slope(start, network.drawn(1)).items():
        moved = rows_of(strategy.policy)[name] - rows_of(start)[name]
        torch.testing.assert_close(moved, (rewards[1] - rewards[0]) * direction, atol=1e-6, rtol=1e-5)


def test_a_warm_up_judges_nothing_and_the_rate_grows_afterwards():
    strategy = strategy_of(optimizer=partial(torch.optim.SGD, lr=0.5), updates=Updates(warm_up=0.25, growth=10.0))
    network = Known()
    strategy.update(step_of(network, 0.2499))
    assert not network.seen
    strategy.update(step_of(network, 0.25))
    for progress in (0.25, 0.625, 0.9999):
        before = copy.deepcopy(strategy.policy)
        baseline = strategy.baseline.value
        strategy.update(step_of(network, progress))
        drawn = network.drawn(-1)
        rate = 0.5 * 10 ** ((progress - 0.25) / 0.75)
        assert strategy.measures()["lr/alpha"] == pytest.approx(rate)
        for name, direction in slope(before, drawn).items():
            moved = rows_of(strategy.policy)[name] - rows_of(before)[name]
            expected = rate * (accuracy(drawn) - baseline) * direction
            torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-4)


def test_every_so_many_steps_and_a_clipped_gradient():
    strategy, network = strategy_of(updates=Updates(every=3, clip=0.01)), Known()
    start = strategy.policy.logits.detach().clone()
    for number in range(6):
        strategy.update(step_of(network))
        assert len(network.seen) == (number + 1) // 3
    assert (strategy.policy.logits - start).norm().item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("policy", [IndependentPolicy, partial(ControllerPolicy, hidden=8, tanh=5.0, reduction=1.0)])
def test_a_policy_learns_what_is_worth_most(policy):
    """A wrong sign would lead it to the worst."""
    strategy = strategy_of(policy, partial(torch.optim.Adam, lr=0.02), updates=Updates(paths=4), memory=0.9)
    network = Known()
    for _ in range(150):
        strategy.update(step_of(network))
    best = {"cell/2": ("0", "1"), "cell/2/0": ("b",), "cell/2/1": ("b",)}
    found = strategy.finish()
    assert accuracy(found) == accuracy(best)
    assert strategy.policy.log_probability(found).exp() > 0.3
    expected = strategy.expected()
    assert expected["cell/2"].sum().item() == pytest.approx(2.0)
    assert strategy.measures()["policy/baseline"] > 0.7


def test_operations_warm_up_together():
    """TuNAS: at first all operations of an edge at 1 / n, with a probability that falls to 0 in a line."""
    strategy, network = strategy_of(operation_warm_up=0.25), Known()
    shares = {}
    for progress in (0.0, 0.125, 0.25):
        opened, asked = 0, 0
        for _ in range(300):
            weights = strategy.sample(step_of(network, progress))
            assert sorted(weights["cell/2"].tolist()) == [0.0, 1.0, 1.0]
            for name, decision in DECISIONS.items():
                if name == "cell/2" or not weights["cell/2"][int(name[-1])]:
                    continue
                asked += 1
                if weights[name].ne(0).sum() == 1:
                    continue
                opened += 1
                held = [1 / len(decision.answers) if o in decision.answers else 0.0 for o in decision.options]
                assert weights[name].tolist() == pytest.approx(held)
        shares[progress] = opened / asked
    assert shares[0.0] == 1.0
    assert abs(shares[0.125] - 0.5) < 5 * math.sqrt(0.25 / 600)
    assert shares[0.25] == 0.0


def test_the_end_is_the_most_likely_or_the_best_of_some_draws():
    class Judge:
        problem = SimpleNamespace(task=Classification())

        def __init__(self, batches=None):
            self.batches, self.asked = batches, []

        def on(self, batches):
            self.batches = batches
            return self

        def __call__(self, architecture):
            self.asked.append(architecture)
            return Measured({"accuracy": accuracy(architecture)})

    judge = Judge()
    likely = strategy_of()
    assert likely.finish(judge) == likely.policy.most_likely() == likely.finish()
    assert not judge.asked
    draws = strategy_of(candidates=10, batches=1)
    found = draws.finish(judge)
    assert judge.batches == 1
    assert 3 < len(judge.asked) == len(set(judge.asked)) <= 10
    assert accuracy(found) == max(map(accuracy, judge.asked))
    assert draws.finish(judge) == found
    assert draws.finish() == draws.policy.most_likely()
    assert draws.differentiable_weights() == ([], {})
    assert not has_alphas(draws)


def real(space=None) -> Supernet:
    torch.manual_seed(0)
    space = space or Darts(channels=2, cells=3, nodes=2, operations=("none", "skip_connect", "sep_conv_3x3"))
    return Supernet(space.network(Undecided(single=True), SHAPE, 3))


def test_judging_leaves_the_network_as_it_was_and_norms_use_the_batch():
    supernet = real()
    for norm in supernet.norms:
        norm.running_mean.fill_(7.0)  # statistics that would spoil what is judged by them
    stream = torch.Generator().manual_seed(1)
    batch = Batch(torch.randn(30, *SHAPE, generator=stream), torch.randint(3, (30,), generator=stream))
    step = Step(supernet, batch, batch, Classification(), torch.optim.SGD(supernet.parameters(), 0.1), 0.5)
    make = partial(IndependentPolicy, spread=0.1)
    strategy = ReinforceStrategy(
        "darts", supernet.decisions, policy=make, optimizer=partial(torch.optim.SGD, lr=1.0), updates=Updates(paths=2)
    )
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    seen = []
    handle = supernet.register_forward_hook(lambda _, given, output: seen.append((given[1], output)))
    strategy.update(step)
    handle.remove()
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())
    assert all(parameter.grad is None for parameter in supernet.parameters())
    assert len(seen) == 2
    rewards = []
    for weights, output in seen:
        with torch.no_grad():
            torch.testing.assert_close(supernet(batch.images, weights), output)  # in training mode
        rewards.append((output.argmax(1) == batch.labels).float().mean().item())
    assert strategy.baseline.value == pytest.approx(sum(rewards) / 2)
    check(strategy.finish(), supernet.decisions)


METHODS = {"enas": {"hidden": 8}, "proxyless_r": {"paths": 2, "warm_up": 0.0}, "tunas": {"warm_up": 0.3}}


def run_search(run, name):
    space = NasBench201(channels=2, cells=1, stages=1, nodes=2)
    supernet = real(space)
    method = getattr(methods, name)(**METHODS[name])
    if name == "enas":
        method = method.with_parts(updates=Updates(batches=2))
    strategy = method.with_rate(0.1).make_strategy(space.name, supernet.decisions)
    stream = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (20, *SHAPE), dtype=torch.uint8, generator=stream)
    half = Resident(images, torch.arange(20) % 3)
    recipe = SearchRecipe(epochs=2, batch_size=5, schedule=Cosine(0.1, 0.01))
    result = search(SearchProblem(supernet, half, half, Augmentation((0.5,), (0.25,)), run), strategy, recipe)
    return result, supernet, strategy


@pytest.mark.parametrize("stop_after", [2, 4, 6])  # 8 steps; ENAS gathers over two
@pytest.mark.parametrize("name", METHODS)
def test_stopped_and_resumed_is_bitwise_the_same(tmp_path, name, stop_after):
    straight, whole, learnt = run_search(Run(), name)
    interruption = Interruption()

    class Stopper(Silent):
        def progress(self, done, total, message):
            if done == stop_after:
                interruption.signal = signal.SIGTERM

    with pytest.raises(Interrupted):
        run_search(Run(report=Stopper(), checkpoint=tmp_path / "search.pt", interruption=interruption), name)
    torch.manual_seed(99)
    resumed, again, relearnt = run_search(Run(checkpoint=tmp_path / "search.pt"), name)
    assert resumed == straight
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in whole.state_dict().items())
    for one, other in zip(learnt.policy.parameters(), relearnt.policy.parameters(), strict=True):
        assert torch.equal(one, other)
    assert learnt.state_dict()["counts"] == relearnt.state_dict()["counts"]
    assert learnt.baseline.value == relearnt.baseline.value is not None


def test_a_state_of_another_space_is_refused():
    strategy, network = strategy_of(updates=Updates(batches=3)), Known()
    for _ in range(2):
        strategy.update(step_of(network))
    state = strategy.state_dict()
    assert len(state["pending"]) == 1
    choices, advantage = state["pending"][0]
    with pytest.raises(InputError, match=r"^architecture: has nowhere at cell/2"):
        strategy_of().load_state_dict({**state, "pending": [({**choices, "cell/2": ("nowhere",)}, advantage)]})
    with pytest.raises(ValueError, match="counts"):
        strategy_of().load_state_dict({**state, "counts": [1, 2, "3", 4]})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Updates(paths=0), r"^paths=0: needs 1 or more"),
        (lambda: Updates(batches=0), r"^batches=0: needs 1 or more"),
        (lambda: Updates(every=0), r"^every=0: needs 1 or more"),
        (lambda: Updates(warm_up=1.0), r"^warm_up=1\.0: needs to lie in \[0, 1\)"),
        (lambda: Updates(growth=0.0), r"^growth=0\.0: "),
        (lambda: Updates(clip=0.0), r"^clip=0\.0: "),
        (lambda: Baseline(1.0), r"^memory=1\.0: needs to lie in \[0, 1\)"),
        (lambda: strategy_of(memory=-0.1), r"^memory=-0\.1: "),
        (lambda: strategy_of(entropy=-1.0), r"^entropy=-1\.0: "),
        (lambda: strategy_of(operation_warm_up=2.0), r"^operation_warm_up=2\.0: "),
        (lambda: strategy_of(candidates=-1), r"^candidates=-1: "),
        (lambda: strategy_of(batches=0), r"^batches=0: "),
        (lambda: strategy_of(policy=lambda *given, seed: 3), r"^policy: makes a int; needs a Policy"),
        (lambda: strategy_of(optimizer=list), r"^optimizer: makes a list and no optimizer"),
        (lambda: strategy_of(reward=AbsoluteReward({"a": 1.0})), r"^costs: none for 'none'; give each of none, a, b"),
    ],
)
def test_refuses_nonsense(make, message):
    with pytest.raises(InputError, match=message):
        make()
