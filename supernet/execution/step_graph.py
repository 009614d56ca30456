"""A whole step of a search or of a training as one CUDA graph: the host says "go" once and is free.

Both passes, the clipping, both optimisers and the meter are a few thousand kernels, and launching them takes the host
longer than a GPU takes to run them. A graph replays them from the same memory. So the step reads its batches from
tensors of the graph, into which each call copies, and numbers that move from step to step, such as the learning rate,
are tensors on the device. Noise of the strategy comes from generators of the graph, which are seeded anew before each
replay with what the step would have seeded the global one with; dropout in the network goes on drawing from the global
generator, which a replay moves on as the step would have. A replay gives the same numbers as the step, to the bit.

A graph holds for one *key*: what the host decides within the step, such as whether the alphas learn. It holds as long
as the network's settings, its parameters' places in memory and the optimisers' states stay (`settle`). Steps of no key
decide more than that on the host, and are plain ones; so are the first few of each key, in which libraries set
themselves up. The last of these is watched: if the host waits for the device in it, then it decides by what it read,
and if the host draws from its own generators or changes what it keeps, a graph would repeat one such number for ever.
Such a step is never recorded.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakMethod

import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from supernet.execution.cuda_graphs import CudaCapture
from supernet.execution.precision import Accelerated
from supernet.runtime.parameter_slots import ModuleSettings, hooks_of, plain_settings
from supernet.runtime.run import Run
from supernet.runtime.seeding import random_states
from supernet.space.supernet import Supernet

# Later versions of PyTorch find by themselves which generators a graph draws from.
_REGISTERED = TorchVersion(torch.__version__) < "2.14"

PATIENCE = 3
"""How many steps of a key are plain before one is recorded."""

MOST = 4
"""How many graphs are kept; a new one takes the place of the oldest."""

Numbers = Sequence[float | Tensor]
"""What moves from step to step: floats, or 0-dimensional tensors on the device while a step is recorded."""

StepFunction = Callable[[Sequence[Tensor], Numbers], Sequence[Tensor]]
"""(tensors of the batches, numbers) -> results; it keeps none of what it is given."""

Advance = Callable[[], Sequence[int]]
"""Does the host's part of a step that is replayed, and returns the seeds of its streams of noise."""


class Host(Protocol):
    """Who takes part in a step on the host: counts steps and draws noise."""

    @property
    def streams(self) -> int:
        """How many times the last step began to draw noise."""
        ...

    @property
    def kept(self) -> object:
        """What else it keeps on the host, to compare: a step that changes any of it cannot be replayed."""
        ...

    def recording(self, generators: Sequence[torch.Generator]) -> AbstractContextManager[Advance]:
        """Makes a context within which the step is recorded: noise comes from these generators, one after the other.

        At its end all counts are what they were before.
        """
        ...


@dataclass(frozen=True)
class Request:
    """One step, as a `StepGraph` is asked to take it.

    Args:
        key: what the host decides within the step; None: more than can be told beforehand.
        tensors: of the batches.
        numbers: what moves from step to step.
        step: computes it.
        host: who takes part in it on the host; None: nobody.
        parts: what else the step calls, such as the task; a step that changes one's plain attributes is not recorded.
    """

    key: Hashable | None
    tensors: Sequence[Tensor]
    numbers: Sequence[float]
    step: StepFunction
    host: Host | None = None
    parts: Sequence[object] = ()


