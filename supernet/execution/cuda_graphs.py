"""Forward and backward passes as CUDA graphs: a pass costs two launches instead of thousands.

A graph replays the kernels that one pass launched, on the same memory. So it holds for one *signature*: shapes, types
and strides of the inputs, which of them want gradients, every plain setting of every module (training or not, whether
norms keep statistics, drop path's probability), and whether there is a backward pass. A pass of any other signature is
computed without a graph, and so are passes on a CPU, passes that come too seldom to be recorded (an epoch's last
batch), and networks that are `data_dependent`: they read numbers from the device to know what to run.

Results and gradients are copies, so that a later replay cannot change them. A backward pass that is not that of the
last forward pass, or the second one of a forward pass, raises, because its memory is overwritten. Batch norms update
their statistics and dropout draws anew at each replay. After a failed recording no other is tried.

`torch.cuda.make_graphed_callables` is the model, with two differences. An architect can run the same network with other
tensors in place of its parameters, and nothing is recorded before it was seen `patience` times among the last passes.
"""

from __future__ import annotations

import itertools
import warnings
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils import _pytree as pytree

from supernet.runtime.errors import InputError
from supernet.runtime.parameter_slots import ModuleSettings, ParameterSlots, hooks_of
from supernet.space.dropout import drawn_for
from supernet.space.supernet import Supernet

_WANTED = attrgetter("requires_grad")
MOST = 8
"""How many graphs are kept of one network; a new one takes the place of the oldest."""

Pass = Callable[..., Any]
Forward = Callable[[], list[Tensor]]
Backward = Callable[[list[Tensor]], list[Tensor | None]]


@dataclass(frozen=True)
class Recorded:
    """A recorded pass; replaying it writes new numbers into the same tensors.

    Args:
        outputs: what the forward pass gave; `forward` writes them anew.
        forward: replays the forward pass.
        gradients: by each input that wants one, in their order; None where the pass does not depend on it.
        backward: replays the backward pass, which writes `gradients` anew; None where there is none.
    """

    outputs: list[Tensor]
    forward: Callable[[], None]
    gradients: Sequence[Tensor | None] = ()
    backward: Callable[[], None] | None = None


Capture = Callable[[Forward, Backward | None], Recorded]
"""Records a forward pass and, given its outputs, a backward pass if there is to be one."""


class CudaCapture:
    """Records on a stream of its own after some trial runs, as PyTorch's notes on CUDA graphs ask; one memory pool.

    Args:
        device: that of the network: a stream of another would record nothing of what is launched.
        trials: how often a pass runs before it is recorded.
    """

    invalidated: ClassVar[bool] = False
    """Whether a capture of this process failed. PyTorch's allocator may take it to be under way from then on."""

    def __init__(self, device: torch.device, trials: int = 3) -> None:
        self._device, self._trials = device, trials
        self._pool, self._stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)

    def __call__(self, forward: Forward, backward: Backward | None) -> Recorded:
        """Records both passes; RuntimeError where that fails, or where an earlier recording of this process did."""
        if CudaCapture.invalidated:
            raise RuntimeError("an earlier recording in this process failed, and CUDA may not have recovered from it")
        with torch.cuda.device(self._device):
            before = torch.cuda.current_stream()
            try:
                return self._record(forward, backward)
            finally:  # `torch.cuda.graph` stays on its own stream where the end of a capture raises
                torch.cuda.set_stream(before)

    def _record(self, forward: Forward, backward: Backward | None) -> Recorded:
        torch.cuda.synchronize()
        # Trial runs: libraries set themselves up at first use, which cannot be recorded.
        with torch.cuda.stream(self._stream):
            for _ in range(self._trials):
                outputs = forward()
                if backward is not None:
                    backward(outputs)
        torch.cuda.synchronize()
        forth, back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(forth, pool=self._pool, stream=self._stream):
                outputs = forward()
            if backward is None:
                return Recorded(outputs, forth.replay)
            # The same pool: what the forward pass keeps for the gradient lies in it and must stay where it is.
            with torch.cuda.graph(back, pool=self._pool, stream=self._stream):
                gradients = backward(outputs)
        except RuntimeError:
            CudaCapture.invalidated = True
            raise
        return Recorded(outputs, forth.replay, gradients, back.replay)


