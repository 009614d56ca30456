"""Makes a real data set with several labels an image: tiles of the blood smears of BCCD, and which cells each shows.

Of the whole smears nearly all show a white cell and red cells, so nothing could be learnt of their presence. A tile
shows few cells. The overlap of a box and a tile is divided by the smaller of the two: a label applies (1) where that
is half or more for a box of its class, is unknown (-1) where it is a tenth or more, and does not apply (0) otherwise.
Parts are those of BCCD, and the tiles of one smear are one group, as the images of a patient are.

    python -m experiments.benchmarks.blood_cell_tiles ../shared/data/bccd/BCCD blood_cell_tiles.npz
    supernet experiment=chest data.path=blood_cell_tiles.npz 'data.classes=[Platelets,RBC,WBC]'
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from supernet.data import voc
from supernet.data.batches import Source
from supernet.data.targets import CLASS, CORNERS
from supernet.runtime.text import quantity

_HEIGHT, _WIDTH = 480, 640  # of every smear, in pixels
_APPLIES, _UNKNOWN = 0.5, 0.1  # overlaps, as shares of the smaller of box and tile


def tile_labels(boxes: Tensor, tile: int, classes: int) -> Tensor:
    """Tells which classes the tiles of one smear show.

    Args:
        boxes: (M, 7) with the columns of `supernet.data.targets.BOX`, in pixels of the smear.
        tile: side of a tile in pixels.
        classes: how many there are.

    Returns:
        (rows * columns, classes) int64: 1, 0 or -1 (unknown); tiles row after row.
    """
    boxes = boxes[boxes[:, CLASS] >= 0]
    top, left = torch.meshgrid(torch.arange(0, _HEIGHT, tile), torch.arange(0, _WIDTH, tile), indexing="ij")
    corners = torch.stack((left, top, left + tile, top + tile), -1).view(-1, 1, 4).float()
    low, high = torch.maximum(corners[..., :2], boxes[:, 1:3]), torch.minimum(corners[..., 2:], boxes[:, 3:5])
    x1, y1, x2, y2 = boxes[:, CORNERS].T
    share = (high - low).clamp_min(0).prod(-1) / ((x2 - x1) * (y2 - y1)).clamp_max(tile * tile)
    labels = torch.zeros(len(corners), classes, dtype=torch.int64)
    for number in range(classes):
        own = share[:, boxes[:, CLASS] == number]
        most = own.amax(1) if own.shape[1] else share.new_zeros(len(share))
        labels[:, number] = torch.where(most >= _APPLIES, 1, torch.where(most >= _UNKNOWN, -1, 0))
    return labels


def tiles_of(source: Source, tile: int, size: int, classes: int) -> dict[str, np.ndarray]:
    """Cuts smears into tiles.

    Args:
        source: the smears, of 480 x 640 pixels, with boxes.
        tile: side of a tile in pixels of the smear; it divides 480 and 640.
        size: side of a tile as it is written, in pixels.
        classes: how many there are.

    Returns:
        images (N, size, size, 3) uint8, labels (N, classes) int8, and groups (N,) int32, the number of the smear.
    """
    images, labels = [], []
    for place in range(len(source)):
        whole = source.raw(torch.tensor([place])).float()
        cut = whole.unfold(2, tile, tile).unfold(3, tile, tile)[0].permute(1, 2, 0, 3, 4).flatten(0, 1)
        small = interpolate(cut, (size, size), mode="bilinear", antialias=True, align_corners=False)
        images.append(small.round().clamp(0, 255).byte().permute(0, 2, 3, 1))
        labels.append(tile_labels(source.labels[place], tile, classes))
    count = len(labels[0])
    return {
        "images": torch.cat(images).numpy(),
        "labels": torch.cat(labels).to(torch.int8).numpy(),
        "groups": np.arange(len(source), dtype=np.int32).repeat(count),
    }


def main() -> None:
    """Writes the .npz and prints how many tiles show which cells."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="of BCCD, with Annotations, ImageSets and JPEGImages")
    parser.add_argument("file", type=Path, help="the .npz that is written")
    parser.add_argument("--tile", type=int, default=160, choices=(40, 80, 160), help="side in pixels of the smear")
    parser.add_argument("--size", type=int, default=40, help="side of a tile in the file, in pixels")
    asked = parser.parse_args()
    data = voc(asked.folder, size=[_HEIGHT, _WIDTH])
    assert data.valid is not None  # BCCD has its own
    arrays: dict[str, NDArray[Any]] = {}
    first = 0
    for part, source in (("train", data.train), ("val", data.valid), ("test", data.test.open())):
        made = tiles_of(source, asked.tile, asked.size, len(data.classes))
        made["groups"] += first
        first += len(source)
        arrays |= {f"{part}_{what}": array for what, array in made.items()}
        known = ", ".join(
            f"{name} {int((column == 1).sum()):,} (unknown {int((column < 0).sum()):,})"
            for name, column in zip(data.classes, made["labels"].T, strict=True)
        )
        print(f"{part}: {quantity(len(made['labels']), 'tile')} of {quantity(len(source), 'smear')}; {known}")
    np.savez_compressed(asked.file, **arrays)  # type: ignore[arg-type]
    print(f"{asked.file}: {asked.file.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
