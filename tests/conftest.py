"""One thread a test process, and less of what takes the time of ten thousand tests without testing anything."""

import gc
import os
import pickle
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
import yaml
from hydra._internal import defaults_list
from hydra._internal.hydra import Hydra
from omegaconf import OmegaConf

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


def _choices_where_one_is_asked_for() -> Callable[..., Any]:
    """Hydra's table of all choices, made anew for each file, which only a defaults list with "${...}" looks into."""
    own, nobody_looks = defaults_list._create_interpolation_map, OmegaConf.create()

    def table(overrides: Any, defaults: list[Any], *more: Any) -> Any:
        asked = any("${" in f"{getattr(one, 'path', '')} {getattr(one, 'value', '')}" for one in defaults)
        return own(overrides, defaults, *more) if asked else nobody_looks

    return table


yaml.load = _read_once()
defaults_list._create_interpolation_map = _choices_where_one_is_asked_for()
Hydra.get_mode = _asked_once()
