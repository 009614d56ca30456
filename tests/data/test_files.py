import os
import pickle
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from supernet.data.files import Files, read_ahead
from supernet.data.names import Names
from supernet.data.pictures import Paths
from supernet.runtime.errors import InputError


@pytest.fixture
def files(tmp_path) -> Files:
    """Picture i is filled with the level i."""
    for n in range(11):
        Image.fromarray(np.full((4, 4), n, np.uint8)).save(tmp_path / f"{n:02}.png")
    return Files(tuple(str(p) for p in sorted(tmp_path.iterdir())), torch.arange(11), (1, 4, 4))


def levels(images) -> list[int]:
    return images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("count", [1, 3])
def test_shares_of_processes_are_the_joined_batches(files, workers, count):
    plan = torch.randperm(22, generator=torch.Generator().manual_seed(0)).remainder(11).split(5)
    plan = (*plan, torch.tensor([4, 2]))  # of which the third of three processes has nothing
    read = [read_ahead(files.raw, [each.tensor_split(count)[rank] for each in plan], workers) for rank in range(count)]
    for indices, shares in zip(plan, zip(*read, strict=True), strict=True):
        assert all(share.shape[1:] == (1, 4, 4) for share in shares)
        assert levels(torch.cat(shares)) == indices.tolist()


def test_paths_are_packed_and_subsets_share_them(files):
    half = files.subset(torch.tensor([9, 1]))
    assert isinstance(half.paths, Paths)
    assert half.paths.names.block is files.paths.names.block
    assert list(half.paths) == [files.paths[9], files.paths[1]]
    assert list(files.paths[9:]) == [files.paths[9], files.paths[10]]
    assert levels(pickle.loads(pickle.dumps(half)).raw(torch.arange(2))) == [9, 1]
    assert list(Files((), torch.zeros(0).long(), (1, 4, 4)).paths) == []


def test_names_of_any_bytes_come_back_as_they_are():
    names = ["a", "", "é/ü", os.fsdecode(b"\xff\xfe"), "x" * 5000]
    packed = Names.of(names)
    assert list(packed) == names
    assert list(packed[1:4]) == names[1:4]
    assert packed[-1] == names[-1]
    with pytest.raises(IndexError):
        packed[5]


@pytest.mark.slow
def test_a_killed_reader_is_one_line(files):
    def killed(indices):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(InputError, match="a process that reads images ahead was killed"):
        next(read_ahead(killed, [torch.arange(2)], workers=1))
