"""Several processes for a test, forked from its own: they take a function together and give what it returns."""

import io
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch

from supernet.runtime.processes import Processes, together

_FORKS = multiprocessing.get_context("fork")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def taken_together(function: Callable[[Processes], Any], count: int, seconds: float = 100.0, **settings: Any) -> list:
    """What `function` returns in each of `count` processes, in the order of their ranks; an exception as a text."""
    port, answers = free_port(), _FORKS.Queue()

    def take(rank: int) -> None:
        torch.set_num_threads(1)
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
        os.environ.update({"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in places.items()}})
        try:
            with together(**settings) as processes:
                answers.put((rank, packed(function(processes))))
        except BaseException as error:
            answers.put((rank, packed(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")))

    started = [_FORKS.Process(target=take, args=(rank,)) for rank in range(count)]
    for process in started:
        process.start()
    try:
        found = sorted((answers.get(timeout=seconds) for _ in started), key=lambda answer: answer[0])
    finally:
        for process in started:
            process.join(10)
            process.kill()
    return [torch.load(io.BytesIO(answer), weights_only=False) for _, answer in found]


def packed(value: Any) -> bytes:
    """As plain bytes: tensors in a queue are handles that end with their process."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()
