"""The fast executor for a CPU: what `cells.reference` computes, with what edges have in common computed once.

Why it is the same function (all statements in training mode, per channel, in exact arithmetic):

1. "none" adds 0 and the derivative by its weight is <gradient, 0> = 0: it need not run. The relaxation still sees it.
2. ReLU and pooling depend on the source state and the stride alone, and so does the batch norm after pooling, which has
   no parameters: one evaluation serves all edges that leave a state. A node receives the linear combination
   sum_j (w_max Max_j + w_avg Avg_j + w_skip x_j), evaluated in one pass (`_Combine`). Each edge's norm still gets its
   own running statistics; in evaluation mode, where they count, norms are not shared.
3. w BN(y) = BN(y) with scale w and shift 0: the architecture weight is the norm's scale, its derivative the scale's.
   (The scale must be a dense tensor: with a stride-0 scale PyTorch's CPU gradient is silently wrong.)
4. An input weight v (edge normalisation) multiplies the sum of an edge: v (sum_o w_o o) = sum_o (v w_o) o.
5. The input gradient of a depthwise convolution with stride 1 is the convolution of the gradient with the flipped
   kernel, and its weight gradient the same sum in another order. With a dilation of two, pixels of even and odd rows
   and columns never meet: each of these phases is a picture of its own, convolved without dilation (`kernels`).
6. With partial channels, joining and shuffling are linear and equal for all edges of a node:
   sum_j shuffle(a_j, b_j) = shuffle(sum_j a_j, sum_j b_j).
7. A norm is a linear function of what it is given, once the statistics are known: all that end at a node are one sum
   (`norms`), and one that a ReLU and a convolution follow is computed on the way (`accelerated`).

What is not recognised runs by itself, times its weight. Sums are reordered, so float results differ in the last digits.
The fast kernels cannot be differentiated twice: `cells.running(network, cells.reference)` can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.execution.fused.bindings import Norm, Window, dense
from supernet.execution.fused.compiled_kernels import pointwise, serves_pointwise
from supernet.execution.fused.norms import norm as batch_norm
from supernet.execution.fused.norms import serves_norm, sum_of_norms
from supernet.execution.fused.torch_kernels import combine, norm_relu_separable, quarters, separable
from supernet.space.cells import Cell, reference
from supernet.space.choices import InputChoice, OperationChoice, PartialChannels, Together
from supernet.space.operations import FactorizedReduce, Zero


def fused(cell: Cell, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The states of a cell, each (batch, channels, height, width) and channels-last."""
    if len({isinstance(edge, PartialChannels) for edge in cell.edges.values()}) > 1:
        return reference(cell, inputs)
    statistics = _Statistics()
    before = [cell.get_submodule(name) for name in cell.preprocess]
    states = [_preprocessed(module, _State(dense(x), statistics)) for module, x in zip(before, inputs, strict=True)]
    for total, incoming in zip(cell.totals, cell.incoming, strict=True):
        weights = total.weights if isinstance(total, InputChoice) else None
        shares = [None] * len(incoming) if weights is None else weights.unbind()
        node = _Sum()
        for (source, name), share in zip(incoming, shares, strict=True):
            edge = cell.edges[name]
            if cell.drop_path.training and cell.drop_path.probability and not isinstance(edge, nn.Identity):
                whole = _Sum()
                _add_edge(whole, edge, states[source], None)
                node.add(cell.drop_path(whole.value(statistics)), share)
            else:
                _add_edge(node, edge, states[source], share)
        states.append(_State(node.value(statistics), statistics))
    statistics.update()
    return [state.x for state in states]


@dataclass
class _Sum:
    """A node in the making: a linear combination of shared tensors, and terms that are scaled already."""

    coefficients: list[Tensor | None] = field(default_factory=list)
    shared: list[Tensor] = field(default_factory=list)
    terms: list[Tensor] = field(default_factory=list)
    norms: list[tuple[nn.BatchNorm2d, Tensor, Tensor | None]] = field(default_factory=list)  # of what, and its weight
    operated: _Sum | None = None  # of partial channels; the lists above then hold what passes by
    partial: PartialChannels | None = None

    def add(self, x: Tensor, weight: Tensor | None) -> None:
        self.coefficients.append(weight)
        self.shared.append(x)

    def add_norm(self, norm: nn.BatchNorm2d, x: Tensor, weight: Tensor | None, statistics: _Statistics) -> None:
        """Adds `weight` times the batch norm of `x`; where compiled, in the end with all others."""
        if norm.training and not norm.affine and serves_norm(x):
            self.norms.append((norm, x, weight))
        else:
            self.terms.append(_norm(norm, x, weight, statistics))

    def value(self, statistics: _Statistics) -> Tensor:
        if self.norms:
            norms, xs, weights = zip(*self.norms, strict=True)
            total, *moments = sum_of_norms(xs, weights, [norm.eps for norm in norms])
            self.terms.append(total)
            for norm, mean, variance in zip(norms, *moments, strict=True):
                statistics.remember(norm, mean, variance)
        total = combine(self.coefficients, self.shared, self.terms)
        if self.partial is None or self.operated is None:
            return total
        return dense(self.partial.shuffle(self.operated.value(statistics), total))


