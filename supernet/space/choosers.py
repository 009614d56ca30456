"""Who answers when a network under construction asks: everything stays open (a supernet) or one answer is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import nn

from supernet.runtime.errors import InputError
from supernet.space.architecture import Decision
from supernet.space.cells import Executor, reference
from supernet.space.choices import AUXILIARY, SKIP, InputChoice, OperationChoice, PartialChannels, Together, Total
from supernet.space.operations import OPERATIONS, Operation, Site


class Chooser(Protocol):
    """Answers a network builder's questions.

    `searching`: the network is a supernet, normalised as one. `executor`: what evaluates its cells.
    """

    @property
    def searching(self) -> bool: ...

    @property
    def executor(self) -> Executor: ...

    def operation(self, name: str, options: Sequence[str], site: Site) -> nn.Module:
        """The module for the edge `name`, whose operation is one of `options`."""
        ...

    def inputs(self, name: str, options: Sequence[str], keep: int) -> tuple[tuple[str, ...], nn.Module]:
        """Which of `options` feed `name`, and the module that joins a list of them."""
        ...


def _build(name: str, option: str, site: Site, factories: Mapping[str, Operation]) -> nn.Module:
    if option not in factories:
        raise InputError(f"operation {option!r} at {name} is unknown; known: {', '.join(factories)}")
    return factories[option](site)


@dataclass(frozen=True)
class Undecided:
    """Keeps every option: the network becomes the inside of a supernet.

    `channel_divisor`: the operations of an edge see one channel in so many (PC-DARTS; 1: all). `single`: only
    operations whose weight is not zero run (GDAS, random search); otherwise all do. `excluded`: operations that are left out on
    every edge (FairDARTS has no "none"). `auxiliary`: a skip connection runs beside the operations of every edge, also
    where it is none of them, and fades (DARTS-); at stride 2 it has weights of its own. `kept`: what is left of single
    edges ("normal/2/0"), by a leg before.
    """

    factories: Mapping[str, Operation] = field(default_factory=lambda: OPERATIONS)
    executor: Executor = reference
    channel_divisor: int = 1
    single: bool = False
    excluded: tuple[str, ...] = ()
    auxiliary: bool = False
    kept: Mapping[str, Sequence[str]] = field(default_factory=dict)
    searching: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if self.channel_divisor < 1:
            raise InputError(
                f"chooser.channel_divisor={self.channel_divisor}: needs 1 (all channels) or more, such as 4"
            )

    def operation(self, name: str, options: Sequence[str], site: Site) -> nn.Module:
        options = self._left(name, options, site)
        channels = site.channels // self.channel_divisor
        if self.channel_divisor > 1 and (site.channels % self.channel_divisor or channels < 2):
            raise InputError(
                f"chooser.channel_divisor={self.channel_divisor}: {site.channels} channels at {name} cannot be divided by "
                "it into parts of two or more; choose space.channels accordingly"
            )
        inner = replace(site, channels=channels)
        candidates = {option: _build(name, option, inner, self.factories) for option in options}
        decision = Decision(name, tuple(options), optional=site.optional, auxiliary=self.auxiliary)
        if self.auxiliary and not isinstance(candidates.get(SKIP), nn.Identity):
            candidates[AUXILIARY] = _build(name, SKIP, inner, self.factories)
        choice = OperationChoice(decision, candidates, single=self.single)
        if self.channel_divisor == 1:
            return choice
        return PartialChannels(choice, site.channels, site.stride, self.channel_divisor)

    def inputs(self, name: str, options: Sequence[str], keep: int) -> tuple[tuple[str, ...], nn.Module]:
        return tuple(options), InputChoice(Decision(name, tuple(options), keep, inputs=True))

    def _left(self, name: str, options: Sequence[str], site: Site) -> tuple[str, ...]:
        if unknown := [option for option in self.excluded if option not in self.factories]:
            raise InputError(
                f"chooser.excluded={list(self.excluded)}: no operation is named {unknown[0]!r}; "
                f"known: {', '.join(self.factories)}"
            )
        kept = self.kept.get(name, options)
        left = tuple(option for option in options if option in kept and option not in self.excluded)
        if not (left if site.optional else set(left) - {"none"}):
            raise InputError(
                f"chooser.excluded={list(self.excluded)}: leaves {', '.join(left) or 'nothing'} of {', '.join(kept)} "
                f"at {name}; keep one of {', '.join(option for option in options if option not in left)}"
            )
        return left


@dataclass(frozen=True)
class Decided:
    """Keeps what the architecture says: the network is a plain one, with nothing of the search in it.

    `searching=True` builds it normalised as in the supernet, so that the supernet's parameters fit.
    """

    architecture: Mapping[str, tuple[str, ...]]
    factories: Mapping[str, Operation] = field(default_factory=lambda: OPERATIONS)
    searching: bool = False
    executor: Executor = reference

    def operation(self, name: str, options: Sequence[str], site: Site) -> nn.Module:
        if name not in self.architecture:
            raise InputError(f"genotype: no operation for {name}; one of {', '.join(options)} is needed")
        operations = [_build(name, option, site, self.factories) for option in self.architecture[name]]
        return operations[0] if len(operations) == 1 else Together(operations)

    def inputs(self, name: str, options: Sequence[str], keep: int) -> tuple[tuple[str, ...], nn.Module]:
        kept = self.architecture.get(name, tuple(options))
        if (unknown := sorted(set(kept) - set(options))) or not kept:
            raise InputError(
                f"genotype: {name} takes {', '.join(unknown) or 'nothing'}; it can take {', '.join(options)}; "
                "does the space have as many nodes (space.nodes) as the genotype?"
            )
        return tuple(kept), Total()
