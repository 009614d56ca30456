"""What the stand-in itself must show, each as a function that raises if it does not; run on two GPUs of 1 GB.

python -m tests.standin --gpus 2 --bytes 1000000000 tests/standin/checks.py
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.standin import account

DEVICE = torch.device("cuda:0")


def captured(compute: Callable[[], Tensor], *generators: torch.Generator) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """A graph of something, and what a replay writes."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators if torch.__version__ < "2.14" else ():
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        made = compute()
    return graph, made


def numbers_are_those_of_the_cpu() -> None:
    ours, images = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 5, 5)
    theirs = nn.Conv2d(3, 4, 3).to(DEVICE)
    theirs.load_state_dict(ours.state_dict())
    for network, place in ((ours, torch.device("cpu")), (theirs, DEVICE)):
        network(images.to(place)).square().mean().backward()
    assert theirs.weight.grad is not None
    assert torch.equal(ours.weight.grad, theirs.weight.grad.cpu())


def draws_are_those_of_the_cpu() -> None:
    torch.manual_seed(3)
    here = [
        torch.rand(3, device=DEVICE).cpu(),
        torch.randn(2, device=DEVICE).cpu(),
        torch.randint(9, (4,), device=DEVICE).cpu(),
    ]
    torch.manual_seed(3)
    there = [torch.rand(3), torch.randn(2), torch.randint(9, (4,))]
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def a_generator_of_its_own_is_replayed() -> None:
    """Seeded anew before each replay it draws what the eager step does, and so does the global one beside it."""
    own = torch.Generator(DEVICE)

    def draw() -> Tensor:
        return nn.functional.dropout(torch.rand(5, device=DEVICE, generator=own) + 1.0, 0.4)

    torch.manual_seed(1)
    eager = []
    for seed in range(3):
        own.manual_seed(seed)
        eager.append(draw().cpu())
    torch.manual_seed(1)
    graph, made = captured(draw, own)
    for seed, expected in enumerate(eager):
        own.manual_seed(seed)
        graph.replay()
        assert torch.equal(made.cpu(), expected)
    assert not account.journal()


def graphs_do_not_disturb_each_other() -> None:
    """Three of them, two in one pool and replayed in another order than they were captured."""
    source, pool = torch.ones(4, device=DEVICE), torch.cuda.graph_pool_handle()
    graphs = []
    for factor in (2.0, 3.0):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            graphs.append((graph, source * factor, factor))
    graphs.append((*captured(lambda: source - 5.0), -4.0))
    for graph, made, expected in reversed(graphs):
        graph.replay()
        assert made.tolist() == [expected] * 4


def a_capture_does_nothing_by_itself() -> None:
    """Neither a copy nor a fill, which are no kernels."""
    source, target = torch.ones(4, device=DEVICE), torch.zeros(4, device=DEVICE)
    graph, _ = captured(lambda: target.copy_(source * 3.0))
    zeroed, _ = captured(lambda: source.zero_())
    assert target.tolist() == [0.0] * 4
    graph.replay()
    zeroed.replay()
    assert target.tolist() == [3.0] * 4
    assert source.tolist() == [0.0] * 4


def memory_that_is_gone_is_not_read() -> None:
    sources = [torch.ones(2**20, device=DEVICE)]
    graph, _ = captured(lambda: sources[0] * 2.0)
    sources.clear()
    torch.cuda.empty_cache()
    with pytest.raises(AssertionError, match="used after it was freed"):
        graph.replay()


def memory_that_nobody_wrote_is_no_number() -> None:
    assert math.isnan(torch.empty(3, device=DEVICE).sum().item())
    graph, made = captured(lambda: torch.empty(3, device=DEVICE) * 1.0)
    graph.replay()
    assert made.isnan().all().item()


def launches_beside_a_capture_are_told() -> None:
    source, other = torch.ones(2, device=DEVICE), torch.cuda.Stream(DEVICE)

    def compute() -> Tensor:
        with torch.cuda.stream(other):
            source.mul_(2.0)
        return source + 1.0

    captured(compute)
    assert account.beside() == 1
    assert any("beside the capturing stream" in line for line in account.journal())


def a_stream_that_joins_a_capture_is_in_it() -> None:
    source, other = torch.ones(2, device=DEVICE), torch.cuda.Stream(DEVICE)

    def compute() -> Tensor:
        other.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(other):
            made = source * 2.0
        torch.cuda.current_stream().wait_stream(other)
        return made + 1.0

    graph, made = captured(compute)
    with torch.cuda.stream(other):
        assert not torch.cuda.is_current_stream_capturing()  # any more
    graph.replay()
    assert account.beside() == 0
    assert made.tolist() == [3.0, 3.0]


def what_waits_is_told_with_its_line() -> None:
    torch.ones(2, device=DEVICE).sum().item()
    assert any(line.endswith(" what_waits_is_told_with_its_line") for line in account.waits())


def waiting_within_a_capture_ends_it() -> None:
    before = torch.cuda.current_stream()
    with pytest.raises(RuntimeError, match="capture"):
        captured(lambda: torch.full((2,), torch.ones(2, device=DEVICE).sum().item()))
    torch.cuda.set_stream(before)
    assert any("prohibited during a capture" in line for line in account.journal())


def bytes_are_those_of_operations() -> None:
    """An eager sum of two, and the same as a graph, replayed twice."""
    one = torch.ones(100, device=DEVICE)
    account.clear()
    one + one
    assert account.moved["add"] == 1200
    graph, _ = captured(lambda: one + one)
    assert account.moved["add"] == 1200
    graph.replay()
    graph.replay()
    assert account.moved["add"] == 3600
    assert account.replayed == {"graphs": 2, "operations": 2}


def there_are_as_many_gpus_as_asked_for() -> None:
    assert torch.cuda.device_count() == 2
    assert (torch.ones(2, device="cuda:1") * 3.0).sum().item() == 6.0


def memory_ends() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(300_000_000, device=DEVICE)


def memory_of_the_host_goes_there_and_back() -> None:
    sent = torch.arange(5).pin_memory().to(DEVICE, non_blocking=True)
    assert sent[sent > 2].tolist() == [3, 4]
    assert sent.nonzero().flatten().tolist() == [1, 2, 3, 4]


def bfloat16_is_rounded_and_not_summed_in_it() -> None:
    numbers = torch.full((1, 4096), 1.001, dtype=torch.bfloat16, device=DEVICE)
    product = (numbers @ torch.ones(4096, 1, dtype=torch.bfloat16, device=DEVICE)).item()
    assert product == float(torch.tensor(4096 * numbers[0, 0].item()).bfloat16())


CHECKS = [
    numbers_are_those_of_the_cpu,
    draws_are_those_of_the_cpu,
    a_generator_of_its_own_is_replayed,
    graphs_do_not_disturb_each_other,
    a_capture_does_nothing_by_itself,
    memory_that_is_gone_is_not_read,
    memory_that_nobody_wrote_is_no_number,
    launches_beside_a_capture_are_told,
    a_stream_that_joins_a_capture_is_in_it,
    what_waits_is_told_with_its_line,
    bytes_are_those_of_operations,
    there_are_as_many_gpus_as_asked_for,
    memory_ends,
    memory_of_the_host_goes_there_and_back,
    bfloat16_is_rounded_and_not_summed_in_it,
    waiting_within_a_capture_ends_it,  # the last one: CUDA, too, may not recover from it
]

if __name__ == "__main__":
    for check in CHECKS:
        account.clear()
        check()
        print(check.__name__, flush=True)
