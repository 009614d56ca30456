"""The dispatch mode that gives numbers to the device: after PyTorch's CUDA code the CPU does the same operation."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.benchmarks.traffic import bytes_moved
from tests.standin import account, graphs
from tests.standin.draws import drawn, generator_of, is_random, position, with_generator
from tests.standin.operations import compute, name_of
from tests.standin.places import Place, leaves, mapped, placed

_BOOKKEEPING = {
    *("_pin_memory", "_reshape_alias", "_unsafe_view", "alias", "detach", "is_pinned", "is_same_size", "lift_fresh"),
    *("pin_memory", "record_stream", "resize_", "set_", "view"),
}
"""Operations that launch nothing."""
_ROOM = {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}
_ON_THE_HOST = {"_linalg_eigh", "linalg_eigvalsh"}
"""Operations whose libraries the stand-in does not answer for."""


class Numbers(TorchDispatchMode):
    """Within it operations on the device have the CPU's results."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = _device_of(args, kwargs)
        if device is None:
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled() and _composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        name = name_of(func)
        if func.is_view or name in _BOOKKEEPING:
            return func(*args, **kwargs)
        if name in _ROOM:
            return _poisoned(func(*args, **kwargs))
        if name in _ON_THE_HOST or _shaped_by_numbers(func, name, args):
            return _on_the_host(func, args, kwargs, device)
        if is_random(func):
            return _draw(func, args, kwargs, device)
        made = func(*args, **kwargs)
        moved = bytes_moved(func, args, kwargs, made)
        args, kwargs, outputs = placed(args), placed(kwargs), placed(made)
        if (recording := graphs.recording()) is not None:
            recording.operations.append(graphs.Operation(func, args, kwargs, outputs))
            recording.moved[name] += moved
            return made
        account.moved[name] += moved
        values = compute(func, args, kwargs, outputs)
        has_tensors = any(isinstance(leaf, Tensor) for leaf in leaves(made))
        return made if has_tensors else values  # a number, such as that of `equal`


def _device_of(args: Any, kwargs: Any) -> torch.device | None:
    """The GPU that an operation works on, if it is one."""
    for leaf in leaves((args, kwargs)):
        if isinstance(leaf, Tensor) and leaf.is_cuda:
            return leaf.device
    for leaf in leaves((args, kwargs)):
        if isinstance(leaf, torch.device) and leaf.type == "cuda":
            return leaf
    return None


def _composite(func: Any) -> bool:
    """Whether PyTorch would take an operation apart before a dispatch mode sees it; in inference mode it does not."""
    key = "CompositeImplicitAutograd"
    return func._can_decompose() and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), key)


def _poisoned(made: Tensor) -> Tensor:
    place = Place(made)
    if not made.is_cuda:
        return made
    if (recording := graphs.recording()) is not None:
        recording.operations.append(graphs.Poison(place))
    else:
        place.poison()
    return made


def _shaped_by_numbers(func: Any, name: str, args: Any) -> bool:
    """Whether the size of the result depends on numbers: CUDA's code would read them, and they are not there yet."""
    if name in ("index", "index_put_", "_index_put_impl_"):
        return any(isinstance(leaf, Tensor) and leaf.dtype in (torch.bool, torch.uint8) for leaf in leaves(args[1]))
    return torch.Tag.dynamic_output_shape in func.tags and name != "index"


def _on_the_host(func: Any, args: Any, kwargs: Any, device: torch.device) -> Any:
    """The result as a new tensor of the device; the host waits for it."""
    if graphs.recording() is not None:
        account.note(f"prohibited during a capture: {name_of(func)} waits for numbers")
        raise RuntimeError(f"{name_of(func)} waits for numbers, which a capture cannot")
    account.waited(name_of(func))
    if name_of(func).endswith("_"):
        compute(func, placed(args), placed(kwargs), None)
        return args[0]
    values = compute(func, placed(args), placed(kwargs), None)

    def sent(value: Tensor) -> Tensor:
        made = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
        Place(made).tensor().copy_(value)
        return made

    return mapped(values, Tensor, sent)


def _draw(func: Any, args: Any, kwargs: Any, device: torch.device) -> Any:
    """An operation that draws: its numbers are those of its generator's seed and offset."""
    generator = generator_of(args, kwargs, device)
    recording = graphs.recording()
    before = position(generator) if recording is None else None
    made = func(*args, **kwargs)
    moved = bytes_moved(func, args, kwargs, made)
    args, kwargs, outputs = placed(args), placed(kwargs), placed(made)
    if recording is not None:
        state = generator.graphsafe_get_state()  # the generator may have another one by the time of a replay
        recording.operations.append(graphs.Operation(func, args, kwargs, outputs, state, device))
        recording.moved[name_of(func)] += moved
        return made
    assert before is not None
    account.moved[name_of(func)] += moved
    drawn(before, position(generator), lambda own: compute(func, *with_generator((args, kwargs), own), outputs))
    return made
