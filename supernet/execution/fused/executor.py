"""The fast executor for a CPU: what `cells.reference` computes, with what edges have in common computed once.

Why it is the same function (all statements in training mode, per channel, in exact arithmetic):

1. "none" adds 0 and the derivative by its weight is <gradient, 0> = 0: it need not run. The relaxation still sees it.
2. ReLU and pooling depend on the source state and the stride alone, and so does the batch norm after pooling, which has
   no parameters: one evaluation serves all edges that leave a state. A node receives the linear combination
   sum_j (w_max Max_j + w_avg Avg_j + w_skip x_j), evaluated in one pass (`sums`, or `functions.combine` where nothing
   is compiled), and gradients by x_j are collected until all nodes have given theirs (`sharing`). Each edge's norm
   still gets its own running statistics; in evaluation mode, where they count, norms are not shared.
3. w BN(y) = BN(y) with scale w and shift 0: the architecture weight is the norm's scale, its derivative the scale's.
   (The scale must be a dense tensor: with a stride-0 scale PyTorch's CPU gradient is silently wrong.)
4. An input weight v (edge normalisation) multiplies the sum of an edge: v (sum_o w_o o) = sum_o (v w_o) o.
5. The input gradient of a depthwise convolution with stride 1 is the convolution of the gradient with the flipped
   kernel, and its weight gradient the same sum in another order. With a dilation of two, pixels of even and odd rows
   and columns never meet: each of these phases is a picture of its own, convolved without dilation (`torch_kernels`).
6. With partial channels, joining and shuffling are linear and equal for all edges of a node:
   sum_j shuffle(a_j, b_j) = shuffle(sum_j a_j, sum_j b_j).
7. The first convolutions of all chains that leave a state read the same, so they run together (`relu_separables`).
8. A norm is a linear function of what it is given, once the statistics are known: all that end at a node are one sum
   (`sums`), and one that a ReLU and a convolution follow is computed on the way (`compiled_kernels`).

What is not recognised runs by itself, times its weight. Sums are reordered, so float results differ in the last digits.
The fast kernels cannot be differentiated twice; within `modes.running(network, cells.reference)` a network can.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.execution.fused.bindings import Window, dense
from supernet.execution.fused.compiled_kernels import Convolutions, serves, serves_pointwise
from supernet.execution.fused.functions import norm_relu_separable, pointwise, relu_separables, separable
from supernet.execution.fused.sharing import serves_sharing
from supernet.execution.fused.states import State, Statistics, Sum, batch_of
from supernet.execution.patterns import (
    Chain,
    Nothing,
    Pointwise,
    Pooling,
    Recognised,
    Reduction,
    SeparableStep,
    Skip,
    Unknown,
)
from supernet.execution.stacked.executor import stacked
from supernet.space.cells import Cell, reference
from supernet.space.choices import InputChoice, OperationChoice, PartialChannels, Together


def fused(cell: Cell, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Evaluates a cell on a CPU several times faster than edge by edge; on any other device as `stacked` does.

    Args:
        cell: with open decisions, partial channels and single paths among them, or decided.
        inputs: one for each input state, (batch, any channels, height, width), in any order of values in memory.

    Returns:
        The states of the cell, inputs first, each (batch, channels, height, width) and channels-last.

    Raises:
        RuntimeError: later, where the result is differentiated twice.

    Example:
        >>> from supernet.execution.modes import running
        >>> from supernet.space.choosers import Undecided
        >>> from supernet.space.darts import Darts
        >>> from supernet.space.supernet import Supernet
        >>> supernet = Supernet(Darts(channels=4, cells=1, nodes=2).network(Undecided(), (3, 8, 8), 10))
        >>> weights = {name: torch.rand(len(d.options)) for name, d in supernet.decisions.items()}
        >>> images = torch.randn(2, 3, 8, 8)
        >>> with running(supernet, fused):
        ...     fast = supernet(images, weights)
        >>> torch.allclose(fast, supernet(images, weights), atol=1e-4)
        True
    """
    if inputs[0].device.type != "cpu":  # PyTorch's kernels for a GPU keep other things for the gradient
        return stacked(cell, inputs)
    if len({isinstance(edge, PartialChannels) for edge in cell.edges.values()}) > 1:
        return reference(cell, inputs)
    known, statistics = Recognised.of(cell), Statistics()
    before = [cell.get_submodule(name) for name in cell.preprocess]
    states = [
        _preprocessed(module, State(dense(x), statistics), known) for module, x in zip(before, inputs, strict=True)
    ]
    for source, state in enumerate(states):
        _begin(state, _leaving(cell, source), known)
    for total, incoming in zip(cell.totals, cell.incoming, strict=True):
        weights = total.weights if isinstance(total, InputChoice) else None
        shares = [None] * len(incoming) if weights is None else weights.unbind()
        node = Sum()
        for (source, name), share in zip(incoming, shares, strict=True):
            edge = cell.edges[name]
            if cell.drop_path.training and cell.drop_path.probability and not isinstance(edge, nn.Identity):
                whole = Sum()  # drop path wants the edge as one tensor
                _add_edge(whole, edge, states[source], None, known)
                node.add(cell.drop_path(whole.value(statistics)), share)
            else:
                _add_edge(node, edge, states[source], share, known)
        states.append(State(node.value(statistics), statistics))
        _begin(states[-1], _leaving(cell, len(states) - 1), known)
    statistics.update()
    return [state.x for state in states]


