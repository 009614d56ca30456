"""Policies: distributions over the architectures of a space whose parameters learn from rewards (REINFORCE).

A decision that keeps several options, such as two inputs of four, is one question whose answers are the pairs. Where an
architecture does not meet the conditions of a question (`Decision.when`), it is not asked and has no part in the
probability.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.runtime.seeding import generator as stream_of
from supernet.space.architecture import Architecture, Decision, Weights, matters

Answer = tuple[str, ...]
"""The options that a decision keeps, in the order in which it has them."""

_INITIAL_STREAM = 0x9011C


@dataclass(frozen=True)
class Question:
    """A decision with all answers that it can have.

    Args:
        decision: what is asked.
        answers: every set of `decision.keep` options that can be kept together.
    """

    decision: Decision
    answers: tuple[Answer, ...]

    @property
    def name(self) -> str:
        return self.decision.name

    def place(self, architecture: Mapping[str, Answer]) -> int:
        """Finds which of the answers an architecture has.

        Raises:
            InputError: it has none of them.
        """
        kept = tuple(architecture.get(self.name, ()))
        if kept not in self.answers:
            has = ", ".join(kept) or "no answer"
            raise InputError(
                f"architecture: has {has} at {self.name}; needs {self.decision.keep} of "
                f"{', '.join(self.decision.answers)}, in this order"
            )
        return self.answers.index(kept)


def questions_of(decisions: Mapping[str, Decision]) -> tuple[Question, ...]:
    """Lists the questions in an order in which each comes after those on which it depends.

    The inputs of a node come right before the operations of its edges, as ENAS' controller is asked (Pham et al. 2018).

    Args:
        decisions: all of the space, by name.

    Returns:
        A question for each decision.

    Raises:
        InputError: a decision has fewer options than it is to keep.

    Example:
        >>> edge = Decision("normal/2/0", ("a", "b"), when=(("normal/2", ("0",)),))
        >>> node = Decision("normal/2", ("0", "1", "2"), keep=2, role="inputs")
        >>> [(q.name, len(q.answers)) for q in questions_of({d.name: d for d in (edge, node)})]
        [('normal/2', 3), ('normal/2/0', 2)]
    """
    ordered: dict[str, Question] = {}

    def ask(decision: Decision) -> None:
        if decision.name in ordered:
            return
        for name, _ in decision.when:
            if name in decisions:
                ask(decisions[name])
        answers = tuple(combinations(decision.answers, decision.keep))
        if not answers:
            raise InputError(
                f"decisions: {decision.name} is to keep {decision.keep} of {', '.join(decision.answers) or 'nothing'}"
            )
        ordered[decision.name] = Question(decision, answers)

    for decision in decisions.values():
        ask(decision)
    return tuple(ordered.values())


class Policy(nn.Module, ABC):
    """A distribution over architectures; its parameters are few and stay on the CPU.

    Args:
        space: the name of the space, for the architectures that are drawn.
        decisions: all of the space, by name.

    Attributes:
        questions: in the order in which they are asked.
    """

    def __init__(self, space: str, decisions: Mapping[str, Decision]) -> None:
        super().__init__()
        self.space, self.decisions = space, dict(decisions)
        self.questions = questions_of(decisions)

    @abstractmethod
    def sample(self, generator: torch.Generator) -> Architecture:
        """Draws an architecture.

        Args:
            generator: of the draws, on the CPU.

        Returns:
            The architecture.
        """

    @abstractmethod
    def log_probability(self, architecture: Mapping[str, Answer]) -> Tensor:
        """Gives the logarithm of the probability with which an architecture is drawn.

        Args:
            architecture: the options kept, by decision.

        Returns:
            A scalar, differentiable in the parameters: a sum over the decisions that matter in this architecture.

        Raises:
            InputError: the architecture has an answer that is never drawn.
        """

    @abstractmethod
    def entropy(self, architecture: Mapping[str, Answer]) -> Tensor:
        """Adds up the entropies of the draws that led to an architecture; its mean over draws is the policy's entropy.

        Args:
            architecture: the options kept, by decision.

        Returns:
            A scalar in nats, differentiable in the parameters.
        """

    @abstractmethod
    def probabilities(self) -> Weights:
        """Says how likely it is that each option is kept.

        Returns:
            (options,) for each decision, without gradient; the sum is the number of options that are kept.
        """

    @abstractmethod
    def most_likely(self) -> Architecture:
        """Gives the architecture whose answers, one after the other, are the most likely ones.

        Returns:
            The architecture.
        """

    def _architecture(self, answer: Callable[[int, Question], int]) -> Architecture:
        """Asks the questions that matter: (number, question) -> place of the answer."""
        choices: dict[str, Answer] = {}
        for number, question in enumerate(self.questions):
            if matters(question.decision, choices):
                choices[question.name] = question.answers[answer(number, question)]
        return Architecture(self.space, choices)


class IndependentPolicy(Policy):
    """A softmax over the answers of each question, independent of all others (TuNAS, ProxylessNAS, NATS-Bench).

    Args:
        space: the name of the space, for the architectures that are drawn.
        decisions: all of the space, by name.
        spread: standard deviation of the logits at the start; 0 (TuNAS): all answers are equally likely.
        seed: of the start.

    Attributes:
        logits: (questions, most answers of any question); what is beyond the answers of a question plays no part.

    Raises:
        InputError: `spread` is below 0.

    Example:
        >>> policy = IndependentPolicy("mine", {"edge": Decision("edge", ("none", "a", "b"))})
        >>> policy.probabilities(), round(policy.entropy({"edge": ("a",)}).item(), 4)
        ({'edge': tensor([0.0000, 0.5000, 0.5000])}, 0.6931)
    """

    def __init__(self, space: str, decisions: Mapping[str, Decision], *, spread: float = 0.0, seed: int = 0) -> None:
        super().__init__(space, decisions)
        if not 0.0 <= spread < float("inf"):
            raise InputError(f"spread={spread}: needs 0 or more, such as 1e-3")
        size = len(self.questions), max((len(question.answers) for question in self.questions), default=1)
        self.logits = nn.Parameter(spread * torch.randn(size, generator=stream_of(seed, _INITIAL_STREAM)))
        self._beyond = torch.tensor(
            [[place >= len(question.answers) for place in range(size[1])] for question in self.questions]
        ).view(size)

    def sample(self, generator: torch.Generator) -> Architecture:
        with torch.no_grad():
            drawn = torch.multinomial(self._logarithms().exp(), 1, generator=generator).flatten().tolist()
        return self._architecture(lambda number, _: drawn[number])

    def log_probability(self, architecture: Mapping[str, Answer]) -> Tensor:
        asked = self._asked(architecture)
        places = [self.questions[number].place(architecture) for number in asked]
        return self._logarithms()[asked, places].sum()

    def entropy(self, architecture: Mapping[str, Answer]) -> Tensor:
        logarithms = self._logarithms()
        each = -(logarithms.exp() * logarithms.masked_fill(self._beyond, 0.0)).sum(1)
        return each[self._asked(architecture)].sum()

    def probabilities(self) -> Weights:
        with torch.no_grad():
            rows = self._logarithms().exp()
        return {q.name: kept(q, row[: len(q.answers)]) for q, row in zip(self.questions, rows, strict=True)}

    def most_likely(self) -> Architecture:
        with torch.no_grad():
            best = self._logarithms().argmax(1).tolist()
        return self._architecture(lambda number, _: best[number])

    def _logarithms(self) -> Tensor:
        """The logarithms of the probabilities of all answers; -inf beyond them."""
        return self.logits.masked_fill(self._beyond, -torch.inf).log_softmax(1)

    def _asked(self, architecture: Mapping[str, Answer]) -> list[int]:
        return [n for n, question in enumerate(self.questions) if matters(question.decision, architecture)]


class ControllerPolicy(Policy):
    """An LSTM that answers one question after the other and sees its last answer (ENAS, Pham et al. 2018).

    Questions with the same answers share the layer that judges them and the embedding of what was answered. The authors
    choose inputs by attention to the earlier nodes, and let the first two operations begin with more weight in one of
    the cells; here inputs are answered like operations, and all begin alike.

    Args:
        space: the name of the space, for the architectures that are drawn.
        decisions: all of the space, by name.
        hidden: the size of the LSTM's state, 1 or more.
        layers: of the LSTM, 1 or more.
        tanh: logits are this times the tanh of what the layer gives; so no answer becomes certain.
        reduction: logits of operations are divided by it once more.
        seed: of the start, which is uniform in [-0.1, 0.1].

    Raises:
        InputError: a setting is out of its range.

    Example:
        >>> edges = {name: Decision(name, ("a", "b")) for name in ("first", "second")}
        >>> policy = ControllerPolicy("mine", edges, hidden=4)
        >>> policy.log_probability({"first": ("b",), "second": ("a",)}).exp() - 0.25 < 0.01  # nearly even at the start
        tensor(True)
    """

    def __init__(
        self,
        space: str,
        decisions: Mapping[str, Decision],
        *,
        hidden: int = 64,
        layers: int = 1,
        tanh: float = 1.1,
        reduction: float = 2.5,
        seed: int = 0,
    ) -> None:
        super().__init__(space, decisions)
        for name, size in {"hidden": hidden, "layers": layers}.items():
            if size < 1:
                raise InputError(f"{name}={size}: needs 1 or more")
        for name, factor in {"tanh": tanh, "reduction": reduction}.items():
            if not 0.0 < factor < float("inf"):
                raise InputError(f"{name}={factor}: needs a number above 0")
        self._tanh, self._reduction = tanh, reduction
        kinds = list(dict.fromkeys(question.answers for question in self.questions if len(question.answers) > 1))
        self._kinds = {answers: number for number, answers in enumerate(kinds)}
        with torch.random.fork_rng(devices=[]):  # PyTorch's own starts draw from the global generator
            self.lstm = nn.LSTM(hidden, hidden, layers, bias=False)
            self.start = nn.Parameter(torch.empty(hidden))
            self.heads = nn.ModuleList(nn.Linear(hidden, len(answers)) for answers in kinds)
            self.embeddings = nn.ModuleList(nn.Embedding(len(answers), hidden) for answers in kinds)
        stream = stream_of(seed, _INITIAL_STREAM)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-0.1, 0.1, generator=stream)
            for name, parameter in self.heads.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()

    def sample(self, generator: torch.Generator) -> Architecture:
        def draw(_: Question, logarithms: Tensor) -> int:
            return int(torch.multinomial(logarithms.exp(), 1, generator=generator))

        with torch.no_grad():
            return self._asked(draw)[0]

    def log_probability(self, architecture: Mapping[str, Answer]) -> Tensor:
        _, steps = self._asked(lambda question, _: question.place(architecture))
        return _sum([logarithms[question.place(architecture)] for question, logarithms in steps])

    def entropy(self, architecture: Mapping[str, Answer]) -> Tensor:
        _, steps = self._asked(lambda question, _: question.place(architecture))
        return _sum([-(logarithms.exp() * logarithms).sum() for _, logarithms in steps])

    def probabilities(self) -> Weights:
        """Says how likely each option is after the most likely answers to all questions before.

        A decision that does not matter then has options that are equally likely.
        """
        with torch.no_grad():
            _, steps = self._asked(lambda _, logarithms: int(logarithms.argmax()))
        known = {question.name: kept(question, logarithms.exp()) for question, logarithms in steps}
        even = {q.name: kept(q, torch.full((len(q.answers),), 1 / len(q.answers))) for q in self.questions}
        return {**even, **known}

    def most_likely(self) -> Architecture:
        with torch.no_grad():
            return self._asked(lambda _, logarithms: int(logarithms.argmax()))[0]

    def _asked(
        self, answer: Callable[[Question, Tensor], int]
    ) -> tuple[Architecture, Sequence[tuple[Question, Tensor]]]:
        """Asks the LSTM each question that matters and has a choice.

        (question, logarithms of the probabilities) -> place of the answer; returned are all answers, and what was
        asked with its logarithms.
        """
        state: tuple[Tensor, Tensor] | None = None
        seen: Tensor = self.start
        steps: list[tuple[Question, Tensor]] = []

        def step(_: int, question: Question) -> int:
            nonlocal state, seen
            if len(question.answers) == 1:
                return 0
            kind = self._kinds[question.answers]
            output, state = self.lstm(seen[None], state)
            factor = self._tanh / (self._reduction if question.decision.role == "operation" else 1.0)
            logarithms = (factor * torch.tanh(self.heads[kind](output[0]))).log_softmax(0)
            place = answer(question, logarithms)
            seen = self.embeddings[kind](torch.tensor(place))
            steps.append((question, logarithms))
            return place

        return self._architecture(step), steps


def kept(question: Question, probabilities: Tensor) -> Tensor:
    """Says how likely each option is part of the answer.

    Args:
        question: what is asked.
        probabilities: of its answers, (answers,).

    Returns:
        (options,); their sum is the number of options that are kept.

    Example:
        >>> node = questions_of({"n": Decision("n", ("0", "1", "2"), keep=2, role="inputs")})[0]
        >>> kept(node, torch.tensor([0.5, 0.5, 0.0]))  # of the pairs 0 1, 0 2 and 1 2
        tensor([1.0000, 0.5000, 0.5000])
    """
    holds = [[float(option in answer) for answer in question.answers] for option in question.decision.options]
    return torch.tensor(holds, dtype=probabilities.dtype) @ probabilities


def _sum(terms: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum() if terms else torch.zeros(())
