"""Discretisers: each turns the strengths of all options into one architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from supernet.estimation.limits import Limits, Restriction
from supernet.estimation.programmes import Programme, added
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture, Decision, Weights, edges_into, matters

Discretiser = Callable[..., Architecture]
"""(space's name, decisions, weights) -> architecture; with the keyword `limits` one that keeps them."""


def argmax(
    space: str, decisions: Mapping[str, Decision], weights: Weights, *, limits: Limits | None = None
) -> Architecture:
    """The strongest operation of each edge, and for each node the edges whose strongest operation is strongest.

    "none" is chosen only where a decision is optional (NAS-Bench-201), and never in DARTS (Liu et al. 2019, section
    2.4). Where inputs have weights of their own, they multiply their edge's (PC-DARTS, Xu et al. 2020, section 3.3).
    Of equals the first wins.

    Args:
        space: the name of the space.
        decisions: by name.
        weights: of the options, (options,) each; inputs may have none.
        limits: what the architecture may cost: of those that keep them the most probable one (`within`); None: any.

    Returns:
        The architecture.

    Example:
        >>> import torch
        >>> edge = Decision("edge", ("none", "skip_connect", "sep_conv_3x3"))
        >>> argmax("mine", {"edge": edge}, {"edge": torch.tensor([0.5, 0.2, 0.3])})["edge"]
        ('sep_conv_3x3',)
    """
    values = {name: weight.tolist() for name, weight in weights.items()}

    def strength(name: str, option: str) -> float:
        return float(values[name][decisions[name].options.index(option)])

    def strongest(name: str) -> str:
        return max(decisions[name].answers, key=lambda o: strength(name, o))

    choices: dict[str, tuple[str, ...]] = {}
    for node in (d for d in decisions.values() if d.role == "inputs"):
        edges = {source: edge.name for source, edge in edges_into(node, decisions).items()}

        def edge_strength(source: str, node: Decision = node, edges: Mapping[str, str] = edges) -> float:
            own = strength(node.name, source) if node.name in values else 1.0
            return own * strength(edges[source], strongest(edges[source]))

        kept = sorted(node.options, key=edge_strength, reverse=True)[: node.keep]  # sorted is stable
        choices[node.name] = tuple(sorted(kept, key=node.options.index))
    open_ones = [decision for decision in decisions.values() if decision.role != "inputs"]
    while open_ones:  # a decision comes after those on which it depends
        waiting = {decision.name for decision in open_ones}
        ready = [decision for decision in open_ones if not any(name in waiting for name, _ in decision.when)]
        choices |= {decision.name: (strongest(decision.name),) for decision in ready if matters(decision, choices)}
        open_ones = [decision for decision in open_ones if decision not in ready]
    chosen = Architecture(space, choices)
    return chosen if limits is None else within(space, decisions, weights, limits=limits, unless=chosen)


def within(
    space: str,
    decisions: Mapping[str, Decision],
    weights: Weights,
    *,
    limits: Limits,
    unless: Architecture | None = None,
    restrictions: Sequence[Restriction] = (),
) -> Architecture:
    """The most probable architecture within limits, found by an integer programme (`Limits.most_probable`).

    Args:
        space: the name of the space.
        decisions: by name.
        weights: of the options, (options,) each; inputs may have none.
        limits: what it may cost.
        unless: the answer if it keeps the limits; None: nothing.
        restrictions: what else it has to be.

    Returns:
        The architecture.

    Raises:
        InputError: no architecture keeps the limits.

    Example:
        >>> import torch
        >>> from supernet.estimation.space_costs import SpaceCosts
        >>> from supernet.space.nasbench201 import NasBench201
        >>> costs = SpaceCosts(NasBench201(channels=4, cells=1, stages=1, nodes=1), (1, 8, 8), outputs=10)
        >>> weights = {"cell/1/0": torch.tensor([0.1, 0.1, 0.2, 0.5, 0.1])}  # a 3x3 convolution is the most probable
        >>> found = within("nasbench201", costs.decisions, weights, limits=Limits(costs, {"macs": 5000}))
        >>> found["cell/1/0"], costs.of("macs", found)
        (('nor_conv_1x1',), 3368.0)
    """
    if unless is not None and limits.fits(unless):
        return unless
    return limits.most_probable(weights, decisions, restrictions)


def threshold(
    space: str,
    decisions: Mapping[str, Decision],
    weights: Weights,
    least: float = 0.85,
    *,
    limits: Limits | None = None,
) -> Architecture:
    """`argmax`, less the edges whose operation is weaker than `least` (FairDARTS, Chu et al. 2020).

    A node may so get fewer inputs than its decision keeps, but keeps its strongest: the authors' code would leave a
    node that nothing feeds.

    Args:
        space: the name of the space.
        decisions: by name.
        weights: of the options, (options,) each; inputs may have none.
        least: the least weight of an operation that stays, in [0, 1]. 0.85 is the authors' threshold for sigmoids.
        limits: what the architecture may cost; None: anything.

    Returns:
        The architecture.

    Raises:
        InputError: `least` is out of its range.

    Example:
        >>> import torch
        >>> node = Decision("node", ("0", "1"), keep=2, role="inputs")
        >>> edges = [Decision(f"node/{s}", ("skip_connect", "sep_conv_3x3"), when=(("node", (s,)),)) for s in "01"]
        >>> weights = {"node/0": torch.tensor([0.9, 0.1]), "node/1": torch.tensor([0.5, 0.4])}
        >>> threshold("mine", {d.name: d for d in (node, *edges)}, weights).choices
        {'node': ('0',), 'node/0': ('skip_connect',)}
    """
    if not 0.0 <= least <= 1.0:
        raise InputError(f"least={least}: needs to lie in [0, 1], such as 0.85")
    chosen = argmax(space, decisions, weights, limits=limits)

    def strength(edge: str) -> float:
        return float(weights[edge][decisions[edge].options.index(chosen[edge][0])])

    choices = dict(chosen.choices)
    for node in (d for d in decisions.values() if d.role == "inputs"):
        edges = edges_into(node, decisions)
        strengths = {source: strength(edges[source].name) for source in chosen[node.name]}
        kept = tuple(source for source, value in strengths.items() if value >= least)
        choices[node.name] = kept or (max(strengths, key=strengths.__getitem__),)
        for source in set(strengths) - set(choices[node.name]):
            del choices[edges[source].name]
    fewer = Architecture(space, choices)
    return fewer if limits is None or limits.fits(fewer) else chosen


def limit_skips(
    space: str,
    decisions: Mapping[str, Decision],
    weights: Weights,
    most: int = 2,
    group: str = "normal",
    option: str = "skip_connect",
    *,
    limits: Limits | None = None,
) -> Architecture:
    """`argmax` without "none", with at most `most` skip connections in cells of `group` (P-DARTS, Chen et al. 2019).

    "none" is not chosen where there is anything else, in no space: the authors' code drops it in the end. While there
    are more skip connections (section 3.3), the weakest of those kept gets no weight, and all edges are chosen again.

    Args:
        space: the name of the space.
        decisions: by name.
        weights: of the options, (options,) each; inputs may have none.
        most: how many edges may keep `option`; 2 in the paper.
        group: of which group of decisions; the normal cells in the paper.
        option: the operation that is limited.
        limits: what the architecture may cost: of those that keep both the most probable one; None: anything.

    Returns:
        The architecture.

    Raises:
        InputError: `most` is below 0, or the space leaves no other choice.

    Example:
        >>> import torch
        >>> edges = [Decision(name, ("skip_connect", "sep_conv_3x3"), group="normal") for name in "ab"]
        >>> weights = {"a": torch.tensor([0.9, 0.1]), "b": torch.tensor([0.8, 0.2])}
        >>> limit_skips("mine", {d.name: d for d in edges}, weights, most=1).choices
        {'a': ('skip_connect',), 'b': ('sep_conv_3x3',)}
    """
    if most < 0:
        raise InputError(f"most={most}: needs 0 or more, such as 2")
    left = {name: weight.detach().clone() for name, weight in weights.items()}
    for decision in (d for d in decisions.values() if d.role == "operation" and set(d.options) > {"none"}):
        left[decision.name][decision.options.index("none")] = -2.0  # below a skip connection that counts for nothing
    while True:
        chosen = argmax(space, decisions, left)
        skips = [n for n, kept in chosen.items() if decisions[n].group == group and kept == (option,)]
        if len(skips) <= most:
            break
        position = {name: decisions[name].options.index(option) for name in skips}
        open_ones = [name for name in skips if left[name][position[name]] >= 0]
        if not open_ones:
            raise InputError(f"most={most}: this space needs more {option} in {group} cells; allow more")
        weakest = min(open_ones, key=lambda name: float(left[name][position[name]]))
        left[weakest][position[weakest]] = -1.0
    if limits is None:
        return chosen

    def restrict(programme: Programme) -> None:
        named = [d for d in decisions.values() if d.role == "operation"]
        limited = [programme.kept(d.name, option) for d in named if d.group == group and option in d.answers]
        programme.at_most(added(limited), float(most))
        nothing = [programme.kept(d.name, "none") for d in named if "none" in d.answers and set(d.options) > {"none"}]
        programme.at_most(added(nothing), 0.0)

    return within(space, decisions, weights, limits=limits, unless=chosen, restrictions=[restrict])
