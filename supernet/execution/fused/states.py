"""What the fused executor computes with: states, sums in the making, norms, and statistics that are still to move."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.execution.fused.bindings import Norm, dense
from supernet.execution.fused.functions import combine, quarters
from supernet.execution.fused.norms import norm as batch_norm
from supernet.execution.fused.norms import serves_norm, sum_of_norms
from supernet.execution.patterns import Pooling
from supernet.space.choices import PartialChannels


@dataclass
class Sum:
    """A node in the making: a linear combination of shared tensors, and terms that are scaled already.

    `norms`: batch norms, what they are given, and their weights, to be added all at once. `operated`: with partial
    channels, the sum of what is operated on; the lists then hold what passes by, and `partial` shuffles both together.
    """

    coefficients: list[Tensor | None] = field(default_factory=list)
    shared: list[Tensor] = field(default_factory=list)
    terms: list[Tensor] = field(default_factory=list)
    norms: list[tuple[nn.BatchNorm2d, Tensor, Tensor | None]] = field(default_factory=list)
    operated: Sum | None = None
    partial: PartialChannels | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing has come that says how large the sum is."""
        return not self.terms and not self.shared and not self.norms

    def add(self, x: Tensor, weight: Tensor | None) -> None:
        """Adds `weight` (None: 1) times `x`."""
        self.coefficients.append(weight)
        self.shared.append(x)

    def add_norm(self, norm: nn.BatchNorm2d, x: Tensor, weight: Tensor | None, statistics: Statistics) -> None:
        """Adds `weight` times the batch norm of `x`; where compiled, in the end with all others."""
        if norm.training and not norm.affine and serves_norm(x):
            self.norms.append((norm, x, weight))
        else:
            self.terms.append(normalised(norm, x, weight, statistics))

    def value(self, statistics: Statistics) -> Tensor:
        """The sum, (batch, channels, height, width), channels-last."""
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
class State:
    """A state and what is computed of it once for all edges that leave it."""

    x: Tensor
    statistics: Statistics
    made: dict[object, Tensor] = field(default_factory=dict)
    norms: dict[object, tuple[Tensor, Tensor]] = field(default_factory=dict)
    part: State | None = None

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

    def pooled(self, pooling: Pooling) -> Tensor:
        """Without the norm."""
        if pooling.key not in self.made:
            self.made[pooling.key] = pooling.pool(self.x)
        return self.made[pooling.key]

    def pooled_normalised(self, pooling: Pooling, norm: nn.BatchNorm2d) -> Tensor:
        """In training mode: the same for all norms, each of which remembers the statistics in its own way."""
        key = (pooling.key, norm.eps)
        if key not in self.made:
            exact = torch.promote_types(self.x.dtype, torch.float32)
            mean, variance = self.x.new_zeros(2, self.x.shape[1], dtype=exact).unbind()
            pooled = self.pooled(pooling)
            self.made[key] = F.batch_norm(pooled, mean, variance, None, None, True, 1.0, norm.eps)
            self.norms[key] = (mean, variance)
        self.statistics.remember(norm, *self.norms[key])
        return self.made[key]

    def divided(self, edge: PartialChannels) -> tuple[State, Tensor]:
        """With partial channels: the part that is operated on, and what passes by."""
        if self.part is None:
            operated, rest = self.x.split([edge.operated, self.x.shape[1] - edge.operated], dim=1)
            self.part = State(dense(operated), self.statistics)
            self.made["rest"] = edge.bypass(rest)
        return self.part, self.made["rest"]


@dataclass
class Statistics:
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


def batch_of(norm: nn.BatchNorm2d, statistics: Statistics) -> Norm:
    """A norm in training mode, for the kernels."""
    assert norm.momentum is not None
    if not norm.track_running_stats:
        return Norm(None, None, norm.momentum, norm.eps)
    statistics.count(norm)
    return Norm(norm.running_mean, norm.running_var, norm.momentum, norm.eps)


def normalised(norm: nn.BatchNorm2d, x: Tensor, weight: Tensor | None, statistics: Statistics) -> Tensor:
    """`weight` times the batch norm of `x`."""
    if norm.training and weight is None and serves_norm(x):
        out, batch_mean, batch_variance = batch_norm(x, norm.weight, norm.bias, norm.eps)
        statistics.remember(norm, batch_mean, batch_variance)
        return out
    scale: Tensor | None = norm.weight
    shift: Tensor | None = norm.bias
    if weight is not None:
        # Dense, not expanded: with a scale of stride 0 PyTorch's CPU gradient is silently wrong.
        scale = weight.expand(x.shape[1]).contiguous() if scale is None else weight * scale
        shift = None if shift is None else weight * shift
    tracking = norm.track_running_stats
    if norm.training and tracking:
        statistics.count(norm)
    mean, variance = (norm.running_mean, norm.running_var) if tracking or not norm.training else (None, None)
    batch = norm.training or mean is None
    assert norm.momentum is not None
    return F.batch_norm(x, mean, variance, scale, shift, batch, norm.momentum, norm.eps)
