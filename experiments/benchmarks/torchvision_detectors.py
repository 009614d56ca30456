"""A detector of torchvision from scratch beside ours: the same pictures, changes of pictures, time and judge.

It gets as many seconds of training as ours took on the same machine, with a cosine over them, and the same average of
its weights. Its own sizes: SSDLite takes 320 x 320 pixels, Faster R-CNN 320 on the shorter side.

    python -m experiments.benchmarks.torchvision_detectors BCCD --seconds 480 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision.models.detection as detectors
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import supernet
from experiments.benchmarks.setting import machine, write
from supernet.data.augmentation import Augmentation
from supernet.data.batches import Batch, Source, evaluation_batches, training_batches
from supernet.data.dataset import Data
from supernet.data.targets import CLASS, CORNERS, IGNORED
from supernet.detection.average_precision import AveragePrecision, area_scales, average_precision
from supernet.detection.decoding import Detections

_PLAIN: dict[str, Any] = {"weights": None, "weights_backbone": None}
MODELS: dict[str, Callable[[int], nn.Module]] = {
    "ssdlite320_mobilenet_v3_large": lambda classes: detectors.ssdlite320_mobilenet_v3_large(
        **_PLAIN, num_classes=classes + 1, score_thresh=0.001, detections_per_img=100
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": lambda classes: detectors.fasterrcnn_mobilenet_v3_large_320_fpn(
        **_PLAIN, num_classes=classes + 1, box_score_thresh=0.001, trainable_backbone_layers=6
    ),
}


def targets_of(batch: Batch) -> list[dict[str, Tensor]]:
    """The boxes as torchvision wants them: class 0 is its background."""
    made = []
    for boxes in batch.labels:
        kept = boxes[(boxes[:, CLASS] >= 0) & (boxes[:, IGNORED] == 0)]
        made.append({"boxes": kept[:, CORNERS], "labels": kept[:, CLASS].long() + 1})
    return made


def trained(data: Data, model: str, seconds: float, rate: float, batch_size: int, seed: int) -> tuple[nn.Module, int]:
    """Trains a detector for so many seconds; returns the average of its weights, and how many steps it took."""
    torch.manual_seed(seed)
    network = MODELS[model](len(data.classes)).train()
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.995), use_buffers=True)
    optimizer = torch.optim.SGD(network.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=1e-4)
    pixels = _as_pixels(data.augmentation)
    began = time.perf_counter()
    for steps, batch in enumerate(training_batches(data.train, batch_size, pixels, seed=seed)):
        spent = (time.perf_counter() - began) / seconds
        if spent >= 1:
            return average.module, steps
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (steps + 1) / 100) * 0.5 * (1 + math.cos(math.pi * spent))
        loss = torch.stack(list(network(list(batch.images), targets_of(batch)).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        average.update_parameters(network)
    raise AssertionError("batches have no end")


@torch.inference_mode()
def judged(network: nn.Module, source: Source, augmentation: Augmentation, classes: int) -> AveragePrecision:
    """COCO's figures on a set."""
    network.eval()
    found, truths = [], []
    for batch in evaluation_batches(source, 8, _as_pixels(augmentation)):
        answers = network(list(batch.images))
        found += [Detections(each["boxes"], each["scores"], each["labels"] - 1) for each in answers]
        truths += list(batch.labels)
    return average_precision(found, truths, classes, area_scales(truths))


def _as_pixels(augmentation: Augmentation) -> Augmentation:
    """The same changes, and pixels in [0, 1]: these detectors normalise themselves."""
    channels = len(augmentation.mean)
    return Augmentation((0.0,) * channels, (1.0,) * channels, boxes=augmentation.boxes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of Pascal VOC with train, val and test")
    parser.add_argument("--model", choices=list(MODELS), default="ssdlite320_mobilenet_v3_large")
    parser.add_argument("--seconds", type=float, required=True, help="of training, for each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--part", choices=("valid", "test"), default="test", help="valid: to choose settings by")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/torchvision_detectors.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    for seed in given.seeds:
        data = supernet.data.voc(given.data, size=(288, 384), classes=["WBC", "RBC", "Platelets"], flip_down=True)
        network, steps = trained(data, given.model, given.seconds, given.rate, 8, seed)
        source = data.test.open() if given.part == "test" else data.valid
        assert source is not None
        figures = judged(network, source, data.augmentation, len(data.classes))
        own = dict(zip(data.classes, (at_half for _, at_half in figures.of_classes), strict=True))
        count = sum(parameter.numel() for parameter in network.parameters())
        row: dict[str, Any] = {"model": given.model, "seed": seed, "part": given.part, "parameters": count}
        row |= {"seconds": given.seconds, "steps": steps, "rate": given.rate}
        row |= {"map50": figures.map50, "map50_95": figures.map50_95, "ap50": own}
        rows.append(row)
        print(row, flush=True)
        write(given.output, {"machine": machine(torch.device("cpu")), "rows": rows})


if __name__ == "__main__":
    main()
