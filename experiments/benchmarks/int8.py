"""Whether 8 bits pay: size, time and accuracy of exported networks in float32 and with both kinds of activations.

Random weights stand in where only the time counts; the networks that learn are trained on the digits, by a few seeds.
All forms of a network run in turns, one image on one thread: when the machine changes its speed, it does so for all.

    python -m experiments.benchmarks.int8                                              # five minutes
    python -m experiments.benchmarks.int8 --networks mobilenet_v2 --side 64
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

import supernet
from experiments.benchmarks.setting import machine, write
from experiments.exporting import Candidate, Row, compared
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.data.dataset import Data, Sealed
from supernet.deployment.exporting import export
from supernet.deployment.onnx_predictor import OnnxPredictor
from supernet.deployment.predictor import Predictor
from supernet.space.choosers import Decided
from supernet.space.survey import random_cell

_CLASSES = tuple(map(str, range(10)))
_UNTRAINED = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
_TRAINED = ("digits_darts", "digits_micro_mobile")


def untrained(name: str, side: int) -> tuple[Predictor, Data]:
    """A published mobile network with its initial weights, and noise to measure the ranges of its activations by."""
    space, cell = supernet.spaces.of(name), supernet.published(name)
    torch.manual_seed(0)
    shape = (3, side, side)
    network = space.network(Decided(cell), shape, len(_CLASSES))
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, *shape), generator=draw, dtype=torch.uint8)
    source, plain = Resident(images, torch.arange(64) % 10), Augmentation((0.5,) * 3, (0.25,) * 3)
    data = Data("noise", _CLASSES, source, None, Sealed(source), plain)
    return Predictor(
        network.eval(),
        space=space,
        architecture=cell,
        classes=_CLASSES,
        shape=shape,
        augmentation=plain,
        provenance={"data": data.name},
    ), data


def trained(name: str, seed: int) -> tuple[Predictor, Data]:
    """A small network that has learnt the digits."""
    data = supernet.data.digits()
    if name == "digits_darts":
        space: supernet.Darts | supernet.Mobile = supernet.Darts(channels=16, cells=5)
        cell = supernet.published("darts_v2")
    else:
        space = supernet.spaces.micro_mobile()
        cell = random_cell(space, seed, shape=data.shape, outputs=10)
    return supernet.train(cell, space, data, epochs=20, seed=seed), data


def forms(model: Predictor, data: Data, folder: Path) -> Iterator[Candidate]:
    """The model of PyTorch, then its files: float32, and both kinds of activations."""
    yield Candidate("PyTorch", "PyTorch", 0, model.probabilities, _calls(model.probabilities))
    for name, more in {"float32": {}, "uint8": {"activations": "uint8"}, "int8": {"activations": "int8"}}.items():
        path = folder / f"{name}.onnx"
        written = export(model, path, int8=bool(more), data=data if more else None, **more)
        loaded = OnnxPredictor(path)
        yield Candidate(name, "ONNX Runtime", written.bytes, loaded.probabilities, loaded.program)


def _calls(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Callable[[], object]]:
    return lambda pixels: lambda: run(pixels)


def measured(name: str, side: int, seed: int) -> list[Row]:
    """All forms of a network, in turns; accuracies of one that has learnt."""
    learnt = name in _TRAINED
    model, data = trained(name, seed) if learnt else untrained(name, side)
    with tempfile.TemporaryDirectory() as folder:
        return compared(list(forms(model, data, Path(folder))), data if learnt else None, model.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=(*_UNTRAINED, *_TRAINED), default=[*_UNTRAINED, *_TRAINED])
    parser.add_argument("--side", type=int, default=128, help="of the images of networks that have not learnt")
    parser.add_argument("--seeds", type=int, default=3, help="of those that have")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/int8.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[list[dict[str, object]]]] = {}
    for name in arguments.networks:
        for seed in range(arguments.seeds if name in _TRAINED else 1):
            rows = measured(name, arguments.side, seed)
            found.setdefault(name, []).append([asdict(row) for row in rows])
            for row in rows:
                accuracy = "" if row.score is None else f", {row.told}"
                times = f"{row.milliseconds:.3f} ms ({row.low:.3f} to {row.high:.3f})"
                print(f"{name} seed {seed}: {row.name}: {times}, {row.bytes:,} bytes{accuracy}", flush=True)
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    write(arguments.output, {"settings": settings, "machine": machine(torch.device("cpu")), "networks": found})


if __name__ == "__main__":
    main()
