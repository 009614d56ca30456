"""Finds once where a network keeps its parameters and settings.

A search network has thousands of modules. A walk through them at every step takes the host tens of milliseconds, longer
than a GPU needs for the step itself. So the walk is made once, and the places that it found are read at every step. The
structure of the network must not change after that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

from torch import Tensor, nn

_PLAIN = (bool, int, float, str, type(None))


class ParameterSlots:
    """The places of a network's parameters, in the order of `parameters()`, to read and to replace them.

    Args:
        network: the network; its structure must not change any more.

    Example:
        >>> import torch
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> slots = ParameterSlots(layer)
        >>> with slots.replaced([torch.full((1, 1), 3.0)]):
        ...     layer(torch.ones(1))
        tensor([3.])
        >>> slots.now()[0] is layer.weight
        True
    """

    def __init__(self, network: nn.Module) -> None:
        places: dict[int, list[tuple[dict[str, Any], str]]] = {}
        for module in network.modules():
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    places.setdefault(id(parameter), []).append((module._parameters, key))
        self._slots = list(places.values())  # a shared parameter has several

    def now(self) -> list[Tensor]:
        """Returns the tensors in these places: the parameters, or what has replaced them."""
        return [place[0][0][place[0][1]] for place in self._slots]

    @contextmanager
    def replaced(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Lets the network compute with other tensors, as `torch.func.functional_call` does, without its walk.

        Args:
            tensors: one for each parameter, in their order.
        """
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
    """The plain settings and the functions of all modules of a network, to notice that one has changed.

    Settings are such as `training`, the momentum of a norm or the probability of drop path. Which attributes are
    settings is decided by their values at first, and again when a module has one more or less. The `forward` of a
    module is not one.

    Args:
        network: the network; its modules must not change any more.

    Example:
        >>> network = nn.Dropout(0.5)
        >>> settings = ModuleSettings(network)
        >>> before = settings.now()
        >>> network.p = 0.25
        >>> settings.now() == before
        False
    """

    def __init__(self, network: nn.Module) -> None:
        self._modules = [vars(module) for module in network.modules()]
        self._count = -1
        self._look: list[tuple[dict[str, Any], Callable[[dict[str, Any]], Any]]] = []

    def now(self) -> list[Any]:
        """Returns their values. Equal lists mean equal settings."""
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


def plain_settings(part: object) -> dict[str, Any]:
    """Returns the attributes of an object that are numbers, texts or None, by name.

    Args:
        part: any object; one without attributes of its own, such as one with slots, has none.

    Example:
        >>> plain_settings(nn.Dropout(0.5))["p"]
        0.5
    """
    return {name: value for name, value in getattr(part, "__dict__", {}).items() if isinstance(value, _PLAIN)}


def hooks_of(module: nn.Module) -> Sequence[Mapping[int, Any]]:
    """Returns the hooks of a module by kind: forward and backward, before and after. What runs a network in another way
    than module by module does not call them.

    Args:
        module: any; its children's are their own.

    Example:
        >>> layer = nn.ReLU()
        >>> handle = layer.register_full_backward_pre_hook(print)
        >>> any(hooks_of(layer)), any(hooks_of(nn.ReLU()))
        (True, False)
    """
    return module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
