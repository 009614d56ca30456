import gzip
import struct

import numpy as np
import pytest

from supernet.data import cifar10, fashion_mnist, svhn
from supernet.data.torchvision_archives import read_torchvision
from supernet.runtime.errors import InputError


def test_absent_torchvision_set_says_the_way_out(tmp_path):
    with pytest.raises(InputError, match=r"^root=.*: no complete CIFAR10 there .* download=True, or digits") as error:
        cifar10(root=str(tmp_path))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"^name=Omniglot: use one of CIFAR10"):
        read_torchvision("Omniglot", "data", download=False)


def test_cifar_through_torchvision(tmp_path, monkeypatch):
    from torchvision import datasets

    def fake(self, root, train, download):
        self.data = np.random.default_rng(int(train)).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
        self.targets = [i % 10 for i in range(20)]
        self.classes = [f"class {i}" for i in range(10)]

    monkeypatch.setattr(datasets.CIFAR10, "__init__", fake)
    data = cifar10(root=str(tmp_path))
    assert data.shape == (3, 32, 32)
    assert data.classes[3] == "class 3"
    assert (len(data.train), len(data.test)) == (20, 20)


def test_svhn_through_torchvision(tmp_path, monkeypatch):
    from torchvision import datasets

    def fake(self, root, split, download):
        self.data = np.zeros((20, 3, 32, 32), dtype=np.uint8) + (split == "test")
        self.labels = np.arange(20) % 10

    monkeypatch.setattr(datasets.SVHN, "__init__", fake)
    data = svhn(root=str(tmp_path))
    assert data.name == "svhn"
    assert data.shape == (3, 32, 32)
    assert data.classes == tuple("0123456789")
    assert data.test.open().images.unique().tolist() == [1]


def test_fashion_mnist_from_its_published_files(tmp_path):
    for prefix, n in (("train", 30), ("t10k", 20)):
        with gzip.open(tmp_path / f"{prefix}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">4i", 2051, n, 28, 28) + bytes(range(n)) * 784)
        with gzip.open(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">2i", 2049, n) + bytes(i % 10 for i in range(n)))
    data = fashion_mnist(source=str(tmp_path))
    assert (data.shape, len(data.train), len(data.test)) == ((1, 28, 28), 30, 20)
    assert data.classes[9] == "Ankle boot"
    assert data.train.labels[:3].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        fashion_mnist(source=str(tmp_path / "absent"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-20],
        lambda packed: packed[:30] + b"\xff" * 20 + packed[50:],
        lambda packed: gzip.compress(gzip.decompress(packed)[:-100]),
        lambda packed: gzip.compress(b"abcd" + gzip.decompress(packed)[4:]),
    ],
)
def test_damaged_idx_files_are_one_line(tmp_path, damage):
    packed = gzip.compress(struct.pack(">4i", 2051, 30, 28, 28) + np.random.default_rng(0).bytes(784 * 30))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(damage(packed))
    with pytest.raises(InputError, match=r"^source=.*: train-images-idx3-ubyte.gz (cannot|holds|is not)"):
        fashion_mnist(source=str(tmp_path))
