"""Where a network looked: networks built so that the evidence lies where we know it."""

import numpy as np
import pytest
import torch
from torch import nn

from supernet import Darts, Decided, published
from supernet.data.augmentation import Augmentation
from supernet.data.preparation import Preparation
from supernet.deployment.answers import Objects
from supernet.deployment.explaining import explained
from supernet.deployment.predictor import Predictor
from supernet.detection.head import AnchorFree
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture


def bright_or_dark():
    """Class 0 is raised by what is dark and class 1 by what is bright, anywhere."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].weight[:, 0, 1, 1] = torch.tensor([-1.0, 1.0])
        network[0].bias.zero_()
        network[4].weight.copy_(torch.eye(2))
        network[4].bias.zero_()
    return network.eval()


def predictor(network, shape, fit="squash", **more):
    augmentation = Augmentation((0.5,) * shape[0], (0.5,) * shape[0], preparation=Preparation(fit=fit))
    about = {"space": Darts(4, 3), "architecture": Architecture("toy", {}), "classes": ("dark", "bright")} | more
    return Predictor(network, shape=shape, augmentation=augmentation, provenance={}, **about)


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
def test_the_map_peaks_where_the_evidence_lies(fit):
    image = np.full((40, 60), 127, np.uint8)
    image[24:36, 42:52], image[4:16, 8:18] = 255, 0
    use = predictor(bright_or_dark(), (1, 16, 16), fit)
    (result,) = use(image)
    for target, rows, columns in (("bright", (24, 36), (42, 52)), (0, (4, 16), (8, 18)), ("dark", (4, 16), (8, 18))):
        found = result.explain(target)
        assert found.data.shape == (40, 60)
        assert 0 <= float(found.data.min()) <= float(found.data.max()) <= 1
        at = np.unravel_index(int(found.data.argmax()), (40, 60))
        assert rows[0] - 3 <= at[0] <= rows[1] + 3, (fit, at)
        assert columns[0] - 3 <= at[1] <= columns[1] + 3, (fit, at)
    assert result.explain().label == result.names[result.probs.top1]


def test_the_drawing_and_what_cannot_be_explained(tmp_path):
    use = predictor(bright_or_dark(), (1, 16, 16))
    (result,) = use(np.full((40, 60), 255, np.uint8))
    found = result.explain("bright")
    assert found.plot().shape == (40, 60, 3)
    assert found.plot(pil=True).size == (60, 40)
    found.save(tmp_path / "map.png")
    for target, says in (("cat", "'cat': not among dark, bright"), (2, "there is no class 2"), (-1, "no class -1")):
        with pytest.raises(InputError, match=says):
            result.explain(target)
    with pytest.raises(InputError, match="no maps of more than one place"):
        explained(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.ones(1, 1, 2, 2), lambda output: output[0, 0])


def test_gradients_and_weights_stay_as_they_were():
    use = predictor(bright_or_dark(), (1, 16, 16))
    before = {name: value.clone() for name, value in use.network.state_dict().items()}
    use(np.zeros((16, 16), np.uint8))[0].explain()
    assert all(torch.equal(value, before[name]) for name, value in use.network.state_dict().items())
    assert all(weight.grad is None for weight in use.network.parameters())
    assert not any(module._forward_hooks for module in use.network.modules())


def detector(**biases):
    """An untrained detector of 64 x 96 pixels that finds a class the surer, the larger its bias."""
    torch.manual_seed(0)
    space, cell, answer = (
        Darts(8, 6, stem="imagenet"),
        published("darts_v2"),
        Objects(AnchorFree(1, width=16, towers=1)),
    )
    network = space.network(Decided(cell), (3, 64, 96), answer.outputs(tuple(biases))).eval()
    with torch.no_grad():
        network.prediction.classes.bias.copy_(torch.tensor(list(biases.values())))
    about = {"classes": tuple(biases), "space": space, "architecture": cell, "answer": answer}
    return predictor(network, (3, 64, 96), "pad", **about)


def test_a_box_is_explained_where_it_is():
    use = detector(a=1.0, b=1.0)
    noise = np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    (result,) = use(noise, conf=0.1, max_det=40)
    centres = result.boxes.xywh[:, :2]
    for at in (int(centres[:, 0].argmin()), int(centres[:, 0].argmax())):
        heat = result.explain(at).data
        assert heat.shape == (128, 192)
        middle = float((heat.sum(0) * torch.arange(192)).sum() / heat.sum())
        assert abs(middle - float(centres[at, 0])) < 48
    with pytest.raises(InputError, match="no box 40; this result has 40"):
        result.explain(40)


def test_a_class_of_a_detector_is_explained_by_its_surest_box():
    use = detector(a=1.0, b=0.5, c=-20.0)
    (result,) = use(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8), conf=0.01)
    kinds = result.boxes.cls.int().tolist()
    for name, kind in (("a", 0), ("b", 1)):
        first = kinds.index(kind)
        found = result.explain(name)
        assert found.label == f"{name} {float(result.boxes.conf[first]):.2f}"
        assert torch.equal(found.data, result.explain(first).data)
    with pytest.raises(InputError, match="this result has no box of class 'c'"):
        result.explain("c")
