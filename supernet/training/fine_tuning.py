"""Which parts of a network learn, and how fast: some stay as they are, some move at a lower rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from supernet.runtime.errors import InputError


@dataclass(frozen=True)
class FineTuning:
    """What of a network stays as it is, and what moves more slowly than the rest.

    A norm of which all is frozen stays in evaluation mode, so that its statistics stay, too.

    Args:
        frozen: names of parameters and buffers that stay as they are.
        slow: names of parameters that move at a part of the learning rate.
        rate: that part, above 0.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
        >>> names = frozenset(name for name in network.state_dict() if name[0] in "01")
        >>> tuning = FineTuning(frozen=names, slow=frozenset({"2.weight"}), rate=0.1)
        >>> [(len(group["params"]), group["factor"]) for group in tuning.groups(network)]
        [(1, 1.0), (1, 0.1)]
        >>> with tuning.held(network):
        ...     [module.training for module in network]
        [True, False, True]
        >>> network[1].training, network[1].weight.requires_grad
        (True, True)
    """

    frozen: frozenset[str] = frozenset()
    slow: frozenset[str] = frozenset()
    rate: float = 1.0

    @contextmanager
    def held(self, network: nn.Module) -> Iterator[None]:
        """Within it what is to stay is frozen: parameters get no gradient, norms keep their statistics.

        However it is left, each parameter and each norm then is what it was before.
        """
        parameters = [(p, p.requires_grad) for name, p in network.named_parameters() if name in self.frozen]
        norms = [(norm, norm.training) for norm in self._frozen_norms(network)]
        try:
            for parameter, _ in parameters:
                parameter.requires_grad_(False)
            for norm, _ in norms:
                norm.eval()
            yield
        finally:
            for parameter, wanted in parameters:
                parameter.requires_grad_(wanted)
            for norm, training in norms:
                norm.train(training)

    def _frozen_norms(self, network: nn.Module) -> Iterator[nn.Module]:
        for prefix, module in network.named_modules() if self.frozen else ():
            names = [f"{prefix}.{name}" if prefix else name for name in module.state_dict()]
            if isinstance(module, nn.modules.batchnorm._NormBase) and names and self.frozen.issuperset(names):
                yield module

    def groups(self, network: nn.Module) -> Sequence[dict[str, Any]]:
        """The parameters that learn, in groups for an optimiser: "factor" is what a group's rate is multiplied by.

        Raises:
            InputError: nothing learns.
        """
        moving = [(name, p) for name, p in network.named_parameters() if name not in self.frozen]
        if not moving:
            raise InputError("freeze: nothing of the network is left to learn; freeze less of it")
        slow = [parameter for name, parameter in moving if name in self.slow and self.rate != 1.0]
        rest = [parameter for name, parameter in moving if name not in self.slow or self.rate == 1.0]
        groups = [{"params": rest, "factor": 1.0}, {"params": slow, "factor": self.rate}]
        return [group for group in groups if group["params"]]
