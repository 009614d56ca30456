"""Published mobile networks as answers in the spaces: parameters and multiply-adds to the digit."""

import pytest
import torch

from supernet.estimation.costs import macs, multiply_adds, parameters
from supernet.genotypes.literature import NAMES, published
from supernet.runtime.errors import InputError
from supernet.space import spaces
from supernet.space.architecture import check
from supernet.space.choosers import Decided, Undecided
from supernet.space.inverted_residual import InvertedResidual
from supernet.space.published_mobile import MOBILE
from supernet.space.supernet import Supernet
from supernet.space.survey import decisions_of

# Parameters with 1000 classes, multiply-adds at 224 pixels. The first five are torchvision's own networks, counted; the
# ProxylessNAS ones have the parameters that osmr/imgclsmob states; MnasNet-A1 and Single-Path those of timm.
COUNTS = {
    "mobilenet_v2": (3_504_872, 300_774_272),
    "mobilenet_v3_large": (5_483_032, 216_589_760),
    "mobilenet_v3_small": (2_542_856, 56_510_400),
    "efficientnet_b0": (5_288_548, 385_814_752),
    "mnasnet_b1": (4_383_312, 314_415_872),
    "mnasnet_a1": (3_887_038, 311_579_072),
    "proxyless_mobile": (4_080_512, 320_427_584),
    "proxyless_mobile14": (6_857_568, 580_883_408),
    "proxyless_cpu": (4_361_648, 439_243_864),
    "proxyless_gpu": (7_119_848, 465_260_160),
    "fbnet_c": (5_570_664, 378_136_224),
    "single_path_nas": (4_421_616, 333_467_072),
    "ofa_k3_e3_d2": (3_410_792, 121_278_672),
    "ofa_k5_e4_d3": (4_551_792, 250_746_944),
    "ofa_k7_e6_d4": (7_664_760, 566_170_656),
}
# Parameters with 10 classes, multiply-adds at 128 pixels with 1000 classes: torchvision's, counted.
SMALL = {
    "mobilenet_v2": (2_236_682, 99_074_048),
    "mobilenet_v3_large": (4_214_842, 73_427_840),
    "mobilenet_v3_small": (1_528_106, 19_848_192),
    "efficientnet_b0": (4_020_358, 127_264_768),
    "mnasnet_b1": (3_115_122, 103_528_448),
}


def plain(space, architecture, side=224, classes=1000):
    with torch.device("meta"):
        return space.network(Decided(architecture), (3, side, side), classes)


def counted(network, side=224):
    return parameters(network), macs(network, (3, side, side))


def test_every_network_has_a_known_count_and_a_name():
    assert set(COUNTS) == set(MOBILE)
    assert set(MOBILE) < set(NAMES)


@pytest.mark.parametrize("sharing", ["nested", "separate"])
@pytest.mark.parametrize("name", COUNTS)
def test_counts_to_the_digit_with_either_sharing(name, sharing):
    space = spaces.of(name, sharing=sharing)
    architecture = MOBILE[name].architecture(sharing=sharing)
    assert counted(plain(space, architecture)) == COUNTS[name]


@pytest.mark.parametrize("name", SMALL)
def test_counts_with_ten_classes_and_at_128_pixels(name):
    space, architecture = spaces.of(name), published(name)
    assert parameters(plain(space, architecture, classes=10)) == SMALL[name][0]
    assert macs(plain(space, architecture, 128), (3, 128, 128)) == SMALL[name][1]


@pytest.mark.parametrize("name", COUNTS)
def test_an_answer_answers_each_question_of_its_space(name):
    decisions = decisions_of(spaces.of(name)) if name != "fbnet_c" else decisions_of(spaces.fbnet())
    check(published(name), decisions)


def test_fbnet_c_in_the_form_of_the_paper():
    """Blocks of expansion 1 with their first convolution, as timm builds it: three of them, 16, 24 and 24 channels."""
    network = plain(spaces.fbnet(), published("fbnet_c"))
    more = 16 * 16 + 2 * 16 + 2 * (24 * 24 + 2 * 24)
    assert counted(network) == (COUNTS["fbnet_c"][0] + more, COUNTS["fbnet_c"][1] + 112**2 * 16**2 + 2 * 56**2 * 24**2)


