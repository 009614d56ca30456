"""The executor for GPUs: all edges that leave a state are evaluated as one stack, in few and large operations.

A search cell evaluated edge by edge is thousands of small kernels, and launching them costs more than running them.
All input states are there at once, and every node is there once all that leads to it is; so a cell is a few *groups*
of edges, and in each group everything of one kind is one operation. The parameters are the modules' own, read and
stacked anew in every pass. The function is the one that `reference` defines, because

1. "none" is zero, and so is its weight's gradient: it is left out;
2. ReLU and pooling depend on the source alone and are computed once for it;
3. depthwise convolutions side by side on the channel axis do not mix, and a 3x3 kernel, dilated or not, is a 5x5 kernel
   with zeros in it: one depthwise convolution does all kinds whose frame is at most 5 pixels, others do theirs;
4. 1x1 convolutions of several edges are one of as many groups (or a batch of matrix products);
5. batch norm works on each channel by itself: normalising the stack normalises each edge, with its own running
   statistics, which are read and written in stacks, too;
6. p norm(y) is norm(y) with the scale p: the weights ride on the last norm of an operation, and their gradients come
   out of its backward pass, summed in float32 also where activations are bfloat16;
7. what is left is a sum over the edges into a node, done over all kinds at once;
8. with partial channels all of that concerns the part that is operated on; what passes by is a weighted sum as well,
   and shuffling both together is linear and the same for all edges of a node, so that it is done once a node.

What is not recognised, such as an operation of one's own, is run by itself and joins the sum. A cell that is not a
plain search cell (decided, with dropped paths, or on single paths, which are few operations anyway) is left to the
reference (`cells.one_by_one`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.execution.stacked.packing import fold, mix, reorder, repeat, scale, spread, stack
from supernet.execution.stacked.plan import EdgeGroup, Plan, SharedRead, Tower, make_plan, open_choice
from supernet.space.cells import Cell, one_by_one
from supernet.space.choices import InputChoice, PartialChannels

_PLANS: WeakKeyDictionary[Cell, Plan | None] = WeakKeyDictionary()


@dataclass(frozen=True)
class Stacked:
    """The executor. `pointwise`: how the 1x1 convolutions of a stack are done, as a grouped convolution or a batched
    matrix product; which is faster depends on the GPU (`experiments/benchmarks/gpu.py` tells)."""

    pointwise: Literal["convolution", "matmul"] = "convolution"

    def __call__(self, cell: Cell, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The states of the cell, each (batch, channels, height, width)."""
        inputs = cell.preprocessed(inputs)
        plan = _plan_of(cell, inputs)
        if plan is None or not _as_planned(plan, cell):
            return one_by_one(cell, inputs)
        supply = _Supply(plan, cell, inputs[0])
        states = _States(cell, inputs, plan.channels)
        for group in plan.groups:
            for source in group.sources:
                states.complete(source)
            self._evaluate(group, states.operated, supply, states.terms)
        supply.remember()
        for node in states.terms:
            states.complete(node)
        return states.whole

    def _evaluate(
        self, group: EdgeGroup, states: dict[int, Tensor], supply: _Supply, terms: dict[int, list[Tensor]]
    ) -> None:
        """Adds what the edges of one group bring to the `terms` of their nodes."""
        rectified = {source: F.relu(states[source]) for source in group.rectified}
        pieces: list[tuple[Tensor, tuple[int, ...]]] = []
        for tower in group.towers:
            pieces += self._separable(tower, rectified, supply)
        if group.normed:
            made = [_pooled_or_reduced(read, states, rectified) for read in group.normed]
            counts = [1 if read.reductions else len(read.targets) for read in group.normed]
            targets = tuple(target for read in group.normed for target in read.targets)
            pieces.append((supply.normalise(repeat(made, counts)), targets))
        if group.plain:
            made = [states[r.source] if r.alone is None else r.alone(states[r.source]) for r in group.plain]
            counts = [len(read.targets) for read in group.plain]
            targets = tuple(target for read in group.plain for target in read.targets)
            pieces.append((scale(repeat(made, counts), next(supply.scales)), targets))
        _hand_out(pieces, group.targets, terms)

    def _separable(
        self, tower: Tower, rectified: dict[int, Tensor], supply: _Supply
    ) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
        """Stacked separable convolutions; those with fewer layers leave earlier."""
        sources, counts = zip(*tower.reads, strict=True)
        x = repeat([rectified[source] for source in sources], counts)
        for layer in tower.layers:
            side, dilation = layer.bucket
            padding = dilation * (side - 1) // 2
            kernels = next(supply.depthwise[layer.bucket])
            x = F.conv2d(x, kernels, None, layer.stride, padding, dilation, groups=x.shape[1])
            x = supply.normalise(self._mix_channels(x, next(supply.pointwise)))
            going_on = x.shape[1] // layer.branches * (layer.branches - len(layer.targets))
            if layer.targets and going_on:
                x, done = x.split([going_on, x.shape[1] - going_on], dim=1)
                yield done, layer.targets
            elif layer.targets:
                yield x, layer.targets
                return
            x = F.relu(x)

    def _mix_channels(self, x: Tensor, kernels: Tensor) -> Tensor:
        """1x1 convolutions of a stack x (batch, branches x channels, height, width).

        kernels: (branches x channels, channels, 1, 1).
        """
        branches = len(kernels) // kernels.shape[1]
        if self.pointwise == "convolution" or branches == 1:
            return F.conv2d(x, kernels, groups=branches)
        return mix(x, kernels.view(branches, -1, kernels.shape[1]))


