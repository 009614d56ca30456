"""A proxy that a run is asked for looks at the network of the run's task, with the loss of that task."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from supernet.experiments.exploration import scores

from supernet.data.batches import Batch
from supernet.detection.head import AnchorFree, AnchorFreeHead
from supernet.space.nasbench201 import NasBench201, from_string
from supernet.space.operations import OPERATIONS
from supernet.training.tasks import Detection


@pytest.mark.parametrize("proxy", ["jacov", "snip"])
def test_a_proxy_of_a_run_that_detects_measures_the_detector(proxy, monkeypatch):
    labels = torch.full((4, 1, 7), -1.0)
    labels[:2, 0] = torch.tensor([0.0, 1, 1, 6, 6, 0, 25])
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(scores, "_images", lambda *_: [Batch(images, labels)])
    final = SimpleNamespace(space=NasBench201(channels=4, cells=1, stages=2, nodes=1), shape=(1, 8, 8))
    final.factories = OPERATIONS
    task = Detection(("cell",), AnchorFree(1, width=8, towers=1, strides=(1, 2)))
    job = SimpleNamespace(final=final, data=SimpleNamespace(classes=("cell",)), seed=0, task=task)
    material: Any = SimpleNamespace(job_for=lambda _: job, shared={})
    judge: Any = scores.zero_cost(material, proxy=proxy)
    cell = from_string("|nor_conv_3x3~0|")
    assert isinstance(judge.score.probe(cell).network.prediction, AnchorFreeHead)
    assert judge.score(cell).values[proxy] > -1e9
