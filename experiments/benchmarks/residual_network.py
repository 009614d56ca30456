"""A small residual network beside the searched ones of finished runs: as many multiply-adds, trained and judged alike.

He et al. 2016 with three stages of one or two of torchvision's basic blocks; its width is the largest that costs no
more than the searched network. Data, recipe, seed, batches and task are those of the run, from its own record.

    python -m experiments.benchmarks.residual_network runs/xray/0 runs/xray/1 --output experiments/results/FILE.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from experiments.benchmarks.setting import machine, write
from experiments.clinical_report import validation
from experiments.exploration.finished_run import recorded_settings
from experiments.job import Job, prepare
from supernet.clinical.report import report
from supernet.estimation.costs import macs, parameters
from supernet.runtime.interrupt import Interruption
from supernet.training.answering import answers
from supernet.training.evaluation import evaluate
from supernet.training.loop import train


class Residual(nn.Module):
    """A stem, three stages of basic blocks of w, 2 w and 4 w channels, the mean over places, a linear classifier."""

    def __init__(self, channels: int, width: int, blocks: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers.append(nn.ReLU())
        last = width
        for stage in range(3):
            for block in range(blocks):
                stride, wide = (2 if stage and not block else 1), width * 2**stage
                fits = stride == 1 and last == wide
                short = None if fits else nn.Sequential(nn.Conv2d(last, wide, 1, stride), nn.BatchNorm2d(wide))
                layers.append(BasicBlock(last, wide, stride, short))
                last = wide
        self.features, self.classifier = nn.Sequential(*layers), nn.Linear(last, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits


def of_the_same_cost(job: Job, most: int, blocks: int) -> Residual:
    """The widest network that takes no more multiply-adds than `most`."""
    channels, classes = job.data.shape[0], len(job.data.classes)
    width = 1
    while True:
        with torch.device("meta"):
            wider = Residual(channels, width + 1, blocks, classes)
        if macs(wider, job.data.shape) > most:
            torch.manual_seed(job.seed)
            return Residual(channels, width, blocks, classes)
        width += 1


def beside(run: Path, blocks: int) -> dict[str, Any]:
    """Trains the residual network as the run trained its own, and judges it on the same images."""
    settings = recorded_settings(run, (), ())
    found = settings_of_found(run)
    with tempfile.TemporaryDirectory() as folder, Interruption() as interruption:
        job = prepare(settings, Path(folder), interruption)
        assert job.retrain_recipe is not None
        network = of_the_same_cost(job, found["macs"], blocks)
        images, valid = job.data.train, validation(job)
        if job.divided.retrain is not None:
            images = images.subset(job.divided.retrain[0])
        began = time.perf_counter()
        train(network, images, valid, job.data.augmentation, job.retrain_recipe, run=job.run("residual"), task=job.task)
        seconds = time.perf_counter() - began
        test = job.data.test.open()
        size = job.retrain_recipe.batch_size
        how: dict[str, Any] = {"batch_size": size, "device": job.device, "task": job.task}
        averages = evaluate(network, test, job.data.augmentation, **how)
        row = {"run": str(run), "seed": job.seed, "network": "residual", "blocks": blocks}
        row |= {"parameters": parameters(network), "macs": macs(network, job.data.shape), "seconds": seconds}
        row |= {job.task.score: averages.score, **averages.others}
        if valid is not None and job.data.kind != "boxes":
            judged = [answers(network, part, job.data.augmentation, **how) for part in (valid, test)]
            row["clinical"] = report(judged[0], judged[1], job.data.classes).plain()
    return {**row, "searched": found}


def settings_of_found(run: Path) -> dict[str, Any]:
    """What the summary of a run says of its searched network."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return {name: summary["finalists"][0][name] for name in ("parameters", "macs", "test_score", "test_others")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="finished runs, each of one seed")
    parser.add_argument("--blocks", type=int, default=1, help="blocks of a stage")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/residual_network.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    for run in given.runs:
        rows.append(beside(run, given.blocks))
        shown = {name: value for name, value in rows[-1].items() if name not in ("clinical", "searched")}
        print(shown, flush=True)
        write(given.output, {"machine": machine(torch.device("cpu")), "rows": rows})


if __name__ == "__main__":
    main()
