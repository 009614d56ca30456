"""What a person finds in `supernet.data`."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import supernet.data

ROOT = Path(__file__).parents[2]
FOLDERS = ("coco", "image_folder", "labelled_folder", "voc", "yolo")
FUNCTIONS = sorted(["cifar10", "cifar100", "digits", "fashion_mnist", "npz", "svhn", "webdataset", *FOLDERS])
OWN_WAYS = {name: {"workers"} for name in (*FOLDERS, "webdataset")}  # a run reads ahead; a notebook needs no processes


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_yaml_says_what_the_function_does_by_itself(name):
    """Each yaml in conf/data names a function of `supernet.data`, all its parameters and its defaults."""
    settings = yaml.safe_load((ROOT / "conf" / "data" / f"{name}.yaml").read_text())
    assert settings.pop("_target_") == f"supernet.data.{name}"
    parameters = inspect.signature(getattr(supernet.data, name)).parameters
    assert set(settings) == set(parameters)
    for key, value in settings.items():
        default = parameters[key].default
        if key not in OWN_WAYS.get(name, ()) and default is not inspect.Parameter.empty:
            assert value == (list(default) if isinstance(default, tuple) else default), key


def test_every_yaml_is_known():
    assert sorted(path.stem for path in (ROOT / "conf" / "data").glob("*.yaml")) == FUNCTIONS


def test_what_is_slow_to_import_waits_until_it_is_needed():
    modules = "supernet.data, supernet.genotypes, supernet.deployment, supernet.experiments.pipeline"
    words = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout.split()
    assert not {"sklearn", "torchvision", "scipy", "matplotlib", "pydicom", "webdataset"} & set(loaded)


@pytest.mark.parametrize("package", ["data", "genotypes", "deployment"])
def test_all_that_is_exported_is_there_and_is_no_module(package):
    module = getattr(supernet, package)
    for name in module.__all__:
        assert not inspect.ismodule(getattr(module, name)), name
