"""The predictor around a network that tells what it was given."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from supernet.data.augmentation import Augmentation
from supernet.deployment.predictor import Predictor
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture
from supernet.space.darts import Darts

pytestmark = pytest.mark.filterwarnings("error")


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))
        self.given = []

    def forward(self, images):
        self.given.append(images)
        return torch.stack([images.mean((1, 2, 3)) + self.bias, images[:, 0, 0, 0]], dim=1)


def predictor(shape=(3, 4, 5)):
    channels = shape[0]
    augmentation = Augmentation((0.0,) * channels, (1.0,) * channels)
    return Predictor(
        Recorder(),
        space=Darts(4, 3),
        architecture=Architecture("toy", {}),
        classes=("dark", "light"),
        shape=shape,
        augmentation=augmentation,
        provenance={},
    )


def picture(height=4, width=5):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_many_images_run_in_batches_and_keep_their_order():
    use = predictor()
    images = [picture() * 0 + i % 256 for i in range(300)]
    results = use(images)
    assert [len(given) for given in use.network.given] == [256, 44]
    seen = torch.cat(use.network.given)[:, 0, 0, 0]
    torch.testing.assert_close(seen, torch.arange(300).remainder(256) / 255)
    assert len(results) == 300
    assert results[0].probs.top5 in ([0, 1], [1, 0])


@pytest.mark.parametrize("size", [(4, 5), (20, 30), (3, 2)])
def test_a_file_and_the_opened_image_are_the_same(tmp_path, size):
    path = tmp_path / "a.png"
    Image.fromarray(picture(*size)).save(path)
    use = predictor()
    with Image.open(path) as opened:
        results = use([str(path), opened, path])
    first, second, third = use.network.given[0]
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    assert [r.path for r in results] == [str(path), None, str(path)]


def test_sixteen_bits_are_scaled():
    use = predictor((1, 4, 5))
    use(Image.fromarray(np.full((4, 5), 32768, dtype=np.uint16)))
    torch.testing.assert_close(use.network.given[0], torch.full((1, 1, 4, 5), 128 / 255))


def test_bytes_and_floats_go_together_and_read_only_arrays_do():
    use, image = predictor(), picture()
    image.flags.writeable = False
    use([image, torch.tensor(image.tolist()).permute(2, 0, 1) / 255])
    torch.testing.assert_close(*use.network.given[0])


def test_nothing_gives_nothing():
    assert predictor()([]) == []
    assert predictor()(torch.zeros(0, 3, 4, 5)) == []
    with pytest.raises(InputError, match="no pixels"):
        predictor()(torch.zeros(1, 3, 0, 5))


def test_a_folder_is_all_images_in_it(tmp_path):
    names = ["b.png", "a/2.PNG", "a/1.bmp", "a/deep/3.png"]
    hidden = [".hidden.png", ".thumbnails/x.png", "a/._1.png"]
    for name in [*names, *hidden]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture()).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    found = [r.path for r in predictor()([str(tmp_path), tmp_path / "b.png"])]
    assert found == [str(tmp_path / name) for name in ["a/1.bmp", "a/2.PNG", "a/deep/3.png", "b.png", "b.png"]]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no images in this folder"):
        predictor()(tmp_path / "empty")
