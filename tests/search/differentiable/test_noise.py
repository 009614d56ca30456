import pytest
import torch

from supernet.search.differentiable import noise as module
from supernet.search.differentiable.noise import Noise

CPU = torch.device("cpu")


def draw(noise, number):
    with noise.drawn(number, CPU):
        return torch.rand(3)


def test_a_stream_depends_on_seed_stream_and_number_alone_and_leaves_the_global_generator():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = draw(Noise(0, 1), 2)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    assert torch.equal(draw(Noise(0, 1), 2), first)
    others = [draw(Noise(1, 1), 2), draw(Noise(0, 2), 2), draw(Noise(0, 1), 3)]
    assert not any(torch.equal(other, first) for other in others)


def test_seeds_are_those_that_the_streams_begin_with():
    noise = Noise(3, 4)
    first = draw(noise, 7)
    assert torch.equal(torch.rand(3, generator=torch.Generator().manual_seed(noise.seed_of(7))), first)


def test_the_numbers_of_a_step_are_kept_until_the_next_one_ends():
    noise = Noise(0, 0)
    draw(noise, 4), draw(noise, 4), draw(noise, 5)
    assert noise.last_step == []
    noise.end_step()
    draw(noise, 6)
    assert noise.last_step == [4, 4, 5]
    noise.end_step()
    assert noise.last_step == [6]


@pytest.fixture
def used(monkeypatch):
    """The generators that streams were drawn from instead of the global one, where there is no GPU."""
    used = []

    def instead(own, device):
        used.append(own)
        return torch.random.fork_rng(devices=[])

    monkeypatch.setattr(module, "_instead", instead)
    return used


def test_a_recorded_step_draws_from_the_generators_of_the_graph_in_turn(used):
    noise, own = Noise(0, 0), [torch.Generator(), torch.Generator()]
    with noise.recorded(own):
        draw(noise, 1), draw(noise, 2)
        with pytest.raises(RuntimeError, match="more often"):
            draw(noise, 3)
    assert used == own
    draw(noise, 1)
    assert used == own  # afterwards as before


def test_a_recorded_step_has_its_own_streams_alone(used):
    """Each is seeded anew before a replay; one that a step began which never ended has no generator."""
    noise = Noise(0, 0)
    draw(noise, 1)
    noise.end_step()
    draw(noise, 2)  # and the step fails
    with noise.recorded([torch.Generator()]):
        assert noise.last_step == []
        draw(noise, 3)
        noise.end_step()
    assert noise.last_step == [3]
    assert len(used) == 1