class Graphed:
    """Stands in for a network's forward pass, and replays it from graphs where that is possible.

    It is to be used by way of `precision.Accelerated`, whose documentation has an example.

    Args:
        network: what is recorded; its parameters stay where they are in memory.
        plain: runs the forward pass without a graph.
        capture: records a pass; None is a `CudaCapture` on the network's device, and tests give another.
        patience: how often a signature must be among the last 8 x `patience` passes before it is recorded.
    """

    def __init__(self, network: nn.Module, plain: Pass, capture: Capture | None = None, patience: int = 3) -> None:
        capture = capture or CudaCapture(next(network.parameters()).device)
        self._network, self._plain, self._capture, self._patience = network, plain, capture, patience
        self._parameters, self._settings = ParameterSlots(network), ModuleSettings(network)
        self._owners = self._parameters.now()  # the network's own, wherever an optimiser lays them
        self._own: list[int] = []
        self._known: dict[int, list[Any]] = {}  # settings that were met, the latest last
        self._numbers = itertools.count()
        self._graphs: dict[Hashable, _Graph | None] = {}  # None: could not be recorded
        self._recent: deque[int] = deque(maxlen=8 * patience)  # hashes of the signatures of the last passes
        self._inside = False  # while a recording calls the network, which must not replay itself
        self._warned = self._failed = False
        self._turn = _Turn()

    def __call__(self, *args: Any) -> Any:
        """Returns what `plain` returns for these arguments: tensors, or containers of tensors."""
        parameters = self._parameters.now()
        leaves, spec = pytree.tree_flatten(args)
        wanted = torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in leaves + parameters)
        if self._inside or not all(isinstance(leaf, Tensor) for leaf in leaves):
            return self._plain(*args)
        if (
            isinstance(self._network, Supernet) and self._network.data_dependent
        ):  # an attempt would leave CUDA's random state in disorder
            if wanted:
                self._give_up("what it runs depends on numbers that are on the device")
            return self._plain(*args)
        key = wanted, self._signature(leaves, parameters, spec)
        # To count, hashes are enough; a key has an entry for each of thousands of parameters.
        seen = self._recent.count(hash(key))
        self._recent.append(hash(key))
        if key not in self._graphs:
            if seen < self._patience or self._failed:
                return self._plain(*args)
            if len(self._graphs) == MOST:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[key] = self._record(leaves, parameters, spec, wanted)
        graph = self._graphs[key]
        if graph is None:
            return self._plain(*args)
        # An autograd function only where a gradient is wanted: it costs the host time.
        asked = graph.asked([*leaves, *parameters])
        outputs = list(_Replay.apply(graph, *asked)) if wanted else graph.forward(asked)
        return pytree.tree_unflatten(outputs, graph.spec)

    @property
    def recorded(self) -> int:
        """The number of graphs."""
        return sum(graph is not None for graph in self._graphs.values())

    def _signature(self, given: Sequence[Tensor], parameters: Sequence[Tensor], spec: pytree.TreeSpec) -> Hashable:
        """All that the kernels of a pass and their arguments depend on, besides the numbers in the inputs."""
        device = parameters[0].device.type
        return (
            str(spec),
            tuple((t.shape, t.dtype, t.stride(), t.requires_grad) for t in given),
            drawn_for(),
            tuple(map(_WANTED, parameters)),
            self._owned(parameters),
            self._setting(),
            torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device),
            torch.is_inference_mode_enabled(),
            (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32),
        )

    def _setting(self) -> int:
        """A number for the settings that the modules have now; lists are compared because hashing them takes longer."""
        now = self._settings.now()
        number = next((number for number, known in self._known.items() if known == now), None)
        if number is None:
            number = next(self._numbers)
            if len(self._known) == 2 * MOST:
                self._known.pop(next(iter(self._known)))
        else:
            self._known.pop(number)
        self._known[number] = now
        return number

    def _owned(self, parameters: Sequence[Tensor]) -> bool:
        """Whether these tensors are the network's own and not replacements; graphs of where these were are dropped."""
        own = list(map(Tensor.data_ptr, self._owners))
        if own != self._own:
            self._own = own
            self._graphs.clear()
        return list(map(Tensor.data_ptr, parameters)) == own

    def _record(
        self, given: Sequence[Tensor], parameters: Sequence[Tensor], spec: pytree.TreeSpec, wanted: bool
    ) -> _Graph | None:
        if any(hooks for module in self._network.modules() for hooks in hooks_of(module)):
            self._give_up("a graph does not call the hooks that the network has")
            return None
        owned = self._owned(parameters)
        # A graph reads addresses. The network's own parameters stay where they are and are read there, so that an
        # optimiser's step is seen; everything else gets memory of the graph's, into which each pass copies.
        static = [t.detach().clone() for t in given] + [p.detach() if owned else p.detach().clone() for p in parameters]
        for mine, theirs in zip(static, (*given, *parameters), strict=True) if wanted else ():
            mine.requires_grad_(theirs.requires_grad)
        inputs = _Inputs(static, len(given) if owned else len(static))
        device = parameters[0].device.type
        on, precision = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

        def forward() -> Any:
            args = pytree.tree_unflatten(static[: len(given)], spec)
            self._inside = True
            try:
                autocast = torch.autocast(device, precision, enabled=on, cache_enabled=False)
                with torch.set_grad_enabled(wanted), autocast, self._parameters.replaced(static[len(given) :]):
                    return self._network(*args)
            finally:
                self._inside = False

        try:
            with _untouched(self._network):
                return _Graph(forward, inputs, self._capture, self._turn)
        except RuntimeError as error:
            self._failed = True
            self._give_up(str(error).splitlines()[0], ", as all will that are not recorded yet")
            return None

    def _give_up(self, reason: str, more: str = "") -> None:
        if not self._warned:
            warnings.warn(f"CUDA graphs: a pass runs without ({reason}){more}", stacklevel=5)
        self._warned = True