@dataclass
class _State:
    """A state and what is computed of it once for all edges that leave it."""

    x: Tensor
    statistics: _Statistics
    made: dict[object, Tensor] = field(default_factory=dict)
    norms: dict[object, tuple[Tensor, Tensor]] = field(default_factory=dict)
    part: _State | None = None

    @property
    def relu(self) -> Tensor:
        if "relu" not in self.made:
            self.made["relu"] = F.relu(self.x)
        return self.made["relu"]

    @property
    def quarters(self) -> tuple[Tensor, Tensor]:
        """Every second pixel of the ReLU, from the first and from the second on: what a factorised reduction reads."""
        if "even" not in self.made:
            self.made["even"], self.made["odd"] = quarters(self.relu)
        return self.made["even"], self.made["odd"]

    def pooled(self, pool: nn.Module) -> Tensor:
        key = repr(pool)
        if key not in self.made:
            self.made[key] = pool(self.x)
        return self.made[key]

    def pooled_normalised(self, pool: nn.Module, norm: nn.BatchNorm2d) -> Tensor:
        """In training mode: the same for all norms, each of which remembers the statistics in its own way."""
        key = (repr(pool), norm.eps)
        if key not in self.made:
            exact = torch.promote_types(self.x.dtype, torch.float32)
            mean, variance = self.x.new_zeros(2, self.x.shape[1], dtype=exact).unbind()
            pooled = self.pooled(pool)
            self.made[key] = F.batch_norm(pooled, mean, variance, None, None, True, 1.0, norm.eps)
            self.norms[key] = (mean, variance)
        self.statistics.remember(norm, *self.norms[key])
        return self.made[key]

    def divided(self, edge: PartialChannels) -> tuple[_State, Tensor]:
        """With partial channels: the part that is operated on, and what passes by."""
        if self.part is None:
            operated, rest = self.x.split([edge.operated, self.x.shape[1] - edge.operated], dim=1)
            self.part = _State(dense(operated), self.statistics)
            self.made["rest"] = edge.bypass(rest)
        return self.part, self.made["rest"]


