"""The settings of the main job and their types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from supernet.runtime.errors import InputError

from .instantiate import checked_arguments


@dataclass
class Baseline:
    """The cells with which the found cell is compared."""

    random: int = 1
    scratch: int = 1


@dataclass
class Runtime:
    """Where and how the job runs.

    More than twelve: each is a setting of the machine that a person chooses by itself.
    """

    device: str = "auto"
    devices: int = 1
    synchronise_norms: bool = False
    compare_every: int = 100
    max_restarts: int = 3
    workers: int | None = None
    backend: str = "loky"
    scheduler: str | None = None
    engine: str = "fused"
    checkpoint_cells: bool = False
    threads: int | None = None
    deterministic: bool = True
    precision: str = "float32"
    graphs: bool = True
    save_seconds: float = 60.0
    progress: bool = True


@dataclass
class Config:
    """The root of the configuration. Groups whose options are classes of their own are typed by those classes.

    More than twelve fields: each is a group or a setting that a person chooses by itself.
    """

    name: str = MISSING
    seed: int = 0
    genotype: str | None = None
    retrain_valid: float = 0.1
    clinical: bool | None = None
    baseline: dict[str, Any] = field(default_factory=dict)  # a Baseline and
    runtime: dict[str, Any] = field(default_factory=dict)  # a Runtime: `checked` is stricter than OmegaConf's types
    operations: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    costs: dict[str, Any] = field(default_factory=dict)
    data: Any = MISSING
    task: Any = MISSING
    space: Any = MISSING
    chooser: Any = MISSING
    strategy: Any = MISSING
    relaxation: Any = MISSING
    inputs: Any = None
    architect: Any = MISSING
    optimizer: Any = MISSING
    objective: Any = field(default_factory=dict)
    discretiser: Any = MISSING
    search: Any = MISSING
    monitor: Any = MISSING
    retrain: Any = MISSING
    init: Any = None
    imbalance: Any = None
    table: Any = None
    stages: list[Any] = field(default_factory=list)


ConfigStore.instance().store(group="schema", name="config", node=Config)

GROUPS = (
    "experiment",
    "method",
    "protocol",
    "candidates",
    "runtime",
    *(f.name for f in fields(Config) if f.type == "Any"),
)


_OPTIONAL = ("inputs", "table", "retrain", "init", "imbalance")  # groups that may be null


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with the values of `runtime` and `baseline` as their annotations want them.

    Raises InputError where a setting is of another kind or out of its range, or says what another one forbids.
    """
    settings = {
        **settings,
        **{name: checked_arguments(kind, settings[name], name, True) for name, kind in _PLAIN.items()},
    }
    for group in ("data", "task", "space", "chooser", "strategy", "search", "monitor", *_OPTIONAL):
        node = settings[group]
        if not isinstance(node, dict) and not (node is None and group in _OPTIONAL):
            raise InputError(f"{group}={node}: needs an object; {group}=NAME takes one of supernet --help")
    if settings["imbalance"] is not None and settings["task"].get("imbalance") is None:
        raise InputError("imbalance: the task does not take one; leave out imbalance=..., or choose another task")
    if not 0 <= settings["retrain_valid"] < 1:
        raise InputError(f"retrain_valid={settings['retrain_valid']}: needs a share below 1, such as 0.1, or 0")
    if settings["baseline"]["random"] < 0:
        raise InputError(f"baseline.random={settings['baseline']['random']}: needs 0 or more random cells")
    if settings["baseline"]["scratch"] not in (0, 1):
        raise InputError(f"baseline.scratch={settings['baseline']['scratch']}: needs 1 or 0")
    name = settings["name"]
    if not name or not name.isprintable() or ".." in Path(name).parts or Path(name).is_absolute():
        raise InputError(f"name={name}: runs lie in runs/NAME; use letters and digits")
    if settings["genotype"] == "":
        raise InputError("genotype=: an empty text; give the name of a cell, or null for a search")
    if settings["retrain"] is not None and "_target_" not in settings["retrain"]:
        raise InputError("retrain: has settings and no recipe; leave out retrain=none or what sets retrain.*")
    if settings["retrain"] is None and settings["genotype"]:
        raise InputError(f"retrain=none: with genotype={settings['genotype']} nothing is left to do; leave out one")
    if settings["retrain"] is None and settings["init"] is not None:
        raise InputError("retrain=none: no network is trained that could begin with init; leave out one")
    return settings


_PLAIN: dict[str, Callable[..., Any]] = {"baseline": Baseline, "runtime": Runtime}


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, interpolations resolved. Raises InputError where that cannot be."""
    try:
        container = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(str(error).splitlines()[0]) from None
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
