"""Boxes and probabilities as numbers, beside what another library makes of the same boxes."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert

from supernet.deployment.values import Boxes, Probabilities, check_probabilities
from supernet.runtime.errors import InputError

DATA = torch.tensor([[10.0, 20.0, 30.0, 60.0, 0.9, 1.0], [0.0, 0.0, 200.0, 100.0, 0.5, 0.0]])


def test_boxes_have_all_their_forms():
    boxes = Boxes(DATA, (100, 200))
    assert torch.equal(boxes.xyxy, DATA[:, :4])
    assert torch.equal(boxes.xywh, box_convert(DATA[:, :4], "xyxy", "cxcywh"))
    assert torch.equal(boxes.xyxyn, DATA[:, :4] / torch.tensor([200, 100, 200, 100]))
    assert torch.equal(boxes.xywhn, boxes.xywh / torch.tensor([200, 100, 200, 100]))
    assert (boxes.conf.tolist(), boxes.cls.tolist()) == (pytest.approx([0.9, 0.5]), [1.0, 0.0])
    assert (boxes.id, boxes.is_track, boxes.shape, len(boxes)) == (None, False, (2, 6), 2)
    assert boxes[0].xyxy.shape == (1, 4)
    assert boxes[0].conf.item() == pytest.approx(0.9)
    assert len(boxes[boxes.conf > 0.6]) == len(boxes[1:]) == 1
    assert [float(each.cls) for each in boxes] == [1.0, 0.0]
    assert Boxes(torch.zeros(0, 6), (4, 4)).xywhn.shape == (0, 4)


def test_arrays_are_like_tensors():
    tensors = Boxes(DATA, (100, 200))
    arrays = tensors.numpy()
    for name in ("xyxy", "xywh", "xyxyn", "xywhn", "conf", "cls"):
        assert isinstance(getattr(arrays, name), np.ndarray)
        np.testing.assert_array_equal(getattr(arrays, name), getattr(tensors, name).numpy())
    assert torch.equal(arrays.to(torch.float64).data, DATA.double())
    assert arrays.cpu().xyxy is not None
    shares = Probabilities(torch.tensor([0.1, 0.7, 0.2]))
    assert shares.numpy().top5 == shares.top5 == [1, 2, 0]
    assert shares.numpy().top5conf.tolist() == shares.top5conf.tolist()
    assert shares.to(torch.float64).top1conf.item() == pytest.approx(0.7)


def test_labels_are_present_from_their_thresholds_on():
    data = torch.tensor([0.5, 0.4, 0.9])
    assert Probabilities(data, (0.5, 0.41, 0.95)).present == [0]
    assert Probabilities(data, (0.6, 0.5, 0.95)).present == []
    assert Probabilities(data).present == [2]


def test_several_labels_need_not_sum_to_one():
    check_probabilities(torch.tensor([[0.9, 0.9]]), "model", several=True)
    with pytest.raises(InputError, match=r"whose sum is 0\.8 off 1"):
        check_probabilities(torch.tensor([[0.9, 0.9]]), "model")
    with pytest.raises(InputError, match=r"values from 0\.9 to 1\.5"):
        check_probabilities(torch.tensor([[0.9, 1.5]]), "model", several=True)
