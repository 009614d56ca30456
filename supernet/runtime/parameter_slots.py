"""Where a network keeps its parameters and settings, found once.

A search network has thousands of modules. To walk through them at every step takes the host tens of milliseconds,
longer than a GPU needs for the step itself. So the walk is made once, and the places it found are read; the network's
structure has to stay as it is from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

from torch import Tensor, nn

_PLAIN = (bool, int, float, str, type(None))


class ParameterSlots:
    """The parameters of a network in the order of `parameters()`, and other tensors in their places."""

    def __init__(self, network: nn.Module) -> None:
        places: dict[int, list[tuple[dict[str, Any], str]]] = {}
        for module in network.modules():
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    places.setdefault(id(parameter), []).append((module._parameters, key))
        self._slots = list(places.values())  # a shared parameter has several

    def now(self) -> list[Tensor]:
        """What is in their places: the parameters themselves, or what stands in for them."""
        return [place[0][0][place[0][1]] for place in self._slots]

    @contextmanager
    def replaced(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Within it the network computes with these tensors (`torch.func.functional_call`, without its search)."""
        own = self.now()
        try:
            self._put(tensors)
            yield
        finally:
            self._put(own)

    def _put(self, tensors: Sequence[Tensor]) -> None:
        for place, tensor in zip(self._slots, tensors, strict=True):
            for owner, key in place:
                owner[key] = tensor


class ModuleSettings:
    """Every plain setting of every module (`training`, a norm's momentum, drop path's probability), and its functions.

    Which attributes those are is decided by their values at first, and again whenever a module has one more or less.
    A module's `forward` is none of them.
    """

    def __init__(self, network: nn.Module) -> None:
        self._modules = [vars(module) for module in network.modules()]
        self._count = -1
        self._look: list[tuple[dict[str, Any], Callable[[dict[str, Any]], Any]]] = []

    def now(self) -> list[Any]:
        """Their values; equal lists, equal settings."""
        if (count := sum(map(len, self._modules))) != self._count:
            self._count, self._look = count, list(self._find())
        try:
            return [get(values) for values, get in self._look]
        except KeyError:  # one less and another one more
            self._look = list(self._find())
            return [get(values) for values, get in self._look]

    def _find(self) -> Iterator[tuple[dict[str, Any], Callable[[dict[str, Any]], Any]]]:
        for values in self._modules:
            names = [n for n, v in values.items() if isinstance(v, _PLAIN) or (callable(v) and n != "forward")]
            if names:
                yield values, itemgetter(*names)
