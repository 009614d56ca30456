"""Workers: processes that each work on an item of a list, on this machine or on a cluster, by joblib.

    for answer in Workers(count=8).each(function, items):
        ...

What is answered depends on the function and the items alone: not on how many workers there are, nor on where they are.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import pickle
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Self, TypeVar

import torch

from supernet.runtime.errors import InputError, out_of_memory
from supernet.runtime.files import disk_fault
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.processes import is_loss
from supernet.runtime.text import printable, quantity

LOKY, DASK, RAY = "loky", "dask", "ray"
BACKENDS = (LOKY, DASK, RAY)
_DEATHS = 3  # in a row, without an answer in between
_REMEMBERED = 2  # functions that a worker keeps
_LONGEST = 300  # letters of a reason
_WAIT = 30  # seconds for a cluster to have workers
_LEAST = 2  # of them
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Failed:
    """Stands in the place of an answer that could not be had.

    Args:
        reason: why, in one line.
    """

    reason: str


@dataclass(frozen=True)
class Workers:
    """How many processes work side by side, and where.

    Each has the same number of threads however many there are, because the last digits of what a network computes can
    depend on it.

    Args:
        count: how many work at a time, 1 or more. A single one is this process.
        backend: "loky": processes of this machine; "dask" and "ray": those of a cluster, whatever it has.
        threads: of the processor for each of them, 1 or more. With more threads than processors / count they wait for
            one another.
        scheduler: the address of the cluster's, such as "tcp://10.0.0.1:8786"; None: what DASK_SCHEDULER_ADDRESS or
            RAY_ADDRESS says.

    Raises:
        InputError: a number is below 1, or `backend` is another word.

    Example:
        >>> list(Workers().each(abs, [-1, 2, "three"]))
        [1, 2, Failed(reason="TypeError: bad operand type for abs(): 'str'")]
    """

    count: int = 1
    backend: str = LOKY
    threads: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        for name, value in {"count": self.count, "threads": self.threads}.items():
            if type(value) is not int or value < 1:
                raise InputError(f"{name}={value}: needs a whole number, 1 or more")
        if self.backend not in BACKENDS:
            raise InputError(f"backend={self.backend}: known: {', '.join(BACKENDS)}")
        if self.scheduler is not None and self.backend == LOKY:
            raise InputError(f"scheduler={self.scheduler}: is for backend dask or ray; loky stays on this machine")

    @property
    def elsewhere(self) -> bool:
        """Whether other processes than this one do the work."""
        return self.count > 1 or self.backend != LOKY

    def each(
        self, function: Callable[[Item], Answer], items: Sequence[Item], *, interruption: Interruption | None = None
    ) -> Generator[Answer | Failed]:
        """Applies a function to each item.

        The function goes to each worker once. It may have a state only as far as no answer depends on it, and draws no
        random numbers that an item does not seed. An item of a worker that died is given to another one.

        Args:
            function: of an item; it and the answers can be pickled by cloudpickle.
            items: small, because each is sent with its own message.
            interruption: a signal that it has heard ends the waiting for an answer.

        Yields:
            The answers in the order of the items, each as soon as it and all before it are there. `Failed` where the
            function has raised an error other than those below.

        Raises:
            InputError: in its place, where the function raises one; where the function or an item cannot be sent, there
                is no cluster, or workers die again and again over the same items.
            OSError: in its place, where the disk is full or cannot be written to.
            Interrupted: where a signal ended the waiting.
        """
        with self.pool(function, interruption=interruption) as pool:
            yield from pool.each(items)

    def pool(
        self, function: Callable[[Item], Answer], *, interruption: Interruption | None = None
    ) -> Pool[Item, Answer]:
        """Gives what `each` stands on, for items that come in several portions: the function is sent once for all.

        Args:
            function: as in `each`.
            interruption: as in `each`.

        Returns:
            The pool, a context that ends it.
        """
        return Pool(self, function, Interruption() if interruption is None else interruption)


class Pool(Generic[Item, Answer]):
    """A function and the workers that it was sent to. It begins with the first portion of items.

    Args:
        workers: how many, and where.
        function: of an item.
        interruption: a signal that it has heard ends the waiting for an answer.
    """

    def __init__(self, workers: Workers, function: Callable[[Item], Answer], interruption: Interruption) -> None:
        self._workers, self._function, self._interruption = workers, function, interruption
        self._stack = ExitStack()
        self._begun: tuple[dict[str, Any], Callable[[Item], Any], Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Takes back what was put somewhere for the workers. They themselves are left to the next pool."""
        self._stack.close()
        self._begun = None

    def each(self, items: Sequence[Item]) -> Generator[Answer | Failed]:
        """Applies the function to each item; see `Workers.each`."""
        if not self._workers.elsewhere:
            yield from _here(self._function, items, self._workers.threads)
            return
        done, deaths = 0, 0
        while done < len(items):
            try:
                for answer in self._answers(items[done:]):
                    done, deaths = done + 1, 0
                    if isinstance(answer, _Raised):
                        raise answer.error
                    yield answer
            except _died(self._workers.backend) as error:
                self.close()  # what was put somewhere may be gone with the worker
                deaths += 1
                if deaths == _DEATHS:
                    raise InputError(
                        f"workers: died {quantity(_DEATHS, 'time')} over the same items, after "
                        f"{quantity(done, 'answer')} ({type(error).__name__}); fewer of them need less memory, and one "
                        "alone shows what is wrong"
                    ) from None

    def _answers(self, items: Sequence[Item]) -> Generator[Any]:
        """The answers in order, until a worker dies."""
        from joblib import Parallel, delayed, parallel_config

        if self._begun is None:
            self._begun = self._begin(_pickled(self._function))
        (backend, work, carried), count = self._begun, self._workers.count
        if self._workers.backend == DASK:
            _wait_for_two(backend["client"])
        ahead: Any = "2 * n_jobs" if self._workers.backend == LOKY else count
        with parallel_config(n_jobs=count, **backend), _waking(self._interruption):
            pool = Parallel(return_as="generator", pre_dispatch=ahead, max_nbytes=None)
            answers = pool(delayed(work)(carried, item) for item in items)
        with _ended(answers):
            for number in range(len(items)):
                with _waking(self._interruption):
                    answer = next(answers)
                    if number + 1 == len(items):
                        next(answers, None)  # so that joblib keeps its workers, and does not end them
                yield answer

    def _begin(self, payload: bytes) -> tuple[dict[str, Any], Callable[..., Any], Any]:
        """What joblib is told of the backend, what a worker does, and where it finds the function."""
        workers = self._workers
        work = partial(_work, hashlib.sha256(payload).hexdigest(), workers.threads)
        if workers.backend == LOKY:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="supernet-"))
            path = Path(folder, "function.pickle")
            path.write_bytes(payload)
            return {"backend": LOKY, "inner_max_num_threads": workers.threads}, work, _InFile(str(path))
        if workers.backend == DASK:
            client = self._stack.enter_context(_dask(workers.scheduler))
            there = client.scatter(payload, broadcast=True, hash=False)  # a worker is given the bytes for it
            return {"backend": DASK, "client": client}, work, there
        ray = _module(RAY)
        if not ray.is_initialized():
            ray.init(address=workers.scheduler or "auto")
        importlib.import_module("ray.util.joblib").register_ray()
        return {"backend": RAY}, work, _InRay(ray.put(payload))


