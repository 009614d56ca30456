"""Discretisers: from what a search thinks of each option to one architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from supernet.space.architecture import Architecture, Decision, Weights, edge_name, kept_operations

Discretiser = Callable[[str, Mapping[str, Decision], Weights], Architecture]
"""(space's name, decisions, weights) -> architecture."""


def argmax(space: str, decisions: Mapping[str, Decision], weights: Weights) -> Architecture:
    """The strongest operation of each edge, and for each node the edges whose strongest operation is strongest.

    "none" is chosen only where a decision is optional (NAS-Bench-201), and never in DARTS (Liu et al. 2019, section
    2.4). Where inputs have weights of their own, they multiply their edge's (PC-DARTS, Xu et al. 2020, section 3.3).
    Of equals the first wins.
    """
    values = {name: weight.tolist() for name, weight in weights.items()}

    def strength(name: str, option: str) -> float:
        return float(values[name][decisions[name].options.index(option)])

    def strongest(name: str) -> str:
        return max(decisions[name].answers, key=lambda o: strength(name, o))

    choices = {}
    for node in (d for d in decisions.values() if d.inputs):

        def edge_strength(source: str, node: Decision = node) -> float:
            edge = edge_name(node.name, source)
            own = strength(node.name, source) if node.name in values else 1.0
            return own * strength(edge, strongest(edge))

        kept = sorted(node.options, key=edge_strength, reverse=True)[: node.keep]  # sorted is stable
        choices[node.name] = tuple(sorted(kept, key=node.options.index))
    for name in kept_operations(choices, decisions):
        choices[name] = (strongest(name),)
    return Architecture(space, choices)
