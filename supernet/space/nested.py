"""What training does with nested blocks besides running them: important channels first, and residuals that start at 0.

Fewer channels of a nested block are its first ones (`elastic`). Once-for-all (Cai et al. 2020, section 3.3) puts the
most important ones first before fewer are trained, which changes no network that is trained already.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from supernet.space.elastic import Size
from supernet.space.inverted_residual import ElasticInvertedResidual, InvertedResidual


@torch.no_grad()
def zero_residuals(network: nn.Module) -> None:
    """Lets every block that adds its input begin as the identity: the scale of its last norm is 0.

    BigNAS does so for networks of any depth to learn from the start (Yu et al. 2020, section 3.1; Goyal et al. 2017).

    Args:
        network: any module; its inverted residual blocks are changed.

    Example:
        >>> from supernet.space.inverted_residual import Form, Style
        >>> block = InvertedResidual(Form(8, 24, 8, residual=True), Style())
        >>> zero_residuals(block)
        >>> x = torch.randn(2, 8, 4, 4)
        >>> torch.equal(block(x), x)
        True
    """
    for module in network.modules():
        if isinstance(module, InvertedResidual | ElasticInvertedResidual) and module.drop_path is not None:
            last = module.project[1]
            assert isinstance(last, nn.BatchNorm2d)
            nn.init.zeros_(last.weight)


def sort_opened(before: nn.Module, now: nn.Module) -> None:
    """Sorts the channels of the blocks in which fewer channels are open now than before.

    Args:
        before: the network of the stage before, whose open sizes are those that are trained already.
        now: the same network with more open sizes, and the weights of the one before.
    """
    old, new = ([m for m in network.modules() if isinstance(m, ElasticInvertedResidual)] for network in (before, now))
    for was, block in zip(old, new, strict=True):
        if not set(block.form.expanded.counts.values()) <= set(was.form.expanded.counts.values()):
            sort_channels(block, was.form.expanded, _squeezed(was))


@torch.no_grad()
def sort_channels(block: ElasticInvertedResidual, trained: Size, squeezed: Size) -> None:
    """Puts the channels first that the last convolution weighs most (by the sum of absolute weights).

    Widths that are trained already keep their channels: those between two of them are sorted among themselves. So no
    network of a trained width changes. The channels inside squeeze-and-excite are sorted in the same way, by its last
    layer. Source: Cai et al. 2020, section 3.3, and the authors' re_organize_middle_weights.

    Args:
        block: is changed.
        trained: the numbers of channels that are trained already.
        squeezed: the same of the channels inside squeeze-and-excite.

    Example:
        >>> from supernet.space.choosers import Undecided
        >>> from supernet.space.mobile import Mobile
        >>> from supernet.space.mobile_stages import Stage
        >>> space = Mobile((Stage((8,), expansions=(1.5, 3)),), stem=8, head=8)
        >>> block = space.network(Undecided(), (1, 8, 8), 2).stages[0].blocks[0]
        >>> sort_channels(block, Size.fixed(24), Size.fixed(8))
        >>> sums = block.project[0].weight.abs().sum(dim=(0, 2, 3))
        >>> bool((sums[:-1] >= sums[1:]).all())
        True
    """
    if block.expand is None:
        return  # the channels are those of the input
    last = _convolution(block.project)
    order = _by_importance(last.weight, trained.counts.values())
    for layer in (block.expand, block.depthwise):
        _reorder(layer[1], order)
        _reorder(_convolution(layer), order)
    last.weight.copy_(last.weight[:, order])
    if block.squeeze is not None:
        reduce, expand = block.squeeze.reduce, block.squeeze.expand
        reduce.weight.copy_(reduce.weight[:, order])
        _reorder(expand, order)
        inside = _by_importance(expand.weight, squeezed.counts.values())
        expand.weight.copy_(expand.weight[:, inside])
        _reorder(reduce, inside)


def _squeezed(block: ElasticInvertedResidual) -> Size:
    return block.form.channels_in.combined(block.form.expanded, block.style.squeezed)


def _convolution(layer: nn.Sequential) -> nn.Conv2d:
    convolution = layer[0]
    assert isinstance(convolution, nn.Conv2d)
    return convolution


def _by_importance(weight: Tensor, trained: Iterable[int]) -> Tensor:
    """The order of input channels of a convolution, the most important first within each tier of trained widths."""
    importance = weight.abs().sum(dim=(0, 2, 3))
    ends = sorted({*trained, len(importance)})
    tiers = zip([0, *ends[:-1]], ends, strict=True)
    return torch.cat([start + importance[start:end].argsort(descending=True, stable=True) for start, end in tiers])


def _reorder(module: nn.Module, order: Tensor) -> None:
    """Reorders what a layer has of each of its output channels: weights, biases and statistics."""
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        if tensor.dim():
            tensor.copy_(tensor[order])
