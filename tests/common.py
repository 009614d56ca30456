"""What several test modules share."""

import copy
from functools import cache

from hydra import compose, initialize_config_module
from supernet.experiments.config import plain


@cache
def _composed(overrides: tuple[str, ...]) -> dict:
    with initialize_config_module("supernet.conf", version_base="1.3"):
        return plain(compose("config", overrides=list(overrides)))


def composed(*overrides: str) -> dict:
    """The settings that these words make: a copy of one's own, while Hydra, which is slow, is asked once."""
    return copy.deepcopy(_composed(overrides))


def tiny(images, *more: str) -> list[str]:
    """Words for a run of a second or two; without the doctor, unless asked for."""
    settings = ["experiment=quick", "data=npz", f"data.path={images}", "search.epochs=1", "search.batch_size=16"]
    return [*settings, "retrain.epochs=1", "retrain.batch_size=16", "runtime.threads=1", "doctor.every=0", *more]
