"""The data of a fused pass: states of a cell, sums at its nodes, batch norms, and running statistics to update."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.execution.fused.bindings import Norm, dense
from supernet.execution.fused.functions import combine, quarters
from supernet.execution.fused.norms import norm as batch_norm
from supernet.execution.fused.norms import serves_norm, unbiased
from supernet.execution.fused.poolings import pool
from supernet.execution.fused.sharing import Shared, serves_sharing
from supernet.execution.fused.sums import sum_of_norms
from supernet.execution.patterns import Chain, Pooling
from supernet.space.choices import PartialChannels


@dataclass
class Sum:
    """Collects what is added at a node: a linear combination of shared tensors, and terms that are scaled already.

    All tensors are (batch, channels, height, width), all weights 0-dimensional.

    Args:
        coefficients: the weight of each of `shared`; None stands for 1.
        shared: tensors that other sums use, too, so that a weighted copy of each would be waste.
        terms: what is added as it is.
        read: tensors whose gradients are collected, and their weights.
        norms: batch norms, what they are given, and their weights, to be added all at once.
        operated: with partial channels, the sum of what is operated on; the lists then hold what passes by.
        partial: an edge with partial channels, which shuffles both together; None where there are none.

    Example:
        >>> node, statistics = Sum(), Statistics()
        >>> node.add(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), torch.tensor(3.0))
        >>> node.add(torch.tensor([10.0, 20.0]).view(1, 2, 1, 1), None)
        >>> node.value(statistics).flatten()
        tensor([13., 26.])
    """

    coefficients: list[Tensor | None] = field(default_factory=list)
    shared: list[Tensor] = field(default_factory=list)
    terms: list[Tensor] = field(default_factory=list)
    read: list[tuple[Shared, Tensor | None]] = field(default_factory=list)
    norms: list[tuple[nn.BatchNorm2d, Tensor, Tensor | None]] = field(default_factory=list)
    operated: Sum | None = None
    partial: PartialChannels | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing was added yet, so that the shape of the sum is unknown."""
        return not self.terms and not self.shared and not self.read and not self.norms

    def add(self, x: Tensor | Shared, weight: Tensor | None) -> None:
        """Adds a tensor that others share.

        Args:
            x: (batch, channels, height, width).
            weight: 0-dimensional; None stands for 1.
        """
        if isinstance(x, Shared):
            self.read.append((x, weight))
        else:
            self.coefficients.append(weight)
            self.shared.append(x)

    def add_norm(self, norm: nn.BatchNorm2d, x: Tensor, weight: Tensor | None, statistics: Statistics) -> None:
        """Adds a batch norm of a tensor; where compiled, all such are computed at once in the end.

        Args:
            norm: the batch norm, in training or in evaluation mode.
            x: what it is given, (batch, channels, height, width).
            weight: 0-dimensional; None stands for 1.
            statistics: takes the batch's statistics where the norm is computed now.
        """
        if norm.training and not norm.affine and serves_norm(x):
            self.norms.append((norm, x, weight))
        else:
            self.terms.append(normalised(norm, x, weight, statistics))

    def value(self, statistics: Statistics) -> Tensor:
        """Computes the sum.

        Args:
            statistics: takes the batch's statistics of the norms that are computed now.

        Returns:
            (batch, channels, height, width), channels-last.
        """
        plain = not self.norms and all(weight is None and shared.eps is None for shared, weight in self.read)
        if plain:  # nothing to save: autograd does as well
            self.coefficients += [None] * len(self.read)
            self.shared += [shared.x for shared, _ in self.read]
        else:
            weights = [weight for _, weight in self.read] + [weight for _, _, weight in self.norms]
            eps = [norm.eps for norm, _, _ in self.norms]
            read = [shared for shared, _ in self.read]
            xs = [x for _, x, _ in self.norms]
            known = [statistics.found.pop(x, None) for x in xs]
            total, *moments = sum_of_norms(xs, weights, eps, read, known)
            self.terms.append(total)
            for (norm, _, _), mean, variance in zip(self.norms, *moments, strict=True):
                statistics.remember(norm, mean, variance)
        total = combine(self.coefficients, self.shared, self.terms)
        if self.partial is None or self.operated is None:
            return total
        return dense(self.partial.shuffle(self.operated.value(statistics), total))


