"""Preparations: what they refuse, and that boxes lie where the pixels lie."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from supernet.data.images import as_tensor
from supernet.data.preparation import Preparation, placement
from supernet.runtime.errors import InputError


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fit": "stretch"}, "fit=stretch: use squash, crop or pad"),
        ({"ground": 256}, "ground=256: use a level"),
        ({"border": 3}, "border=3: needs 0 or more pixels, and fit=crop"),
        ({"white": 0}, "white=0"),
        ({"window": (5, 5)}, r"window=\[5,5\]: needs two numbers, the second above"),
        ({"window": (0, float("nan"))}, r"window=\[0,nan\]"),
    ],
)
def test_nonsense_preparations_are_refused(settings, says):
    with pytest.raises(InputError, match=says):
        Preparation(**settings)


def test_a_preparation_from_a_file_is_checked():
    assert Preparation.from_plain({}) == Preparation()
    assert Preparation.from_plain({"white": 4095, "fit": "crop"}) == Preparation(white=4095, fit="crop")
    wide = Preparation(window=(20.5, 4000), window_of_file=False)
    assert Preparation.from_plain({"window": [20.5, 4000], "window_of_file": False}) == wide
    assert Preparation.from_plain(json.loads(json.dumps(asdict(wide)))) == wide
    assert Preparation.from_plain({"white": None}) == Preparation()
    windows = ([0], [0, "9"], [0, True], "auto", {"a": 1})
    for wrong in (
        *({"window": window} for window in windows),
        {"window_of_file": 1},
        {"white": True},
        {"white": "9"},
        {"fit": 3},
        {"other": 1},
    ):
        with pytest.raises(TypeError):
            Preparation.from_plain(wrong)


def found(pixels):
    """The box around what is brighter than the middle between black and white."""
    rows, columns = (pixels[0] > 127).any(1).nonzero(), (pixels[0] > 127).any(0).nonzero()
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


@pytest.mark.parametrize("shape", [(1, 60, 80), (1, 48, 48), (1, 33, 90), (1, 120, 160)])
@pytest.mark.parametrize(
    "preparation", [Preparation(), Preparation(fit="pad"), Preparation(fit="crop"), Preparation(fit="crop", border=4)]
)
def test_boxes_lie_where_the_pixels_lie(shape, preparation):
    picture = np.zeros((120, 160), np.uint8)
    picture[40:90, 60:110] = 255
    box = torch.tensor([60.0, 40.0, 110.0, 90.0])
    placed = placement(160, 120, shape, preparation)
    image = as_tensor(Image.fromarray(picture), shape, "", preparation)
    seen = torch.minimum(placed.forward(box), torch.tensor([shape[2], shape[1]] * 2))
    assert torch.allclose(seen, found(image), atol=0.8)
    assert torch.allclose(placed.back(placed.forward(box)), box, atol=1e-4)


def test_padding_keeps_the_aspect_and_is_grey():
    white = Image.new("RGB", (100, 20), "white")
    image = as_tensor(white, (3, 50, 50), "", Preparation(fit="pad"))
    assert image[:, 20:30].unique().tolist() == [255]
    assert image[:, :20].unique().tolist() == image[:, 30:].unique().tolist() == [114]
    placed = placement(100, 20, (3, 50, 50), Preparation(fit="pad"))
    assert placed.back(torch.tensor([[-9.0, 0.0, 60.0, 50.0]])).tolist() == [[0.0, 0.0, 100.0, 20.0]]
    assert as_tensor(Image.new("L", (500, 1)), (1, 8, 8), "", Preparation(fit="pad")).shape == (1, 8, 8)
