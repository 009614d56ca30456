import torch

from supernet.data.copies import copy_groups


def test_files_with_the_same_bytes_share_a_number(tmp_path):
    long = bytes(5000)
    contents = [b"one", b"two", b"one", long + b"a", long + b"b", long + b"a", b"longer"]
    paths = []
    for n, content in enumerate(contents):
        (tmp_path / str(n)).write_bytes(content)
        paths.append(str(tmp_path / str(n)))
    assert torch.equal(copy_groups(paths), torch.tensor([0, 1, 0, 3, 4, 3, 6]))
