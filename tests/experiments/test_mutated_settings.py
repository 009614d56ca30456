"""Bad values for settings, by seed: each job is prepared or refused in one line, never a traceback or nonsense."""

import math
import random

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from supernet.experiments.command_line import check_options
from supernet.experiments.job import prepare
from supernet.experiments.schema import plain
from supernet.experiments.searching import check_search

from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption

pytestmark = pytest.mark.slow

COUNT = 300
CONTEXTS = [
    [],
    ["method=pc_darts", "space.channels=8"],
    ["method=gdas"],
    ["method=darts_minus"],
    ["method=sdarts_adv"],
    ["method=fair_darts"],
    ["method=random_search"],
    ["method=fairnas"],
    ["method=enas"],
    ["method=tunas"],
    ["method=gaea"],
    ["monitor=adapt"],
    ["objective=expected_cost"],
    ["architect=unrolled"],
    ["discretiser=limit_skips"],
    ["space=micro"],
]
NUMBERS = ["nan", "inf", "-inf", "1e999", "-1", "0", "99999999999999999999", "null", "[]", "{}", "true", "abc", "[1,2]"]
TEXTS = ["null", "''", "123", "[]", "{}", "true", "nan", "'../../x'", "[a,a]", "日本語", "'\x1b[31mred'"]
LISTS = ["[]", "null", "[nan]", "abc", "5", "[[]]", "[null]", "{a: 1}", "[-1]", "[none,none]", "['']", "true"]
TRUTHS = ["null", "nan", "2", "[]", "{}", "abc", "''", "-1"]
TARGETS = ["null", "nope.nope", "5", "''", "math.pi", "[]", "builtins.dict", "supernet"]


def leaves(node, prefix=""):
    """(dotted key, value) of everything that holds nothing else."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, node


def pool(key: str, value: object) -> list[str]:
    """Values that do not fit where `value` stands."""
    if key.endswith("_target_"):
        return TARGETS
    if isinstance(value, bool) or key.endswith("_partial_"):
        return TRUTHS
    if isinstance(value, int | float):
        return NUMBERS
    return LISTS if isinstance(value, list | dict) else TEXTS if isinstance(value, str) else NUMBERS + TEXTS + LISTS


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    rng, labels = np.random.default_rng(0), np.arange(60) % 3
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    np.savez(path, train_images=rng.integers(0, 256, (60, 8, 8), dtype=np.uint8), train_labels=labels)
    return ["experiment=quick", "data=npz", f"data.path={path}", "runtime.threads=1", "runtime.device=cpu"]


def numbers(value):
    """All floats anywhere inside."""
    if isinstance(value, dict):
        yield from (n for inner in value.values() for n in numbers(inner))
    elif isinstance(value, list):
        yield from (n for inner in value for n in numbers(inner))
    elif isinstance(value, float):
        yield value


def test_settings_are_taken_or_refused_in_one_line(base, tmp_path):
    rng, found = random.Random(11), {}
    with initialize_config_module("supernet.conf", version_base="1.3"):
        for context in CONTEXTS:
            config = OmegaConf.to_container(compose("config", [*base, *context]), resolve=False)
            for key, value in leaves(config):
                found.setdefault(key, (context, value))
        del found["data.path"]
        cases = [(key, context, bad) for key, (context, value) in found.items() for bad in pool(key, value)]
        wrong, refused = [], 0
        for key, context, bad in rng.sample(cases, COUNT):
            words = [*base, *context, f"{key}={bad}"]
            try:
                check_options(words)
                settings = plain(compose("config", words))
                job = prepare(settings, tmp_path, Interruption())
                check_search(job)
                if any(math.isnan(n) for n in numbers(settings)):
                    wrong.append(f"{key}={bad}: accepted although it is not a number")
            except InputError as error:
                refused += 1
                if "\n" in str(error):
                    wrong.append(f"{key}={bad}: several lines: {error}")
            except (HydraException, OmegaConfBaseException):
                refused += 1  # Hydra's own words
            except Exception as error:
                wrong.append(f"{context} {key}={bad}: {type(error).__name__}: {str(error)[:150]}")
    assert not wrong, "\n".join(wrong)
    assert refused > COUNT // 2
