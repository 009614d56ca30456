import pytest
import torch

from experiments.benchmarks.blood_cell_tiles import tile_labels, tiles_of
from supernet.data.batches import Resident
from supernet.data.targets import padded


def box(kind, *corners):
    return [float(kind), *map(float, corners), 0.0, 1.0]


def test_labels_of_tiles_by_hand():
    boxes = padded(
        [
            torch.tensor([box(0, 10, 10, 30, 30), box(1, 150, 0, 190, 40), box(2, 0, 160, 320, 320)]),
            torch.zeros(4, 7),
        ]
    )[0]  # a small cell in the first tile, one of which a quarter lies there, one that fills two tiles; one of padding
    labels = tile_labels(boxes, 160, 3)
    assert labels.shape == (12, 3)
    assert labels[:5].tolist() == [[1, -1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert labels[5].tolist() == [0, 0, 1]
    assert not labels[6:].any()


@pytest.mark.parametrize(("right", "says"), [(240, 1), (239, -1), (176, -1), (175, 0)])
def test_a_part_of_a_cell_is_unknown(right, says):
    """Of a box 160 wide that begins in the first tile, some part lies in the second."""
    boxes = torch.tensor([box(0, right - 160, 0, right, 160)])
    assert tile_labels(boxes, 160, 1)[1, 0] == says


def test_tiles_are_cut_row_after_row():
    levels = torch.arange(12, dtype=torch.uint8).view(3, 4).repeat_interleave(160, 0).repeat_interleave(160, 1)
    source = Resident(levels.expand(2, 3, 480, 640).clone(), torch.zeros(2, 0, 7))
    made = tiles_of(source, 160, 20, 2)
    assert made["images"].shape == (24, 20, 20, 3)
    assert made["images"][:, 5, 5, 0].tolist() == [*range(12), *range(12)]
    assert made["groups"].tolist() == [0] * 12 + [1] * 12
    assert made["labels"].shape == (24, 2)
