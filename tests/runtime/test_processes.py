"""Two and three processes over gloo: what each of the meetings gives, and its gradients."""

import os
import time

import pytest
import torch
from together import taken_together
from torch import nn

from supernet.runtime import processes as module
from supernet.runtime.errors import InputError
from supernet.runtime.processes import ALONE, Processes, together
from supernet.runtime.seeding import seed_everything


@pytest.mark.parametrize(("count", "total"), [(1, 5), (2, 5), (3, 10), (4, 10), (4, 3)])
def test_shares_lie_side_by_side_and_are_all_there_is(count, total):
    every = [Processes(rank, count) for rank in range(count)]
    indices = torch.arange(total)
    assert torch.equal(torch.cat([one.share(indices) for one in every]), indices)
    assert [len(one.share(indices)) for one in every] == every[0].sizes(total)
    assert max(every[0].sizes(total)) - min(every[0].sizes(total)) <= 1


@pytest.mark.parametrize(("given", "line"), [((2, 2), "rank=2: 2 processes have the ranks from 0 to 1")])
def test_a_rank_that_is_none_is_refused(given, line):
    with pytest.raises(InputError, match=line):
        Processes(*given)
    with pytest.raises(InputError, match="every=0: needs 1 step or more"):
        Processes(every=0)


def test_alone_nothing_is_changed():
    x = torch.ones(2, requires_grad=True)
    assert ALONE.averaged([x])[0] is x
    assert ALONE.gathered(x, [2]) is x
    assert ALONE.all_of("a") == ["a"]
    assert ALONE.from_leader(lambda: 3) == 3
    with ALONE.leader_first():
        ALONE.wait()
    assert ALONE.largest([2, -1]) == [2, -1]


def of_ranks(processes):
    """A number of each process, as a parameter: 1.0 in the first one, 2.0 in the second..."""
    return torch.tensor([1.0 + processes.rank], dtype=torch.float64, requires_grad=True)


def test_means_and_their_slopes():
    """f = sum over ranks of a_r x^2; the mean gradient, and the gradient of its square, against closed forms."""

    def take(processes):
        x = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
        factor = of_ranks(processes).detach() * processes.count
        (own,) = torch.autograd.grad((factor * x**2).sum(), [x], create_graph=True)
        (slope,) = processes.averaged([own])
        (curve,) = processes.averaged(torch.autograd.grad((slope * 5).sum(), [x]))
        kinds = [torch.ones(2) * processes.rank, torch.ones(3, dtype=torch.float64) * 2 * processes.rank]
        processes.average_(kinds)
        return slope.item(), curve.item(), [each.tolist() for each in kinds]

    for slope, curve, kinds in taken_together(take, 3):
        assert slope == (1 + 2 + 3) * 2 * 3  # f' = 2 (sum a) x
        assert curve == (1 + 2 + 3) * 2 * 5
        assert kinds == [[1.0] * 2, [2.0] * 3]


def test_rows_are_gathered_and_each_has_its_own_gradient():
    def take(processes):
        rows = torch.full((2 - processes.rank, 2), 1.0 + processes.rank, dtype=torch.float64, requires_grad=True)
        whole = processes.gathered(rows, [2, 1])
        (slope,) = torch.autograd.grad((whole**3).sum(), rows, create_graph=True)
        (curve,) = torch.autograd.grad(slope.sum(), rows)
        return whole.tolist(), slope.tolist(), curve.tolist()

    (whole, *first), (same, *second) = taken_together(take, 2)
    assert whole == same == [[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]]
    assert first == [[[3.0] * 2] * 2, [[6.0] * 2] * 2]
    assert second == [[[12.0] * 2], [[12.0] * 2]]


def test_stacked_has_the_gradient_of_all_losses_together():
    """Loss of rank r: (r + 1) * (product of all x)^2. Its first and second derivatives in one's own x are known."""

    def take(processes):
        x = of_ranks(processes)
        loss = (processes.rank + 1) * processes.stacked(x).prod() ** 2
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        (curve,) = torch.autograd.grad((slope * (processes.rank + 1)).sum(), x)
        return slope.item(), curve.item()

    # F = 3 (x1 x2)^2 at (1, 2): F1 = 6 x1 x2^2, F2 = 6 x1^2 x2; then the gradient of F1 + 2 F2.
    assert taken_together(take, 2) == [(24.0, 24.0 + 2 * 24.0), (12.0, 24.0 + 2 * 6.0)]


def test_objects_answers_and_turns():
    def take(processes):
        began = time.monotonic()
        with processes.leader_first():
            if processes.leads:
                time.sleep(0.3)
            waited = time.monotonic() - began
        found = processes.all_of({"own": torch.full((processes.rank + 1,), 7)})
        return (
            [len(one["own"]) for one in found],
            processes.from_leader(lambda: os.getpid()),
            processes.largest([processes.rank, -processes.rank]),
            waited >= 0.25,
        )

    one, other = taken_together(take, 2)
    assert one == other
    assert one[0] == [1, 2]
    assert one[2:] == ([1, 0], True)


@pytest.mark.parametrize("broken", ["weights", "noise", None])
def test_a_process_that_holds_something_else_is_found(broken):
    def take(processes):
        seed_everything(0)
        parts = {"network": (network := nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))}
        if processes.rank == 1 and broken == "weights":
            with torch.no_grad():
                network[0].bias[1] += 1e-7
        if processes.rank == 1 and broken == "noise":
            torch.rand(1)
        try:
            processes.compare(parts, "step 3")
        except module.Parted as error:
            return str(error)
        return ""

    names = {"weights": "network/0.bias", "noise": "random/torch", None: ""}
    for line in taken_together(take, 2):
        assert line.startswith(f"{names[broken]} differs between processes 0 and 1 at step 3" if broken else "")
        assert bool(line) == bool(broken)


def test_without_a_launcher_a_process_is_alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with together(every=7, synchronised=True) as processes:
        assert processes == Processes(every=7, synchronised=True)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with together() as processes:
        assert not processes.several


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE=many: needs a whole number; torchrun sets it, and unset RANK is for a"),
        ({"RANK": "x"}, "RANK=x: needs a whole number"),
        ({"RANK": "5"}, "RANK=5: of WORLD_SIZE=2 processes, whose ranks are 0 to 1"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR: is not set; RANK and WORLD_SIZE say that there are 2 processes"),
        ({"MASTER_PORT": ""}, "MASTER_PORT=: needs a whole number"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT=70000: ports have the numbers from 1 to 65535"),
    ],
)
def test_what_a_launcher_cannot_have_said_is_a_line_and_not_a_wait(changes, line, monkeypatch):
    said = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511", **changes}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=line), together():
        pass


def test_each_process_sees_the_gpu_that_is_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    module._see_one_gpu(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    module._see_one_gpu(1)  # again: it sees one already
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