stacked = Stacked()


class _States:
    """The states of a pass: `whole`, as far as they are complete, what is `operated` of each, and `terms` of nodes."""

    def __init__(self, cell: Cell, inputs: Sequence[Tensor], operated: int) -> None:
        self.whole: list[Tensor] = []
        self.operated: dict[int, Tensor] = {}
        self.terms: dict[int, list[Tensor]] = {len(inputs) + node: [] for node in range(len(cell.totals))}
        self._cell, self._channels, self._partial = cell, operated, _partial(cell)
        self._rests: list[dict[int, Tensor]] = []  # of each state what passes by, by stride
        for x in inputs:
            self._add(x)

    def complete(self, state: int) -> None:
        """Computes a node, and any before it, from what was brought to it."""
        while len(self.whole) <= state:
            node = len(self.whole)
            operated = _total(self.terms[node])
            whole = self._partial.shuffle(operated, self._passing_by(node)) if self._partial else operated
            self._add(whole)

    def _add(self, x: Tensor) -> None:
        state, rest = len(self.whole), x.shape[1] - self._channels
        self.whole.append(x)
        if rest:
            self.operated[state], passing = x.split([self._channels, rest], dim=1)
            self._rests.append({1: passing})
        else:
            self.operated[state] = x
            self._rests.append({})

    def _passing_by(self, node: int) -> Tensor:
        """The channels that are not operated on, of all edges into a node, weighted."""
        rests, number = [], node - len(self._cell.preprocess)
        for source, name in self._cell.incoming[number]:
            edge, known = self._cell.edges[name], self._rests[source]
            assert isinstance(edge, PartialChannels)
            if edge.stride not in known:
                known[edge.stride] = edge.bypass(known[1])
            rests.append(known[edge.stride])
        shares = self._cell.totals[number].weights
        if shares is None:
            return _total(rests)
        channels = rests[0].shape[1]
        weights = shares[:, None].expand(-1, channels).reshape(-1)  # type: ignore[index,operator]
        return fold(scale(repeat(rests, [1] * len(rests)), weights), len(rests))


