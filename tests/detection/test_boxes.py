"""Areas and overlaps of boxes, held to torchvision and to boxes that were counted by hand."""

import torch
from torchvision.ops import box_area, box_iou

from supernet.detection.boxes import areas, clipped, overlaps


def some_boxes(count, seed):
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 20
    return torch.cat((corner, corner + torch.rand(count, 2, generator=torch.Generator().manual_seed(seed + 1)) * 9), 1)


def test_all_pairs_are_those_of_torchvision():
    first, second = some_boxes(30, seed=0), some_boxes(40, seed=2)
    torch.testing.assert_close(overlaps(first[:, None], second[None]), box_iou(first, second))
    torch.testing.assert_close(areas(first), box_area(first))


def test_boxes_without_area_overlap_nothing():
    point = torch.tensor([3.0, 3.0, 3.0, 3.0])
    assert overlaps(point, point).item() == 0.0
    assert overlaps(torch.tensor([5.0, 5.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 9.0, 9.0])).item() == 0.0


def test_a_box_outside_has_no_area_once_it_is_cut():
    outside = torch.tensor([[-9.0, 1.0, -2.0, 4.0], [20.0, 1.0, 30.0, 4.0], [1.0, 9.0, 4.0, 12.0]])
    assert areas(clipped(outside, height=8, width=16)).tolist() == [0.0, 0.0, 0.0]
    assert clipped(torch.tensor([[-1.0, -1.0, 99.0, 99.0]]), height=8, width=16).tolist() == [[0.0, 0.0, 16.0, 8.0]]