@contextmanager
def _ended(answers: Any) -> Iterator[None]:
    """Ends what is not answered when it is left: that is meant, and joblib would warn of it."""
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "[0-9]+ tasks", UserWarning)
            answers.close()


@contextmanager
def _dask(scheduler: str | None) -> Iterator[Any]:
    """A connection to the cluster, once it has a worker."""
    distributed = _module("distributed")
    address = scheduler or importlib.import_module("dask").config.get("scheduler-address", None)
    if address is None:
        raise InputError("scheduler=None: where is the cluster? Give its address, or set DASK_SCHEDULER_ADDRESS")
    client, reason = None, ""
    try:
        client = distributed.Client(address, timeout=_WAIT, set_as_default=False)
    except Exception as error:  # no address, no such host, no time, no certificate
        reason = _reason(error)
    if client is None:
        gc.collect()  # ends the client that was begun; at the end of Python that would take a minute
        raise InputError(f"scheduler={address}: cannot be reached ({reason})")
    with client:
        _wait_for_two(client)
        yield client


def _wait_for_two(client: Any) -> None:
    """Waits for workers that are starting: with a single one joblib would work in this process."""
    try:
        client.wait_for_workers(_LEAST, timeout=_WAIT)
    except OSError:
        address = client.scheduler.address
        raise InputError(
            f"scheduler={address}: has less than {_LEAST} workers after {_WAIT} s; start some: dask worker {address}"
        ) from None


