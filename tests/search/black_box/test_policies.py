import itertools
import math
from collections import Counter

import pytest
import torch
from common import edge_decision, node_decision, slow_but

from supernet.runtime.errors import InputError
from supernet.search.black_box.policies import ControllerPolicy, IndependentPolicy, questions_of
from supernet.space.architecture import Architecture, check, matters

# Two nodes: the second keeps two of three inputs, and its edges matter only where they are kept.
DECISIONS = {
    d.name: d
    for d in (
        edge_decision("cell/1/0", ("none", "a", "b")),  # "none" is no answer
        edge_decision("cell/2/0", ("a", "b", "c")),
        edge_decision("cell/2/1", ("none", "a"), optional=True),
        edge_decision("cell/2/2", ("a", "b", "c")),
        node_decision("cell/1", ("0",)),
        node_decision("cell/2", ("0", "1", "2"), keep=2),
    )
}


def everything() -> list[Architecture]:
    """All architectures, made without a policy."""
    names = [question.name for question in questions_of(DECISIONS)]
    answers = [itertools.combinations(DECISIONS[n].answers, DECISIONS[n].keep) for n in names]
    found = {}
    for choice in itertools.product(*answers):
        choices = dict(zip(names, choice, strict=True))
        inputs = {n: k for n, k in choices.items() if DECISIONS[n].role == "inputs"}
        found[Architecture("mine", {n: k for n, k in choices.items() if matters(DECISIONS[n], inputs)})] = None
    return list(found)


def independent(spread: float = 1.0) -> IndependentPolicy:
    return IndependentPolicy("mine", DECISIONS, spread=spread, seed=3).double()


def controller() -> ControllerPolicy:
    policy = ControllerPolicy("mine", DECISIONS, hidden=6, layers=2, tanh=2.0, reduction=1.5, seed=3).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(20.0)  # far from uniform
    return policy


POLICIES = pytest.mark.parametrize("make", [independent, controller])


def test_questions_come_after_what_they_depend_on_and_inputs_before_their_edges():
    names = [question.name for question in questions_of(DECISIONS)]
    assert names == ["cell/1", "cell/1/0", "cell/2", "cell/2/0", "cell/2/1", "cell/2/2"]
    assert [len(question.answers) for question in questions_of(DECISIONS)] == [1, 2, 3, 3, 2, 3]


@POLICIES
def test_the_probabilities_of_all_architectures_add_up_to_one(make):
    """Each counts the decisions that matter in it, and no other: 2 x (3 x 2 + 3 x 3 + 2 x 3) architectures."""
    policy = make()
    logarithms = torch.stack([policy.log_probability(a) for a in everything()])
    assert len(logarithms) == 42
    assert logarithms.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    assert logarithms.std() > 0.3


@pytest.mark.parametrize("make", slow_but([independent], [independent, controller]))
def test_draws_are_as_frequent_as_their_probability_says(make):
    policy, stream, count = make(), torch.Generator().manual_seed(1), 6000
    drawn = Counter(policy.sample(stream) for _ in range(count))
    assert set(drawn) <= set(everything())
    for architecture in everything():
        check(architecture, DECISIONS)
        expected = policy.log_probability(architecture).exp().item()
        spread = math.sqrt(expected * (1 - expected) / count)
        assert abs(drawn[architecture] / count - expected) < 5 * spread + 1e-9


@POLICIES
def test_the_mean_of_the_entropies_is_the_entropy_of_the_whole_distribution(make):
    policy = make()
    with torch.no_grad():
        logarithms = torch.stack([policy.log_probability(a) for a in everything()])
        each = torch.stack([policy.entropy(a) for a in everything()])
    assert (logarithms.exp() * each).sum().item() == pytest.approx(-(logarithms.exp() * logarithms).sum().item())


@POLICIES
def test_the_gradient_of_the_probability_is_that_of_finite_differences(make):
    policy = make()
    architecture = everything()[7]
    policy.log_probability(architecture).backward()
    for parameter in policy.parameters():
        if parameter.grad is None:  # the embedding of an answer after which nothing is asked
            continue
        place = int(parameter.grad.abs().argmax())
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.view(-1)[place] += step
                values.append(policy.log_probability(architecture).item())
                parameter.view(-1)[place] -= step
        assert parameter.grad.view(-1)[place].item() == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-7)


def test_decisions_that_do_not_matter_get_no_gradient():
    policy = independent()
    architecture = next(a for a in everything() if a["cell/2"] == ("0", "2"))
    (policy.log_probability(architecture) + policy.entropy(architecture)).backward()
    moved = {q.name: bool(row.any()) for q, row in zip(policy.questions, policy.logits.grad, strict=True)}
    assert moved == {name: name not in ("cell/1", "cell/2/1") for name in moved}  # cell/1 has one answer
    more = {**architecture, "cell/2/1": ("a",)}  # an answer that nobody asked for changes nothing
    assert torch.equal(policy.log_probability(more), policy.log_probability(architecture))


