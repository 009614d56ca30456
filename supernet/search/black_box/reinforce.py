"""Reinforcement learning while the supernet trains: a policy draws the paths, and learns from how good they are.

ENAS, ProxylessNAS-R and TuNAS are this class with different parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from supernet.estimation.limits import Limits
from supernet.estimation.supernet_accuracy import SupernetScore
from supernet.execution.modes import frozen_statistics
from supernet.runtime.checkpoint import check_optimizer
from supernet.runtime.errors import InputError
from supernet.runtime.limits import Limit
from supernet.runtime.seeding import generator
from supernet.search.black_box.drawing import drawn_within
from supernet.search.black_box.policies import Policy
from supernet.search.black_box.random_search import best
from supernet.search.black_box.rewards import Costed, Reward, quality
from supernet.search.strategy import Step, Strategy
from supernet.space.architecture import Architecture, Decision, Weights, matters, one_path
from supernet.space.dropout import Dropouts
from supernet.space.supernet import Supernet

_PATH_STREAM, _REWARD_STREAM, _CANDIDATE_STREAM = 0x9A7B, 0x4E3A, 0xF1A1


@dataclass(frozen=True)
class Updates:
    """When a policy learns, from how many paths, and how fast.

    Args:
        paths: architectures that are judged on one validation batch, 1 or more.
        batches: validation batches of whose paths one step of the policy is made, 1 or more.
        every: one validation batch in so many steps of the network is used, 1 or more.
        warm_up: the share of the search, from its start, in which the policy does not learn, in [0, 1).
        growth: by what the learning rate is multiplied, exponentially, from then to the end of the search; above 0.
        clip: largest norm of the policy's gradient; None: any.

    Raises:
        InputError: a number is out of its range.

    Example:
        >>> [Updates(warm_up=0.5, growth=100.0).factor(progress) for progress in (0.25, 0.5, 0.75)]
        [0.0, 1.0, 10.0]
    """

    paths: int = 1
    batches: int = 1
    every: int = 1
    warm_up: float = 0.0
    growth: float = 1.0
    clip: Limit | None = None

    def __post_init__(self) -> None:
        for name in ("paths", "batches", "every"):
            if (count := getattr(self, name)) < 1:
                raise InputError(f"{name}={count}: needs 1 or more")
        if not 0.0 <= self.warm_up < 1.0:
            raise InputError(f"warm_up={self.warm_up}: needs to lie in [0, 1), such as 0.25")
        if not 0.0 < self.growth < float("inf"):
            raise InputError(f"growth={self.growth}: needs a number above 0; 1 leaves the rate as it is")
        if self.clip is not None and not self.clip > 0.0:
            raise InputError(f"clip={self.clip}: needs to be above 0; leave it out for no clipping")

    def factor(self, progress: float) -> float:
        """Gives what the learning rate is multiplied by.

        Args:
            progress: how far the search is, in [0, 1).

        Returns:
            0 during the warm-up, then from 1 to `growth`.
        """
        if progress < self.warm_up:
            return 0.0
        return float(self.growth ** ((progress - self.warm_up) / (1.0 - self.warm_up)))


class Baseline:
    """What a reward is compared with: a moving average of the rewards before, and the other rewards of its batch.

    A reward is no part of its own baseline. The authors' codes update the average first, so that it is: ProxylessNAS'
    baseline is to 99 % the mean of the same ten rewards, and in a well-known copy of ENAS' code the baseline of the
    first epoch is each reward itself, so that nothing is learnt there.

    Args:
        memory: what the average keeps of itself, in [0, 1); the rest is the mean of the batch. The average is corrected
            for its start, as in TuNAS' code, and not pulled towards 0.

    Raises:
        InputError: `memory` is out of its range.

    Example:
        >>> baseline = Baseline(memory=0.5)
        >>> [baseline.advantages([reward]) for reward in (2.0, 8.0, 8.0)]
        [[], [6.0], [2.0]]
    """

    def __init__(self, memory: float) -> None:
        if not 0.0 <= memory < 1.0:
            raise InputError(f"memory={memory}: needs to lie in [0, 1), such as 0.95")
        self._memory, self._sum, self._weight = memory, 0.0, 0.0

    @property
    def value(self) -> float | None:
        """The average so far; None before the first reward."""
        return self._sum / self._weight if self._weight else None

    def advantages(self, rewards: Sequence[float]) -> list[float]:
        """Compares the rewards of one batch with the baseline, then learns from them.

        Args:
            rewards: one or more.

        Returns:
            For each how much better it is; [] for the very first alone, which there is nothing to compare with.
        """
        expected = [self._expected([*rewards[:place], *rewards[place + 1 :]]) for place in range(len(rewards))]
        self._sum = self._memory * self._sum + (1.0 - self._memory) * sum(rewards) / len(rewards)
        self._weight = self._memory * self._weight + (1.0 - self._memory)
        return [reward - other for reward, other in zip(rewards, expected, strict=True) if other is not None]

    def _expected(self, others: Sequence[float]) -> float | None:
        before = self.value
        if not others:
            return before
        mean = sum(others) / len(others)
        return mean if before is None else self._memory * before + (1.0 - self._memory) * mean

    def state_dict(self) -> dict[str, float]:
        return {"sum": self._sum, "weight": self._weight}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self._sum, self._weight = float(state["sum"]), float(state["weight"])


class ReinforceStrategy(Strategy):
    """A policy that draws paths: the network's weights learn on some, the policy from the accuracy of others.

    A path's accuracy is that on the step's validation batch, without dropout, with the batch's statistics in the norms,
    which do not remember them. The policy moves along (reward - baseline) times the gradient of the logarithm of the
    path's probability, of which decisions that do not matter in the path are no part (REINFORCE, Williams 1992). More
    than twelve parameters: each is a part or a figure in which the three methods differ.

    Args:
        space: the name of the space, for the architectures that are found.
        decisions: those of the supernet, by name.
        policy: (space, decisions, *, seed) -> what draws and learns, such as `IndependentPolicy`.
        optimizer: parameters -> the policy's optimiser.
        reward: (quality, architecture, decisions) -> what the policy learns from.
        updates: when it learns, from how many paths, and how fast.
        memory: what the baseline keeps of itself, in [0, 1).
        entropy: times the entropy of the draws, in nats, is added to each reward (ENAS). It is part of the number, and
            has no gradient of its own.
        operation_warm_up: at the start all operations of an edge run together, each with the same weight, and sizes are
            their largest, with a probability that falls from 1 to 0 over this share of the search, in [0, 1] (TuNAS).
        candidates: so many draws are judged in the end, and the best is the answer (ENAS); 0: the answer is the most
            likely architecture (TuNAS, ProxylessNAS).
        batches: on how many batches of validation data those are judged; None: on all of it.
        limits: what architectures may cost: all draws keep them, and so does the answer. The policy learns from a draw
            that was repaired as from others.
        seed: of the start and of all draws.

    Raises:
        InputError: a setting is out of its range, or the parts do not go together.

    Example:
        >>> from functools import partial
        >>> from supernet.search.black_box.policies import IndependentPolicy
        >>> edge = {"edge": Decision("edge", ("none", "a", "b"))}
        >>> adam = partial(torch.optim.Adam, lr=1e-3)
        >>> ReinforceStrategy("mine", edge, policy=IndependentPolicy, optimizer=adam).expected()
        {'edge': tensor([0.0000, 0.5000, 0.5000])}
    """

    def __init__(
        self,
        space: str,
        decisions: Mapping[str, Decision],
        *,
        policy: Callable[..., Policy],
        optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer],
        reward: Reward = quality,
        updates: Updates | None = None,
        memory: float = 0.95,
        entropy: float = 0.0,
        operation_warm_up: float = 0.0,
        candidates: int = 0,
        batches: int | None = None,
        limits: Limits | None = None,
        seed: int = 0,
    ) -> None:
        if not 0.0 <= entropy < float("inf"):
            raise InputError(f"entropy={entropy}: needs 0 or more, such as 1e-4")
        if not 0.0 <= operation_warm_up <= 1.0:
            raise InputError(f"operation_warm_up={operation_warm_up}: is a share of the search; needs to lie in [0, 1]")
        if candidates < 0:
            raise InputError(f"candidates={candidates}: needs 0 (the most likely architecture) or more")
        if batches is not None and batches < 1:
            raise InputError(f"batches={batches}: needs 1 or more, or none for all validation data")
        self.space, self.decisions = space, dict(decisions)
        self.policy = policy(space, decisions, seed=seed)
        if not isinstance(self.policy, Policy):
            raise InputError(f"policy: makes a {type(self.policy).__name__}; needs a Policy such as IndependentPolicy")
        self.optimizer = optimizer(self.policy.parameters())
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            what = type(self.optimizer).__name__
            raise InputError(f"optimizer: makes a {what} and no optimizer; use one such as torch.optim.Adam")
        reward = reward.in_space(limits) if isinstance(reward, Costed) else reward
        reward(0.0, self.policy.most_likely(), decisions)  # an operation without a cost shows now
        self._reward, self._updates, self._entropy = reward, updates or Updates(), entropy
        self._operation_warm_up, self._candidates, self._batches = operation_warm_up, candidates, batches
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self.baseline = Baseline(memory)
        self._dropouts: tuple[Supernet, Dropouts] | None = None  # of the supernet of the steps
        self._pending: list[tuple[dict[str, tuple[str, ...]], float]] = []  # paths of the next step, and advantages
        self._gathered = 0  # validation batches that they come from
        self._limits, self._seed, self._steps, self._paths, self._judged = limits, seed, 0, 0, 0
        self._like, self._ranking = torch.zeros(()), list[Architecture]()

    def update(self, step: Step) -> None:
        """Judges some paths on the validation batch; once there are enough, the policy takes a step."""
        if step.progress < self._updates.warm_up:
            return
        self._steps += 1
        if self._steps % self._updates.every:
            return
        drawn = [self._next(_REWARD_STREAM) for _ in range(self._updates.paths)]
        advantages = self.baseline.advantages([self._rewarded(step, architecture) for architecture in drawn])
        if not advantages:
            return
        self._pending += [(dict(a.choices), value) for a, value in zip(drawn, advantages, strict=True)]
        self._gathered += 1
        if self._gathered == self._updates.batches:
            self._learn(self._updates.factor(step.progress))

    def sample(self, step: Step) -> Weights:
        """Draws a path from the policy; early on, some of its edges run all operations with equal weights."""
        architecture = self._next(_PATH_STREAM)
        weights = self._weights(architecture)
        if step.progress < self._operation_warm_up:
            everything = 1.0 - step.progress / self._operation_warm_up
            stream = generator(self._seed, _PATH_STREAM, self._paths, 1)
            for name, decision in self.decisions.items():
                opened = torch.rand((), generator=stream).item() < everything
                if opened and decision.role != "inputs" and matters(decision, architecture):
                    on = decision.answers if decision.role == "operation" else decision.options[-1:]
                    held = [float(option in on) / len(on) for option in decision.options]
                    weights[name] = weights[name].new_tensor(held)
        return weights

    def expected(self) -> Weights:
        """Gives the policy's probability of each option."""
        return {name: kept.to(self._like) for name, kept in self.policy.probabilities().items()}

    def finish(self, score: SupernetScore | None = None) -> Architecture:
        """Returns the most likely architecture, or the best of some draws where there is a score and it is to judge."""
        if score is None or not self._candidates:
            likely = self.policy.most_likely()
            if not self._limits or self._limits.fits(likely):
                return likely
            return self._limits.most_probable(self.policy.probabilities(), self.decisions)
        drawn = dict.fromkeys(self._drawn(_CANDIDATE_STREAM, number) for number in range(self._candidates))
        self._ranking = best(list(drawn), len(drawn), score.on(self._batches))
        return self._ranking[0]

    def runners_up(self) -> Sequence[Architecture]:
        """The other draws that the last `finish` has judged, the best first."""
        return self._ranking[1:]

    def measures(self) -> dict[str, float]:
        """Learning rate, baseline, and the entropy of the draws that lead to the most likely architecture."""
        with torch.no_grad():
            entropy = self.policy.entropy(self.policy.most_likely()).item()
        known = {} if self.baseline.value is None else {"policy/baseline": self.baseline.value}
        return {"lr/alpha": self.optimizer.param_groups[0]["lr"], "policy/entropy": entropy, **known}

    def to(self, device: torch.device) -> Self:
        """Sets the device on which weights are made; the policy stays on the CPU."""
        self._like = self._like.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        return {
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "baseline": self.baseline.state_dict(),
            "pending": [(dict(choices), advantage) for choices, advantage in self._pending],
            "counts": [self._gathered, self._steps, self._paths, self._judged],
        }

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.policy.load_state_dict(state["policy"])
        check_optimizer(self.optimizer, state["optimizer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.baseline.load_state_dict(state["baseline"])
        if any(type(count) is not int for count in state["counts"]):
            raise ValueError("counts are no numbers")
        self._gathered, self._steps, self._paths, self._judged = state["counts"]
        pending = [({name: tuple(kept) for name, kept in c.items()}, float(value)) for c, value in state["pending"]]
        with torch.no_grad():
            for choices, _ in pending:
                self.policy.log_probability(choices)  # raises where they are of another space
        self._pending = pending

    def _next(self, stream: int) -> Architecture:
        """Draws the next architecture of a stream; those of the network and those that are judged have one each."""
        if stream == _PATH_STREAM:
            self._paths += 1
            return self._drawn(stream, self._paths)
        self._judged += 1
        return self._drawn(stream, self._judged)

    def _drawn(self, *key: int) -> Architecture:
        return drawn_within(self._limits, self.decisions, self.policy.sample, self._seed, *key)

    @torch.no_grad()
    def _rewarded(self, step: Step, architecture: Architecture) -> float:
        if self._dropouts is None or self._dropouts[0] is not step.supernet:
            self._dropouts = step.supernet, Dropouts(step.supernet)
        with frozen_statistics(step.supernet), self._dropouts[1].off():
            output = step.supernet(step.task.inputs(step.valid), self._weights(architecture))
        accuracy = float(step.task.score_sum(output, step.valid)) / step.valid.count
        bonus = self._entropy * self.policy.entropy(architecture).item() if self._entropy else 0.0
        return self._reward(accuracy, architecture, self.decisions) + bonus

    def _learn(self, factor: float) -> None:
        """One step of the policy along the gradients of the paths that have been gathered."""
        pending, self._pending, self._gathered = self._pending, [], 0
        terms = [-advantage * self.policy.log_probability(choices) for choices, advantage in pending]
        self.optimizer.zero_grad()
        torch.stack(terms).mean().backward()
        if self._updates.clip is not None:
            nn.utils.clip_grad_norm_(self.policy.parameters(), self._updates.clip)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = factor * rate
        self.optimizer.step()

    def _weights(self, architecture: Architecture) -> Weights:
        return one_path(architecture, self.decisions, dtype=self._like.dtype, device=self._like.device)