@dataclass(frozen=True)
class _Raised:
    """An error that ends the work, on its way to the process that waits for the answer."""

    error: BaseException


@dataclass(frozen=True)
class _InFile:
    path: str

    def read(self) -> bytes:
        return Path(self.path).read_bytes()


@dataclass(frozen=True)
class _InRay:
    reference: Any

    def read(self) -> bytes:
        return _module(RAY).get(self.reference)


class _Kept(Generic[Item, Answer]):
    """The functions that a worker has been sent, and the rule that it works on one item at a time."""

    def __init__(self) -> None:
        self._functions: dict[str, Callable[[Item], Answer]] = {}
        self.lock = threading.Lock()

    def function(self, token: str, carried: bytes | _InFile | _InRay) -> Callable[[Item], Answer]:
        if token not in self._functions:
            while len(self._functions) >= _REMEMBERED:
                del self._functions[next(iter(self._functions))]
            payload = carried if isinstance(carried, bytes) else carried.read()
            self._functions[token] = pickle.loads(payload)  # written by the process that started this work
        return self._functions[token]


_KEPT: _Kept[Any, Any] = _Kept()


def _work(token: str, threads: int, carried: bytes | _InFile | _InRay, item: Any) -> Any:
    """What a worker does with an item."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    with _KEPT.lock:  # a worker of a cluster can have several threads, and a function need not bear that
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        try:
            return _tried(_KEPT.function(token, carried), item)
        except (InputError, OSError) as error:
            return _Raised(error)


def _here(function: Callable[[Item], Answer], items: Sequence[Item], threads: int) -> Generator[Answer | Failed]:
    for item in items:
        with threads_held(threads):
            answer = _tried(function, item)
        yield answer


@contextmanager
def threads_held(count: int) -> Iterator[None]:
    """Within it PyTorch computes with so many threads."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tried(function: Callable[[Item], Answer], item: Item) -> Answer | Failed:
    """The answer to an item, or why there is none. A mistake of a person and a broken disk concern all items."""
    try:
        return function(item)
    except (InputError, Interrupted):
        raise
    except Exception as error:
        if disk_fault(error) or is_loss(error):
            raise
        return Failed(_reason(error))


def _reason(error: BaseException) -> str:
    if out_of_memory(error):
        return "the memory is full"
    said = printable(" ".join(str(error).split()))
    return f"{type(error).__name__}: {said}"[:_LONGEST] if said else type(error).__name__


def _pickled(function: Callable[..., Any]) -> bytes:
    import cloudpickle

    try:
        return cloudpickle.dumps(function)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"workers: the function cannot be sent to them ({_reason(error)}); work with one") from None


def _died(backend: str) -> tuple[type[BaseException], ...]:
    """The errors by which a backend says that a worker is no more."""
    if backend == DASK:
        distributed = _module("distributed")
        return (distributed.scheduler.KilledWorker, distributed.comm.CommClosedError, CancelledError)
    return (BrokenProcessPool,)  # loky's own are of this class, too


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing, extra = (error.name or name).split(".")[0], RAY if name == RAY else DASK
        raise InputError(f'{missing} is not installed; pip install "supernet[{extra}]" brings it') from None


@contextmanager
def _waking(interruption: Interruption) -> Iterator[None]:
    """Within it a signal that an interruption hears is raised at once: an answer can take hours.

    Raises:
        Interrupted: for such a signal, and for one that was heard before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def hear(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)
        if interruption.requested():
            raise Interrupted(number)

    heard = {number: handler for number, handler in before.items() if callable(handler)}
    try:
        for number in heard:
            signal.signal(number, hear)
        if interruption.requested():
            raise Interrupted(interruption.signal or 0)
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