def _preprocessed(module: nn.Module, state: State, known: Recognised) -> State:
    if isinstance(module, nn.Identity):
        return state
    whole = Sum()
    _add(whole, module, state, None, known)
    return State(whole.value(state.statistics), state.statistics)


def _leaving(cell: Cell, source: int) -> list[nn.Module]:
    """The edges that begin at a state."""
    return [cell.edges[name] for incoming in cell.incoming for start, name in incoming if start == source]


def _begin(state: State, edges: Sequence[nn.Module], known: Recognised) -> None:
    """Computes the first steps of all chains that leave a state together, where they run compiled."""
    partial = [edge for edge in edges if isinstance(edge, PartialChannels)]
    if partial:
        _begin(state.divided(partial[0])[0], [edge.choice for edge in partial], known)
        return
    chains = [known.operation(module) for edge in edges for module in _running(edge)]
    found: dict[Chain, Convolutions] = {}  # one that several edges share is begun once
    for chain in chains:
        step = chain.steps[0] if isinstance(chain, Chain) and chain.steps else None
        if isinstance(chain, Chain) and isinstance(step, SeparableStep) and step.norm is None:
            norm = _norm_after(chain, 0)
            weights, window = (step.depthwise.weight, step.pointwise.weight), _window(step.depthwise)
            if serves(state.x, *weights, window):
                found[chain] = Convolutions(*weights, window, 0.0 if norm is None else norm.eps)
    shared = state.shared(state.x, "x") if found else None
    if shared is not None:
        outs, statistics = relu_separables(shared, list(found.values()))
        state.begun.update(zip(found, outs, strict=True))
        made = zip(found, outs, statistics.unbind(), strict=True)
        state.statistics.found.update({out: own for chain, out, own in made if _norm_after(chain, 0) is not None})


def _norm_after(chain: Chain, place: int) -> nn.BatchNorm2d | None:
    """The norm that comes right after a step of a chain and takes the batch's statistics; None where there is none."""
    following = chain.steps[place + 1] if place + 1 < len(chain.steps) else chain.norm
    norm = following.norm if isinstance(following, SeparableStep) else following
    return norm if isinstance(norm, nn.BatchNorm2d) and norm.training else None


def _running(edge: nn.Module) -> list[nn.Module]:
    """The operations of an edge that will be computed."""
    if isinstance(edge, OperationChoice):
        if edge.learns:
            return []
        candidates = edge.candidates.values()
        return [one for one, runs in zip(candidates, edge.on, strict=True) if runs] if edge.single else list(candidates)
    return list(edge.operations) if isinstance(edge, Together) else [edge]


def _add_edge(node: Sum, edge: nn.Module, state: State, share: Tensor | None, known: Recognised) -> None:
    """Adds what comes over `edge`, times `share`, to `node`."""
    if isinstance(edge, PartialChannels):
        operated, rest = state.divided(edge)
        node.partial, node.operated = edge, node.operated or Sum()
        node.add(rest, share)
        _add_edge(node.operated, edge.choice, operated, share, known)
    elif isinstance(edge, OperationChoice):
        _add_choice(node, edge, state, share, known)
    elif isinstance(edge, Together):
        for operation in edge.operations:
            _add(node, operation, state, share, known)
    else:
        _add(node, edge, state, share, known)


