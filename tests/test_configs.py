"""Every yaml composes with the primary configuration, and what it names can be made with what it says."""

from pathlib import Path

import pytest
from common import composed
from supernet.experiments.instantiate import build

from supernet.data.dataset import Data
from supernet.search.collapse.settings import MonitorSettings
from supernet.space.choosers import Undecided
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet

CONF = Path(__file__).parents[1] / "conf"
ELSEWHERE = ("hydra", "experiment", "explorer", "score")  # the last two: tests/experiments/exploration/test_words.py
OPTIONS = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml") if path.parent.name not in ELSEWHERE)
READ = ("npz", "image_folder", "labelled_folder", "voc", "coco", "yolo")
WITH_PATH = (*(("data", name) for name in READ), ("init", "model"), ("table", "nasbench201"))
EXPERIMENTS = sorted(path.stem for path in CONF.glob("experiment/*.yaml"))


def made(settings: dict) -> dict:
    """Every part; the arguments of data and of a table are checked without reading them."""
    retrain = settings["retrain"]
    settings["retrain"] = retrain and {k: v for k, v in retrain.items() if k != "network"}
    for recipe in (settings["search"], settings["retrain"] or {}):
        if recipe.get("batch_size", 0) is None:  # follows from the images
            recipe["batch_size"] = 64
    for read in ("data", "table", "init"):
        settings[read] = settings[read] and {**settings[read], "_partial_": True}
    groups = ("relaxation", "inputs", "architect", "optimizer", "objective", "discretiser")
    parts = ("data", "space", "chooser", "strategy", *groups, "table", "init", "monitor")
    return {name: build(settings[name], name) for name in (*parts, "search", "retrain", "operations")}


def test_lines_are_as_short_as_those_of_the_code():
    texts = {path: path.read_text(encoding="utf-8") for path in CONF.rglob("*.yaml")}
    assert [path for path, text in texts.items() if max(map(len, text.splitlines())) > 120] == []


def test_there_is_something_to_compose():
    assert len(OPTIONS) > 20
    assert {"digits", "laptop", "darts_cifar10"} <= set(EXPERIMENTS)


NESTED = ("bignas", "sandwich")  # they need a space whose sizes are nested


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_can_be_made(group, option):
    words = [f"{group}.path=somewhere"] if (group, option) in WITH_PATH else []
    words += ["space=micro_mobile"] if option in NESTED else []
    words += ["data.train=somewhere"] if option == "webdataset" else []
    parts = made(composed(f"{group}={option}", *words))
    supernet = Supernet(parts["space"].network(parts["chooser"], (1, 8, 8), 3))
    strategy = parts["strategy"](parts["space"].name, supernet.decisions, seed=0)
    assert strategy.finish().space == parts["space"].name


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_can_be_made(experiment):
    settings = composed(f"experiment={experiment}")
    if settings["data"].get("path") == "???":
        settings["data"]["path"] = "somewhere"
    assert made(settings)["search"].epochs >= 1


def test_the_default_is_digits_and_an_experiment_beats_the_primary_configuration():
    settings = composed()
    assert settings["name"] == "digits"
    assert settings["space"]["channels"] == 12
    assert settings["relaxation"]["_target_"].endswith("Dirichlet"), "DrNAS"
    assert composed("experiment=none")["space"]["channels"] == 16


def test_the_default_network_is_one_cell_in_the_search_and_in_the_end():
    """A network with more in it hides how good a cell is; five random ones are trained to compare with."""
    settings = composed()
    assert settings["space"]["_target_"] == "supernet.space.nasbench201.NasBench201"
    assert (settings["space"]["cells"], settings["space"]["stages"]) == (1, 1)
    assert "nasbench201" not in settings["retrain"]["network"]
    assert settings["baseline"]["random"] == 5