def _plan_of(cell: Cell, inputs: Sequence[Tensor]) -> Plan | None:
    """The cell's plan, made at its first pass and again where its modules have changed; None: not to be stacked."""
    partial = _partial(cell)
    known, channels = _PLANS.get(cell), partial.operated if partial else inputs[0].shape[1]
    if known is None or not known.fits(channels):
        known = _PLANS[cell] = make_plan(cell, channels) if _is_plain(cell) else None
    if known is None or (cell.training and cell.drop_path.probability > 0.0):
        return None
    first = inputs[0]
    return known if all(x.shape == first.shape and x.dtype == first.dtype for x in inputs) else None


def _is_plain(cell: Cell) -> bool:
    """Whether all questions of the cell are open, in the plain way, and all states are equally wide."""
    edges = cell.edges.values()
    if not cell.keeps_width:  # stacks are split by one number of channels
        return False
    if len({edge.divisor if isinstance(edge, PartialChannels) else 1 for edge in edges}) > 1:
        return False
    return all(open_choice(edge) for edge in edges) and all(type(total) is InputChoice for total in cell.totals)


def _partial(cell: Cell) -> PartialChannels | None:
    """One of the cell's edges with partial channels, if it has any: all operate on as many and shuffle alike."""
    return next((edge for edge in cell.edges.values() if isinstance(edge, PartialChannels)), None)


def _as_planned(plan: Plan, cell: Cell) -> bool:
    """Whether all options are to run, no one listens to the modules, and all norms are in one mode."""
    for edge, options in zip(cell.edges.values(), plan.options, strict=True):
        choice = open_choice(edge)
        if choice is None or choice.single or choice.weights is None or len(choice.weights) != options:
            return False
    if plan.structure.hooked():
        return False
    return len({(norm.training, norm.track_running_stats, norm.momentum) for norm in plan.norms}) <= 1


class _Supply:
    """Parameters, weights and statistics of one pass, stacked and given out in the order in which groups ask."""

    def __init__(self, plan: Plan, cell: Cell, like: Tensor) -> None:
        self._plan, norms = plan, plan.norms
        precision = norms[0].running_mean.dtype if norms else like.dtype  # type: ignore[union-attr]
        with torch.autocast(like.device.type, enabled=False):
            self.depthwise = {bucket: self._kernels(bucket) for bucket in plan.kernels}
            self.pointwise = iter(
                stack([m.weight for m in plan.pointwise]).split(plan.pointwise_sizes) if plan.pointwise else ()
            )
            order, inverse = plan.scale_order(like.device)
            weights = spread(_weights(cell, plan), order, inverse, plan.channels).to(precision)
        self.scales = iter(weights.split(plan.scale_sizes))
        self._training = bool(norms and norms[0].training)
        self._tracking = bool(norms and norms[0].track_running_stats)
        self._statistics = torch.empty(0)
        self._parts: Iterator[tuple[Tensor | None, Tensor | None]] = iter([(None, None)] * len(plan.norm_sizes))
        if norms and (self._tracking or not self._training):
            with torch.no_grad():
                self._statistics = torch.cat(_running(norms))
                parts = self._statistics.split(plan.norm_sizes * 2)
            self._parts = zip(parts[: len(plan.norm_sizes)], parts[len(plan.norm_sizes) :], strict=True)

    def normalise(self, x: Tensor) -> Tensor:
        """Batch norm of a stack, scaled by the weights of what it ends."""
        mean, variance = next(self._parts)
        norm = self._plan.norms[0]
        return F.batch_norm(x, mean, variance, next(self.scales), None, self._training, norm.momentum, norm.eps)  # type: ignore[arg-type]

    @torch.no_grad()
    def remember(self) -> None:
        """Writes the running statistics back into the norms, as each would have done it."""
        if not (self._training and self._tracking):
            return
        norms = self._plan.norms
        torch._foreach_copy_(_running(norms), self._statistics.split(self._plan.channels))
        torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)  # type: ignore[misc,arg-type,return-value]

    def _kernels(self, bucket: tuple[int, int]) -> Iterator[Tensor]:
        """The depthwise kernels of one frame, one tensor (branches x channels, 1, side, side) for each convolution."""
        kernels, channels, side = self._plan.kernels[bucket], self._plan.channels, bucket[0]
        rows = [stack([m.weight for m in kind.modules]) for kind in kernels.kinds]
        if len(rows) > 1 or kernels.kinds[0].kernel != bucket:
            flat = [
                own.flatten(1) if kind.kernel == bucket else own.flatten(1) @ kind.embedding(side, own)
                for kind, own in zip(kernels.kinds, rows, strict=True)
            ]
            rows = [stack(flat)]
        if kernels.order:
            order, inverse = kernels.orders(channels, rows[0].device)
            rows = [reorder(rows[0].flatten(1), order, inverse)]
        joined = rows[0] if rows[0].dim() == 4 else rows[0].view(-1, 1, side, side)
        return iter(joined.split(kernels.sizes))