def _add_choice(node: Sum, choice: OperationChoice, state: State, share: Tensor | None, known: Recognised) -> None:
    assert choice.weights is not None, "run the supernet, which hands out the weights"
    if choice.learns:
        node.add(choice(state.x), share)
        return
    weights = choice.weights if share is None else choice.weights * share
    candidates = list(zip(choice.candidates.values(), weights.unbind(), strict=True))
    off: list[Tensor] = []
    if choice.single:
        off = [weight for (_, weight), runs in zip(candidates, choice.on, strict=True) if not runs]
        candidates = [candidate for candidate, runs in zip(candidates, choice.on, strict=True) if runs]
    for operation, weight in candidates:
        _add(node, operation, state, weight, known)
    if off and choice.weights.requires_grad:  # as `single_path` adds them
        node.terms.append(torch.stack(off).sum().expand(1, 1, 1, 1))


def _add(node: Sum, module: nn.Module, state: State, weight: Tensor | None, known: Recognised) -> None:
    """Adds `module` of `state`, times `weight` (None: 1), in the cheapest way that its structure allows."""
    operation = known.operation(module)
    if isinstance(operation, Nothing):
        if node.empty:  # the sum's size must come from somewhere
            node.add(module(state.x), weight)
    elif isinstance(operation, Skip):
        node.add(state.shared(state.x, "x") or state.x, weight)
    elif isinstance(operation, Unknown):
        node.add(module(state.x), weight)
    elif isinstance(operation, Pooling):
        if operation.norm is None:
            pooled = state.pooled(operation)
            node.add(state.shared(pooled, (operation.key, None)) or pooled, weight)
        elif operation.norm.training:
            node.add(state.pooled_normalised(operation, operation.norm), weight)
        else:  # each norm by its own running statistics
            node.add_norm(operation.norm, state.pooled(operation), weight, state.statistics)
    else:
        node.add_norm(operation.norm, _before_norm(operation, state), weight, state.statistics)


def _before_norm(operation: Reduction | Pointwise | Chain, state: State) -> Tensor:
    """Computes the input of the operation's last norm."""
    if isinstance(operation, Reduction):
        (even, odd), module = state.quarters, operation.module
        halves = [_across(state, even, "even", module.even.weight), _across(state, odd, "odd", module.odd.weight)]
        return torch.cat(halves, dim=1)
    if isinstance(operation, Chain):
        return _steps(operation, state)
    return _across(state, state.x, "x", operation.convolution.weight)


def _steps(chain: Chain, state: State) -> Tensor:
    """Computes the steps of a chain one after the other, beginning with the ReLU of the state."""
    steps, statistics = list(chain.steps), state.statistics
    begun = state.begun.pop(chain, None)  # once: another edge that shares the operation begins anew
    x = state.rectified(state.x, "x") if begun is None else begun
    for place, step in enumerate(steps):
        if place == 0 and begun is not None:
            continue
        if not isinstance(step, SeparableStep):
            x = step(x)
            continue
        norm, depthwise = step.norm, step.depthwise
        window = _window(depthwise)
        if norm is not None and norm.training:
            own = depthwise.weight, step.pointwise.weight
            following = _norm_after(chain, place) if serves_sharing(x) and serves(x, *own, window) else None
            after = None if following is None else (following.eps, x.new_empty(3, x.shape[1]))
            settings = batch_of(norm, x, statistics, after)
            x = norm_relu_separable(x, norm.weight, norm.bias, *own, settings, window)
            if after is not None:
                statistics.found[x] = after[1]
        else:
            x = x if norm is None else F.relu(norm(x))
            x = separable(x, depthwise.weight, step.pointwise.weight, window)
    return x


def _window(depthwise: nn.Conv2d) -> Window:
    """How a recognised depthwise convolution moves: its padding is a number of pixels."""
    assert not isinstance(depthwise.padding, str), "recognised without"
    return Window(depthwise.stride, depthwise.padding, depthwise.dilation)


def _across(state: State, x: Tensor, key: str, weight: Tensor) -> Tensor:
    """A 1x1 convolution of the ReLU of x, which compiled is part of it, and elsewhere serves all who read x."""
    served = serves_pointwise(x, weight)
    return pointwise(x, weight, relu=True) if served else F.conv2d(state.rectified(x, key), weight)