def test_the_once_for_all_supernet_has_the_authors_parameters():
    with torch.device("meta"):
        network = spaces.ofa_mbv3().network(Undecided(), (3, 224, 224), 1000)
    assert parameters(network) == 7_664_760 + 20 * (25**2 + 9**2)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "mnasnet_b1", "efficientnet_b0"])
def test_the_supernet_has_room_for_the_published_network(name):
    """The largest network of a nested space is no smaller than the published one in any layer."""
    with torch.device("meta"):
        largest = Supernet(spaces.of(name).network(Undecided(), (3, 224, 224), 10))
    assert parameters(largest) >= parameters(plain(spaces.of(name), published(name), classes=10))


def test_a_width_changes_channels_and_not_the_genotype():
    assert MOBILE["mobilenet_v3_large"].architecture(width=0.5) == published("mobilenet_v3_large")
    # MobileNetV2 x 0.5 and MnasNet x 0.5 in torchvision, counted
    assert parameters(plain(spaces.of("mobilenet_v2", width=0.5), published("mobilenet_v2"))) == 1_968_680
    assert parameters(plain(spaces.of("mnasnet_b1", width=0.5), published("mnasnet_b1"))) == 2_218_512


@pytest.mark.parametrize(
    ("name", "width", "side", "last"),
    [("mobilenet_v3_large", 0.5, 32, 4), ("mobilenet_v2", 0.35, 28, 4), ("efficientnet_b0", 0.25, 8, 4)],
)
def test_small_images_are_not_halved_away(name, width, side, last):
    space = spaces.of(name, width=width, image_size=side)
    architecture = MOBILE[name].architecture(width=width)
    network = space.network(Decided(architecture), (1, side, side), 10).eval()
    sizes = []
    network.head.register_forward_hook(lambda module, given, made: sizes.append(made.shape[2:]))
    assert network(torch.zeros(1, 1, side, side)).shape == (1, 10)
    assert sizes == [(last, last)]


def test_a_genotype_of_blocks_left_out_in_the_middle_is_that_of_fewer():
    nested = MOBILE["proxyless_gpu"].architecture(sharing="nested")
    assert nested["stage3/depth"] == ("2",)
    assert nested["stage3/2/kernel"] == ("3",)
    separate = published("proxyless_gpu")
    assert [separate[f"stage3/{n}"] for n in (1, 2, 3, 4)] == [
        ("k7_e3",),
        ("skip_connect",),
        ("skip_connect",),
        ("k3_e3",),
    ]


def test_b0_has_squeeze_and_excite_everywhere_of_a_quarter_of_the_input():
    network = plain(spaces.of("efficientnet_b0"), published("efficientnet_b0"))
    blocks = [m for m in network.modules() if isinstance(m, InvertedResidual)]
    assert [b.squeeze.reduce.out_channels for b in blocks[:4]] == [8, 4, 6, 6]


def test_unknown_names_are_one_line():
    with pytest.raises(InputError, match=r"name=vgg: no published mobile network; names: mobilenet_v2, "):
        spaces.of("vgg")
    with pytest.raises(InputError, match=r"name=vgg: no published genotype; names: nasnet_a, .*mobilenet_v2, "):
        published("vgg")


def test_the_answer_is_put_as_the_space_asks():
    settings = {"sharing": "separate", "resolutions": (192, 224), "width": 0.5}
    space, architecture = spaces.of("efficientnet_b0", **settings), published("efficientnet_b0", **settings)
    check(architecture, decisions_of(space, shape=(3, 224, 224)))
    assert architecture["resolution"] == ("224",)
    assert architecture["stage2/3"] == ("skip_connect",)
    with pytest.raises(InputError, match="width: darts_v2 is a cell, which has no settings"):
        published("darts_v2", width=0.5)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v3_large"])
def test_a_narrow_mobilenet_v3_is_a_tenth_more_than_torchvisions(name):
    """Ours multiplies the expansions, theirs the expanded channels; the docstring and edge.md say so."""
    torchvision, image = pytest.importorskip("torchvision"), torch.zeros(1, 3, 224, 224, device="meta")
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(width_mult=0.75).eval()
        ours = spaces.of(name, width=0.75).network(Decided(published(name)), (3, 224, 224), 1000).eval()
    assert multiply_adds(ours, image) / multiply_adds(theirs, image) == pytest.approx(1.10, abs=0.005)
