"""FairNAS' paths: in one step every option of every edge exactly once, by permutations of that edge and that step."""

import itertools
import math
from collections import Counter

import pytest
import torch
from common import edge_decision, node_decision

from supernet.data.batches import Batch
from supernet.search.black_box.fair_paths import fair_paths
from supernet.search.black_box.random_search import UniformStrategy
from supernet.search.loop import search_step
from supernet.search.strategy import Step
from supernet.space.architecture import check
from supernet.space.choosers import Undecided
from supernet.space.darts import Darts
from supernet.space.nasbench201 import NASBENCH201_OPERATIONS, NasBench201
from supernet.space.supernet import Supernet
from supernet.training.sgd import sgd
from supernet.training.tasks import Classification

SHAPE = (1, 6, 6)


def supernet_of(space) -> Supernet:
    torch.manual_seed(0)
    return Supernet(space.network(Undecided(single=True), SHAPE, 3))


SMALL = NasBench201(channels=2, cells=1, stages=1, nodes=2)
DARTS = Darts(channels=2, cells=3, nodes=2, operations=("none", "skip_connect", "sep_conv_3x3", "max_pool_3x3"))


def step_of(supernet: Supernet, seed: int = 1, **optimizer) -> Step:
    stream = torch.Generator().manual_seed(seed)
    batch = Batch(torch.randn(6, *SHAPE, generator=stream), torch.randint(3, (6,), generator=stream))
    made = sgd(supernet, 0.1, optimizer.pop("momentum", 0.0), **optimizer)
    return Step(supernet, batch, batch, Classification(), made, 0.5)


def paths_of(decisions, seed: int = 0):
    return fair_paths("mine", decisions, torch.Generator().manual_seed(seed))


def test_every_operation_of_every_edge_has_one_turn():
    decisions = supernet_of(SMALL).decisions
    for seed in range(20):
        paths = paths_of(decisions, seed)
        assert len(paths) == 5
        for path in paths:
            check(path, decisions)
        for name, decision in decisions.items():
            if decision.role == "operation":
                assert sorted(path[name][0] for path in paths) == sorted(NASBENCH201_OPERATIONS)


def test_permutations_are_uniform_and_those_of_two_edges_independent():
    """One permutation for all edges, or one that is only turned, would leave most of the 36 pairs out."""
    decisions = {d.name: d for d in (edge_decision("cell/1/0", "abc"), edge_decision("cell/2/0", "abc"))}
    decisions |= {name: node_decision(name, ("0",)) for name in ("cell/1", "cell/2")}
    count = 3600
    seen = Counter(
        tuple("".join(path[name][0] for path in paths) for name in ("cell/1/0", "cell/2/0"))
        for paths in (paths_of(decisions, seed) for seed in range(count))
    )
    orders = ["".join(order) for order in itertools.permutations("abc")]
    assert set(seen) == set(itertools.product(orders, orders))
    assert all(abs(number - count / 36) < 5 * math.sqrt(count / 36) for number in seen.values())


