"""REINFORCE against autograd and PyTorch's Adam, and against the mistakes that others have made."""

import math
from collections import Counter

import pytest
import torch

from supernet.runtime.errors import InputError
from supernet.search.black_box.policies import IndependentPolicy
from supernet.search.black_box.policy import ControllerExplorer, PolicyExplorer
from supernet.space.architecture import Decision
from supernet.space.darts import Darts
from supernet.space.genes import Candidates
from supernet.space.nasbench201 import NasBench201
from supernet.space.survey import candidates_of

ALL = candidates_of(NasBench201())
INPUTS = candidates_of(Darts(nodes=3, operations=("none", "skip_connect", "sep_conv_3x3")))
EDGES = Candidates("mine", {name: Decision(name, ("a", "b", "c")) for name in ("x", "y")})


def reward_of(architecture) -> float:
    return float(sum(len(option) for kept in architecture.values() for option in kept))


@pytest.mark.parametrize("candidates", [ALL, INPUTS], ids=["nasbench201", "darts"])
def test_steps_are_those_of_autograd_and_adam(candidates):
    """Where inputs are chosen, decisions that have no effect take part in no probability, but Adam moves them on."""
    explorer = PolicyExplorer(candidates, learning_rate=0.05, spread=0.5)
    policy = IndependentPolicy(candidates.space, {d.name: d for d in candidates.decisions}).double()
    order = {question.name: number for number, question in enumerate(policy.questions)}
    rows = [order[decision.name] for decision in candidates.decisions if len(decision.answers) > decision.keep]
    start = torch.from_numpy(explorer._logits.copy())
    with torch.no_grad():
        policy.logits[rows] = start.masked_fill(start.isinf(), 0.0)
    used = ~start.isinf()
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.05)
    step, advantages = explorer._reinforce, []

    def reinforce(architecture, advantage):
        advantages.append(advantage)
        step(architecture, advantage)

    explorer._reinforce = reinforce
    for _ in range(40):
        architecture = explorer.ask()
        explorer.tell(architecture, (reward_of(architecture),))
        optimizer.zero_grad()
        (-advantages[-1] * policy.log_probability(architecture)).backward()
        optimizer.step()
        ours = torch.from_numpy(explorer._logits)
        theirs = policy.logits.detach()[rows]
        assert torch.allclose(ours[used], theirs[used], rtol=1e-10, atol=1e-12)


def test_a_decision_that_keeps_two_is_drawn_as_a_pair():
    explorer = PolicyExplorer(INPUTS, spread=0.0)
    number = next(n for n, d in enumerate(INPUTS.decisions) if d.keep == 2 and len(d.answers) == 4)
    drawn = Counter(INPUTS.genes(explorer._sample())[number] for _ in range(3000))
    assert len(drawn) == 6
    assert all(count / 3000 == pytest.approx(1 / 6, abs=0.03) for count in drawn.values())


def test_draws_follow_the_probabilities():
    explorer = PolicyExplorer(EDGES, spread=1.0, seed=3)
    drawn = Counter(explorer._sample()["x"][0] for _ in range(4000))
    shares = [drawn[option] / 4000 for option in "abc"]
    assert shares == pytest.approx(explorer.probabilities()["x"], abs=0.03)


@pytest.mark.parametrize("make", [PolicyExplorer, ControllerExplorer])
def test_a_reward_above_the_baseline_makes_an_architecture_likelier(make):
    """The sign: a controller that descends on log-probability times advantage learns to be worse."""
    for reward, better in ((1.0, True), (-1.0, False)):
        explorer = make(EDGES, learning_rate=0.05, seed=1)
        explorer.tell(explorer.ask(), (0.0,))  # the first has no advantage: it is the baseline

        def probability(architecture, explorer=explorer):
            if isinstance(explorer, ControllerExplorer):
                return explorer._policy.log_probability(architecture).exp().item()
            chances = explorer.probabilities()
            return math.prod(chances[n]["abc".index(kept[0])] for n, kept in architecture.items())

        architecture = explorer.ask()
        before = probability(architecture)
        explorer.tell(architecture, (reward,))
        assert (probability(architecture) > before) == better


@pytest.mark.parametrize("make", [PolicyExplorer, ControllerExplorer])
def test_the_baseline_is_a_slow_mean_with_the_newest_reward_in_it(make):
    """Neither the reward itself, which would teach nothing, nor the mean of the last step alone."""
    explorer = make(EDGES, momentum=0.9)
    advantages = []
    explorer._reinforce = lambda architecture, advantage: advantages.append(advantage)
    explorer._reward = lambda architecture, objective: objective
    for reward in (1.0, 3.0, 3.0):
        explorer.tell(explorer.ask(), (reward,))
    second = 3.0 - (0.09 * 1.0 + 0.1 * 3.0) / 0.19
    third = 3.0 - (0.081 * 1.0 + 0.19 * 3.0) / 0.271
    assert advantages == pytest.approx([0.0, second, third])


