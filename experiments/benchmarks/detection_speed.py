"""How long a detector takes for a batch of pictures: 16 of 640 x 480 on two threads, unless asked otherwise.

Without a model, a network of a published cell with random weights is timed, as it is built for the blood cells: its
forward pass at 288 x 384, and the making of boxes of what it gives. With `--model`, a zoo name or a file, all of a
prediction is timed, from pixels of any size to results: what a person waits for. torchvision's small detector (SSDLite
on MobileNetV3, random weights) runs in turns with it in the same process, on the same pictures.

    python -m experiments.benchmarks.detection_speed
    python -m experiments.benchmarks.detection_speed --model bccd --images 16 --threads 2
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

import supernet
from experiments.benchmarks.setting import machine, write
from supernet.deployment.predictor import Predictor
from supernet.detection.decoding import decode
from supernet.detection.head import AnchorFree
from supernet.execution.engines import engine
from supernet.runtime.seeding import generator
from supernet.space.choosers import Decided
from supernet.space.darts import Darts

_STREAM = 0x5BEE
_INPUT = (288, 384)


def pictures(count: int, height: int, width: int) -> list[Tensor]:
    """Smooth noise, as tensors (3, height, width) of numbers from 0 to 1."""
    rough = torch.rand(count, 3, 12, 16, generator=generator(0, _STREAM))
    return list(nn.functional.interpolate(rough, (height, width), mode="bilinear").clamp(0, 1))


def untrained() -> nn.Module:
    """DARTS' second-order cell under the detector's head, as experiment=bccd builds it."""
    torch.manual_seed(0)
    space, cell = Darts(channels=16, cells=8, stem="imagenet"), supernet.published("darts_v2")
    return engine("fused").apply(space.network(Decided(cell), (3, *_INPUT), AnchorFree(3))).eval()


def passes(model: Predictor | None, images: list[Tensor]) -> dict[str, Callable[[], Any]]:
    """What is timed, by name."""
    theirs = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4).eval()
    timed: dict[str, Callable[[], Any]] = {"torchvision SSDLite": lambda: theirs(images)}
    if model is not None:
        return {"prediction": lambda: model(images), **timed}
    network = untrained()
    small = nn.functional.interpolate(torch.stack(images), _INPUT, mode="bilinear", antialias=True)
    output = network(small)
    return {"network": lambda: network(small), "boxes": lambda: decode(output, conf=0.05), **timed}


def measured(timed: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each in every round, in turns; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds + 1):
        for name, run in timed.items():
            began = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a name of the zoo or a file; nothing: random weights")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--size", type=int, nargs=2, default=[480, 640], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("experiments/results/detection_speed.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = None if arguments.model is None else supernet.load(arguments.model)
    if model is not None and not isinstance(model, Predictor):
        parser.error("--model: an exported model is timed by supernet-export; give a .safetensors file or a name")
    images = pictures(arguments.images, *arguments.size)
    with torch.inference_mode():
        seconds = measured(passes(model, images), arguments.rounds)
    settings = {name: value for name, value in vars(arguments).items() if name != "output"}
    write(arguments.output, {"setting": settings, "machine": machine(torch.device("cpu")), "seconds": seconds})
    for name, rounds in seconds.items():
        middle = statistics.median(rounds)
        print(f"{name:22} {middle * 1e3:8.1f} ms a batch, {middle * 1e3 / arguments.images:7.2f} ms a picture")


if __name__ == "__main__":
    main()
