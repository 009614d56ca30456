import math

import pytest
import torch
from PIL import Image

from supernet.space.drawing import cell_kinds, cell_to_dot, draw_cell, heat_map, save_drawings
from supernet.space.published import PUBLISHED, published


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def boxes_in(figure, wanted) -> list:
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    return [t.get_window_extent(renderer) for axes in figure.axes for t in axes.texts if wanted(t.get_text())]


@pytest.mark.parametrize("name", ["darts_v1", "darts_v2", "pdarts", "pc_darts_cifar", "drnas_cifar10", "darts_pt_1"])
@pytest.mark.parametrize("cell", ["normal", "reduce"])
def test_every_edge_is_labelled_and_labels_keep_apart(name, cell):
    architecture = published(name)
    figure = draw_cell(architecture, cell)
    operations = [o for n, kept in architecture.items() if n.startswith(cell) and n.count("/") == 2 for o in kept]
    labels = [t for t in texts(figure) if t in operations]
    assert sorted(labels) == sorted(operations)
    assert {"c(k-2)", "c(k-1)", "c(k)", "0", "1", "2", "3"} <= set(texts(figure))
    boxes = boxes_in(figure, lambda text: text in operations or text.startswith("c(") or text.isdigit())
    clashes = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert clashes == 0


def test_repeated_operations_are_drawn_twice():
    labels = texts(draw_cell(published("nasnet_a"), "normal"))
    assert labels.count("avg_pool_3x3") == 3
    assert labels.count("4") == 1


def test_heat_map_writes_numbers_on_a_fixed_scale():
    values = torch.tensor([[0.25, 0.75], [math.nan, 1.0]])
    figure = heat_map(["0 → 2", "1 → 2"], ["a", "b"], values, "normal")
    assert texts(figure) == ["0.25", "0.75", "1.00"]
    assert figure.axes[0].images[0].get_clim() == (0.0, 1.0)
    assert figure.axes[0].get_title() == "normal"


def test_files(tmp_path):
    paths = save_drawings(published("darts_v2"), tmp_path)
    assert [p.name for p in paths] == ["genotype.svg", "genotype.png", "genotype.dot"]
    assert "<svg" in paths[0].read_text()
    assert Image.open(paths[1]).size[0] > 800
    dot = paths[2].read_text()
    assert dot.count("digraph") == 2
    assert dot.count('label="max_pool_3x3"') == 5
    assert 's0 -> s2 [label="sep_conv_3x3"' in cell_to_dot(published("darts_v2"), "normal")


def test_other_spaces_are_left_alone(tmp_path):
    assert save_drawings({"stage/width": ("16",)}, tmp_path) == []
    assert cell_kinds(PUBLISHED["darts_v1"].architecture()) == ["normal", "reduce"]
