"""What a search is about, in one object."""

from dataclasses import replace

import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.estimation.problem import SearchProblem
from supernet.runtime.run import Run
from supernet.space.choosers import Undecided
from supernet.space.nasbench201 import NasBench201
from supernet.space.supernet import Supernet
from supernet.training.tasks import CLASSIFICATION


def problem(run: Run) -> SearchProblem:
    torch.manual_seed(0)
    space = NasBench201(channels=4, cells=1, stages=1, nodes=1)
    supernet = Supernet(space.network(Undecided(), (1, 4, 4), 2))
    train, valid = (Resident(torch.full((4, 1, 4, 4), n, dtype=torch.uint8), torch.arange(4) % 2) for n in (1, 2))
    return SearchProblem(supernet, train, valid, Augmentation((0.5,), (0.25,)), run)


def test_everything_goes_to_the_device_and_the_supernet_into_training_mode():
    given = problem(Run(device=torch.device("meta")))
    given.supernet.eval()
    there = given.on_device()
    assert there.supernet is given.supernet
    assert all(module.training for module in there.supernet.modules())
    assert {value.device.type for value in there.supernet.state_dict().values()} == {"meta"}
    assert {half.images.device.type for half in (there.train, there.valid)} == {"meta"}
    assert {half.labels.device.type for half in (there.train, there.valid)} == {"cpu"}
    assert (there.run, there.task, there.augmentation) == (given.run, CLASSIFICATION, given.augmentation)


def test_both_halves_stay_what_they_are():
    there = problem(Run()).on_device()
    assert (there.train.images.unique().tolist(), there.valid.images.unique().tolist()) == ([1], [2])


def test_the_supernet_runs_in_the_precision_of_the_run_and_all_share_one_way_to_it():
    given = problem(Run(precision="bfloat16"))
    images = torch.randn(4, 1, 4, 4)
    weights = {name: torch.full((len(d.options),), 0.2) for name, d in given.supernet.decisions.items()}
    plain = given.supernet(images, weights)
    with given.accelerated:
        rounded = given.supernet(images, weights)
    assert not torch.equal(rounded, plain)
    assert torch.equal(rounded.bfloat16().float(), rounded)
    assert given.accelerated is given.accelerated
    exact = replace(given, run=Run())
    with exact.accelerated:
        assert torch.equal(given.supernet(images, weights), plain)
