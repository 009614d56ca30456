"""SGD over one tensor: parameters, gradients and momenta are views, so that a step takes a few calls, not thousands.

A search network has more than a thousand parameters, most of them small. To clip, decay and move each by itself costs
the host a call for each, on a GPU longer than the kernels take. So the parameters of an optimiser are laid into one
tensor, one behind the other. Each stays the same `nn.Parameter`, with its shape and its order in memory; its momentum
lies in the same place of a second tensor, its gradient in that of a third.

Autograd makes the gradients as always, and a parameter that took no part has none. Where all have one, they are copied
into the flat tensor by one call, and clipping and step are operations on the whole. Where some have none, as on single
paths, those that have one are changed in lists (`torch._foreach_...`). Both do PyTorch's own arithmetic on each number,
so that on a processor all bits are those of `torch.optim.SGD` and `nn.utils.clip_grad_norm_`.

Nothing else has to know. Where parameters were replaced or moved after the optimiser was made, it goes on in lists. Two
things are to be known: whoever saves a few parameters alone (`torch.save`) clones them, as a view is saved with all of
its tensor; and whoever keeps a gradient for longer than a step clones it, as the next one takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd as sgd_step

_ALIGNMENT = 64
"""Bytes: where a parameter may begin. PyTorch's own allocations begin there on a processor; kernels rely on less."""
_PIECE = 1 << 16
"""Numbers that a processor takes at once, so that what one operation wrote is in the cache for the next."""
_EXACT = (torch.float32, torch.float64)
"""Types of which PyTorch rounds a number in the same way wherever it lies; of shorter ones it does not."""
_SETTINGS = ("weight_decay", "momentum", "lr", "dampening", "nesterov", "maximize")
_GRADIENT, _SHAPE, _SPARSE = attrgetter("grad"), attrgetter("shape"), attrgetter("is_sparse")


