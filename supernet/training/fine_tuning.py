"""Which parts of a network learn, and how fast: some stay as they are, some move at a lower rate."""

from __future__ import annotations

from collections.abc import Sequence
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
        >>> tuning.hold(network)
        >>> [(len(group["params"]), group["factor"]) for group in tuning.groups(network)]
        [(1, 1.0), (1, 0.1)]
        >>> [module.training for module in network]
        [True, False, True]
    """

    frozen: frozenset[str] = frozenset()
    slow: frozenset[str] = frozenset()
    rate: float = 1.0

    def hold(self, network: nn.Module) -> None:
        """Freezes what is to stay: parameters get no gradient any more, norms keep their statistics."""
        for name, parameter in network.named_parameters():
            if name in self.frozen:
                parameter.requires_grad_(False)
        for prefix, module in network.named_modules():
            names = [f"{prefix}.{name}" if prefix else name for name in module.state_dict()]
            if isinstance(module, nn.modules.batchnorm._NormBase) and names and self.frozen.issuperset(names):
                module.eval()

    def release(self, network: nn.Module) -> None:
        """Lets the frozen parameters have gradients again."""
        for name, parameter in network.named_parameters():
            if name in self.frozen:
                parameter.requires_grad_(True)

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
