"""Choosers answer the questions of a network builder: all options stay open (a supernet) or one is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import nn

from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity
from supernet.space.architecture import Decision, matters
from supernet.space.choices import (
    AUXILIARY,
    SKIP,
    InputChoice,
    NumberChoice,
    OperationChoice,
    PartialChannels,
    Together,
    Total,
)
from supernet.space.operations import OPERATIONS, Operation, Site

NO_OPERATIONS: Mapping[str, Operation] = {}


class Chooser(Protocol):
    """Answers the questions of a network builder."""

    @property
    def searching(self) -> bool:
        """Whether the network is a supernet, and normalised as one."""
        ...

    def operation(self, decision: Decision, site: Site, own: Mapping[str, Operation] = NO_OPERATIONS) -> nn.Module:
        """Answers which operation an edge has.

        Args:
            decision: the question; its options are names of operations.
            site: what the operation is given and has to make.
            own: operations of the space, by name, which count before those that everybody has.

        Returns:
            The module of the edge.
        """
        ...

    def number(self, decision: Decision) -> tuple[tuple[str, ...], NumberChoice | None]:
        """Answers how large something is.

        Args:
            decision: the question; its options are texts, such as the sizes of a kernel, from small to large.

        Returns:
            The options that are left, and what is asked for their weights; None where one option is left for good.
        """
        ...

    def inputs(self, decision: Decision) -> tuple[tuple[str, ...], nn.Module]:
        """Answers which states feed a node.

        Args:
            decision: the question; its options are the states.

        Returns:
            The states that feed it, and the module that joins a list of what comes from them.
        """
        ...


def _build(
    name: str, option: str, site: Site, factories: Mapping[str, Operation], own: Mapping[str, Operation]
) -> nn.Module:
    if option in own:
        return own[option](site)
    if option not in factories:
        raise InputError(f"operation {option!r} at {name} is unknown; known: {', '.join(factories)}")
    return factories[option](site)


@dataclass(frozen=True)
class Undecided:
    """Keeps every option: the network becomes the inside of a supernet.

    Args:
        factories: the operations by name.
        channel_divisor: the operations of an edge see the first 1 / `channel_divisor` of its channels (PC-DARTS).
        single: only operations whose weight is not zero run (GDAS, random search); otherwise all do.
        gates: single paths give every option's weight its full gradient (ProxylessNAS; `gates.gated_path`).
        excluded: operations that are left out on every edge (FairDARTS has no "none").
        auxiliary: a skip connection runs beside the operations of every edge, also where it is none of them, and fades
            (DARTS-). At stride 2 it has weights of its own.
        kept: what an earlier stage of the search has left of single edges, such as "normal/2/0".

    Raises:
        InputError: a setting is out of its range; and, while a network is built, where the settings leave an edge
            without operations or do not fit its channels.

    Example:
        >>> edge = Undecided(excluded=("none",)).operation(Decision("a", ("none", "skip_connect")), Site(8, 8))
        >>> edge.decision.options
        ('skip_connect',)
    """

    factories: Mapping[str, Operation] = field(default_factory=lambda: OPERATIONS)
    channel_divisor: int = 1
    single: bool = False
    gates: bool = False
    excluded: tuple[str, ...] = ()
    auxiliary: bool = False
    kept: Mapping[str, Sequence[str]] = field(default_factory=dict)
    searching: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if self.channel_divisor < 1:
            raise InputError(f"channel_divisor={self.channel_divisor}: needs 1 (all channels) or more, such as 4")
        if self.gates and not self.single:
            raise InputError("gates=True: are for single paths; use single=True, too")

    def operation(self, decision: Decision, site: Site, own: Mapping[str, Operation] = NO_OPERATIONS) -> nn.Module:
        name, decision = decision.name, self._left(decision, own)
        inner = site if self.channel_divisor == 1 else self._part_of(site, name)
        candidates = {option: _build(name, option, inner, self.factories, own) for option in decision.options}
        if self.auxiliary and not isinstance(candidates.get(SKIP), nn.Identity):
            candidates[AUXILIARY] = _build(name, SKIP, inner, self.factories, own)
        choice = OperationChoice(decision, candidates, single=self.single, gates=self.gates)
        if self.channel_divisor == 1:
            return choice
        return PartialChannels(choice, site.channels_in, site.stride, self.channel_divisor)

    def inputs(self, decision: Decision) -> tuple[tuple[str, ...], nn.Module]:
        return decision.options, InputChoice(decision)

    def number(self, decision: Decision) -> tuple[tuple[str, ...], NumberChoice | None]:
        left = tuple(option for option in decision.options if option in self.kept.get(decision.name, decision.options))
        if not left:
            raise InputError(
                f"kept: leaves nothing of {decision.name}, whose options are {', '.join(decision.options)}"
            )
        if self.channel_divisor != 1:
            raise InputError(
                f"channel_divisor={self.channel_divisor}: is for operations, and {decision.name} is a size; use 1"
            )
        return left, NumberChoice(replace(decision, options=left), single=self.single)

    def _part_of(self, site: Site, name: str) -> Site:
        """The site of the operations of an edge that see a part of the channels; the rest passes by."""
        channels, divisor = site.channels_in, self.channel_divisor
        if channels % divisor or channels // divisor < 2:
            raise InputError(
                f"channel_divisor={divisor}: {quantity(channels, 'channel')} at {name} cannot be divided by it into "
                "parts of two or more; choose the channels of the space accordingly"
            )
        if channels != site.channels_out:
            raise InputError(
                f"channel_divisor={divisor}: what passes by {name} keeps its {quantity(channels, 'channel')}, and "
                f"{site.channels_out} are to come out; use 1"
            )
        return replace(site, channels_in=channels // divisor, channels_out=channels // divisor)

    def _left(self, decision: Decision, own: Mapping[str, Operation]) -> Decision:
        """Returns the decision with the options that are neither excluded nor pruned."""
        name, options = decision.name, decision.options
        if unknown := [option for option in self.excluded if option not in self.factories and option not in own]:
            raise InputError(
                f"excluded={list(self.excluded)}: no operation is named {unknown[0]!r}; "
                f"known: {', '.join({**self.factories, **own})}"
            )
        kept = self.kept.get(name, options)
        left = tuple(option for option in options if option in kept and option not in self.excluded)
        if not (left if decision.optional else set(left) - {"none"}):
            raise InputError(
                f"excluded={list(self.excluded)}: leaves {', '.join(left) or 'nothing'} of {', '.join(kept)} "
                f"at {name}; keep one of {', '.join(option for option in options if option not in left)}"
            )
        return replace(decision, options=left, auxiliary=self.auxiliary)


@dataclass(frozen=True)
class Decided:
    """Keeps what the architecture says: the network is a plain one, without any part of the search.

    Args:
        architecture: the options that are kept, by decision.
        factories: the operations by name.
        searching: True builds it normalised as in the supernet, so that the parameters of the supernet fit.

    Raises:
        InputError: while a network is built, where the architecture has no answer or an unknown one.

    Example:
        >>> Decided({"a": ("skip_connect",)}).operation(Decision("a", ("none", "skip_connect")), Site(8, 8))
        Identity()
    """

    architecture: Mapping[str, tuple[str, ...]]
    factories: Mapping[str, Operation] = field(default_factory=lambda: OPERATIONS)
    searching: bool = False

    def operation(self, decision: Decision, site: Site, own: Mapping[str, Operation] = NO_OPERATIONS) -> nn.Module:
        name = decision.name
        if name not in self.architecture:
            raise InputError(
                f"the genotype has no operation for {name}; one of {', '.join(decision.options)} is needed"
            )
        operations = [_build(name, option, site, self.factories, own) for option in self.architecture[name]]
        return operations[0] if len(operations) == 1 else Together(operations)

    def number(self, decision: Decision) -> tuple[tuple[str, ...], NumberChoice | None]:
        name, options = decision.name, decision.options
        kept = self.architecture.get(name, options[-1:] if not matters(decision, self.architecture) else ())
        if len(kept) != 1 or kept[0] not in options:
            raise InputError(
                f"the genotype gives {name} {', '.join(kept) or 'no answer'}; it needs one of {', '.join(options)}"
            )
        return tuple(kept), None

    def inputs(self, decision: Decision) -> tuple[tuple[str, ...], nn.Module]:
        name, options = decision.name, decision.options
        kept = self.architecture.get(name, options)
        if (unknown := sorted(set(kept) - set(options))) or not kept:
            raise InputError(
                f"the genotype gives {name} {', '.join(unknown) or 'no input'}; it can take {', '.join(options)}; "
                "does the space have as many nodes as the genotype?"
            )
        return tuple(kept), Total()