def test_the_unit_of_rewards_plays_no_part():
    def logits(unit):
        explorer = PolicyExplorer(ALL, seed=4)
        for _ in range(50):
            architecture = explorer.ask()
            explorer.tell(architecture, (unit * reward_of(architecture),))
        return torch.from_numpy(explorer._logits).nan_to_num(neginf=0.0)

    assert torch.allclose(logits(1.0), logits(100.0), atol=1e-6)


def test_entropy_is_a_part_of_the_reward_alone():
    """At the start the logits of an edge are nearly equal: its entropy is log(3), and no gradient goes through it."""
    explorer = ControllerExplorer(EDGES, entropy_weight=0.5)
    assert explorer._reward(explorer.ask(), 2.0) == pytest.approx(2.0 + 0.5 * 2 * math.log(3), abs=0.01)
    before = {name: value.clone() for name, value in explorer._policy.state_dict().items()}
    explorer.tell(explorer.ask(), (1.0,))  # no advantage, and so no step, whatever the entropy
    assert all(torch.equal(value, before[name]) for name, value in explorer._policy.state_dict().items())


def test_the_defaults_are_published():
    policy, controller = PolicyExplorer(ALL), ControllerExplorer(ALL)
    assert (policy._rate, policy._momentum) == (0.01, 0.9)  # NATS-Bench
    finite = torch.from_numpy(policy._logits[:, :5])
    finite = finite[finite.isfinite()]
    assert 3e-4 < finite.std() < 3e-3
    group = controller._optimizer.param_groups[0]  # ENAS, scripts/cifar10_micro_search.sh
    assert (group["lr"], group["betas"], group["eps"]) == (0.0035, (0.9, 0.999), 1e-8)
    assert (controller._momentum, controller._entropy_weight) == (0.99, 1e-4)
    assert (controller._policy._tanh, controller._policy._reduction, controller._policy.lstm.hidden_size) == (
        1.1,
        2.5,
        64,
    )


@pytest.mark.parametrize("make", [PolicyExplorer, ControllerExplorer])
def test_a_policy_that_is_sure_still_finds_something_new_and_does_not_learn_from_it(make):
    explorer = make(EDGES, learning_rate=0.3)
    for _ in range(2000):
        proposed = explorer.ask()
        if proposed is None:
            break
        new = not explorer._drawn
        before = explorer._sum
        explorer.tell(proposed, (float(proposed["x"] == ("c",) and proposed["y"] == ("c",)),))
        assert not new or explorer._sum == before
    assert len(explorer.told) == 9
    assert proposed is None
    forgetful = make(EDGES, learning_rate=0.3, distinct=False)
    for _ in range(300):
        proposed = forgetful.ask()
        assert forgetful._drawn == [proposed]
        forgetful.tell(proposed, (float(proposed["x"] == ("c",)),))


def test_limits_are_kept_and_infinite_rewards_teach_nothing():
    limited = Candidates("mine", {d.name: d for d in EDGES.decisions}, fits=lambda a: a["x"] != ("c",))
    explorer = PolicyExplorer(limited)
    asked = set()
    while (proposed := explorer.ask()) is not None:
        asked.add(proposed)
        explorer.tell(proposed, (-math.inf,))
    assert len(asked) == 6
    assert all(proposed["x"] != ("c",) for proposed in asked)
    assert explorer._steps == 0


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        (PolicyExplorer, {"learning_rate": 0.0}, "^learning_rate=0.0"),
        (PolicyExplorer, {"momentum": 1.0}, "^momentum=1.0"),
        (PolicyExplorer, {"spread": -1.0}, "^spread=-1.0"),
        (ControllerExplorer, {"hidden": 0}, "^hidden=0"),
        (ControllerExplorer, {"entropy_weight": -1.0}, "^entropy_weight=-1.0"),
        (ControllerExplorer, {"tanh": 0.0}, "^tanh=0.0"),
    ],
)
def test_bad_settings_are_one_line(make, settings, words):
    with pytest.raises(InputError, match=words):
        make(ALL, **settings)


def test_a_question_with_too_many_answers_is_one_line():
    wide = Decision("wide", tuple(map(str, range(40))), keep=20, role="inputs")
    with pytest.raises(InputError, match="wide has 137,846,528,820 sets"):
        PolicyExplorer(Candidates("mine", {"wide": wide}))