class StepGraph:
    """Takes steps, and replays them from CUDA graphs where that is possible.

    Args:
        run: its device, and whether it wants graphs.
        network: that the steps train; its structure must not change any more.
        passes: how the network computes; within its context steps are to be taken.
        optimizers: whose states the steps move: a state that is loaded lies elsewhere in memory.
        patience: how many steps of a key are plain before one is recorded, 1 or more.

    Example:
        >>> from supernet.training.sgd import sgd
        >>> network = nn.Linear(2, 1, bias=False)
        >>> optimizer = sgd(network, rate=0.5, momentum=0.0)
        >>> def step(tensors, numbers):
        ...     loss = network(tensors[0]).sum()
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        ...     return (loss.detach(),)
        >>> run = Run(graphs=True)
        >>> steps = StepGraph(run, network, Accelerated(network, run), [optimizer])
        >>> losses = [steps(Request("plain", [torch.ones(1, 2)], [], step))[0].item() for _ in range(2)]
        >>> round(losses[0] - losses[1], 4), steps.recorded  # a processor has no CUDA graphs
        (1.0, 0)
    """

    def __init__(
        self,
        run: Run,
        network: nn.Module,
        passes: Accelerated,
        optimizers: Sequence[torch.optim.Optimizer] = (),
        patience: int = PATIENCE,
    ) -> None:
        # Several processes meet within a step; its passes can be recorded then, and not the step as a whole.
        self._device, self._on = run.device, run.records and not run.processes.several
        self._line, self._network, self._passes, self._patience = run.report.line, network, passes, patience
        self._graphs: dict[Hashable, _Recorded] = {}
        self._plain: Counter[Hashable] = Counter()  # steps that were taken, by key
        self._streams: dict[Hashable, int] = {}  # of noise in a step, by key
        self._refused: dict[Hashable, bool] = {}  # whether passes can be recorded where the step cannot
        self._said = False
        self._settings, self._settled = ModuleSettings(network) if self._on else None, list[object]()
        self._stream = torch.cuda.Stream(run.device) if self._on else None
        self._pool = torch.cuda.graph_pool_handle() if self._on else None
        # An optimiser may outlive the loop, and graphs hold gigabytes of the device.
        forget = WeakMethod(self._forget)
        for optimizer in optimizers if self._on else ():
            optimizer.register_load_state_dict_post_hook(lambda _: (own := forget()) and own())

    @property
    def recorded(self) -> int:
        """How many graphs there are."""
        return len(self._graphs)

    def settle(self) -> None:
        """Looks whether the network is set as it was; if not, graphs are recorded anew. To be called once an epoch."""
        if self._settings is None:
            return
        now: list[object] = [self._settings.now()]
        now += [(parameter.data_ptr(), parameter.requires_grad) for parameter in self._network.parameters()]
        if now != self._settled:
            self._settled = now
            self._forget()

    def __call__(self, request: Request) -> Sequence[Tensor]:
        """Takes one step.

        Args:
            request: the step.

        Returns:
            What its function returns. A later call may write other numbers into the same tensors.
        """
        if not self._on:
            return request.step(request.tensors, request.numbers)
        if request.key is None and not (isinstance(self._network, Supernet) and self._network.data_dependent):
            self._say("the strategy decides on the host")  # of a network that does so its passes tell
        given = tuple((tensor.shape, tensor.dtype, tensor.stride()) for tensor in request.tensors)
        key = request.key, given
        if request.key is None or key in self._refused or CudaCapture.invalidated:
            with nullcontext() if self._refused.get(key, True) else self._passes.unrecorded():
                return request.step(request.tensors, request.numbers)
        if (graph := self._graphs.get(key)) is not None:
            return graph.replay(request.tensors, request.numbers)
        with self._passes.unrecorded():
            return self._first_steps(key, request)

    def _first_steps(self, key: Hashable, request: Request) -> Sequence[Tensor]:
        self._plain[key] += 1
        if self._plain[key] <= self._patience:
            with self._watched(key, request) if self._plain[key] == self._patience else nullcontext():
                results = self._beside(request)
            self._streams[key] = request.host.streams if request.host else 0
            return results
        try:
            if len(self._graphs) == MOST:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[key] = self._record(request, self._streams[key])
        except Exception as error:  # of what is wrong with the step itself, the plain one tells
            CudaCapture.invalidated = True
            self._say(next(iter(str(error).splitlines()), type(error).__name__))
            return request.step(request.tensors, request.numbers)
        return self._graphs[key].replay(request.tensors, request.numbers)

    @contextmanager
    def _watched(self, key: Hashable, request: Request) -> Iterator[None]:
        """Within it a step is taken; its key is refused if it cannot be replayed."""
        before = self._kept(request)
        with _waits() as reasons:
            yield
        if self._hooked():
            reasons.insert(0, "the network has hooks")
        if host_decides := self._kept(request) != before:
            reasons.append("a part of it counts or draws on the host")
        if reasons:
            self._refused[key] = not host_decides
            self._say(reasons[0])

    def _kept(self, request: Request) -> list[object]:
        """What a step may not change on the host: settings, generators, and what its host and its parts keep."""
        states = {name: state for name, state in random_states().items() if name not in ("cuda", "torch")}
        kept = [states, torch.get_rng_state().tolist(), None if request.host is None else request.host.kept]
        kept += map(plain_settings, request.parts)
        return [*kept, None if self._settings is None else self._settings.now()]

    def _beside(self, request: Request) -> Sequence[Tensor]:
        """Takes a plain step on the stream that is recorded from later: what libraries keep for a stream is made."""
        assert self._stream is not None
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            results = request.step(request.tensors, request.numbers)
        current.wait_stream(self._stream)
        return results

    def _record(self, request: Request, streams: int) -> _Recorded:
        """Records the step, in which noise is drawn from so many streams; it is not taken yet."""
        host = request.host
        made = _Recorded(
            [tensor.clone() for tensor in request.tensors],
            [torch.tensor(float(number), device=self._device) for number in request.numbers],
            [torch.Generator(self._device) for _ in range(streams)],
        )
        current = torch.cuda.current_stream(self._device)
        try:
            for generator in made.generators if _REGISTERED else ():
                made.graph.register_generator_state(generator)
            with (
                _nobody() if host is None else host.recording(made.generators) as made.advance,
                torch.cuda.graph(made.graph, pool=self._pool, stream=self._stream),
            ):
                made.results = request.step(made.tensors, made.numbers)
        finally:  # `torch.cuda.graph` stays on its own stream where the end of a capture raises
            torch.cuda.set_stream(current)
        return made

    def _forget(self) -> None:
        """Drops all graphs. Libraries are set up by now: from here on one plain step will do."""
        self._graphs.clear()
        self._plain = Counter(dict.fromkeys(self._plain, self._patience - 1))
        self._refused.clear()

    def _hooked(self) -> bool:
        return any(hooks for module in self._network.modules() for hooks in hooks_of(module))

    def _say(self, reason: str) -> None:
        if not self._said:
            self._line(f"CUDA graphs: steps are not recorded as a whole ({reason})")
        self._said = True