def _running(norms: Sequence[nn.BatchNorm2d]) -> list[Tensor]:
    """All running means, then all running variances."""
    return [norm.running_mean for norm in norms] + [norm.running_var for norm in norms]  # type: ignore[misc,arg-type,return-value]


def _weights(cell: Cell, plan: Plan) -> list[Tensor]:
    """All edges' weights, one after the other, each times the weight of its edge where the inputs are relaxed."""
    weights = [open_choice(cell.edges[name]).weights for incoming in cell.incoming for _, name in incoming]  # type: ignore[union-attr]
    given = [total.weights for total in cell.totals]
    if all(shares is None for shares in given):
        return weights  # type: ignore[return-value]
    one = weights[0].new_ones(1)  # type: ignore[union-attr]
    shares = [one.expand(len(edges)) if own is None else own for own, edges in zip(given, cell.incoming, strict=True)]
    return [stack(weights) * stack(shares).index_select(0, plan.edge_of(one.device))]  # type: ignore[arg-type]


def _pooled_or_reduced(read: SharedRead, states: dict[int, Tensor], rectified: dict[int, Tensor]) -> Tensor:
    """(batch, channels, ...) for a pooling, to be repeated; (batch, targets x channels, ...) for reductions."""
    if not read.reductions:
        assert read.alone is not None
        return read.alone(states[read.source])
    x, branches = rectified[read.source], len(read.reductions)
    pad = (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)
    odd = x if pad == (0, 0, 0, 0) else F.pad(x, pad, mode="replicate")
    halves = [
        F.conv2d(x, stack([m.even.weight for m in read.reductions]), stride=2),
        F.conv2d(odd[:, :, 1:, 1:], stack([m.odd.weight for m in read.reductions]), stride=2),
    ]
    return torch.cat([half.unflatten(1, (branches, -1)) for half in halves], dim=2).flatten(1, 2)


def _hand_out(
    pieces: Sequence[tuple[Tensor, tuple[int, ...]]], targets: tuple[int, ...], terms: dict[int, list[Tensor]]
) -> None:
    """Adds up what goes to the same node.

    A piece is a stack (batch, branches x channels, height, width) and the node of each branch; where those are all
    `targets` over and over, they are added at once.
    """
    together = []
    for x, nodes in pieces:
        rounds = len(nodes) // len(targets)
        if nodes == targets * rounds:
            together.append(fold(x, rounds))
        else:
            for node, part in zip(nodes, x.unflatten(1, (len(nodes), -1)).unbind(1), strict=True):
                terms[node].append(part)
    if together:
        total = _total(together)
        parts = [total] if len(targets) == 1 else total.chunk(len(targets), dim=1)
        for node, part in zip(targets, parts, strict=True):
            terms[node].append(part)


def _total(tensors: Sequence[Tensor]) -> Tensor:
    return sum(tensors[1:], tensors[0])
