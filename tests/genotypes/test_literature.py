import pytest

from supernet.genotypes.literature import PUBLISHED, published
from supernet.genotypes.parsing import read_genotype
from supernet.runtime.errors import InputError
from supernet.space.choosers import Decided
from supernet.space.darts import Darts

# name: (CIFAR-10 at 36 channels and 20 cells, CIFAR-100, ImageNet at 48 channels and 14 cells). Counted
# independently of this library; the auxiliary head is left out.
COUNTS = {
    "darts_v1": (3_169_414, 3_221_344, 4_510_432),
    "darts_v2": (3_349_342, 3_401_272, 4_718_752),
    "snas_mild": (2_661_382, 2_713_312, 3_939_328),
    "snas_moderate": (2_847_358, 2_899_288, 4_312_576),
    "snas_aggressive": (2_313_622, 2_365_552, 3_561_952),
    "pdarts": (3_433_798, 3_485_728, 4_944_352),
    "pc_darts_cifar": (3_634_678, 3_686_608, 5_270_560),
    "pc_darts_image": (3_721_510, 3_773_440, 5_342_464),
    "drnas_cifar10": (4_099_294, 4_151_224, 5_738_464),
    "drnas_imagenet": (4_048_750, 4_100_680, 5_726_368),
    "nasnet_a": (3_830_950, 3_895_840, 5_564_320),
    "amoebanet_a": (3_145_078, 3_184_048, 4_627_360),
    "sdarts_rs": (3_606_166, None, 5_120_320),
    "sdarts_adv": (3_344_806, None, 4_768_864),
    "darts_pt_0": (2_851_246, None, None),
    "darts_pt_1": (3_053_206, None, None),
    "darts_pt_2": (2_658_142, None, None),
    "darts_pt_3": (3_328_174, None, None),
    "all_sep_conv_3x3": (4_701_718, 4_753_648, 6_548_320),
}


def count(name: str, stem: str, channels: int, cells: int, classes: int) -> int:
    genotype = PUBLISHED[name]
    space = Darts(channels=channels, cells=cells, nodes=len(genotype.normal), stem=stem)
    size = 32 if stem == "cifar" else 224
    network = space.network(Decided(genotype.architecture()), (3, size, size), classes)
    return sum(parameter.numel() for parameter in network.parameters())


def test_every_published_genotype_has_a_known_count():
    assert set(COUNTS) == set(PUBLISHED)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_to_the_digit(name):
    cifar10, cifar100, imagenet = COUNTS[name]
    assert count(name, "cifar", 36, 20, 10) == cifar10
    if cifar100 is not None:
        assert count(name, "cifar", 36, 20, 100) == cifar100
    if imagenet is not None:
        assert count(name, "imagenet", 48, 14, 1000) == imagenet


TEXT = """Genotype(
    normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
            ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],
    normal_concat=[2, 3, 4, 5],
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
            ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
    reduce_concat=range(2, 6))"""


def test_reads_the_original_text():
    assert read_genotype(TEXT) == PUBLISHED["darts_v2"]
    assert read_genotype("DARTS = " + TEXT) == PUBLISHED["darts_v2"]


def test_reads_one_list_a_node():
    text = """Genotype(normal=[[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], [('sep_conv_3x3', 0), ('sep_conv_3x3', 1)],
        [('sep_conv_3x3', 1), ('skip_connect', 0)], [('skip_connect', 0), ('dil_conv_3x3', 2)]],
        normal_concat=range(2, 6),
        reduce=[[('max_pool_3x3', 0), ('max_pool_3x3', 1)], [('skip_connect', 2), ('max_pool_3x3', 1)],
        [('max_pool_3x3', 0), ('skip_connect', 2)], [('skip_connect', 2), ('max_pool_3x3', 1)]],
        reduce_concat=range(2, 6))"""
    assert read_genotype(text) == PUBLISHED["darts_v2"]


def test_architecture_keeps_repeated_operations_and_the_output():
    architecture = published("nasnet_a")
    assert architecture["normal/5"] == ("0",)
    assert architecture["normal/5/0"] == ("avg_pool_3x3", "avg_pool_3x3")
    assert architecture["reduce/output"] == ("4", "5", "6")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("__import__('os').system('touch /tmp/x')", "expected Genotype"),
        ("Genotype(normal=open('x'), reduce=[])", "more than lists"),
        ("Genotype(normal=[('sep_conv_3x3', 0)])", "no 'reduce'"),
        (TEXT.replace("dil_conv_3x3", "sep_conv_9x9"), "sep_conv_9x9"),
        (TEXT.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 7)"), "reads state 7"),
        (TEXT.replace("[2, 3, 4, 5]", "[2, 9]"), "concat"),
        (TEXT.replace("range(2, 6)", "range('a')"), "concat"),
        (TEXT[:-1], "not readable"),
        (TEXT.replace("normal_concat", "surprise"), "surprise"),
        ("", "expected Genotype"),
    ],
)
def test_refuses_other_text_in_one_line(text, says):
    with pytest.raises(InputError, match=says) as error:
        read_genotype(text)
    assert "\n" not in str(error.value)


def test_unknown_name_lists_the_known():
    with pytest.raises(InputError, match="darts_v2"):
        published("darts_v9")