class FlatParameters:
    """Parameters that are views of one tensor, with their gradients and momenta, which become views as well.

    Args:
        parameters: to be laid into one tensor; those that lie in one already stay there.

    Raises:
        ValueError: they cannot be (`flattenable`).

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1, bias=False)).double()
        >>> flat = FlatParameters(list(network.parameters()))
        >>> flat.values.zero_().shape, network[0].weight
        (torch.Size([24]), Parameter containing:
        tensor([[0., 0.]], dtype=torch.float64, requires_grad=True))
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        if not flattenable(parameters):
            raise ValueError("parameters of several devices or types, or that share memory, cannot be one tensor")
        first = parameters[0]
        self._places, size = _places(parameters)
        self._shapes, self._strides = list(map(_SHAPE, parameters)), list(map(Tensor.stride, parameters))
        self.gradients: list[Tensor] = []
        self.momenta: list[Tensor] = []
        self.gradient: Tensor | None = None
        self.momentum: Tensor | None = None
        if _laid(parameters):
            self.values = first.detach().as_strided((size,), (1,))
        else:
            self.values = torch.zeros(size, dtype=first.dtype, device=first.device)
            for parameter, view in zip(parameters, self.views(self.values), strict=True):
                view.copy_(parameter.detach())
                parameter.data = view
        self._addresses = list(map(Tensor.data_ptr, parameters))

    def views(self, flat: Tensor) -> list[Tensor]:
        """Returns what lies in a flat tensor at the places of the parameters, in their shapes and orders."""
        return [flat.as_strided(*layout) for layout in zip(self._shapes, self._strides, self._places, strict=True)]

    def hold(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Says whether these parameters are still the views that they were made."""
        return (
            list(map(Tensor.data_ptr, parameters)) == self._addresses
            and list(map(_SHAPE, parameters)) == self._shapes
            and list(map(Tensor.stride, parameters)) == self._strides
        )

    def gather(self, parameters: Sequence[nn.Parameter], norms: list[Tensor] | None = None) -> Tensor | None:
        """Makes the parameters' gradients views of one tensor, copied by one call.

        Args:
            parameters: those that this was made of.
            norms: gets the norm of each gradient; on a processor, those of some are taken just before they are copied.

        Returns:
            The tensor; None, and nothing is changed, where one has no gradient or is no longer a view.
        """
        given = [gradient for gradient in map(_GRADIENT, parameters) if gradient is not None]
        there = 0 < len(given) == len(self.gradients) and all(map(is_, given, self.gradients))
        if there and list(map(Tensor.data_ptr, parameters)) != self._addresses:
            return None
        if not there and (len(given) < len(parameters) or any(map(_SPARSE, given)) or not self.hold(parameters)):
            return None
        if self.gradient is None:
            self.gradient = torch.zeros_like(self.values)
            self.gradients = self.views(self.gradient)
        for some in _portions(given) if norms is not None or not there else ():
            if norms is not None:
                norms += torch._foreach_norm(given[some])
            if not there:
                torch._foreach_copy_(self.gradients[some], given[some])
        for parameter, view in zip(parameters, self.gradients, strict=True) if not there else ():
            parameter.grad = view
        return self.gradient

    def take_momenta(self, momenta: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Lays momenta into one tensor; the place of one that is not there yet is left free.

        Args:
            momenta: one for each parameter, None where it has none.

        Returns:
            Views in their places, None where there was none.
        """
        if self.momentum is None:
            self.momentum = torch.zeros_like(self.values)
            self.momenta = self.views(self.momentum)
        for view, momentum in zip(self.momenta, momenta, strict=True):
            if momentum is not None and momentum is not view:
                view.copy_(momentum)
        return [None if m is None else view for view, m in zip(self.momenta, momenta, strict=True)]


def flattenable(parameters: Sequence[nn.Parameter]) -> bool:
    """Says whether parameters can become views of one tensor.

    Args:
        parameters: each of them once.

    Returns:
        False where they have several devices or types of numbers, share their memory with each other or with anything
        else that would lose them (what lies in one flat tensor already does not), or do not fill it without gaps.

    Example:
        >>> flattenable([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))])
        True
        >>> whole = torch.zeros(4)
        >>> flattenable([nn.Parameter(whole[:2]), nn.Parameter(whole[2:])])
        False
    """
    kinds = {(p.device, p.dtype, type(p.data), p.layout) for p in parameters}
    if len(kinds) != 1 or any(map(nn.parameter.is_lazy, parameters)):
        return False
    ((device, dtype, kind, layout),) = kinds
    if device.type not in ("cpu", "cuda") or kind is not Tensor or layout != torch.strided:
        return False
    if dtype not in _EXACT:
        return False
    if not all(map(Tensor.numel, parameters)) or not all(map(_dense, parameters)):
        return False
    if device.type == "cpu" and any(map(Tensor.is_shared, parameters)):  # with another process
        return False
    alone = all(p.untyped_storage().nbytes() == p.numel() * p.element_size() for p in parameters)
    storages = {p.untyped_storage().data_ptr() for p in parameters}
    return (alone and len(storages) == len(parameters)) or _laid(parameters)


def _places(parameters: Sequence[nn.Parameter]) -> tuple[list[int], int]:
    """Where each begins in a flat tensor, and how many numbers that has: there are gaps, which are 0."""
    step = _ALIGNMENT // parameters[0].element_size()
    ends = list(accumulate((-(-parameter.numel() // step) * step for parameter in parameters), initial=0))
    return ends[:-1], ends[-1]


def _laid(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether they already are at their places in one tensor that holds nothing else."""
    places, size = _places(parameters)
    whole = parameters[0].untyped_storage()
    return whole.nbytes() == size * parameters[0].element_size() and all(
        p.untyped_storage().data_ptr() == whole.data_ptr() and p.storage_offset() == place
        for p, place in zip(parameters, places, strict=True)
    )


