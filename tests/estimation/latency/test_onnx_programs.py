"""Pieces that are cut out of one export compute what the modules compute."""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.mobilenetv3 import InvertedResidual, InvertedResidualConfig

from supernet.estimation.latency import onnx_programs
from supernet.runtime.errors import InputError

onnxruntime = pytest.importorskip("onnxruntime")


class Added(nn.Module):
    def forward(self, x, y):
        return x.relu() + y


class TwoHeads(nn.Module):
    def forward(self, x):
        return x + 1, x - 1


def block(squeeze, stride):
    config = InvertedResidualConfig(8, 3, 24, 8, squeeze, "HS", stride, 1, 1.0)
    made = InvertedResidual(config, nn.BatchNorm2d)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return made.eval()


def test_every_piece_computes_what_its_module_does(monkeypatch):
    torch.manual_seed(0)
    image, flat = (1, 8, 6, 6), (1, 5)
    twin = block(True, 1)
    modules = {
        "plain": (block(False, 1), (image,)),
        "squeeze": (twin, (image,)),
        "the same again": (twin, (image,)),
        "stride": (block(True, 2), (image,)),
        "two inputs": (Added(), (image, image)),
        "two outputs": (TwoHeads(), (flat,)),
        "nothing": (nn.Identity(), (flat,)),
        "linear": (nn.Linear(5, 3), (flat,)),
    }
    monkeypatch.setattr(onnx_programs, "_TOGETHER", 40)  # two exports
    made = list(onnx_programs.onnx_programs(modules.items()))
    assert [name for name, _, _ in made] == list(modules)
    for name, shapes, model in made:
        inputs = [torch.randn(shape) for shape in shapes]
        session = onnxruntime.InferenceSession(model)
        assert len(session.get_outputs()) == 1
        given = {each.name: x.numpy() for each, x in zip(session.get_inputs(), inputs, strict=True)}
        with torch.no_grad():
            expected = modules[name][0](*inputs)
        expected = expected[0] if isinstance(expected, tuple) else expected
        np.testing.assert_allclose(session.run(None, given)[0], expected, atol=1e-5, err_msg=name)


class Foreign(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x).real


def test_what_onnx_cannot_express_is_named_in_one_line():
    modules = [("good", (nn.ReLU(), ((1, 2),))), ("bad", (Foreign(), ((1, 3, 3),)))]
    with pytest.raises(InputError, match=r"^bad: ONNX cannot express it") as told:
        list(onnx_programs.onnx_programs(modules))
    assert "\n" not in str(told.value)


def test_without_the_packages_one_line_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(
        InputError, match=r"^runtime: onnxruntime is not installed; pip install .* torch is another runtime$"
    ):
        onnx_programs.check_installed()