def test_independent_probabilities_are_the_softmax_and_those_of_options_kept():
    policy = independent()
    found = policy.probabilities()
    assert found["cell/1"].tolist() == [1.0]
    assert found["cell/1/0"].tolist() == [0.0, *policy.logits[1, :2].softmax(0).tolist()]
    first, second, third = policy.logits[2, :3].softmax(0).tolist()  # 0 1, 0 2, 1 2
    assert found["cell/2"].tolist() == pytest.approx([first + second, first + third, second + third])
    best = max(everything(), key=lambda a: policy.log_probability(a).item())
    alone = {n: d.options[int(found[n].argmax())] for n, d in DECISIONS.items() if d.role == "operation"}
    assert all(policy.most_likely()[n] == (alone[n],) for n in policy.most_likely() if n in alone)
    assert policy.log_probability(policy.most_likely()) <= policy.log_probability(best)


def test_a_controllers_probabilities_are_those_on_its_most_likely_way():
    policy = controller()
    found, best = policy.probabilities(), policy.most_likely()
    product = 1.0
    for name, kept in best.items():
        if DECISIONS[name].role == "operation":
            product *= found[name][DECISIONS[name].options.index(kept[0])].item()
    assert all(found[n].sum().item() == pytest.approx(DECISIONS[n].keep) for n in found)
    first = [a for a in everything() if a["cell/1/0"] == best["cell/1/0"]]
    pair = [a for a in first if a["cell/2"] == best["cell/2"]]
    of_first, of_pair = (sum(policy.log_probability(a).exp().item() for a in group) for group in (first, pair))
    assert policy.log_probability(best).exp().item() == pytest.approx(product * of_pair / of_first)
    (gone,) = {n for n in DECISIONS if n not in best}
    answers = DECISIONS[gone].answers
    assert found[gone].tolist() == pytest.approx([1 / len(answers)] * len(answers))


def test_a_controller_sees_what_it_has_answered():
    policy = controller()
    one, other = (next(a for a in everything() if a["cell/1/0"] == (first,)) for first in "ab")
    given = [policy.log_probability(a) - policy.log_probability({**a, "cell/2/0": ("b",)}) for a in (one, other)]
    assert abs(given[0].item() - given[1].item()) > 1e-3


def test_a_controller_stays_undecided_by_its_tanh():
    """ENAS' 1.10 / 2.5: no operation becomes more than exp(2 * 0.44) times as likely as another."""
    policy = ControllerPolicy("mine", DECISIONS, hidden=4)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1e4)
    probabilities = policy.probabilities()
    for name, decision in DECISIONS.items():
        most = 1.1 / (2.5 if decision.role == "operation" else 1.0)
        among = probabilities[name][probabilities[name] > 0]
        assert among.max() / among.min() <= math.exp(2 * most) + 1e-3


@POLICIES
def test_starts_and_states(make):
    policy = make()
    twin = type(policy)("mine", DECISIONS, **({"hidden": 6, "layers": 2} if make is controller else {})).double()
    twin.load_state_dict(policy.state_dict())
    again = type(policy)("mine", DECISIONS)
    same = type(policy)("mine", DECISIONS)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), same.parameters(), strict=True))
    streams = [torch.Generator().manual_seed(5) for _ in range(2)]
    if make is independent:
        assert [policy.sample(streams[0]) for _ in range(9)] == [twin.sample(streams[1]) for _ in range(9)]
    even = type(policy)("mine", DECISIONS).probabilities()
    assert even["cell/2/0"].tolist() == pytest.approx([1 / 3] * 3, abs=0.02)


@POLICIES
def test_an_answer_that_is_never_drawn_is_refused(make):
    with pytest.raises(InputError, match=r"^architecture: has none at cell/1/0; needs 1 of a, b"):
        make().log_probability({**everything()[0], "cell/1/0": ("none",)})


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (IndependentPolicy, {"spread": -1.0}, "^spread=-1.0: "),
        (ControllerPolicy, {"hidden": 0}, "^hidden=0: "),
        (ControllerPolicy, {"layers": 0}, "^layers=0: "),
        (ControllerPolicy, {"tanh": 0.0}, "^tanh=0.0: "),
        (ControllerPolicy, {"reduction": -1.0}, "^reduction=-1.0: "),
    ],
)
def test_refuses_nonsense(make, settings, message):
    with pytest.raises(InputError, match=message):
        make("mine", DECISIONS, **settings)