def _dense(tensor: Tensor) -> bool:
    """Whether a tensor fills its memory without gaps, in any order of its axes."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).is_contiguous()


class FlatSGD(torch.optim.SGD):
    """PyTorch's SGD, to the bit on a processor, over flat tensors where its parameters can be laid into one.

    Each group of parameters has its own. State, groups, hooks and checkpoints are those of `torch.optim.SGD`: each
    parameter has its "momentum_buffer", from its first gradient on.

    Args:
        parameters: what is moved, or groups of them.
        rate: the learning rate.
        momentum: the share of the old velocity that is kept.
        weight_decay: how much of the weights is added to their gradient.
        nesterov: whether the momentum looks ahead.
        fused: whether one kernel does a whole step, which rounds in other places. Then all momenta are there from the
            start, as zeros: PyTorch's fused step fails where some parameters get their first gradient later.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> optimizer = FlatSGD(layer.parameters(), 0.5, 0.9)
        >>> optimizer.load_state_dict(torch.optim.SGD(layer.parameters(), 0.25, 0.9).state_dict())
        >>> optimizer.param_groups[0]["lr"]
        0.25
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        rate: float,
        momentum: float,
        *,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        fused: bool = False,
    ) -> None:
        self._flat = list[FlatParameters | None]()
        self._fused = fused or None
        super().__init__(parameters, rate, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=self._fused)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters, as `torch.optim.Optimizer` does; they become flat, too."""
        super().add_param_group(param_group)
        self._complete(len(self._flat))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over a state: of a checkpoint, or of an optimiser of which this one is a copy."""
        super().__setstate__(state)
        if "_flat" not in self.__dict__:  # a copy
            self._flat, self._fused = [], self.param_groups[0]["fused"]
        for number, flat in enumerate(self._flat or [None] * len(self.param_groups)):
            if flat is not None:
                flat.gradients, flat.gradient = [], None  # what is not finite would stay in its gaps
            self._complete(number)

    def _complete(self, number: int) -> None:
        """Lays the parameters and the momenta that a group has into flat tensors; adds momenta where they must be."""
        group = self.param_groups[number]
        group["fused"], parameters = self._fused, group["params"]
        if number == len(self._flat):
            self._flat.append(FlatParameters(parameters) if flattenable(parameters) else None)
        momenta = self._momenta(parameters)
        if self._fused and group["momentum"]:
            momenta = [torch.zeros_like(p) if m is None else m for p, m in zip(parameters, momenta, strict=True)]
        self._keep(number, momenta)

    def _momenta(self, parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
        if len(self.state) == len(parameters) and all(map(is_, self.state, parameters)):
            return [state.get("momentum_buffer") for state in self.state.values()]  # no look-up of each
        nothing: dict[str, Any] = {}
        return [self.state.get(parameter, nothing).get("momentum_buffer") for parameter in parameters]

    def _keep(self, number: int, momenta: Sequence[Tensor | None]) -> None:
        """Writes the momenta of a group into the state, as views where the parameters are."""
        flat, parameters = self._flat[number], self.param_groups[number]["params"]
        if flat is not None and any(m is not None for m in momenta) and flat.hold(parameters):
            momenta = flat.take_momenta(momenta)
        for parameter, momentum in zip(parameters, momenta, strict=True):
            if momentum is not None:
                self.state[parameter]["momentum_buffer"] = momentum

    def gather(self, number: int = 0, norms: list[Tensor] | None = None) -> Tensor | None:
        """Makes the gradients of a group views of one tensor.

        Args:
            number: of the group.
            norms: gets the norm of each gradient.

        Returns:
            The tensor; None where a parameter has no gradient, or the parameters are not flat: nothing is changed then.
        """
        flat = self._flat[number]
        return None if flat is None else flat.gather(self.param_groups[number]["params"], norms)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes a step against the gradients; a parameter without one stays as it is, and so does its momentum.

        Args:
            closure: called first, with gradients on, as for every PyTorch optimiser; None: nothing is.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for number in range(len(self.param_groups)):
            if not self._whole_step(number):
                self._listed_step(number)
        return loss

    def _whole_step(self, number: int) -> bool:
        """Takes the step of a group over its flat tensors; False where that cannot be."""
        flat, gradient, group = self._flat[number], self.gather(number), self.param_groups[number]
        if flat is None or gradient is None:
            return False
        momenta = self._momenta(group["params"]) if group["momentum"] else []
        first = all(momentum is None for momentum in momenta)
        if not first and not (flat.momenta and all(map(is_, momenta, flat.momenta))):
            return False
        values, gradients = _pieces(flat.values), _pieces(gradient)
        velocities: list[Tensor | None] = [None] * len(values)
        if not first and flat.momentum is not None:
            velocities = [*_pieces(flat.momentum)]
        self._move(group, values, gradients, velocities, at_once=False)
        if first and group["momentum"]:
            self._keep(number, flat.views(torch.cat([v for v in velocities if v is not None])))
        return True

    def _listed_step(self, number: int) -> None:
        """Takes the step of those parameters of a group that have a gradient."""
        group = self.param_groups[number]
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        velocities: list[Tensor | None] = [None] * len(parameters)
        new = list[int]()
        if group["momentum"]:
            velocities = self._momenta(parameters)
            new = [place for place, velocity in enumerate(velocities) if velocity is None]
        for some in _portions(parameters):
            portion = velocities[some]
            self._move(group, parameters[some], list(map(_GRADIENT, parameters[some])), portion, at_once=True)
            velocities[some] = portion
        for place in new:
            self.state[parameters[place]]["momentum_buffer"] = velocities[place]
        if new:
            self._keep(number, self._momenta(group["params"]))

    def _move(
        self,
        group: dict[str, Any],
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        velocities: list[Tensor | None],
        at_once: bool,
    ) -> None:
        """Lets PyTorch move tensors, all by one call or one after another; a velocity that is None becomes one."""
        sparse = any(map(_SPARSE, gradients))
        if group["nesterov"] and not group["weight_decay"]:  # the call for all would write into the gradients
            at_once = False
        exact = all(parameter.dtype in _EXACT for parameter in parameters)
        sgd_step(
            list(parameters),
            list(gradients),
            velocities,
            has_sparse_grad=sparse,
            foreach=at_once and exact and not self._fused and not sparse,
            fused=self._fused,
            grad_scale=getattr(self, "grad_scale", None),
            found_inf=getattr(self, "found_inf", None),
            **{name: group[name] for name in _SETTINGS},
        )


def _pieces(flat: Tensor) -> Sequence[Tensor]:
    return flat.split(_PIECE) if flat.device.type == "cpu" else [flat]


def _portions(tensors: Sequence[Tensor]) -> Iterator[slice]:
    """Divides a list of tensors for a processor as `_pieces` divides a flat one."""
    begin, size = 0, 0
    for end, tensor in enumerate(tensors, start=1):
        size += tensor.numel()
        if end == len(tensors) or (size >= _PIECE and tensor.device.type == "cpu"):
            yield slice(begin, end)
            begin, size = end, 0


@torch.no_grad()
def clip_gradients(optimizer: torch.optim.Optimizer, largest: float) -> Tensor:
    """Scales all gradients of an optimiser down where their common norm is larger than allowed.

    It gives the numbers of `nn.utils.clip_grad_norm_`, to the bit on a processor. On a GPU the norm of a flat tensor is
    taken at once and not of the norms of its parts, which rounds in other places.

    Args:
        optimizer: its parameters' gradients are scaled; those of a `FlatSGD` become views of one tensor.
        largest: the largest norm; inf: no limit.

    Returns:
        The norm before, 0-dimensional.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> layer.weight.grad = torch.tensor([[3.0, 4.0]])
        >>> clip_gradients(FlatSGD(layer.parameters(), 0.1, 0.9), 1.0)
        tensor(5.)
        >>> layer.weight.grad
        tensor([[0.6000, 0.8000]])
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not isinstance(optimizer, FlatSGD) or len({(p.device, p.dtype) for p in parameters}) > 1:
        return nn.utils.clip_grad_norm_(parameters, largest)
    norms, scaled = list[Tensor](), list[Tensor]()
    whole = parameters[0].is_cuda and len(optimizer.param_groups) == 1
    for number, group in enumerate(optimizer.param_groups):
        flat = optimizer.gather(number, None if whole else norms)
        if flat is not None:
            scaled.append(flat)
            continue
        given = [gradient for gradient in map(_GRADIENT, group["params"]) if gradient is not None]
        whole, scaled = False, scaled + given
        norms += torch._foreach_norm(given) if given else []
    if not scaled:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(scaled[0] if whole else torch.stack(norms))
    torch._foreach_mul_(scaled, torch.clamp(largest / (norm + 1e-6), max=1.0))
    return norm
