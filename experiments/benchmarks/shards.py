"""Images a second out of shards against those out of a folder of the same files: cold, and from memory.

Pictures are random JPEG files. The variants take turns, and read the batches of a part of a pass by as many worker
processes. Before a "cold" one the system is asked to forget what it holds of the files; one that does not, such as a
file system in memory, gives the same figures twice. The library webdataset reads shards from front to back, as it does
by itself.

    python -m experiments.benchmarks.shards
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import supernet
from experiments.benchmarks.setting import alternate, machine, rows, write
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Source, training_batches

BATCH = 64
FORGET = "forget before"


def pictures(count: int, side: int) -> Iterator[bytes]:
    """JPEG files of `side` x `side` pixels; each has bytes of its own."""
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(32):
        file, coarse = io.BytesIO(), random.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side)).save(file, "JPEG", quality=90)
        drawn.append(file.getvalue())
    for number in range(count):
        yield drawn[number % len(drawn)] + number.to_bytes(4, "big")


def make(folder: Path, count: int, side: int, shard: int) -> None:
    """Writes the same pictures as folder/loose/<class>/<image> and as folder/shards/<number>.tar."""
    (folder / "shards").mkdir(parents=True)
    places = np.random.default_rng(1).permutation(count).tolist()  # shards are written shuffled
    made = list(pictures(count, side))
    for number, content in enumerate(made):
        path = folder / "loose" / f"{number % 10:02}" / f"{number:07}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for first in range(0, count, shard):
        with tarfile.open(folder / "shards" / f"{first // shard:06}.tar", "w") as file:
            for number in places[first : first + shard]:
                for ending, content in (("jpg", made[number]), ("cls", str(number % 10).encode())):
                    info = tarfile.TarInfo(f"{number:07}.{ending}")
                    info.size = len(content)
                    file.addfile(info, io.BytesIO(content))


def forget(folder: Path) -> None:
    """Asks the system to drop what it holds of the files; not every system has a way to say that."""
    if not hasattr(os, "posix_fadvise"):
        return
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            number = os.open(path, os.O_RDONLY)
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(number)


def theirs(folder: Path, side: int, workers: int, batches: int) -> None:
    """The batches of the library webdataset, decoded to the same size."""
    library: Any = importlib.import_module("webdataset")

    def decoded(sample: dict[str, bytes]) -> torch.Tensor:
        image = Image.open(io.BytesIO(sample["jpg"])).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()

    paths = sorted(map(str, folder.glob("*.tar")))
    data = library.WebDataset(paths, shardshuffle=len(paths), workersplitter=library.split_by_worker, empty_check=False)
    stream = data.shuffle(1024).map(decoded).batched(BATCH, collation_fn=torch.stack)
    loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=workers)
    for _ in islice(loader, batches):
        pass


def ours(source: Source, batches: int) -> None:
    """As many batches of a pass, without changes to the images."""
    for _ in islice(training_batches(source, BATCH, Augmentation((0.5,) * 3, (0.5,) * 3), seed=0), batches):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=128, help="pixels of a stored picture")
    parser.add_argument("--size", type=int, default=64, help="pixels that it becomes")
    parser.add_argument("--shard", type=int, default=1000, help="pictures of a shard")
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="where to write; otherwise a folder that is removed")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/shards.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        folder = Path(place)
        make(folder, arguments.images, arguments.side, arguments.shard)
        taken = alternate(variants(folder, arguments), torch.device("cpu"), warm_up=1, rounds=arguments.rounds)
    times = {name: each for name, each in taken.items() if not name.startswith(FORGET)}
    settings = {key: str(value) if key == "folder" else value for key, value in vars(arguments).items()}
    settings.pop("output")
    write(arguments.output, {"settings": settings, "machine": machine(torch.device("cpu")), "seconds": times})
    print(f"| {arguments.batches} batches of {BATCH} | median s | range | n | times faster |\n|---|---|---|---|---|")
    print("\n".join(rows(times, next(iter(times)))))
    for name, each in times.items():
        print(f"{name}: {arguments.batches * BATCH / each['median']:,.0f} images a second")


def variants(folder: Path, arguments: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """What is timed, by its name."""
    common: dict[str, Any] = {"size": arguments.size, "workers": arguments.workers, "resident_gib": 0, "cache": False}
    common |= {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    loose = supernet.data.image_folder(folder / "loose", **common).train
    packed = supernet.data.webdataset(str(folder / "shards"), **common).train

    batches, side = arguments.batches, arguments.size
    read: dict[str, Callable[[], None]] = {
        "folder": lambda: ours(loose, batches),
        "shards": lambda: ours(packed, batches),
        "shards, the library": lambda: theirs(folder / "shards", side, arguments.workers, batches),
    }
    cold: dict[str, Callable[[], None]] = {}
    for name, each in read.items():  # forgetting takes a turn of its own, so that its time counts nowhere
        cold |= {f"{FORGET} {name}": lambda: forget(folder), f"{name}, cold": each}
    return {**cold, **read}


if __name__ == "__main__":
    main()
