"""The sandwich rule: the loss of each path, from what the smaller ones learn, and where dropout acts."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Resident
from supernet.estimation.problem import SearchProblem
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.search.black_box.evolution import SposEvolution
from supernet.search.black_box.sandwich import SandwichStrategy
from supernet.search.loop import search, search_step
from supernet.search.recipe import SearchRecipe
from supernet.search.strategy import Step
from supernet.space.architecture import Decision, check, one_path
from supernet.space.choosers import Undecided
from supernet.space.dropout import Dropouts, set_drop_path
from supernet.space.mobile import Mobile
from supernet.space.mobile_stages import Stage
from supernet.space.supernet import Supernet
from supernet.training.schedules import Cosine
from supernet.training.tasks import Classification, MultiLabel

SHAPE = (1, 8, 8)
ENDS = {"candidates": 3, "finalists": 1, "batches": 1}


def space(dropout=0.0) -> Mobile:
    first = Stage((8,), depths=(1, 2), kernels=(3, 5), expansions=(2, 4))
    second = Stage((8, 16), depths=(1, 2), stride=2, kernels=(3, 5), expansions=(2, 4), squeeze=(False, True))
    return Mobile((first, second), stem=8, head=16, stem_stride=1, dropout=dropout)


def made(dropout=0.0) -> Supernet:
    torch.manual_seed(0)
    return Supernet(space(dropout).network(Undecided(single=True), SHAPE, 3)).double()


def strategy_of(supernet, **settings) -> SandwichStrategy:
    strategy = SandwichStrategy("mobile", supernet.decisions, **{**ENDS, **settings})
    strategy._like = strategy._like.double()
    return strategy


def step_of(supernet, rate=0.1) -> Step:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(6, *SHAPE, dtype=torch.float64, generator=generator)
    batch = Batch(images, torch.randint(3, (6,), generator=generator))
    return Step(supernet, batch, batch, Classification(), torch.optim.SGD(supernet.parameters(), rate), 0.5)


def kept(weights, decisions) -> dict[str, str]:
    return {name: d.options[int(weights[name].argmax())] for name, d in decisions.items()}


def test_a_step_has_the_largest_some_between_and_the_smallest():
    supernet = made()
    strategy, step = strategy_of(supernet, random=2), step_of(supernet)
    seen = set()
    for _ in range(4):
        largest, *between, smallest = strategy.samples(step)
        assert kept(largest, supernet.decisions) == {n: d.options[-1] for n, d in supernet.decisions.items()}
        assert kept(smallest, supernet.decisions) == {n: d.options[0] for n, d in supernet.decisions.items()}
        assert len(between) == 2
        seen |= {tuple(kept(weights, supernet.decisions).values()) for weights in between}
    assert len(seen) > 4
    for place in (0, -1):
        check(strategy.extreme(place), supernet.decisions)
    assert "stage1/2/kernel" not in strategy.extreme(0), "a block that is not there is not answered"


def test_the_gradient_is_that_of_all_losses_together_with_a_constant_teacher():
    supernet, reference = made(), made()
    strategy, step = strategy_of(supernet, clip_value=None), step_of(supernet)
    paths = strategy.samples(step)
    passes = strategy.backward(step, paths)
    images, labels = step.train.images, step.train.labels
    largest, *others = [reference(images, weights) for weights in paths]
    soft = largest.detach().exp() / largest.detach().exp().sum(1, keepdim=True)
    losses = [nn.functional.cross_entropy(largest, labels)]
    losses += [-(soft * logits.log_softmax(1)).sum(1).mean() for logits in others]
    sum(losses).backward()
    for mine, theirs in zip(supernet.parameters(), reference.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-12)
    for (loss, right), wanted, logits in zip(passes, losses, [largest, *others], strict=True):
        torch.testing.assert_close(loss, wanted.detach())
        assert not loss.requires_grad
        assert right == (logits.argmax(1) == labels).sum()


def test_smaller_networks_learn_each_of_several_labels_by_itself():
    """A softmax over labels that do not exclude each other would teach that at most one of them applies."""
    supernet = made()
    strategy, step = strategy_of(supernet, clip_value=None), step_of(supernet)
    labels = torch.tensor([[1, 1, 0]]).expand(len(step.train.images), 3)
    step = replace(step, train=Batch(step.train.images, labels), task=MultiLabel())
    paths = strategy.samples(step)
    largest, *others = [supernet(step.train.images, weights).detach() for weights in paths]
    likely = largest.sigmoid()
    for (loss, _), logits in zip(strategy.backward(step, paths)[1:], others, strict=True):
        wanted = -(likely * logits.sigmoid().log() + (1 - likely) * (-logits).sigmoid().log()).mean()
        torch.testing.assert_close(loss, wanted)


class Watched(nn.Module):
    """Stands in for a supernet whose paths only say which they are, with a dropout of half of everything."""

    def __init__(self):
        super().__init__()
        self.decisions = {"size": Decision("size", ("s", "m", "l"), role="number")}
        self.scale, self.dropout, self.norms, self.seen = nn.Parameter(torch.ones(3)), nn.Dropout(0.5), [], []
        self.slots = self

    def now(self):
        return [self.scale]

    def idle(self, paths):
        return []

    def forward(self, images, weights):
        dropped = self.dropout(torch.ones(64))
        self.seen.append((int(weights["size"].argmax()), bool((dropped == 0).any()), torch.is_grad_enabled()))
        return (weights["size"] @ self.scale) * dropped[:4, None] * torch.tensor([[1.0, 2.0, 4.0]])


def watched(**settings):
    network, taught = Watched(), []

    def learnt(output, teacher):
        taught.append(teacher)
        return output.sum()

    strategy = SandwichStrategy("mine", network.decisions, random=0, distillation=learnt, **ENDS)
    batch = Batch(torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 2, 0]))
    step = Step(network, batch, batch, Classification(), torch.optim.SGD(network.parameters(), 0.1), 0.5)
    return network, strategy, step, taught


def test_only_the_largest_network_has_dropout_and_its_soft_labels_have_none():
    """In AttentiveNAS' code the soft labels are those of the pass with dropout."""
    network, strategy, step, taught = watched()
    search_step(step, strategy, 5.0)
    largest, clean, smallest = network.seen
    assert largest == (2, True, True)
    assert clean == (2, False, False)
    assert smallest == (0, False, True)
    torch.testing.assert_close(taught[0], torch.tensor([[1.0, 2.0, 4.0]]).expand(4, 3))
    assert network.dropout.p == 0.5, "as before"


