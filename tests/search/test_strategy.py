"""What a strategy is: hooks that do nothing unless a strategy says what they do, and one that passes all of them on."""

import inspect
from contextlib import contextmanager

import pytest
import torch

from supernet.data.batches import Batch
from supernet.runtime.errors import InputError
from supernet.search.black_box.random_search import UniformStrategy
from supernet.search.strategy import Step, Strategy, Wrapper, has_alphas
from supernet.space.architecture import Architecture, Decision, one_hot
from supernet.space.choosers import Undecided
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.training.tasks import Classification

EDGE = {"edge": Decision("edge", ("none", "skip_connect", "conv"))}
HOOKS = sorted(name for name, _ in inspect.getmembers(Strategy, inspect.isfunction) if not name.startswith("_"))


class Least(Strategy):
    """Says what a strategy has to say, and no more."""

    space, decisions = "mine", EDGE

    def sample(self, step):
        return self.expected()

    def expected(self):
        return one_hot(self.finish(), EDGE)

    def finish(self, score=None):
        return Architecture("mine", {"edge": ("conv",)})


class Told(Least):
    """Writes down with what each hook is called, and answers with something that nobody else has."""

    inherits = True

    def __init__(self):
        self.calls, self.answers = [], {name: object() for name in HOOKS}


def recording(name):
    def hook(self, *given, **named):
        self.calls.append((name, *given, *named.values()))
        return self.answers[name]

    return hook


for hook in HOOKS:
    setattr(Told, hook, recording(hook))


@pytest.mark.parametrize("missing", ["sample", "expected", "finish"])
def test_what_every_strategy_has_to_say_cannot_be_left_out(missing):
    parts = {name: getattr(Least, name) for name in ("sample", "expected", "finish") if name != missing}
    with pytest.raises(TypeError, match=missing):
        type("Partial", (Strategy,), parts)()


def test_all_other_hooks_do_nothing():
    strategy = Least()
    assert strategy.begin_epoch(0.5, score=None) is None
    assert strategy.update(step=None) is None
    assert strategy.differentiable_weights() == ([], {})
    assert strategy.measures() == strategy.state_dict() == {}
    assert strategy.load_state_dict({}) is None
    assert strategy.to(torch.device("cpu")) is strategy
    assert vars(strategy) == {}


def test_a_strategy_that_cannot_inherit_says_so_in_one_line():
    assert not Least.inherits
    with pytest.raises(InputError, match=r"^Least cannot start with what an earlier stage has learnt$"):
        Least().inherit(Least())


@pytest.mark.parametrize("name", [name for name in HOOKS if name not in ("inherit", "recording")])
def test_a_wrapper_passes_every_hook_on(name):
    """All public methods there are: a hook that is added to a strategy and not to the wrapper fails here."""
    inside = Told()
    wrapper = Wrapper(inside)
    given = [object() for p in inspect.signature(getattr(Strategy, name)).parameters.values() if p.name != "self"]
    nested = [{"strategy": given[0]}] if name == "load_state_dict" else given
    answer = getattr(wrapper, name)(*nested)
    assert inside.calls == [(name, *given)]
    own = {"to": wrapper, "state_dict": {"strategy": inside.answers["state_dict"]}}
    silent = {"initialise": None, "limit_gradients": None, "begin_epoch": None, "update": None, "load_state_dict": None}
    assert answer == {**inside.answers, **own, **silent}[name]


def test_a_wrapper_may_decide_on_the_host_and_is_not_recorded_unless_it_says_so():
    assert Wrapper(Told()).recording(step=None, learn_alphas=True) is None


def test_a_wrapper_has_the_space_and_the_decisions_and_does_not_inherit():
    inside = Told()
    wrapper = Wrapper(inside)
    assert (wrapper.space, wrapper.decisions, wrapper.strategy) == ("mine", EDGE, inside)
    assert not wrapper.inherits
    with pytest.raises(InputError, match=r"^Wrapper cannot start"):
        wrapper.inherit(Told())
    assert inside.calls == []


def test_the_state_of_wrappers_within_wrappers_goes_round():
    def nested(seed):
        return Wrapper(Wrapper(UniformStrategy("mine", EDGE, seed=seed)))

    one, twin = nested(0), nested(0)
    for _ in range(3):
        one.sample(None)
    twin.load_state_dict(one.state_dict())
    assert twin.state_dict() == one.state_dict() != nested(0).state_dict()


def test_alphas_are_weights_that_can_be_differentiated():
    class Alphas(Least):
        learns = True

        def differentiable_weights(self):
            alphas = torch.zeros(3, requires_grad=self.learns)
            return [alphas], {"edge": alphas.softmax(0)}

    fixed = Alphas()
    fixed.learns = False
    assert (has_alphas(Alphas()), has_alphas(Wrapper(Alphas())), has_alphas(fixed), has_alphas(Least())) == (
        True,
        True,
        False,
        False,
    )


def a_step(**more) -> tuple[Step, dict]:
    torch.manual_seed(0)
    space = NasBench201(channels=4, cells=1, stages=1, nodes=1, operations=("skip_connect", "nor_conv_1x1"))
    supernet = Supernet(space.network(Undecided(), (1, 4, 4), 3)).double()
    batches = [Batch(torch.randn(5, 1, 4, 4, dtype=torch.float64), torch.arange(5) % 3) for _ in range(2)]
    weights = {name: torch.rand(len(d.options), dtype=torch.float64) for name, d in supernet.decisions.items()}
    optimizer = torch.optim.SGD(supernet.parameters(), 0.1)
    return Step(supernet, *batches, Classification(), optimizer, 0.0, **more), weights


def test_the_loss_of_a_step_is_that_of_the_batch_and_of_the_stand_ins():
    step, weights = a_step()
    plain = step.task.loss(step.supernet(step.train.images, weights), step.train)
    assert torch.equal(step.loss(step.train, weights), plain)
    assert not torch.equal(step.loss(step.valid, weights), plain)
    doubled = [(2 * p).detach().requires_grad_() for p in step.supernet.parameters()]
    moved = step.loss(step.train, weights, doubled)
    slopes = torch.autograd.grad(moved, doubled)
    assert all(p.grad is None for p in step.supernet.parameters())
    assert torch.equal(step.loss(step.train, weights), plain)  # the parameters are back
    with torch.no_grad():
        for parameter in step.supernet.parameters():
            parameter.mul_(2)
    again = step.loss(step.train, weights)
    assert torch.equal(again, moved)
    assert all(map(torch.equal, torch.autograd.grad(again, list(step.supernet.parameters())), slopes))


def test_a_step_without_acceleration_is_exact_and_unrecorded_as_it_is():
    entered = []

    class Accelerated:
        @contextmanager
        def exact(self):
            entered.append("exact")
            yield

        @contextmanager
        def unrecorded(self):
            entered.append("unrecorded")
            yield

    for accelerated in (None, Accelerated()):
        step, _ = a_step(accelerated=accelerated)
        with step.exact(), step.unrecorded():
            pass
    assert entered == ["exact", "unrecorded"]
