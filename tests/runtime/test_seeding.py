import random

import numpy as np
import torch

from supernet.runtime.seeding import generator, seed_everything


def test_a_stream_is_the_same_for_ever():
    stream = generator(3, 1, 4)
    assert stream.initial_seed() == 17107326994470022395
    assert torch.randint(0, 1 << 30, (3,), generator=stream).tolist() == [430439415, 1060867901, 1065524859]


def test_every_integer_of_the_key_and_their_order_count():
    keys = [(), (0,), (0, 0), (1, 2), (2, 1), (12,), (-1,), (2**70,), (1, 2, 0)]
    assert len({generator(*key).initial_seed() for key in keys}) == len(keys)


def test_neighbouring_streams_are_uncorrelated():
    draws = torch.stack([torch.randn(2000, generator=generator(0, stream)) for stream in range(20)])
    correlations = torch.corrcoef(draws) - torch.eye(20)
    assert correlations.abs().max() < 0.1  # 4.5 standard deviations of independent streams


def test_a_generator_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    torch.rand(1, generator=generator(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_seed_everything_seeds_all_three_libraries():
    def draws():
        seed_everything(7)
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    assert draws() == draws()
