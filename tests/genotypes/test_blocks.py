import pytest
import torch

from supernet import Decided, published, spaces
from supernet.genotypes.blocks import block_lines, blocks_of, draw_blocks, save_blocks
from supernet.space.darts import Darts


def plain(name: str):
    with torch.device("meta"):
        return spaces.of(name).network(Decided(published(name)), (3, 224, 224), 10)


def test_blocks_are_those_of_the_paper():
    blocks = {block.name: block.form for block in blocks_of(plain("mobilenet_v3_small"))}
    assert len(blocks) == 11
    form = blocks["stage2/2"]
    assert (form.channels_in, form.expanded, form.channels_out, form.kernel) == (24, 88, 24, 3)
    assert blocks["stage1/1"].squeeze
    assert blocks["stage5/1"].activation == "hardswish"


def test_blocks_left_out_are_lines_and_no_bars():
    blocks = blocks_of(plain("fbnet_c"))
    assert [block.name for block in blocks if block.form is None] == ["stage2/2"]
    assert block_lines(blocks)[3].split() == ["stage2/2", "left", "out"]
    assert len(draw_blocks(blocks).axes[0].get_xticks()) == len(blocks) - 1 == 21


def test_each_bar_is_as_high_as_its_channels():
    bars = [bar.get_height() for bar in draw_blocks(blocks_of(plain("mobilenet_v2"))).axes[0].patches]
    assert bars[:4] == [32, 16, 96, 24]  # inside and out of the first two blocks


def test_other_networks_have_no_blocks(tmp_path):
    network = Darts(channels=4, cells=3).network(Decided(published("darts_v2")), (3, 8, 8), 2)
    assert blocks_of(network) == []
    assert block_lines([]) == []
    assert save_blocks(network, tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["proxyless_cpu", "ofa_k7_e6_d4"])
def test_pictures_are_written(tmp_path, name):
    svg, png = save_blocks(plain(name), tmp_path / "made")
    assert svg.read_text().startswith("<?xml")
    assert png.read_bytes().startswith(b"\x89PNG")
