"""The executor for GPUs: all edges that leave a state are evaluated as one stack, in few and large operations.

A search cell evaluated edge by edge is thousands of small kernels, and launching them costs more than running them.
All input states are known at the beginning, and a node is known once all edges into it are evaluated. So a cell is a
few groups of edges, and in each group everything of one kind is one operation (`plan.py` has the words for the parts).
The parameters are the modules' own, read and stacked anew in every pass. The function is the one that `reference`
defines, because

1. "none" is zero, and so is its weight's gradient: it is left out;
2. ReLU and pooling depend on the source alone and are computed once for it;
3. depthwise convolutions side by side on the channel axis do not mix, and a 3x3 kernel, dilated or not, is a 5x5 kernel
   with zeros in it: one depthwise convolution does all kinds whose frame is at most 5 pixels, others do theirs;
4. 1x1 convolutions of several edges are a batch of matrix products (or one convolution of as many groups);
5. batch norm works on each channel by itself: normalising the stack normalises each edge, with its own running
   statistics, which are read and written in stacks, too;
6. p norm(y) is norm(y) with the scale p: the weights ride on the last norm of an operation, and their gradients come
   out of its backward pass, summed in float32 also where activations are bfloat16;
7. what is left is a sum over the edges into a node, done over all kinds at once;
8. with partial channels all of that concerns the part that is operated on; what passes by is a weighted sum as well,
   and shuffling both together is linear and the same for all edges of a node, so that it is done once for a node.

On a GPU with Triton all that is done in fewer passes over memory (`_evaluate_in_few_passes`): a source is read once for
all branches that read it, its ReLU while it is loaded (`depthwise.py`); a norm in the middle of a branch is never
written, but computed as the next convolution loads it, and norms at the end while they are added up (`norms.py`). Each
kernel reads its own taps, without zeros around them, so that kernels of all dilations are one convolution; branches of
different depth are towers of their own, so that no stack is to be split. Sums are made in another order there.

What is not recognised, such as a user's operation, is run by itself and joins the sum. A cell that is not a
plain search cell is left to the reference (`cells.one_by_one`): one that is decided, has dropped paths, changes the
width on its edges, or runs single paths, which are few operations anyway.

Everything here can be differentiated any number of times, as second-order architects do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.execution import triton
from supernet.execution.stacked.depthwise import Frame, depthwise, shares
from supernet.execution.stacked.norms import Piece, add_up, norm_relu_depthwise
from supernet.execution.stacked.packing import fold, mix, repeat, scale, stack
from supernet.execution.stacked.plan import EdgeGroup, Plan, SharedRead, Tower
from supernet.execution.stacked.planning import make_plan, open_choice
from supernet.execution.stacked.supply import Supply
from supernet.space.cells import Cell, one_by_one
from supernet.space.choices import InputChoice, PartialChannels

_PLANS: WeakKeyDictionary[Cell, dict[bool, Plan | None]] = WeakKeyDictionary()
"""Of each cell the plan for PyTorch's operations (False) and that for Triton's kernels (True), as far as asked for."""


@dataclass(frozen=True)
class Stacked:
    """Evaluates a search cell in a few large operations, which suits a GPU.

    Args:
        pointwise: how the 1x1 convolutions of a stack are done, as a batched matrix product or as a grouped
            convolution. cuDNN's deterministic grouped convolutions transpose every group: a whole step takes 2.6 times
            as long with them on an H100 (`experiments/benchmarks/gpu.py` measures it).

    Example:
        >>> from supernet.execution.modes import running
        >>> from supernet.space.choosers import Undecided
        >>> from supernet.space.darts import Darts
        >>> from supernet.space.supernet import Supernet
        >>> supernet = Supernet(Darts(channels=4, cells=1, nodes=2).network(Undecided(), (3, 8, 8), 10))
        >>> weights = {name: torch.rand(len(d.options)) for name, d in supernet.decisions.items()}
        >>> images = torch.randn(2, 3, 8, 8)
        >>> with running(supernet, Stacked()):
        ...     few = supernet(images, weights)
        >>> torch.allclose(few, supernet(images, weights), atol=1e-4)
        True
    """

    pointwise: Literal["convolution", "matmul"] = "matmul"

    def __call__(self, cell: Cell, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Evaluates the cell.

        Args:
            cell: any; one that is no plain search cell is left to the reference.
            inputs: one for each input state, (batch, any channels, height, width).

        Returns:
            The states of the cell, inputs first, each (batch, channels, height, width).
        """
        inputs = cell.preprocessed(inputs)
        plan = _plan_of(cell, inputs)
        if plan is None or not _as_planned(plan, cell):
            return one_by_one(cell, inputs)
        supply = Supply(plan, cell, inputs[0])
        states = _States(cell, inputs, plan.channels)
        for group in plan.groups:
            # The groups before this one have brought their terms to these nodes, the last that they were waiting for.
            for source in group.sources:
                states.complete(source)
            evaluate = self._evaluate_in_few_passes if plan.own_taps else self._evaluate
            evaluate(group, states.operated, supply, states.terms)
        supply.remember()
        for node in states.terms:
            states.complete(node)
        return states.whole

    def _evaluate(
        self, group: EdgeGroup, states: dict[int, Tensor], supply: Supply, terms: dict[int, list[Tensor]]
    ) -> None:
        """Adds what the edges of one group bring to the `terms` of their nodes."""
        rectified = _Rectified(states)
        pieces: list[tuple[Tensor, tuple[int, ...]]] = []
        for tower in group.towers:
            pieces += self._separable(tower, rectified, supply)
        if group.normed:
            # Each edge has a norm of its own, so that a pooling that is computed once is repeated before the norms.
            made = [_pooled_or_reduced(read, states, rectified) for read in group.normed]
            counts = [1 if read.reductions else len(read.targets) for read in group.normed]
            targets = tuple(target for read in group.normed for target in read.targets)
            pieces.append((supply.normalise(repeat(made, counts)), targets))
        if group.plain:
            made = [_alone(read, states) for read in group.plain]
            counts = [len(read.targets) for read in group.plain]
            targets = tuple(target for read in group.plain for target in read.targets)
            pieces.append((scale(repeat(made, counts), next(supply.scales)), targets))
        _hand_out(pieces, group.targets, terms)

    def _evaluate_in_few_passes(
        self, group: EdgeGroup, states: dict[int, Tensor], supply: Supply, terms: dict[int, list[Tensor]]
    ) -> None:
        """Does the same by Triton's kernels: sources are read once, and norms while they are read or added up."""
        rectified, statistics = _Rectified(states), supply.statistics()
        pieces, scales = [], []
        for tower in group.towers:
            x, norms = self._tower(tower, states, supply), supply.norms(tower.layers[-1].branches)
            scales.append(next(supply.scales))
            targets = tower.layers[-1].targets
            pieces.append(Piece(x, tuple(range(len(targets))), targets, norms))
        for reads, normed in ((group.normed, True), (group.plain, False)):
            vector = next(supply.scales) if reads else None
            counts = [len(read.targets) for read in reads]
            own = () if vector is None else vector.split([len(vector) // sum(counts) * count for count in counts])
            scales += own
            for read in reads:
                made = _pooled_or_reduced(read, states, rectified) if normed else _alone(read, states)
                blocks = tuple(range(len(read.targets))) if read.reductions else (0,) * len(read.targets)
                pieces.append(Piece(made, blocks, read.targets, supply.norms(len(read.targets)) if normed else None))
        for node, part in zip(group.targets, add_up(pieces, scales, group.targets, statistics), strict=True):
            terms[node].append(part)

    def _tower(self, tower: Tower, states: dict[int, Tensor], supply: Supply) -> Tensor:
        """Stacked separable convolutions that all have as many layers, up to the last norm."""
        sources, counts = zip(*tower.reads, strict=True)
        x: Tensor | None = None
        for layer in tower.layers:
            frame, kernels = Frame(layer.bucket, layer.stride, layer.kinds), next(supply.depthwise[layer.bucket])
            if x is None:
                x = depthwise([states[source] for source in sources], counts, kernels, frame, relu=True)
            else:
                norms, _ = supply.norms(layer.branches), next(supply.scales)  # in the middle of a tower they are 1
                x = norm_relu_depthwise(x, kernels, frame, norms, supply.statistics())
            x = self._mix_channels(x, next(supply.pointwise))
        assert x is not None, "a tower has a layer"
        return x

    def _separable(
        self, tower: Tower, rectified: _Rectified, supply: Supply
    ) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
        """Stacked separable convolutions; those with fewer layers leave earlier."""
        sources, counts = zip(*tower.reads, strict=True)
        xs = [rectified.states[source] for source in sources]
        for layer in tower.layers:
            frame = Frame(layer.bucket, layer.stride, layer.kinds)
            kernels = next(supply.depthwise[layer.bucket])
            if layer is tower.layers[0] and not shares(xs, kernels, frame):
                # The ReLU of a state is then a tensor of its own, and one for all towers.
                x = depthwise([rectified[source] for source in sources], counts, kernels, frame, relu=False)
            else:
                x = depthwise(xs, counts, kernels, frame, relu=True)
            x = supply.normalise(self._mix_channels(x, next(supply.pointwise)))
            # Branches are sorted by depth, so that those that end with this layer are the last ones in the stack. Their
            # architecture weights were the scales of the norm just now; those that go on had the scale 1.
            going_on = x.shape[1] // layer.branches * (layer.branches - len(layer.targets))
            if layer.targets and going_on:
                x, done = x.split([going_on, x.shape[1] - going_on], dim=1)
                yield done, layer.targets
            elif layer.targets:
                yield x, layer.targets
                return
            xs, counts = [x], (1,)

    def _mix_channels(self, x: Tensor, kernels: Tensor) -> Tensor:
        """1x1 convolutions of a stack x (batch, branches x channels, height, width).

        kernels: (branches x channels, channels, 1, 1).
        """
        branches = len(kernels) // kernels.shape[1]
        if self.pointwise == "convolution" or branches == 1:
            return F.conv2d(x, kernels, groups=branches)
        return mix(x, kernels.view(branches, -1, kernels.shape[1]))


stacked = Stacked()
"""The executor with its defaults."""


class _Rectified(dict[int, Tensor]):
    """The ReLU of each state, computed where it is first asked for."""

    def __init__(self, states: dict[int, Tensor]) -> None:
        super().__init__()
        self.states = states

    def __missing__(self, source: int) -> Tensor:
        made = self[source] = F.relu(self.states[source])
        return made


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
            # Always the first channels: shuffling has put other ones there.
            self.operated[state], passing = x.split([self._channels, rest], dim=1)
            self._rests.append({1: passing})
        else:
            self.operated[state] = x
            self._rests.append({})

    def _passing_by(self, node: int) -> Tensor:
        """Adds up the channels that are not operated on, of all edges into a node, weighted."""
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
        # One number for each channel, and dense: see `packing.spread`.
        weights = shares[:, None].expand(-1, channels).reshape(-1)  # type: ignore[index,operator]
        return fold(scale(repeat(rests, [1] * len(rests)), weights), len(rests))


def _plan_of(cell: Cell, inputs: Sequence[Tensor]) -> Plan | None:
    """The cell's plan, made at its first pass and again where its modules have changed; None: not to be stacked."""
    partial = _partial(cell)
    channels = partial.operated if partial else inputs[0].shape[1]
    plans, own_taps = _PLANS.setdefault(cell, {}), _few_passes(cell, inputs)
    known = plans.get(own_taps)
    if known is None or not known.fits(channels):
        known = plans[own_taps] = make_plan(cell, channels, own_taps) if _is_plain(cell) else None
    if known is None or (cell.training and cell.drop_path.probability > 0.0):
        return None
    first = inputs[0]
    # States that are read together must be of one size. In a pass of another size the same plan may do.
    return known if all(x.shape == first.shape and x.dtype == first.dtype for x in inputs) else None


def _few_passes(cell: Cell, inputs: Sequence[Tensor]) -> bool:
    """Whether Triton's kernels are to evaluate a cell: norms by the batch's statistics, and no tensor too large."""
    pixels = inputs[0].shape[2] * inputs[0].shape[3]
    # Places in memory are counted in 32 bits, in stacks of up to 128 branches.
    small = pixels <= triton.MOST_PIXELS and inputs[0].numel() <= triton.LARGEST // 128
    if not (small and triton.serves(*inputs)):
        return False
    # One of them, because a cell whose norms are in several modes is left to the reference anyway.
    return next((m.training for m in cell.edges.modules() if isinstance(m, nn.BatchNorm2d)), True)


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


def _alone(read: SharedRead, states: dict[int, Tensor]) -> Tensor:
    """The state itself, or what a module makes of it."""
    return states[read.source] if read.alone is None else read.alone(states[read.source])


def _pooled_or_reduced(read: SharedRead, states: dict[int, Tensor], rectified: _Rectified) -> Tensor:
    """(batch, channels, ...) for a pooling, to be repeated; (batch, targets x channels, ...) for reductions."""
    if not read.reductions:
        assert read.alone is not None
        return read.alone(states[read.source])
    # All branches' convolutions of the even pixels are one, and so are those of the odd pixels. Each branch wants both
    # halves side by side: (batch, branches, even and odd channels, ...).
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
        # In a plain search cell a stack often holds the same operation of all edges, in the order of the nodes.
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
