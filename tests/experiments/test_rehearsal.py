"""A step that is rehearsed sends what a step of real processes sends: the same collectives, with the same bytes."""

from collections import Counter
from functools import partial

import pytest
import torch
import torch.distributed as dist
from supernet.experiments.rehearsal import HOSTS, Meeting, Rehearsal
from together import taken_together

from supernet.data.batches import Batch, JoinedBatch
from supernet.search import methods
from supernet.search.loop import search_step
from supernet.search.strategy import Step
from supernet.space.darts import Darts
from supernet.space.supernet import Supernet
from supernet.training.joining import prepare_network
from supernet.training.sgd import sgd
from supernet.training.tasks import CLASSIFICATION
from supernet.training.tasks.joined import joined

SPACE, SHAPE, SIZE = Darts(channels=4, cells=1, nodes=2), (1, 6, 6), 5


def step(name, processes):
    method = getattr(methods, name)()
    torch.manual_seed(0)
    supernet = Supernet(SPACE.network(method.chooser_for(SPACE), SHAPE, 3))
    prepare_network(supernet, processes)
    strategy = method.make_strategy(SPACE.name, supernet.decisions, seed=0)
    images, labels, rows = torch.randn(SIZE, *SHAPE), torch.arange(SIZE) % 3, processes.rows(SIZE)
    batch = Batch(images[rows], labels[rows], JoinedBatch(labels, rows))
    optimizer = sgd(supernet, 0.01, 0.9, weight_decay=0.0)
    task = joined(CLASSIFICATION, processes)
    search_step(Step(supernet, batch, batch, task, optimizer, 0.3, processes=processes), strategy, 5.0)
    processes.largest([0, 0])


def really_sent(name, processes):
    """The bytes that each collective leaves in a process, and how often they go around a ring."""
    own, found = (dist.all_reduce, dist.all_gather), Counter()

    def reduce(tensor, *settings):
        found[tensor.nbytes, 2] += 1
        return own[0](tensor, *settings)

    def gather(outputs, tensor):
        found[sum(each.nbytes for each in outputs), 1] += 1
        return own[1](outputs, tensor)

    dist.all_reduce, dist.all_gather = reduce, gather
    try:
        step(name, processes)
    finally:
        dist.all_reduce, dist.all_gather = own
    return found


@pytest.mark.parametrize(
    ("name", "synchronised"),
    [("darts_2nd", False), *(pytest.param("darts_2nd_exact", each, marks=pytest.mark.slow) for each in (False, True))],
)
def test_it_counts_what_processes_send(name, synchronised):
    (found, _) = taken_together(partial(really_sent, name), 2, synchronised=synchronised)
    assert isinstance(found, Counter), found
    rehearsal = Rehearsal(count=2, synchronised=synchronised)
    step(name, rehearsal)
    assert Counter((meeting.size, meeting.passes) for meeting in rehearsal.held) == found


def test_what_is_not_there_is_taken_to_be_the_same():
    rehearsal = Rehearsal(count=3)
    x = torch.ones(2, requires_grad=True)
    assert rehearsal.gathered(x, [2, 2, 1]).tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    (slope,) = torch.autograd.grad(rehearsal.stacked(x).prod(), x)
    assert slope.tolist() == [3.0, 3.0]
    rehearsal.compare({"part": torch.nn.Linear(1, 1)}, "step 1")
    with rehearsal.leader_first():
        assert rehearsal.all_of("a") == ["a"] * 3
    assert rehearsal.from_leader(lambda: 1) == 1
    assert [m.size for m in rehearsal.held if m.what != HOSTS] == [24, 24, 24]


def test_alone_there_is_nothing_to_count():
    alone, x = Rehearsal(), torch.ones(2)
    assert alone.averaged([x])[0] is alone.gathered(x, [2]) is x
    assert alone.stacked(x).shape == (1, 2)
    alone.average_([x])
    assert alone.held == []
    assert Meeting("weights", 10, 2).sent(1) == 0
