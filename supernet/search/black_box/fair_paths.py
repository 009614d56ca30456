"""Fair paths: in one step of the network every option of every decision runs exactly once (FairNAS)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from supernet.search.black_box.policies import questions_of
from supernet.space.architecture import Architecture, Decision, matters


def fair_paths(space: str, decisions: Mapping[str, Decision], generator: torch.Generator) -> list[Architecture]:
    """Draws the paths of one step: on every edge a random permutation of its m operations, one for each of m paths.

    So the paths of one step have all operations of an edge, each exactly once; no permutation is used twice, and those
    of different edges are independent. Three cases go beyond the paper, whose layers all have m options and one input:

    * A decision with fewer options begins another permutation when one is used up, so that the numbers of its options'
      turns differ by one at most.
    * A decision that keeps several, such as two inputs of four, gives each path those that had the fewest turns so far;
      of equals it draws.
    * An edge that a path does not keep does not run, so its operations have at most one turn each. "none" has its turn
      where it can be an answer (NAS-Bench-201) and no turn elsewhere.

    Source: Chu, Zhang and Xu 2021, "FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural Architecture
    Search" (ICCV), algorithm 1.

    Args:
        space: the name of the space.
        decisions: all of the network, by name.
        generator: draws.

    Returns:
        The paths, as many as the operation decision with the most answers has answers.

    Example:
        >>> edges = {name: Decision(name, ("a", "b", "c")) for name in ("x", "y")}
        >>> paths = fair_paths("mine", edges, torch.Generator().manual_seed(0))
        >>> [sorted(path[name][0] for path in paths) for name in edges]
        [['a', 'b', 'c'], ['a', 'b', 'c']]
    """
    ordered = [question.decision for question in questions_of(decisions)]
    operations = [decision for decision in ordered if decision.role != "inputs"] or ordered
    count = max((math.ceil(len(decision.answers) / decision.keep) for decision in operations), default=1)
    turns = {decision.name: _turns(decision, count, generator) for decision in ordered}
    paths = []
    for number in range(count):
        choices: dict[str, tuple[str, ...]] = {}
        for decision in ordered:
            if matters(decision, choices):
                choices[decision.name] = turns[decision.name][number]
        paths.append(Architecture(space, choices))
    return paths


def _turns(decision: Decision, count: int, generator: torch.Generator) -> list[tuple[str, ...]]:
    """The answers to a decision in each of `count` paths."""
    answers = decision.answers
    had, turns = [0] * len(answers), []
    for _ in range(count):
        drawn = torch.randperm(len(answers), generator=generator).tolist()
        places = sorted(sorted(drawn, key=lambda place: had[place])[: decision.keep])  # stable: of equals as drawn
        for place in places:
            had[place] += 1
        turns.append(tuple(answers[place] for place in places))
    return turns