def test_the_darts_space_in_the_size_of_a_laptop():
    settings = composed("experiment=laptop")
    assert settings["space"] == composed("experiment=none", "space=darts_digits")["space"]
    assert settings["retrain"]["network"]["darts"]["cells"] == 5
    assert composed("space=darts_digits")["retrain"]["network"] == settings["retrain"]["network"]


def test_groups_on_the_command_line_beat_the_experiment():
    assert composed("search=darts_cifar10")["search"]["epochs"] == 50
    assert composed("experiment=darts_cifar10", "architect=unrolled_exact")["architect"]["_target_"].endswith("exact")


def test_a_space_that_comes_with_a_table_brings_it():
    assert composed("space=micro")["table"]["_target_"] == "supernet.estimation.benchmark_tables.micro"
    assert composed("space=micro_mobile")["table"]["_target_"] == "supernet.estimation.benchmark_tables.micro_mobile"
    assert composed("space=micro", "table=none")["table"] is None
    assert composed("space=micro", "table=nasbench201", "table.path=x")["table"]["path"] == "x"
    assert composed("experiment=micro")["table"]["_target_"] == "supernet.estimation.benchmark_tables.micro"
    assert composed("experiment=micro", "space=darts")["table"] is None


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_experiment_keeps_a_search_from_ending_without_training(experiment):
    assert composed(f"experiment={experiment}", "retrain=none")["retrain"] is None


def test_published_settings_of_darts():
    """Liu et al. 2019, sections 3.1 and 3.2, and the original's command lines."""
    s = composed("experiment=darts_cifar10")
    assert (s["space"]["channels"], s["space"]["cells"], s["space"]["nodes"]) == (16, 8, 4)
    search, adam, retrain = s["search"], s["strategy"]["optimizer"], s["retrain"]
    assert (search["epochs"], search["batch_size"], search["share"]) == (50, 64, 0.5)
    assert (search["schedule"]["start"], search["schedule"]["end"]) == (0.025, 0.001)
    assert (search["momentum"], search["weight_decay"], search["clip"], search["warm_up"]) == (0.9, 3e-4, 5.0, 0)
    assert (adam["lr"], adam["betas"], adam["weight_decay"]) == (3e-4, [0.5, 0.999], 1e-3)
    assert retrain["network"]["darts"] == {"channels": 36, "cells": 20, "stem": "cifar", "auxiliary": True}
    assert (retrain["epochs"], retrain["batch_size"], retrain["cutout"], retrain["drop_path"]) == (600, 96, 16, 0.2)
    assert (retrain["schedule"]["start"], retrain["schedule"]["end"]) == (0.025, 0.0)
    assert (retrain["auxiliary_weight"], retrain["clip"], retrain["keep"]) == (0.4, 5.0, "last")
    assert (s["data"]["crop_padding"], s["data"]["flip"]) == (4, True)
    assert composed("experiment=darts_cifar10_second_order")["architect"]["epsilon"] == 0.01


def test_the_default_monitor_is_the_classs_own():
    assert build(composed()["monitor"], "monitor") == MonitorSettings()


def test_parts_have_the_types_their_constructors_ask_for():
    parts = made(composed())
    assert isinstance(parts["space"], NasBench201)
    assert isinstance(parts["space"].operations, tuple)
    assert isinstance(parts["chooser"], Undecided)
    assert parts["strategy"].keywords["optimizer"].keywords["betas"] in ([0.5, 0.999], (0.5, 0.999))
    assert hash(parts["search"])


def test_data_are_read_without_hydra():
    assert isinstance(build(composed()["data"], "data"), Data)


def test_every_yaml_says_what_it_is():
    for path in CONF.rglob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
        assert lines[0].startswith("# ") or path.parent.name == "help", path


def test_schema_refuses_unknown_keys():
    with pytest.raises(Exception, match="Could not override 'epochs'"):
        composed("epochs=3")
    with pytest.raises(Exception, match="Error merging override seed=abc"):
        composed("seed=abc")
