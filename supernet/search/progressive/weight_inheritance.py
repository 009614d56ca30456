"""Copies weights from one stage's supernet to the next, whose edges have fewer operations or more channels.

Operations that see more channels than before are widened as Net2Net does it (Chen, Goodfellow and Shlens 2016, section
2.3, which DrNAS takes over): channel c of the wide operation is a copy of channel index[c] of the narrow one, and what
reads copies divides its weights by their number. All layers of all operations of an edge share the index 0, 1, 2, ...,
0, 1, ..., so that wide(x[index]) = narrow(x)[index] in training and in evaluation, and old channels stay where they
are. A factorised reduction alone keeps each of its halves together: another index for what comes out. The network is
another function all the same: the channels that come in new have features of their own, which passed by before.

Where the code of DrNAS differs: it draws its indices, and copies input weights without dividing them, so that what is
copied counts twice; and it keeps the momentum of the weights and the state of the alphas' optimiser, where each of our
stages has new optimisers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity
from supernet.space.architecture import Architecture, met
from supernet.space.cells import Cell
from supernet.space.choices import OperationChoice, PartialChannels
from supernet.space.elastic import Part
from supernet.space.inverted_residual import ElasticInvertedResidual
from supernet.space.nested import sort_opened
from supernet.space.operations import FactorizedReduce
from supernet.space.supernet import Supernet


def widening(before: int, after: int) -> Tensor:
    """Says which channel of a narrow operation each channel of a wide one copies.

    Args:
        before: channels of the narrow operation.
        after: channels of the wide operation.

    Returns:
        The index of the copied channel for each wide one, (after,).

    Example:
        >>> widening(3, 5)
        tensor([0, 1, 2, 0, 1])
    """
    return torch.arange(after) % before


@torch.no_grad()
def inherit_weights(before: Supernet, now: Supernet) -> None:
    """Gives a supernet the parameters and statistics of the one before.

    Where fewer channels of nested blocks are open than before, the most important ones come first.

    Args:
        before: the supernet of the stage before; it stays as it is.
        now: the same cells, whose edges have fewer operations or more channels; it is changed.

    Raises:
        InputError: where `now` has something that `before` lacks, or fewer channels.

    Example:
        >>> from supernet.space.choosers import Undecided
        >>> from supernet.space.nasbench201 import NasBench201
        >>> space = NasBench201(channels=4, cells=1, stages=1, nodes=1)
        >>> old, new = (Supernet(space.network(Undecided(), (3, 8, 8), 10)) for _ in range(2))
        >>> inherit_weights(old, new)
        >>> all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters()))
        True
    """
    for old, new in zip(_edges(before), _edges(now), strict=True):
        index, candidates = _index(old, new), _candidates(old)
        for option, operation in _candidates(new).items():
            inherit_operation(candidates[option], operation, index)
    known, maps = _others(before), _kernel_maps(now)
    for name, tensor in _others(now).items():
        if name not in known and id(tensor) in maps:
            continue  # a smaller kernel is open for the first time: its map changes nothing yet
        if name not in known or known[name].shape != tensor.shape:
            raise InputError(f"the stage before has no {name} of this size; do not inherit its weights")
        tensor.copy_(known[name])
    sort_opened(before, now)


def weights_of(supernet: Supernet, architecture: Architecture) -> dict[str, Tensor]:
    """The parameters and statistics that the plain network of an architecture has within a supernet.

    Args:
        supernet: any one whose edges see all channels.
        architecture: of its space.

    Returns:
        A state for the network that the space builds with `Decided(architecture, searching=True)`; the tensors are
        those of the supernet.

    Example:
        >>> from supernet.space.choosers import Decided, Undecided
        >>> from supernet.space.nasbench201 import NasBench201, from_string
        >>> space, cell = NasBench201(channels=4, cells=1, stages=1, nodes=1), from_string("|nor_conv_3x3~0|")
        >>> supernet = Supernet(space.network(Undecided(), (3, 8, 8), 10))
        >>> network = space.network(Decided(cell, searching=True), (3, 8, 8), 10)
        >>> network.load_state_dict(weights_of(supernet, cell))
        <All keys matched successfully>
    """
    state, edges = supernet.network.state_dict(), dict[str, str]()
    answers = {name: kept[0] for name, kept in architecture.items() if len(kept) == 1}
    parts = [(f"{path}.", module) for path, module in supernet.network.named_modules() if isinstance(module, Part)]
    for path, module in supernet.network.named_modules():
        if isinstance(module, OperationChoice):
            kept = architecture.get(module.decision.name, ())
            edges |= {
                f"{path}.candidates.{option}.": f"{path}." if option in kept else "" for option in module.candidates
            }
    made: dict[str, Tensor] = {}
    for path, part in parts:
        if met(part.when, architecture):
            made |= {f"{path}{name}": tensor for name, tensor in part.state(answers).items()}
    for name, tensor in state.items():
        if any(name.startswith(path) for path, _ in parts):
            continue
        end = name.find(".", name.find(".candidates.") + len(".candidates.")) + 1 if ".candidates." in name else 0
        if end == 0 or edges[name[:end]]:
            made[edges.get(name[:end], "") + name[end:]] = tensor
    return made


@torch.no_grad()
def inherit_operation(old: nn.Module, new: nn.Module, index: Tensor | None) -> None:
    """Gives an operation what the same operation on as many or fewer channels has.

    Args:
        old: the operation on fewer channels; it stays as it is.
        new: the operation on more channels; it is changed.
        index: the channel of `old` that each channel of `new` copies, as from `widening`; None: there are as many.

    Raises:
        InputError: where a parameter has neither the old size nor that of the channels.

    Example:
        >>> old, new = nn.Conv2d(2, 2, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
        >>> inherit_operation(old, new, widening(2, 3))
        >>> torch.equal(new.weight[2, 1], old.weight[0, 1])  # channel 2 is a copy of channel 0
        True
    """
    if index is not None and isinstance(old, FactorizedReduce) and isinstance(new, FactorizedReduce):
        _inherit_reduction(old, new, index)
        return
    sources = _own(old)
    for name, tensor in _own(new).items():
        tensor.copy_(_widened(sources[name], tensor, index))
    for name, child in new.named_children():
        inherit_operation(old.get_submodule(name), child, index)


def _widened(old: Tensor, new: Tensor, index: Tensor | None) -> Tensor:
    """Brings `old` to the shape of `new`: copies output channels (dimension 0), divides inputs (dimension 1)."""
    if old.shape == new.shape:
        return old
    index = torch.arange(1) if index is None else index.to(old.device)
    sizes = (int(index.max()) + 1, len(index))
    changed = [d for d in range(old.dim()) if old.shape[d] != new.shape[d]]
    if old.dim() != new.dim() or any(d > 1 or (old.shape[d], new.shape[d]) != sizes for d in changed):
        raise InputError(
            f"weights of {tuple(old.shape)} cannot be widened to {tuple(new.shape)}; use the same channel_divisor in "
            "both stages, or do not inherit weights"
        )
    wide = old[index] if 0 in changed else old
    if 1 in changed:
        wide = wide[:, index] / index.bincount()[index].view(-1, *[1] * (old.dim() - 2))
    return wide


def _inherit_reduction(old: FactorizedReduce, new: FactorizedReduce, index: Tensor) -> None:
    """The even pixels' convolution gives the first half of the channels and the odd pixels' the second."""
    first, halves = 0, []
    for narrow, wide in ((old.even, new.even), (old.odd, new.odd)):
        half = widening(narrow.out_channels, wide.out_channels).to(narrow.weight.device)
        wide.weight.copy_(_widened(narrow.weight[half], wide.weight, index))
        halves.append(first + half)
        first += narrow.out_channels
    sources, places = _own(old.norm), torch.cat(halves)
    for name, tensor in _own(new.norm).items():
        tensor.copy_(sources[name][places] if tensor.dim() else sources[name])


def _own(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module itself."""
    return {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}


def _edges(supernet: Supernet) -> list[nn.Module]:
    return [edge for cell in supernet.modules() if isinstance(cell, Cell) for edge in cell.edges.values()]


def _candidates(edge: nn.Module) -> dict[str, nn.Module]:
    choice = edge.choice if isinstance(edge, PartialChannels) else edge
    assert isinstance(choice, OperationChoice)
    return dict(choice.candidates.items())


def _index(old: nn.Module, new: nn.Module) -> Tensor | None:
    whole = [edge.operated * edge.divisor for edge in (old, new) if isinstance(edge, PartialChannels)]
    if not whole:
        return None
    before, after = (edge.operated if isinstance(edge, PartialChannels) else whole[0] for edge in (old, new))
    if after < before:
        raise InputError(
            f"{quantity(after, 'channel')} of an edge to operate on, {before} in the stage before; use the same "
            "channel_divisor or a smaller one, or do not inherit weights"
        )
    return None if before == after else widening(before, after)


def _kernel_maps(supernet: Supernet) -> set[int]:
    """The linear maps that make smaller kernels of larger ones."""
    blocks = [module for module in supernet.modules() if isinstance(module, ElasticInvertedResidual)]
    return {id(parameter) for block in blocks for parameter in block.transforms.parameters()}


def _others(supernet: Supernet) -> dict[str, Tensor]:
    """Everything that belongs to no candidate operation."""
    inside = {
        id(tensor)
        for edge in _edges(supernet)
        for operation in _candidates(edge).values()
        for tensor in [*operation.parameters(), *operation.buffers()]
    }
    everything = [*supernet.named_parameters(), *supernet.named_buffers()]
    return {name: tensor for name, tensor in everything if id(tensor) not in inside}
