"""Loads state dicts that the original DARTS code has saved, of its search network and of its final networks.

The original (quark0/darts, and the forks that kept its names, such as PC-DARTS') numbers a cell's edges and an edge's
operations in the order in which it makes them; ours have names. Only names differ: the functions computed are the
same, which a test shows in float64 against figures recorded from the originals. One exception: where a state of odd
size is halved, PC-DARTS' original stops with an error, its two parts having different sizes; ours goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from supernet.genotypes.literature import OriginalGenotype
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity
from supernet.space.architecture import Decision, Role
from supernet.space.cells import Cell
from supernet.space.choices import OperationChoice, PartialChannels, Together
from supernet.space.darts import CellNetwork
from supernet.space.supernet import Supernet

_INSIDE = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "weights")
_WRAPPERS = ("module", "_orig_mod")  # DataParallel's, torch.compile's; names of the originals have none of these
_OUTER = ("model", "network", "net")  # the names people give to the network inside another module
_PARTS = (("conv_1", "even"), ("conv_2", "odd"), ("bn", "norm"))  # of a factorised reduction


def load_original_search(supernet: Supernet, state: Mapping[str, Any]) -> None:
    """Copies a state dict of the original's search network, DARTS' or PC-DARTS', into a supernet.

    A checkpoint that holds a state dict ("state_dict", "model", ... beside epoch and optimizer) is opened, and the
    prefixes of wrappers ("module.", "_orig_mod.", "model.") are taken off the names. Some forks keep alphas and betas
    among the parameters ("alphas_normal", "betas_normal", ...). They are ignored here; `original_alphas` and
    `original_betas` read them.

    Args:
        supernet: of a DARTS space with the original's settings; for PC-DARTS with the same partial channels.
        state: the state dict, or a checkpoint that holds one.

    Raises:
        InputError: names or shapes do not fit; the message lists them.
    """
    network = supernet.network
    assert isinstance(network, CellNetwork)
    prefixes = dict(_search_edges(network))
    weights = {name: value for name, value in _unwrapped(state).items() if not _is_of_the_architecture(name)}
    _load(network, weights, prefixes)


def load_original_final(network: CellNetwork, state: Mapping[str, Any], genotype: OriginalGenotype) -> None:
    """Copies a state dict of the original's final network (CIFAR or ImageNet) into a network.

    Checkpoints (train_imagenet.py's checkpoint.pth.tar) and the prefixes of wrappers are treated as in
    `load_original_search`.

    Args:
        network: built from `genotype` with the original's settings.
        state: the state dict, or a checkpoint that holds one.
        genotype: in its original form, because the checkpoint numbers operations in its order.

    Raises:
        InputError: names or shapes do not fit; the message lists them.
    """
    _load(network, _unwrapped(state), dict(_final_edges(network, genotype)))


def original_alphas(
    decisions: Mapping[str, Decision], alphas_normal: Tensor, alphas_reduce: Tensor
) -> dict[str, Tensor]:
    """Converts the original's alphas.

    Args:
        decisions: those of the supernet, by name.
        alphas_normal: (edges, operations) of the normal cell.
        alphas_reduce: (edges, operations) of the reduction cell.

    Returns:
        For each operation decision its logits (operations,).

    Raises:
        InputError: the space has another number of edges or operations.
    """
    logits = {}
    for kind, alphas in (("normal", alphas_normal), ("reduce", alphas_reduce)):
        edges = _in_order(decisions, kind, role="operation")
        if alphas.shape[0] != len(edges):
            raise InputError(f"alphas_{kind}: {quantity(alphas.shape[0], 'edge')}, the space has {len(edges)}")
        for decision, row in zip(edges, alphas, strict=True):
            if len(row) != len(decision.options):
                raise InputError(
                    f"alphas_{kind}: {quantity(len(row), 'operation')}, {decision.name} has {len(decision.options)}"
                )
            logits[decision.name] = row
    return logits


def original_betas(decisions: Mapping[str, Decision], betas_normal: Tensor, betas_reduce: Tensor) -> dict[str, Tensor]:
    """Converts PC-DARTS' betas.

    Args:
        decisions: those of the supernet, by name.
        betas_normal: (edges,) of the normal cell.
        betas_reduce: (edges,) of the reduction cell.

    Returns:
        For each node's decision about its inputs its logits (inputs,).

    Raises:
        InputError: the space has another number of edges.
    """
    logits: dict[str, Tensor] = {}
    for kind, betas in (("normal", betas_normal), ("reduce", betas_reduce)):
        nodes = _in_order(decisions, kind, role="inputs")
        sizes = [len(node.options) for node in nodes]
        if len(betas) != sum(sizes):
            raise InputError(f"betas_{kind}: {quantity(len(betas), 'edge')}, the space has {sum(sizes)}")
        logits.update(zip((node.name for node in nodes), betas.split(sizes), strict=True))
    return logits


def _is_of_the_architecture(name: str) -> bool:
    return name.startswith(("alphas_", "betas_"))


def _unwrapped(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in a checkpoint, under the names that the network by itself has."""
    found = _opened(state)
    names = {name: _bare(name) for name in found}
    while len({bare.partition(".")[0] for bare in names.values()}) == 1 and all("." in n for n in names.values()):
        names = {name: bare.partition(".")[2] for name, bare in names.items()}  # a prefix of all: some other wrapper's
    if len(set(names.values())) != len(names):
        doubled = next(name for name, bare in names.items() if list(names.values()).count(bare) > 1)
        raise InputError(f"original checkpoint: {doubled} is there with and without a prefix; give one network's")
    return {bare: found[name] for name, bare in names.items()}


def _opened(state: Any, depth: int = 3) -> Mapping[str, Tensor]:
    """The one state dict in a checkpoint, which may be one itself."""
    if _is_state_dict(state):
        return state
    inside = {k: v for k, v in state.items() if isinstance(v, Mapping)} if isinstance(state, Mapping) else {}
    first = [name for name in _INSIDE if name in inside][:1]
    networks = first or [name for name, value in inside.items() if _is_state_dict(value)]
    if len(networks) == 1 and depth:
        return _opened(inside[networks[0]], depth - 1)
    keys = ", ".join(map(str, list(state)[:10])) if isinstance(state, Mapping) else type(state).__name__
    raise InputError(
        f"original checkpoint: holds {keys or 'nothing'}; give the state dict, such as checkpoint['state_dict']"
    )


def _is_state_dict(value: Any) -> bool:
    """Whether it is a mapping from names to tensors."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(n, str) and isinstance(v, Tensor) for n, v in value.items())
    )


def _bare(name: str) -> str:
    """A parameter's name without what wrappers put before it, however they are nested."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while len(parts) > 1 and parts[0] in _OUTER:
        del parts[0]
    return ".".join(parts)


def _in_order(decisions: Mapping[str, Decision], kind: str, *, role: Role) -> list[Decision]:
    """The decisions about the edges or nodes of a kind of cell, in the original's order."""
    found = [d for d in decisions.values() if d.role == role and d.group == kind]
    found = [d for d in found if d.name != f"{kind}/output"]
    return sorted(found, key=lambda d: tuple(int(part) for part in d.name.split("/")[1:]))


def _search_edges(network: CellNetwork) -> Iterator[tuple[str, str]]:
    """The original's prefix and ours of every candidate operation."""
    for index, cell in enumerate(network.cells):
        assert isinstance(cell, Cell)
        for number, (edge, module) in enumerate(cell.edges.items()):
            partial = isinstance(module, PartialChannels)
            choice, inside = (module.choice, "choice.") if partial else (module, "")
            assert isinstance(choice, OperationChoice)
            for option, name in enumerate(choice.candidates):
                ours = f"cells.{index}.edges.{edge}.{inside}candidates.{name}."
                yield f"cells.{index}._ops.{number}._ops.{option}.", ours


def _final_edges(network: CellNetwork, genotype: OriginalGenotype) -> Iterator[tuple[str, str]]:
    """The original's prefix and ours of every kept operation."""
    for index, cell in enumerate(network.cells):
        assert isinstance(cell, Cell)
        number = 0
        for node, pairs in enumerate(genotype.reduce if cell.reduction else genotype.normal, start=2):
            seen: dict[int, int] = {}
            for _, source in pairs:
                edge = f"{source}-{node}"
                place = seen.get(source, 0)
                inside = f"operations.{place}." if isinstance(cell.edges[edge], Together) else ""
                yield f"cells.{index}._ops.{number}.", f"cells.{index}.edges.{edge}.{inside}"
                seen[source] = place + 1
                number += 1


def _rename(name: str, prefixes: Mapping[str, str]) -> str:
    """Our name for a name of the original."""
    edge = next((old for old in (_prefix(name, 6), _prefix(name, 4)) if old in prefixes), None)
    if edge is not None:
        name = prefixes[edge] + name.removeprefix(edge)
    name = name.replace("auxiliary_head.", "auxiliary.").replace("stem0.", "stem.").replace(".op.", ".")
    parts = name.split(".")
    renamed = dict(_PARTS)
    return ".".join(renamed.get(part, part) for part in parts)


def _prefix(name: str, parts: int) -> str:
    return "".join(f"{part}." for part in name.split(".")[:parts])


def _load(network: nn.Module, state: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> None:
    ours = network.state_dict()
    given = {_rename(name, prefixes): (name, value) for name, value in state.items()}
    problems = [f"{old} (not in our network)" for new, (old, _) in given.items() if new not in ours]
    # PyTorch before 0.4.1 did not count batches; the count plays no part in what a network computes.
    problems += [f"{new} (missing)" for new in ours if new not in given and not new.endswith("num_batches_tracked")]
    problems += [
        f"{old} {tuple(value.shape)} (ours is {tuple(ours[new].shape)})"
        for new, (old, value) in given.items()
        if new in ours and ours[new].shape != value.shape
    ]
    if problems:
        shown = "; ".join(problems[:10]) + ("; ..." if len(problems) > 10 else "")
        raise InputError(
            f"original checkpoint: {quantity(len(problems), 'name does not fit', 'names do not fit')}: {shown}"
        )
    network.load_state_dict({new: value for new, (_, value) in given.items()}, strict=False)