@dataclass
class State:
    """A state of a cell, with results that are computed once and shared by all edges that leave it.

    Args:
        x: (batch, channels, height, width), channels-last.
        statistics: takes the batch's statistics of every norm.
        made: what was computed of x so far, by its name or the key of a pooling.
        shares: of x and of what was computed, those whose readers' gradients are collected, by the same keys.
        begun: what chains make of x in their first step; by chain, as two may share convolutions but not the norm.
        norms: the mean and the variance of each norm in `made`, each (channels,).
        part: with partial channels, the state of those that are operated on; None until it is needed.

    Example:
        >>> state = State(torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1), Statistics())
        >>> relu = state.rectified(state.x, "x")
        >>> relu.flatten(), state.rectified(state.x, "x") is relu
        (tensor([0., 2.]), True)
    """

    x: Tensor
    statistics: Statistics
    made: dict[object, Tensor] = field(default_factory=dict)
    shares: dict[object, Shared] = field(default_factory=dict)
    begun: dict[Chain, Tensor] = field(default_factory=dict)
    norms: dict[object, tuple[Tensor, Tensor]] = field(default_factory=dict)
    part: State | None = None

    def shared(self, x: Tensor, key: object, eps: float | None = None) -> Shared | None:
        """Makes one thing of a tensor and the gradients that those give who read it.

        Args:
            x: the state, or what was computed of it, (batch, channels, height, width).
            key: says whether it is the same tensor.
            eps: of the batch norm that is read in its place; None: the tensor is.

        Returns:
            The same for the same key; None where gradients of x cannot be collected.
        """
        if key not in self.shares:
            if not serves_sharing(x):
                return None
            self.shares[key] = Shared(x, eps)
        return self.shares[key]

    def rectified(self, x: Tensor, key: str) -> Tensor:
        """Computes the ReLU of the state or of one of its quarters.

        Args:
            x: the state, or a quarter, (batch, channels, height, width).
            key: says whether it is the same tensor.

        Returns:
            The same for the same key, of the shape of x.
        """
        if ("relu", key) not in self.made:
            self.made["relu", key] = F.relu(x)
        return self.made["relu", key]

    @property
    def quarters(self) -> tuple[Tensor, Tensor]:
        """Every second pixel, from the first and from the second on: a factorised reduction reads the ReLU of them.

        Each is (batch, channels, height / 2, width / 2), rounded up.
        """
        if "even" not in self.made:
            self.made["even"], self.made["odd"] = quarters(self.x)
        return self.made["even"], self.made["odd"]

    def pooled(self, pooling: Pooling) -> Tensor:
        """Computes a pooling of the state, without its norm.

        Args:
            pooling: the pooling; its key says whether another one computes the same.

        Returns:
            (batch, channels, height / stride, width / stride).
        """
        if pooling.key not in self.made:
            self.made[pooling.key] = pool(pooling.pool, self.x)
        return self.made[pooling.key]

    def pooled_normalised(self, pooling: Pooling, norm: nn.BatchNorm2d) -> Tensor | Shared:
        """Computes a pooling and its batch norm in training mode: the same for all norms, which have no parameters.

        Args:
            pooling: the pooling.
            norm: its batch norm, which remembers the batch's statistics in its own way.

        Returns:
            (batch, channels, height / stride, width / stride); where the gradients of its readers can be collected, the
            pooling as a `Shared` that is read as its norm.
        """
        key = (pooling.key, norm.eps)
        if shared := self.shared(self.pooled(pooling), key, norm.eps):
            if key not in self.norms:
                mean, variance, _ = shared.statistics
                self.norms[key] = mean, unbiased(variance, shared.numbers)
            self.statistics.remember(norm, *self.norms[key])
            return shared
        if key not in self.made:
            exact = torch.promote_types(self.x.dtype, torch.float32)
            # Momentum 1.0 makes PyTorch overwrite these zeros by the batch's own statistics (the variance unbiased).
            # Each norm then moves its running statistics towards them by its own momentum.
            mean, variance = self.x.new_zeros(2, self.x.shape[1], dtype=exact).unbind()
            pooled = self.pooled(pooling)
            self.made[key] = F.batch_norm(pooled, mean, variance, None, None, True, 1.0, norm.eps)
            self.norms[key] = (mean, variance)
        self.statistics.remember(norm, *self.norms[key])
        return self.made[key]

    def divided(self, edge: PartialChannels) -> tuple[State, Tensor]:
        """Divides the state for edges with partial channels.

        Args:
            edge: one of these edges; all of them operate on as many channels.

        Returns:
            The state of the channels that are operated on, and what passes by, as `edge.bypass` gives it.
        """
        if self.part is None:
            operated, rest = self.x.split([edge.operated, self.x.shape[1] - edge.operated], dim=1)
            self.part = State(dense(operated), self.statistics)
            self.made["rest"] = edge.bypass(rest)
        return self.part, self.made["rest"]


