"""Several processes for a test, forked from a server that has imported everything: they take a function together."""

import io
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

import cloudpickle
import torch
from forked import FORKS

from supernet.runtime.processes import Processes, together


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def taken_together(function: Callable[[Processes], Any], count: int, seconds: float = 100.0, **settings: Any) -> list:
    """What `function` returns in each of `count` processes, in the order of their ranks; an exception as a text."""
    port, answers, sent = free_port(), FORKS.Queue(), _sent(function)
    started = [FORKS.Process(target=_take, args=(sent, rank, count, port, settings, answers)) for rank in range(count)]
    for process in started:
        process.start()
    try:
        found = sorted((answers.get(timeout=seconds) for _ in started), key=lambda answer: answer[0])
    finally:
        for process in started:
            process.join(10)
            process.kill()
    return [torch.load(io.BytesIO(answer), weights_only=False) for _, answer in found]


def _sent(function: Callable[[Processes], Any]) -> bytes:
    """A function with all of its module that it needs, which the other processes need not find."""
    module = sys.modules[getattr(function, "func", function).__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(function)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _take(sent: bytes, rank: int, count: int, port: int, settings: dict[str, Any], answers: Any) -> None:
    torch.set_num_threads(1)
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in places.items()}})
    try:
        with together(**settings) as processes:
            answers.put((rank, _packed(cloudpickle.loads(sent)(processes))))
    except BaseException as error:
        answers.put((rank, _packed(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")))


def _packed(value: Any) -> bytes:
    """As plain bytes: tensors in a queue are handles that end with their process."""
    file = io.BytesIO()
    torch.save(value, file, pickle_module=cloudpickle)
    return file.getvalue()