@contextmanager
def _untouched(network: nn.Module) -> Iterator[None]:
    """Restores buffers and random states afterwards, because a recording is no step of a training."""
    buffers = list(network.buffers())
    kept = [buffer.clone() for buffer in buffers]
    devices = {parameter.device for parameter in network.parameters() if parameter.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)


class _Turn:
    """Counts the passes of graphs that share one memory: only the last forward pass can be differentiated."""

    def __init__(self) -> None:
        self.number = 0


@dataclass(frozen=True)
class _Inputs:
    """What a recorded pass reads: the first `copied` tensors are its own memory, the others the network's parameters.

    Of the latter only those that want a gradient have to be told to autograd; all others are left out.
    """

    tensors: list[Tensor]
    copied: int

    def asked(self, everything: Sequence[Tensor]) -> list[Tensor]:
        """Of all that a pass is given, parameters included: the tensors that are copied or want a gradient."""
        return [*everything[: self.copied], *filter(_WANTED, everything[self.copied :])]


class _Graph:
    """A recorded pass."""

    def __init__(self, forward: Callable[[], Any], inputs: _Inputs, capture: Capture, turn: _Turn) -> None:
        self._mine, self.asked, self.turn = inputs.tensors[: inputs.copied], inputs.asked, turn
        self._wanted = [tensor for tensor in inputs.tensors if tensor.requires_grad]
        self._slots = [tensor.requires_grad for tensor in inputs.asked(inputs.tensors)]
        self._slopes: list[Tensor] = []  # gradients with respect to the outputs
        self.spec: pytree.TreeSpec

        def run() -> list[Tensor]:
            outputs, self.spec = pytree.tree_flatten(forward())
            return outputs

        def back(outputs: list[Tensor]) -> list[Tensor | None]:
            # Made at the first trial, of the outputs' sizes, and then kept: the graph will read from this memory.
            self._slopes = self._slopes or [torch.zeros_like(output) for output in outputs]
            return list(torch.autograd.grad(outputs, self._wanted, self._slopes, allow_unused=True))

        self._recorded = capture(run, back if self._wanted else None)

    def forward(self, given: Sequence[Tensor]) -> list[Tensor]:
        """The outputs for these inputs."""
        _copy(self._mine, given[: len(self._mine)])
        self._recorded.forward()
        self.turn.number += 1
        return [output.detach().clone() for output in self._recorded.outputs]

    def backward(self, slopes: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradient with respect to each input that was asked for, None where none is wanted."""
        assert self._recorded.backward is not None, "a pass without gradients has no backward pass"
        _copy(self._slopes, slopes)
        self._recorded.backward()
        self.turn.number += 1
        made = [g for g in self._recorded.gradients if g is not None]
        filled = iter(torch._foreach_mul(made, 1.0) if made else ())  # copies, made by one call
        wanted = iter([None if g is None else next(filled) for g in self._recorded.gradients])
        return [next(wanted) if place else None for place in self._slots]


def _copy(static: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    pairs = [(mine, new) for mine, new in zip(static, given, strict=True) if mine.data_ptr() != new.data_ptr()]
    if pairs:
        with torch.no_grad():
            torch._foreach_copy_([mine for mine, _ in pairs], [new for _, new in pairs])


class _Replay(Function):
    @staticmethod
    def forward(ctx: Any, graph: _Graph, *given: Tensor) -> tuple[Tensor, ...]:
        outputs = tuple(graph.forward(given))
        ctx.graph, ctx.turn = graph, graph.turn.number
        return outputs

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise InputError("graphs=True: this architect differentiates twice, which a CUDA graph cannot; use False")
        if ctx.turn != ctx.graph.turn.number:
            raise InputError("graphs=True: backward of a pass that is not the last one, or a second time; use False")
        return None, *ctx.graph.backward(slopes)