@dataclass
class Statistics:
    """Collects updates of running statistics and makes them in one call instead of two for each norm.

    Args:
        targets: by momentum, the running means and variances, and what each of them is moved towards.
        counts: the counters of passes that norms have.
        found: for what norms will be given, statistics that were found as it was made (`norms.statistics_of`).

    Example:
        >>> norm, statistics = nn.BatchNorm2d(1, momentum=0.5), Statistics()
        >>> statistics.remember(norm, mean=torch.tensor([4.0]), variance=torch.tensor([3.0]))
        >>> statistics.update()
        >>> norm.running_mean, norm.running_var, norm.num_batches_tracked  # they were 0, 1 and 0
        (tensor([2.]), tensor([2.]), tensor(1))
    """

    targets: dict[float, tuple[list[Tensor], list[Tensor]]] = field(default_factory=dict)
    counts: list[Tensor] = field(default_factory=list)
    found: dict[Tensor, Tensor] = field(default_factory=dict)

    def count(self, norm: nn.BatchNorm2d) -> None:
        """Counts a pass of a norm whose statistics are moved elsewhere.

        Args:
            norm: the batch norm; one that counts nothing is left out.
        """
        if norm.num_batches_tracked is not None:
            self.counts.append(norm.num_batches_tracked)

    def remember(self, norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
        """Remembers the statistics of a batch for a norm, and counts its pass.

        Args:
            norm: the batch norm; one that keeps no running statistics is left out.
            mean: of the batch, (channels,).
            variance: of the batch, unbiased, (channels,).
        """
        if not norm.track_running_stats or norm.running_mean is None or norm.running_var is None:
            return
        assert norm.momentum is not None
        buffers, values = self.targets.setdefault(norm.momentum, ([], []))
        buffers += [norm.running_mean, norm.running_var]
        values += [mean, variance]
        self.count(norm)

    def update(self) -> None:
        """Moves all running statistics, and counts the passes."""
        with torch.no_grad():
            for momentum, (buffers, values) in self.targets.items():
                torch._foreach_lerp_(buffers, values, momentum)
            if self.counts:
                torch._foreach_add_(self.counts, 1)


def batch_of(norm: nn.BatchNorm2d, x: Tensor, statistics: Statistics, after: tuple[float, Tensor] | None) -> Norm:
    """Describes a norm in training mode for the kernels, which move its running statistics themselves.

    Args:
        norm: the batch norm; its momentum is not None.
        x: what it is given, (batch, channels, height, width).
        statistics: counts the pass, and may know those of x.
        after: of the next norm, as in `Norm`.

    Returns:
        Its settings, with its own running statistics, or without them where it tracks none.

    Example:
        >>> batch_of(nn.BatchNorm2d(4, track_running_stats=False), torch.zeros(1, 4, 2, 2), Statistics(), None)
        Norm(mean=None, variance=None, momentum=0.1, eps=1e-05, known=None, after=None)
    """
    assert norm.momentum is not None
    known = statistics.found.pop(x, None)
    if not norm.track_running_stats:
        return Norm(None, None, norm.momentum, norm.eps, known, after)
    statistics.count(norm)
    return Norm(norm.running_mean, norm.running_var, norm.momentum, norm.eps, known, after)


def normalised(norm: nn.BatchNorm2d, x: Tensor, weight: Tensor | None, statistics: Statistics) -> Tensor:
    """Computes a weight times the batch norm of a tensor; the weight is multiplied into the norm's scale and shift.

    Args:
        norm: the batch norm, in training or in evaluation mode.
        x: (batch, channels, height, width).
        weight: 0-dimensional; None stands for 1.
        statistics: takes the batch's statistics in training mode, where the norm does not move its own.

    Returns:
        (batch, channels, height, width).

    Example:
        >>> norm = nn.BatchNorm2d(1).eval()  # running mean 0, running variance 1
        >>> normalised(norm, torch.tensor([[[[1.0, 3.0]]]]), torch.tensor(2.0), Statistics()).detach().round()
        tensor([[[[2., 6.]]]])
    """
    if norm.training and weight is None and serves_norm(x):
        known = statistics.found.pop(x, None)
        out, batch_mean, batch_variance = batch_norm(x, norm.weight, norm.bias, norm.eps, known)
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