@dataclass
class _Recorded:
    """A recorded step, and the memory that it reads."""

    tensors: list[Tensor]
    numbers: list[Tensor]
    generators: list[torch.Generator]
    graph: torch.cuda.CUDAGraph = field(default_factory=lambda: torch.cuda.CUDAGraph())
    advance: Advance = tuple
    results: Sequence[Tensor] = ()
    latest: list[float] = field(default_factory=list)

    def replay(self, tensors: Sequence[Tensor], numbers: Sequence[float]) -> Sequence[Tensor]:
        for mine, theirs in zip(self.tensors, tensors, strict=True):
            mine.copy_(theirs, non_blocking=True)
        if self.latest != list(numbers):
            for own, number in zip(self.numbers, numbers, strict=True):
                own.fill_(number)
            self.latest = list(numbers)
        for generator, seed in zip(self.generators, self.advance(), strict=True):
            generator.manual_seed(seed)
        self.graph.replay()
        return self.results


@contextmanager
def _nobody() -> Iterator[Advance]:
    yield tuple


@contextmanager
def _waits() -> Iterator[list[str]]:
    """Within it PyTorch tells where the host waits for the device; the list is filled at the end."""
    found: list[str] = []
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)
    places = [
        (w.filename, w.lineno)
        for w in caught
        if "synchronizing" in str(w.message) and "prototype" not in str(w.message)
    ]
    found += [f"the host waits for the device at {file}:{line}" for file, line in places]


@contextmanager
def at_rates(optimizer: torch.optim.Optimizer, rates: Numbers) -> Iterator[None]:
    """Within it an optimiser's groups have these learning rates, numbers or tensors on the device.

    Args:
        optimizer: whose groups.
        rates: one for each group.

    Example:
        >>> optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
        >>> with at_rates(optimizer, [0.25]):
        ...     optimizer.param_groups[0]["lr"]
        0.25
        >>> optimizer.param_groups[0]["lr"]
        0.5
    """
    before = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    try:
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, before, strict=True):
            group["lr"] = rate