def test_each_step_has_permutations_of_its_own():
    """The known mistake: permutations are collected and never emptied, so that the first ones serve a whole epoch."""
    supernet = supernet_of(SMALL)
    strategy, step = UniformStrategy("nasbench201", supernet.decisions, sampler="fair"), step_of(supernet)
    steps = [strategy.samples(step) for _ in range(60)]
    orders = [torch.stack([path["cell/1/0"] for path in paths]) for paths in steps]
    for order in orders:
        assert torch.equal(order.sum(0), torch.ones(5))
        assert torch.equal(order.sum(1), torch.ones(5))
    assert len({tuple(order.argmax(1).tolist()) for order in orders}) > 35  # of 120, in 60 draws
    twin = UniformStrategy("nasbench201", supernet.decisions, sampler="fair")
    twin.load_state_dict(strategy.state_dict())
    for one, other in zip(strategy.samples(step), twin.samples(step), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_decision_with_fewer_options_begins_anew():
    decisions = {d.name: d for d in (edge_decision("cell/1/0", "ab"), edge_decision("cell/1/1", "abcde"))}
    decisions["cell/1"] = node_decision("cell/1", ("0", "1"), keep=2)
    for seed in range(30):
        paths = paths_of(decisions, seed)
        few = [path["cell/1/0"][0] for path in paths]
        assert len(few) == 5
        assert {few[0], few[1]} == {few[2], few[3]} == {"a", "b"}
    assert {paths_of(decisions, seed)[4]["cell/1/0"] for seed in range(30)} == {("a",), ("b",)}


def test_where_nodes_choose_inputs_turns_are_shared_out_and_none_has_no_turn():
    decisions = supernet_of(DARTS).decisions
    for seed in range(20):
        paths = paths_of(decisions, seed)
        assert len(paths) == 3
        for path in paths:
            check(path, decisions)
        inputs = Counter(source for path in paths for source in path["normal/3"])
        assert sum(inputs.values()) == 6
        assert max(inputs.values()) - min(inputs.values()) <= 1
        for name, decision in decisions.items():
            if decision.role == "operation":
                had = [path[name][0] for path in paths if name in path]
                assert len(set(had)) == len(had)
                assert "none" not in had
    orders = {tuple(path["normal/3"] for path in paths_of(decisions, seed)) for seed in range(60)}
    assert len(orders) == 6


def test_gradients_of_all_paths_are_added_and_one_step_is_taken():
    """The step is that of the sum of the paths' gradients, clipped once; the loss reported is their mean."""
    for clip in (math.inf, 0.05):
        supernet = supernet_of(SMALL)
        step = step_of(supernet)
        paths = UniformStrategy("nasbench201", supernet.decisions, sampler="fair").samples(step)  # the first draw
        before = [p.detach().clone() for p in supernet.parameters()]
        losses, sums = [], [torch.zeros_like(p) for p in before]
        twin = supernet_of(SMALL)
        for path in paths:
            loss = Classification().loss(twin(step.train.images, path), step.train)
            losses.append(loss.item())
            gradients = torch.autograd.grad(loss, list(twin.parameters()), allow_unused=True)
            for total, gradient in zip(sums, gradients, strict=True):
                total += 0.0 if gradient is None else gradient
        norm = torch.cat([total.flatten() for total in sums]).norm().item()
        factor = min(1.0, clip / norm)
        assert (factor < 1.0) == (clip == 0.05)
        reported, score = search_step(
            step, UniformStrategy("nasbench201", supernet.decisions, sampler="fair"), clip, learn_alphas=False
        )
        assert len(paths) == 5
        assert reported.item() == pytest.approx(sum(losses) / 5, rel=1e-6)
        assert 0.0 <= score.item() <= 6.0
        for parameter, start, total in zip(supernet.parameters(), before, sums, strict=True):
            torch.testing.assert_close(parameter.detach(), start - 0.1 * factor * total, rtol=1e-4, atol=1e-6)


def test_a_step_of_one_path_is_what_it_always_was():
    """Forward, backward, clip, step, to the bit, with momentum and decay."""
    supernet, twin = supernet_of(SMALL), supernet_of(SMALL)
    strategies = [UniformStrategy("nasbench201", net.decisions) for net in (supernet, twin)]
    step, other = (step_of(net, momentum=0.9, weight_decay=0.01) for net in (supernet, twin))
    for _ in range(4):
        reported = search_step(step, strategies[0], 0.5)
        output = twin(other.train.images, strategies[1].sample(other))
        loss = other.task.loss(output, other.train)
        other.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        other.optimizer.step()
        assert torch.equal(reported[0], loss.detach())
        assert torch.equal(reported[1], other.task.score_sum(output, other.train))
    assert all(torch.equal(value, twin.state_dict()[name]) for name, value in supernet.state_dict().items())


@pytest.mark.parametrize("sampler", ["uniform", "fair"])
@pytest.mark.parametrize("engine_name", ["reference", "fused"])
def test_what_no_path_uses_neither_decays_nor_moves_by_momentum(sampler, engine_name):
    """Without "none" an edge that a path leaves out runs its skip connection, times 0. At stride 2 that has weights."""
    from supernet.execution.engines import engine

    torch.manual_seed(0)
    space = Darts(channels=2, cells=3, nodes=2, operations=("skip_connect", "sep_conv_3x3"))
    supernet = Supernet(engine(engine_name).apply(space.network(Undecided(single=True), SHAPE, 3)))
    strategy = UniformStrategy("darts", supernet.decisions, sampler=sampler)
    step = step_of(supernet, momentum=0.9, weight_decay=0.1)
    owner = {
        id(parameter): (choice.decision, option)
        for choice in supernet._operations
        for option, operation in choice.candidates.items()
        for parameter in operation.parameters()
    }
    rested, moved = set(), set()
    for number in range(12):
        twin = UniformStrategy("darts", supernet.decisions, sampler=sampler)
        twin.load_state_dict({"draws": number})
        paths = twin.samples(step)
        before = {name: p.detach().clone() for name, p in supernet.named_parameters()}
        search_step(step, strategy, 5.0)
        for name, parameter in supernet.named_parameters():
            if id(parameter) not in owner:
                continue
            decision, option = owner[id(parameter)]
            ((node, (source,)),) = decision.when
            used = any(
                path[decision.name][decision.options.index(option)]
                and path[node][supernet.decisions[node].options.index(source)]
                for path in paths
            )
            same = torch.equal(parameter.detach(), before[name])
            assert same == (not used), (name, number)
            (moved if used else rested).add(name)
    assert len(rested & moved) > 10  # what rested had momentum from an earlier step
    assert any("skip_connect" in name for name in rested & moved)