@dataclass
class _Statistics:
    """Running statistics that are still to be moved, all together."""

    targets: dict[float, tuple[list[Tensor], list[Tensor]]] = field(default_factory=dict)
    counts: list[Tensor] = field(default_factory=list)

    def count(self, norm: nn.BatchNorm2d) -> None:
        if norm.num_batches_tracked is not None:
            self.counts.append(norm.num_batches_tracked)

    def remember(self, norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
        if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
            return
        assert norm.momentum is not None
        buffers, values = self.targets.setdefault(norm.momentum, ([], []))
        buffers += [norm.running_mean, norm.running_var]
        values += [mean, variance]
        self.count(norm)

    def update(self) -> None:
        with torch.no_grad():
            for momentum, (buffers, values) in self.targets.items():
                torch._foreach_lerp_(buffers, values, momentum)
            if self.counts:
                torch._foreach_add_(self.counts, 1)


def _preprocessed(module: nn.Module, state: _State) -> _State:
    if isinstance(module, nn.Identity):
        return state
    whole = _Sum()
    _add(whole, module, state, None)
    return _State(whole.value(state.statistics), state.statistics)


def _add_edge(node: _Sum, edge: nn.Module, state: _State, share: Tensor | None) -> None:
    """Adds what comes over `edge`, times `share`, to `node`."""
    if isinstance(edge, PartialChannels):
        operated, rest = state.divided(edge)
        node.partial, node.operated = edge, node.operated or _Sum()
        node.add(rest, share)
        _add_edge(node.operated, edge.choice, operated, share)
    elif isinstance(edge, OperationChoice):
        _add_choice(node, edge, state, share)
    elif isinstance(edge, Together):
        for operation in edge.operations:
            _add(node, operation, state, share)
    else:
        _add(node, edge, state, share)


def _add_choice(node: _Sum, choice: OperationChoice, state: _State, share: Tensor | None) -> None:
    assert choice.weights is not None, "run the supernet, which hands out the weights"
    weights = choice.weights if share is None else choice.weights * share
    candidates = list(zip(choice.candidates.values(), weights.unbind(), strict=True))
    off: list[Tensor] = []
    if choice.single:
        off = [weight for (_, weight), runs in zip(candidates, choice.on, strict=True) if not runs]
        candidates = [candidate for candidate, runs in zip(candidates, choice.on, strict=True) if runs]
    for operation, weight in candidates:
        _add(node, operation, state, weight)
    if off and choice.weights.requires_grad:  # as `single_path` adds them
        node.terms.append(torch.stack(off).sum().expand(1, 1, 1, 1))


def _add(node: _Sum, operation: nn.Module, state: _State, weight: Tensor | None) -> None:
    """Adds `operation` of `state`, times `weight` (None: 1), in the cheapest way that its structure allows."""
    parts = list(operation.children()) if isinstance(operation, nn.Sequential) else [operation]
    first, last = parts[0], parts[-1]
    if any(module._forward_hooks or module._forward_pre_hooks for module in operation.modules()):
        node.add(operation(state.x), weight)  # hooks want the modules to be called
    elif isinstance(operation, Zero):
        if not node.terms and not node.shared and not node.norms:  # the sum's size must come from somewhere
            node.add(operation(state.x), weight)
    elif isinstance(operation, nn.Identity):
        node.add(state.x, weight)
    elif isinstance(first, nn.MaxPool2d | nn.AvgPool2d) and len(parts) == 1:
        node.add(state.pooled(first), weight)
    elif isinstance(first, nn.MaxPool2d | nn.AvgPool2d) and len(parts) == 2 and _plain_norm(last) and not last.affine:
        if last.training:
            node.add(state.pooled_normalised(first, last), weight)
        else:
            node.add_norm(last, state.pooled(first), weight, state.statistics)
    elif isinstance(operation, FactorizedReduce) and _plain_norm(operation.norm):
        halves = [operation.even, operation.odd]
        joined = torch.cat([_across(x, half.weight) for x, half in zip(state.quarters, halves, strict=True)], dim=1)
        node.add_norm(operation.norm, joined, weight, state.statistics)
    elif isinstance(first, nn.ReLU) and not first.inplace and _plain_norm(last):
        if len(parts) == 3 and _is_pointwise(parts[1]) and serves_pointwise(state.x, parts[1].weight):
            node.add_norm(last, pointwise(state.x, parts[1].weight, relu=True), weight, state.statistics)
            return
        node.add_norm(last, _chain(parts[1:-1], state.relu, state.statistics), weight, state.statistics)
    else:
        node.add(operation(state.x), weight)


def _plain_norm(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    return isinstance(module, nn.BatchNorm2d) and module.momentum is not None


def _chain(modules: Sequence[nn.Module], x: Tensor, statistics: _Statistics) -> Tensor:
    """The modules one after the other."""
    left = list(modules)
    while left:
        norm = left[0]
        if len(left) > 1 and (pair := _separable(left[:2])) is not None:
            x = separable(x, pair[0].weight, pair[1].weight, _window(pair[0]))
            left = left[2:]
        elif len(left) > 3 and _plain_norm(norm) and norm.training and isinstance(left[1], nn.ReLU):
            if (pair := _separable(left[2:4])) is None:
                x, left = left[1](norm(x)), left[2:]
                continue
            weights = norm.weight, norm.bias, pair[0].weight, pair[1].weight
            x = norm_relu_separable(x, *weights, _batch(norm, statistics), _window(pair[0]))
            left = left[4:]
        else:
            x = left.pop(0)(x)
    return x


def _separable(modules: Sequence[nn.Module]) -> tuple[nn.Conv2d, nn.Conv2d] | None:
    """These two, where they are a depthwise convolution and a 1x1 convolution, both without bias."""
    first, second = modules
    if not isinstance(first, nn.Conv2d) or not _is_pointwise(second):
        return None
    around = first.groups == first.in_channels == first.out_channels and first.padding_mode == "zeros"
    return (first, second) if around and first.bias is None and not isinstance(first.padding, str) else None


def _across(x: Tensor, weight: Tensor) -> Tensor:
    return pointwise(x, weight, relu=False) if serves_pointwise(x, weight) else F.conv2d(x, weight)


def _is_pointwise(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a 1x1 convolution, with stride 1 and without bias."""
    if not isinstance(module, nn.Conv2d) or module.bias is not None:
        return False
    return module.kernel_size == module.stride == (1, 1) and module.padding == (0, 0) and module.groups == 1


def _window(module: nn.Conv2d) -> Window:
    assert not isinstance(module.padding, str)
    return Window(module.stride, module.padding, module.dilation)


def _batch(norm: nn.BatchNorm2d, statistics: _Statistics) -> Norm:
    """A norm in training mode, for the kernels."""
    assert norm.momentum is not None
    if not norm.track_running_stats:
        return Norm(None, None, norm.momentum, norm.eps)
    statistics.count(norm)
    return Norm(norm.running_mean, norm.running_var, norm.momentum, norm.eps)


def _norm(norm: nn.BatchNorm2d, x: Tensor, weight: Tensor | None, statistics: _Statistics) -> Tensor:
    """`weight` times the batch norm of `x`."""
    if norm.training and weight is None and serves_norm(x):
        out, batch_mean, batch_variance = batch_norm(x, norm.weight, norm.bias, norm.eps)
        statistics.remember(norm, batch_mean, batch_variance)
        return out
    scale: Tensor | None = norm.weight
    shift: Tensor | None = norm.bias
    if weight is not None:
        scale = weight.expand(x.shape[1]).contiguous() if scale is None else weight * scale
        shift = None if shift is None else weight * shift
    tracking = norm.track_running_stats
    if norm.training and tracking:
        statistics.count(norm)
    mean, variance = (norm.running_mean, norm.running_var) if tracking or not norm.training else (None, None)
    batch = norm.training or mean is None
    momentum = 0.0 if norm.momentum is None else norm.momentum
    return F.batch_norm(x, mean, variance, scale, shift, batch, momentum, norm.eps)
