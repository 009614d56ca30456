"""The mobile spaces of the literature: what is open in them, and their settings."""

import pytest
import torch

from supernet.runtime.errors import InputError
from supernet.space import spaces
from supernet.space.architecture import random_architecture
from supernet.space.choosers import Decided, Undecided
from supernet.space.supernet import Supernet
from supernet.space.survey import candidates_of, decisions_of

ALL = [
    spaces.mobilenet_v2,
    spaces.mobilenet_v3,
    spaces.mnasnet,
    spaces.efficientnet,
    spaces.proxyless,
    spaces.fbnet,
    spaces.single_path_nas,
    spaces.ofa_mbv3,
]
NAMES = [make.__name__ for make in ALL]


def halvings(space) -> int:
    return (space.stem_stride == 2) + sum(stage.stride == 2 for stage in space.stages)


@pytest.mark.parametrize("sharing", ["nested", "separate"])
@pytest.mark.parametrize("make", ALL, ids=NAMES)
def test_random_networks_of_small_spaces_run(make, sharing):
    space = make(width=0.25, sharing=sharing, image_size=16)
    decisions = decisions_of(space, shape=(3, 16, 16), outputs=4)
    assert {d.role for d in decisions.values()} == {"number" if sharing == "nested" else "operation"}
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        network = space.network(Decided(random_architecture(space.name, decisions, generator)), (3, 16, 16), 4)
        assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 4)


@pytest.mark.parametrize("make", ALL, ids=NAMES)
def test_nested_supernets_mix_all_options_and_learn_from_them(make):
    space = make(width=0.25, sharing="nested", image_size=16)
    supernet = Supernet(space.network(Undecided(), (3, 16, 16), 4))
    weights = {
        name: torch.full((len(d.options),), 1 / len(d.options), requires_grad=True)
        for name, d in supernet.decisions.items()
    }
    supernet(torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), weights).square().sum().backward()
    assert all(w.grad is not None and torch.isfinite(w.grad).all() for w in weights.values())
    assert any(w.grad.abs().sum() > 0 for w in weights.values())


@pytest.mark.parametrize("make", ALL, ids=NAMES)
def test_halvings_fit_the_image(make):
    for side, expected in ((224, 5), (128, 5), (96, 5), (64, 4), (32, 3), (28, 3), (16, 2), (8, 1), (5, 0)):
        assert halvings(make(image_size=side)) == expected
    assert halvings(make()) == 5
    assert halvings(make(resolutions=(24, 28, 32))) == 3  # for the smallest
    assert halvings(make(resolutions=(24, 224), image_size=224)) == 5
    assert make(image_size=32).stem_stride == 1
    small, large = ([stage.stride for stage in make(image_size=side).stages] for side in (32, 224))
    assert small[-3:] == large[-3:]  # the first halvings are left out, not the last


def test_the_spaces_have_the_published_sizes():
    assert candidates_of(spaces.proxyless()).count == 6**6 * 7**15
    assert candidates_of(spaces.ofa_mbv3()).count == (9**2 + 9**3 + 9**4) ** 5
    assert candidates_of(spaces.fbnet()).count == 9**16 * 8**6


def test_what_is_open_around_mobilenet_v3():
    """Each block of 24 channels: 3 kernels, 3 expansions, squeeze-and-excite or not; 1 to 3 blocks; and so on."""
    a_stage = lambda options, depths: sum(options**depth for depth in depths)  # noqa: E731
    known = a_stage(18, (1, 2, 3)) ** 2 * a_stage(18, (2, 3, 4)) ** 2 * a_stage(30, (3, 4, 5))
    assert candidates_of(spaces.mobilenet_v3()).count == known
    fixed = spaces.mobilenet_v3("small", kernels=(3,), open_squeeze=False)
    known = a_stage(4, (1, 2, 3)) * a_stage(3, (2, 3, 4)) * a_stage(3, (1, 2, 3)) * a_stage(3, (2, 3, 4))
    assert candidates_of(fixed).count == known


def test_separate_blocks_are_left_out_instead_of_a_depth():
    space = spaces.mobilenet_v3(sharing="separate", open_squeeze=False)
    decisions = decisions_of(space)
    assert "skip_connect" not in decisions["stage2/1"].options  # it halves the image
    assert decisions["stage2/2"].options[0] == "skip_connect"
    assert "k5_e2_3" in decisions["stage4/2"].options  # 2.3 times: module names have no dots


def test_widths_are_rounded_to_eights():
    space = spaces.efficientnet(width=0.3)
    assert all(c % 8 == 0 for stage in space.stages for c in stage.channels)
    assert all(list(stage.channels) == sorted(set(stage.channels)) for stage in space.stages)
    assert spaces.mobilenet_v2(width=0.5).head == 1280
    assert spaces.mobilenet_v2(width=1.4).head == 1792
    assert spaces.mobilenet_v3(width=0.5).head == 480
    assert spaces.mobilenet_v3(width=0.5).hidden == 640
    assert [stage.channels for stage in spaces.efficientnet(open_widths=False).stages][3] == (80,)


def test_open_widths_and_resolutions_are_decisions():
    decisions = decisions_of(spaces.efficientnet(resolutions=(192, 224)), shape=(3, 224, 224))
    assert decisions["resolution"].options == ("192", "224")
    assert decisions["stage4/width"].options == ("64", "72", "80")


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (spaces.mobilenet_v2, {"width": 0.0}, "width=0.0: needs to lie between 0 and 16, such as 0.5"),
        (spaces.mobilenet_v2, {"width": float("nan")}, "width=nan: needs to lie"),
        (spaces.mobilenet_v2, {"image_size": 0}, "image_size=0: needs a whole number of pixels from 1 to 4,096"),
        (spaces.mobilenet_v3, {"size": "medium"}, "size=medium: use large or small"),
        (spaces.mnasnet, {"network": "c1"}, "network=c1: use b1 or a1"),
        (spaces.proxyless, {"network": "tpu"}, "network=tpu: use one of mobile, mobile14, cpu, gpu"),
        (spaces.fbnet, {"sharing": "mine"}, "sharing=mine: use nested or separate"),
        (spaces.ofa_mbv3, {"resolutions": (224, 128)}, r"resolutions=\[224, 128\]: needs different sides"),
        (spaces.efficientnet, {"kernels": (3, 4)}, "kernels=4: needs odd sizes"),
    ],
)
def test_bad_settings_are_one_line(make, settings, message):
    with pytest.raises(InputError, match=message):
        make(**settings)


def test_nested_blocks_without_a_first_convolution_are_refused():
    space = spaces.fbnet(sharing="nested", widens_always=False)
    with pytest.raises(InputError, match="expansions: 1 and others cannot be nested"):
        space.network(Undecided(), (3, 32, 32), 10)