def test_without_dropout_the_soft_labels_take_no_pass_of_their_own():
    network, strategy, step, taught = watched()
    network.dropout.p = 0.0
    search_step(step, strategy, 5.0)
    assert [place for place, _, _ in network.seen] == [2, 0]
    assert not taught[0].requires_grad


def test_all_kinds_of_dropout_are_found_and_put_back():
    supernet = made(dropout=0.25)
    dropouts = Dropouts(supernet)
    assert dropouts.active
    set_drop_path(supernet, 0.5)
    images, weights = torch.randn(4, *SHAPE).double(), strategy_of(supernet).samples(step_of(supernet))[0]
    with dropouts.off():
        assert not dropouts.active
        assert torch.equal(supernet(images, weights), supernet(images, weights))
    assert not torch.equal(supernet(images, weights), supernet(images, weights))
    supernet.eval()
    assert not dropouts.active


def test_gradients_are_clipped_by_value():
    whole, clipped = made(), made()
    for supernet, value in ((whole, None), (clipped, 1e-3)):
        strategy, step = strategy_of(supernet, clip_value=value), step_of(supernet)
        strategy.backward(step, strategy.samples(step))
        strategy.limit_gradients(step)
    for one, other in zip(whole.parameters(), clipped.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad.clamp(-1e-3, 1e-3))
    assert any(p.grad is not None and p.grad.abs().max() > 1e-3 for p in whole.parameters())


def half(seed: int, count: int = 24) -> Resident:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)
    return Resident(images, torch.arange(count) % 3)


@pytest.mark.parametrize("explorer", [None, partial(SposEvolution, population=2, parents=1, mutants=1, crossovers=1)])
def test_it_searches_and_ends_in_a_judged_candidate(explorer):
    torch.manual_seed(0)
    supernet = Supernet(space(0.2).network(Undecided(single=True), SHAPE, 3))
    strategy = SandwichStrategy("mobile", supernet.decisions, explorer=explorer, **ENDS)
    recipe = SearchRecipe(epochs=2, batch_size=8, schedule=Cosine(0.05), drop_path=0.2)
    problem = SearchProblem(supernet, half(1), half(2), Augmentation((0.5,), (0.25,)), Run())
    found = search(problem, strategy, recipe)
    check(found.architecture, supernet.decisions)
    again = SandwichStrategy("mobile", supernet.decisions, explorer=explorer, **ENDS)
    again.load_state_dict(strategy.state_dict())
    step = step_of(supernet)
    for one, other in zip(strategy.samples(step), again.samples(step), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_is_told_in_one_line():
    edge = {"edge": Decision("edge", ("none", "skip_connect"))}
    with pytest.raises(InputError, match=r"^decisions: space 'darts' has none about a number"):
        SandwichStrategy("darts", edge)
    decisions = made().decisions
    with pytest.raises(InputError, match=r"^random=-1"):
        SandwichStrategy("mobile", decisions, random=-1)
    with pytest.raises(InputError, match=r"^clip_value=0.0"):
        SandwichStrategy("mobile", decisions, clip_value=0.0)
    with pytest.raises(InputError, match=r"^candidates=0"):
        SandwichStrategy("mobile", decisions, candidates=0)


def test_single_paths_of_the_sandwich_run_as_slices():
    """A smaller network computes with its own channels alone, so that a step costs what its four networks cost."""
    supernet = made()
    strategy, step, seen = strategy_of(supernet, random=0), step_of(supernet), []
    smallest = one_path(strategy.extreme(0), supernet.decisions, dtype=torch.float64)
    block = supernet.network.stages[0].blocks[0]
    block.register_forward_pre_hook(lambda module, _: seen.append(module.form.expanded.now()))
    supernet(step.train.images, smallest)
    assert seen == [16]
