"""One thread a test process, and less of what takes the time of ten thousand tests without testing anything."""

import gc
import os
import pickle
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
import yaml
from hydra._internal.hydra import Hydra

torch.set_num_threads(1)  # the networks are tiny, and processes that share cores would wait for each other

# What all tests together have imported is a million objects: to look through them again and again takes a tenth.
gc.set_threshold(50_000, 20, 100)


def _read_once() -> Callable[..., Any]:
    """PyYAML's `load`, which parses a text once: Hydra reads the same files of conf/ for each of a thousand runs."""
    own, known = yaml.load, dict[tuple[str | bytes, str], bytes]()

    def load(stream: Any, Loader: Any) -> Any:
        text = stream if isinstance(stream, str | bytes) else stream.read()
        place = (text, Loader.__qualname__)
        if place not in known:
            known[place] = pickle.dumps(own(text, Loader))
        return pickle.loads(known[place])

    return load


def _asked_once() -> Callable[..., Any]:
    """Hydra's question for the mode, for which it composes all settings once more: only a word says one."""
    own = Hydra.get_mode

    def mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        return own(hydra, config_name, overrides) if any("hydra.mode" in word for word in overrides) else None

    return mode


yaml.load = _read_once()
Hydra.get_mode = _asked_once()
