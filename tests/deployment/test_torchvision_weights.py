"""Torchvision's mobile networks and ours are the same functions of the same weights."""

import copy
import pickle

import pytest
import torch
import torchvision
from torch import nn

import supernet
from supernet.deployment.torchvision_weights import NETWORKS, copy_by_position, load_torchvision
from supernet.runtime.errors import InputError
from supernet.space.dropout import DropPath

THEIRS = [name for name in NETWORKS if name != "mnasnet0_75"]  # its two neighbours do


def made(name: str, classes: int = 10) -> nn.Module:
    """Theirs in float64, with weights and statistics far from those that a new network has, and nothing dropped."""
    torch.manual_seed(len(name))
    network = torchvision.models.get_model(name, num_classes=classes).double()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
            elif isinstance(module, nn.Dropout | torchvision.ops.StochasticDepth):
                module.p = 0.0
    return network


def ours_of(name: str, theirs: nn.Module) -> nn.Module:
    network = load_torchvision(name, theirs.state_dict()).network.double()
    copy_by_position(network, theirs.state_dict())  # again, as the first copy was rounded to float32
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


@pytest.mark.parametrize("name", THEIRS)
def test_outputs_gradients_and_statistics_are_torchvisions(name):
    theirs = made(name)
    ours = ours_of(name, theirs)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert (ours.eval()(images) - theirs.eval()(images)).abs().max() < 1e-10
    outputs = [network.train()(images) for network in (ours, theirs)]
    assert (outputs[0] - outputs[1]).abs().max() < 1e-10
    for output in outputs:
        output.square().sum().backward()
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    assert all((a.grad - b.grad).abs().max() <= 1e-8 * (1 + b.grad.abs().max()) for a, b in pairs)
    buffers = zip(ours.buffers(), theirs.buffers(), strict=True)
    assert all((a - b).abs().max() < 1e-10 for a, b in buffers)  # the same momentum


def test_b0_drops_blocks_as_often_as_torchvision():
    theirs = torchvision.models.efficientnet_b0(num_classes=10)
    rates = [m.p for m in theirs.modules() if isinstance(m, torchvision.ops.StochasticDepth)]
    blocks = [block for stage in ours_of("efficientnet_b0", theirs).stages for block in stage.blocks]
    shares = [(b.drop_path.share, r) for b, r in zip(blocks, rates, strict=True) if isinstance(b.drop_path, DropPath)]
    assert len(shares) == 9
    assert all(0.2 * share == pytest.approx(rate) for share, rate in shares)


def test_a_weight_file_becomes_a_model_that_is_saved_and_loaded(tmp_path):
    theirs = torchvision.models.mobilenet_v3_small(num_classes=3).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = supernet.load_torchvision("mobilenet_v3_small", tmp_path / "weights.pth", classes=("a", "b", "c"))
    model.save(tmp_path / "model.safetensors")
    again = supernet.load(tmp_path / "model.safetensors")
    image = torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = theirs(((image - mean) / std)[None]).softmax(1)[0]
    assert torch.allclose(again(image)[0].probs.data, expected, atol=1e-5)
    assert again.classes == ("a", "b", "c")
    assert again.provenance == {"weights": "torchvision mobilenet_v3_small"}


def test_a_file_without_counters_of_batches_is_taken_too():
    state = torchvision.models.mobilenet_v2(num_classes=2).state_dict()
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    network = load_torchvision("mobilenet_v2", old).network
    assert torch.equal([*network.parameters()][-2], state["classifier.1.weight"])


def test_what_does_not_fit_is_said_and_nothing_copied():
    state = torchvision.models.mobilenet_v2(num_classes=2).state_dict()
    with pytest.raises(InputError, match=r"weights: .* tensors, and the network has .*another network"):
        load_torchvision("mobilenet_v3_large", state)
    with pytest.raises(InputError, match=r"name=resnet18: not known here; use one of mobilenet_v2, "):
        load_torchvision("resnet18", state)
    with pytest.raises(InputError, match=r"classes=3: the network has 2 outputs"):
        load_torchvision("mobilenet_v2", state, classes=("a", "b", "c"))
    network = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    before = copy.deepcopy(network.state_dict())
    swapped = {"first.weight": torch.ones(1, 2), "first.bias": torch.ones(1)}
    swapped |= {"norm.bias": torch.ones(1), "norm.weight": torch.ones(1)}  # as long, but another kind
    swapped |= {"norm.running_mean": torch.ones(1), "norm.running_var": torch.ones(1)}
    with pytest.raises(InputError, match=r"weights: norm.bias of \(1,\) stands where the network has 1.weight of"):
        copy_by_position(network, swapped)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


class Runs:
    def __reduce__(self):
        return pytest.fail, ("code of the file ran",)


def test_files_that_are_no_weights_are_one_line(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_torchvision("mobilenet_v2", tmp_path / "none.pth")
    (tmp_path / "code.pth").write_bytes(pickle.dumps(Runs(), protocol=2))
    torch.save(Runs(), tmp_path / "runs.pth")
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    whole = tmp_path / "whole.pth"
    torch.save({"a.bias": torch.ones(3)}, whole)
    (tmp_path / "half.pth").write_bytes(whole.read_bytes()[:200])
    for name in ("code", "runs", "list", "empty", "half"):
        with pytest.raises(InputError, match=f"{name}.pth: .*state dict") as error:
            load_torchvision("mobilenet_v2", tmp_path / f"{name}.pth")
        assert "\n" not in str(error.value)
