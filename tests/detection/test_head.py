"""The head: any size of picture, the same in half precision, in an exported graph, and with one class."""

from types import SimpleNamespace

import pytest
import torch

from supernet.detection.head import AnchorFree, level_sizes
from supernet.execution.engines import engine
from supernet.runtime.errors import InputError

MAPS = [SimpleNamespace(channels=6, stride=8), SimpleNamespace(channels=8, stride=16)]


def maps_of(height, width, batch=2):
    """What a network gives whose layers halve odd sides to the larger half."""
    torch.manual_seed(0)
    sizes = [(-(-height // stride), -(-width // stride)) for stride in (8, 16)]
    return [torch.randn(batch, m.channels, *size) for m, size in zip(MAPS, sizes, strict=True)]


def head_of(classes=3, **settings):
    torch.manual_seed(1)
    return AnchorFree(classes, **{"width": 8, "towers": 1, "strides": (8, 16), **settings}).build(MAPS)


@pytest.mark.parametrize("size", [(64, 48), (65, 47), (8, 8), (7, 100)])
def test_every_size_of_picture(size):
    output = head_of()(*maps_of(*size))
    assert output.shape == (2, sum(level_sizes(*size, (8, 16))), 3 + 8)
    x, y, stride = output[0, :, -3:].T
    fine = (-(-size[0] // 8), -(-size[1] // 8))
    assert stride[: fine[0] * fine[1]].unique().tolist() == [8.0]
    assert x[: fine[0] * fine[1]].view(fine)[0].tolist() == [8 * n + 4 for n in range(fine[1])]
    assert y[: fine[0] * fine[1]].view(fine)[:, 0].tolist() == [8 * n + 4 for n in range(fine[0])]
    boxes = output[..., 4:8]
    assert (boxes[..., 0] < x).all()
    assert (boxes[..., 2] > x).all()
    assert (boxes[..., 1] < y).all()
    assert (boxes[..., 3] > y).all()


def test_at_the_start_no_class_is_likely():
    probabilities = head_of()(*maps_of(64, 64))[..., :3].sigmoid()
    assert 0.008 < probabilities.min() <= probabilities.max() < 0.012


def test_coarse_maps_reach_finer_places_above_them():
    """A change at one place of the coarse map is seen at the four fine places above it and near them."""
    head = head_of(towers=0).eval()
    fine, coarse = maps_of(64, 64, batch=1)
    changed = coarse.clone()
    changed[:, :, 3, 2] += 1.0
    difference = (head(fine, coarse) - head(fine, changed))[0, :64, :8].abs().amax(1).view(8, 8)
    rows, columns = torch.nonzero(difference > 0).T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 9 - 2, 2, 7)
    assert difference[6:8, 4:6].min() > 0


def test_half_precision_keeps_the_pixels_of_boxes():
    head, maps = head_of().eval(), maps_of(64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        half = head(*maps)
    whole = head(*maps)
    assert half.dtype == torch.float32
    assert torch.equal(half[..., -3:], whole[..., -3:])
    assert not torch.equal(half[..., 4:8], half[..., 4:8].bfloat16().float())  # sides are no multiples of two pixels
    torch.testing.assert_close(half, whole, atol=0.3, rtol=0.05)


def test_double_precision_stays():
    assert head_of().double()(*(x.double() for x in maps_of(16, 16))).dtype == torch.float64


def test_one_class_keeps_the_fast_order_in_memory():
    head = engine("fused").apply(head_of(classes=1))
    assert head.class_tower[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert head(*maps_of(16, 16)).shape[-1] == 1 + 8


def test_an_exported_graph_takes_any_batch():
    head = head_of().eval()
    inputs = tuple(maps_of(40, 24))
    batch = torch.export.Dim("batch", min=1, max=64)
    graph = torch.export.export(head, inputs, dynamic_shapes=(({0: batch},) * 2,))
    more = tuple(maps_of(40, 24, batch=5))
    torch.testing.assert_close(graph.module()(*more), head(*more))


def test_the_head_reads_the_maps_of_its_strides():
    maps = [SimpleNamespace(channels=9, stride=4), *MAPS, SimpleNamespace(channels=9, stride=32)]
    head = AnchorFree(2, width=8, strides=(8, 16)).build(maps)
    given = maps_of(16, 16)
    wrong = torch.zeros(2, 1, 1, 1)
    assert head(wrong, *given, wrong).shape == (2, 5, 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 0}, "classes=0: a detector needs 1 to"),
        ({"width": 12}, "width=12: needs a multiple of 8"),
        ({"towers": -1}, "towers=-1: needs 0 to 16"),
        ({"strides": (16, 8)}, r"strides=\[16, 8\]: needs strides from fine to coarse"),
        ({"strides": (8, 12)}, r"strides=\[8, 12\]: needs strides from fine to coarse"),
        ({"strides": ()}, r"strides=\[\]: needs strides"),
        ({"strides": (8, 16, 32)}, r"strides=\[8, 16, 32\]: the network has no map of stride 32; it has 8, 16; use"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        head_of(**settings)
