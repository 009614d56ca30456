"""Batch norms whose statistics are those of the joined batch of several processes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.runtime.processes import ALONE, Processes


class JoinedBatchNorm2d(nn.BatchNorm2d):
    """PyTorch's batch norm; in training mode its statistics are those of all processes' images.

    It can be differentiated twice and runs on processors, neither of which `torch.nn.SyncBatchNorm` does. Means and
    squared distances of the processes are put together as Chan, Golub and LeVeque 1979 do, which loses no digits. An
    input of fewer channels than it has is normalised by the first ones, as `elastic.norm_of_first` wants it.

    Example:
        >>> norm, x = JoinedBatchNorm2d(3), torch.randn(4, 3, 2, 2)
        >>> torch.equal(norm(x), nn.BatchNorm2d(3)(x))  # where a process is alone
        True
    """

    processes: Processes = ALONE

    def forward(self, x: Tensor) -> Tensor:
        """Normalises (batch, channels, height, width)."""
        takes = self.training or self.running_mean is None
        if takes and self.processes.several:
            return self._joined(x)
        if x.shape[1] == self.num_features:
            return super().forward(x)
        mean, variance, weight, bias = self._of_first(x.shape[1])
        kept = (mean, variance) if not self.training or self.track_running_stats else (None, None)
        return F.batch_norm(x, *kept, weight, bias, takes, self.momentum or 0.0, self.eps)

    def _joined(self, x: Tensor) -> Tensor:
        values = x if x.dtype in (torch.float32, torch.float64) else x.float()
        channels = x.shape[1]
        mean = values.mean((0, 2, 3))
        squares = (values - _wide(mean)).square().sum((0, 2, 3))
        own = torch.cat((mean.new_full((1,), values.numel() / channels), mean, squares))
        counts, means, squared = self.processes.stacked(own).split([1, channels, channels], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        squares = (squared + counts * (means - mean).square()).sum(0)
        running_mean, running_variance, weight, bias = self._of_first(channels)
        if self.training and self.track_running_stats:
            share = self._share()
            for kept, now in ((running_mean, mean), (running_variance, squares / (total - 1))):
                if kept is not None:
                    kept.lerp_(now.detach().to(kept), share)
        result = (values - _wide(mean)) * _wide((squares / total + self.eps).rsqrt())
        if weight is not None and bias is not None:
            result = result * _wide(weight) + _wide(bias)
        return result.to(x.dtype)

    def _of_first(self, channels: int) -> tuple[Tensor | None, ...]:
        own = (self.running_mean, self.running_var, self.weight, self.bias)
        return tuple(None if each is None else each[:channels] for each in own)

    def _share(self) -> float:
        """How much of what is remembered this batch is."""
        if self.num_batches_tracked is None:
            return self.momentum or 0.0
        self.num_batches_tracked.add_(1)
        return 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]
