"""Images a second through augmentation: the tensor on the device against one image at a time by torchvision.

Both crop (padding 4), flip, normalise and cut out 16 pixels of random 32x32 colour images, in batches of 64.

    python -m experiments.benchmarks.data
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from experiments.benchmarks.setting import alternate, machine, rows, write
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident, training_batches
from supernet.runtime.text import quantity

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


class OneByOne(Dataset[Tensor]):
    """Images as PIL's, each through torchvision's transforms and a cutout as in the original's code."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
                cutout,
            ]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self._transform(Image.fromarray(self._images[index]))
        return image


def cutout(image: Tensor) -> Tensor:
    """Erases a square of 16 pixels, clipped at the borders."""
    row, column = (int(centre) for centre in torch.randint(32, (2,)))
    image[:, max(row - 8, 0) : row + 8, max(column - 8, 0) : column + 8] = 0
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("experiments/results/data.json"))
    arguments = parser.parse_args()
    pixels = np.random.default_rng(0).integers(0, 256, (arguments.images, 32, 32, 3), dtype=np.uint8)
    resident = Resident(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.zeros(len(pixels), dtype=torch.int64)
    )
    augmentation = Augmentation(MEAN, STD, crop_padding=4, flip=True, cutout=16)
    batches = training_batches(resident, 64, augmentation, seed=0)

    def ours() -> None:
        for _ in range(len(pixels) // 64):
            next(batches)

    def theirs(workers: int) -> None:
        for _ in DataLoader(OneByOne(pixels), batch_size=64, shuffle=True, num_workers=workers):
            pass

    variants = {
        "torchvision, one image at a time": lambda: theirs(0),
        "the same, two workers": lambda: theirs(2),
        "batched": ours,
    }
    device = torch.device("cpu")
    times = alternate(variants, device, warm_up=1, rounds=arguments.rounds)
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    write(arguments.output, {"settings": settings, "machine": machine(device), "seconds": times})
    print(f"| {quantity(len(pixels), 'image')} | median s | range | n | times faster |\n|---|---|---|---|---|")
    print("\n".join(rows(times, next(iter(times)))))
    for name, t in times.items():
        print(f"{name}: {len(pixels) / t['median']:,.0f} images a second")


if __name__ == "__main__":
    main()
