"""A model prepares its images as they were prepared in training."""

import json
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from supernet import Darts, Decided, load, published
from supernet.data.augmentation import Augmentation
from supernet.data.images import read_image
from supernet.data.preparation import Preparation
from supernet.deployment.bundle import save_bundle
from supernet.runtime.errors import InputError

KEY = "supernet"


def model(path, preparation, shape=(1, 8, 8)):
    torch.manual_seed(0)
    space, cell = Darts(channels=4, cells=3), published("darts_v2")
    network = space.network(Decided(cell), shape, 2)
    augmentation = Augmentation((0.5,), (0.25,), preparation=preparation)
    facts = {"space": space, "architecture": cell, "classes": ("a", "b"), "augmentation": augmentation}
    save_bundle(path, network, **facts, shape=shape, provenance={})
    return network.eval(), augmentation


def described_otherwise(path, preparation):
    with safe_open(path, framework="pt") as file:
        described = json.loads(file.metadata()[KEY])
    del described["preparation"]
    if preparation is not None:
        described["preparation"] = preparation
    save_file(load_file(path), path, {KEY: json.dumps(described)})


def test_files_and_pictures_are_prepared_as_in_training(tmp_path):
    path, preparation = tmp_path / "model.safetensors", Preparation(white=4095, ground=30, fit="crop", border=1)
    network, augmentation = model(path, preparation)
    deep = np.random.default_rng(0).integers(0, 4096, (20, 12)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    clear = np.random.default_rng(1).integers(0, 256, (20, 12, 4), dtype=np.uint8)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    predictor = load(path)
    assert predictor.augmentation.preparation == preparation
    for name in ("deep.png", "clear.png"):
        pixels = read_image(tmp_path / name, (1, 8, 8), preparation=preparation)
        with torch.no_grad():
            expected = network(augmentation.normalise(pixels.unsqueeze(0))).softmax(1)[0]
        with Image.open(tmp_path / name) as picture:
            for given in (str(tmp_path / name), picture):
                torch.testing.assert_close(predictor(given)[0].probs.data, expected)


def test_older_models_have_none_and_damage_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    for preparation, says in (
        (None, ""),
        ({"white": "x"}, "white='x'"),
        ({"fit": "stretch"}, "fit=stretch"),
        (3, "damaged"),
    ):
        model(path, Preparation())
        described_otherwise(path, preparation)
        if preparation is None:
            assert load(path).augmentation.preparation == Preparation()
        else:
            with pytest.raises(InputError, match=says):
                load(path)


def test_an_opened_tiff_whose_zero_is_white_is_seen_as_its_file(tmp_path):
    model(tmp_path / "m.safetensors", Preparation(window=(65035.0, 65535.0)))
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 8).save(tmp_path / "x.tif")
    said = struct.pack("<HHIHH", 262, 3, 1, 1, 0)  # the photometric interpretation: 0 is black
    content = (tmp_path / "x.tif").read_bytes()
    assert content.count(said) == 1
    (tmp_path / "x.tif").write_bytes(content.replace(said, struct.pack("<HHIHH", 262, 3, 1, 0, 0)))
    with Image.open(tmp_path / "x.tif") as opened:
        of_file, of_picture = load(tmp_path / "m.safetensors")([str(tmp_path / "x.tif"), opened])
    assert of_file.picture.prepared().flatten()[[0, -1]].tolist() == [255.0, 0.0]
    assert torch.equal(of_file.picture.prepared(), of_picture.picture.prepared())
