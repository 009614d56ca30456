import math
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
import torch
from PIL import Image

from supernet.genotypes import drawing
from supernet.genotypes.drawing import cell_kinds, cell_to_dot, draw_cell, edge_names, heat_map, save_drawings
from supernet.genotypes.edge_routing import Edge, lay_out
from supernet.genotypes.literature import PUBLISHED, published
from supernet.runtime.text import printable
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import from_string


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def boxes_in(figure, wanted) -> list:
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    return [t.get_window_extent(renderer) for axes in figure.axes for t in axes.texts if wanted(t.get_text())]


@pytest.mark.parametrize(
    "name", ["darts_v1", "darts_v2", "pdarts", "pc_darts_cifar", "drnas_cifar10", "darts_pt_1", "nasnet_a"]
)
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
    shown = figure.canvas.get_width_height()
    assert all(box.x0 >= 0 and box.x1 <= shown[0] and box.y0 >= 0 and box.y1 <= shown[1] for box in boxes)


def test_a_curve_crosses_no_other_node():
    for name in PUBLISHED:
        for cell in ("normal", "reduce"):
            architecture = published(name)
            edges = [
                Edge(int(n.split("/")[2]), int(n.split("/")[1]), o)
                for n, kept in architecture.items()
                if n.startswith(cell) and n.count("/") == 2
                for o in kept
            ]
            layout = lay_out(edges, [int(node) for node in architecture[f"{cell}/output"]], 2, 5)
            assert sorted((r.edge.source, r.edge.node, r.edge.operation) for r in layout.routes if r.label) == sorted(
                (e.source, e.node, e.operation) for e in edges
            )
            for route in layout.routes:
                for state, box in layout.states.items():
                    if state not in (route.edge.source, route.edge.node):
                        right, up = abs(route.curve - (box.x, box.y)).T
                        assert not ((right < box.width / 2) & (up < box.height / 2)).any(), (name, cell, route.edge)


def test_repeated_operations_are_drawn_twice():
    labels = texts(draw_cell(published("nasnet_a"), "normal"))
    assert labels.count("avg_pool_3x3") == 3
    assert labels.count("4") == 1


def test_only_the_named_nodes_reach_the_output():
    architecture = {**published("darts_v2"), "normal/output": ("3", "5")}
    assert [line.split()[0] for line in cell_to_dot(architecture, "normal").splitlines() if "-> s6" in line] == [
        "s3",
        "s5",
    ]
    del architecture["normal/output"]
    assert cell_to_dot(architecture, "normal").count("-> s6") == 4


def test_nothing_is_kept_outside_the_figure(tmp_path):
    before = dict(matplotlib.rcParams)
    save_drawings(published("pdarts"), tmp_path)
    heat_map(["a"], ["b"], torch.ones(1, 1))
    assert dict(matplotlib.rcParams) == before
    source = Path(drawing.__file__).read_text()
    assert "import pyplot" not in source
    assert "matplotlib.pyplot" not in source


def test_edges_are_called_what_the_picture_of_the_cell_calls_them():
    assert edge_names(["normal/2/0", "normal/3/1", "normal/3/2"]) == ["c(k-2) → 0", "c(k-1) → 1", "0 → 1"]
    assert edge_names(["cell/1/0", "cell/2/1"]) == ["c(k-1) → 0", "0 → 1"], "a cell of one input"
    assert edge_names(["cell/3/0", "cell/4/1"]) == ["0 → 3", "1 → 4"], "three inputs: no cell of this picture"
    assert edge_names(["stage1/block2", "width"]) == ["block2", "width"]


@pytest.mark.parametrize(
    ("largest", "top"), [(0.0, 1.0), (0.126, 0.25), (0.25, 0.25), (0.26, 0.5), (0.51, 1.0), (1.0, 1.0), (1.1, 1.0)]
)
def test_scale_of_a_heat_map_is_the_least_that_holds_all(largest, top):
    figure = heat_map(["e"], ["a", "b", "c"], torch.tensor([[0.0, largest, math.nan]]))
    assert figure.axes[0].images[0].get_clim() == (0.0, top)


def test_heat_map_writes_numbers():
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
    assert dot.count(" -> ") == 2 * (8 + 4)
    assert dot.count('label="max_pool_3x3"') == 5
    assert 's0 -> s2 [label="sep_conv_3x3"' in cell_to_dot(published("darts_v2"), "normal")


def test_other_spaces_are_left_alone(tmp_path):
    assert save_drawings({"stage/width": ("16",)}, tmp_path) == []
    assert save_drawings({"cell/3/0": ("a",), "cell/4/0": ("b",)}, tmp_path) == []  # three inputs are not drawn
    assert save_drawings({"stage/2/5": ("16",)}, tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    mixed = {"stage/2/5": ("16",), "normal/2/0": ("skip_connect",), "depth": ("3",)}
    assert "stage" not in save_drawings(mixed, tmp_path / "new")[2].read_text()
    assert texts(draw_cell({"depth": ("3",)}, "stage"))[0] == "stage cell"
    assert cell_kinds(PUBLISHED["darts_v1"].architecture()) == ["normal", "reduce"]


def test_a_cell_of_one_input_is_drawn_without_the_edges_it_leaves_out():
    cell = from_string("|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")
    figure = draw_cell(cell, "cell")
    assert sorted(filter(None, texts(figure))) == sorted(
        ["cell", "c(k-1)", "0", "1", "2", "c(k)", "nor_conv_3x3", "avg_pool_3x3", "skip_connect", "nor_conv_1x1"]
    )
    dot = cell_to_dot(cell, "cell")
    assert "none" not in dot
    assert [line.split()[:3] for line in dot.splitlines() if "->" in line] == [
        ["s0", "->", "s1"],
        ["s1", "->", "s2"],
        ["s0", "->", "s3"],
        ["s2", "->", "s3"],
        ["s3", "->", "s4"],
    ]
    empty = draw_cell(from_string("|none~0|+|none~0|none~1|"), "cell")
    assert {"c(k-1)", "0", "1", "c(k)"} <= set(texts(empty))


HOSTILE = [
    '"]; evil [label="',
    "back\\",
    "line\nbreak",
    "$\\frac{1}{$",
    "\x1b[31m",
    "<script>alert(1)</script>",
    "\x01",
]


@pytest.mark.parametrize("operation", HOSTILE)
def test_operations_of_any_name_are_drawn_as_text(tmp_path, operation):
    cell = Architecture("toy", {"normal/2": ("0", "1"), "normal/2/0": (operation,), "normal/2/1": ("skip_connect",)})
    paths = save_drawings(cell, tmp_path)
    ElementTree.parse(paths[0])  # sound XML
    assert printable(operation) in texts(draw_cell(cell, "normal"))
    (line,) = [line for line in paths[2].read_text().split("\n") if "s0 -> s2" in line]
    label = re.fullmatch(r'  s0 -> s2 \[label="((?:[^"\\]|\\.)*)", color="#\w+"\];', line)
    assert label, "one attribute, which the name does not end"
    assert re.sub(r"\\(.)", r"\1", label[1]) == printable(operation)
    heat_map([operation], [operation], torch.zeros(1, 1), title=operation).canvas.draw()


def test_kinds_of_any_name_are_quoted():
    kind = 'x" {a'
    dot = cell_to_dot(Architecture("toy", {f"{kind}/2": ("0",), f"{kind}/2/0": ("a",)}), kind)
    assert dot.startswith('digraph "x\\" {a" {')


def test_cells_of_absurd_numbers_are_not_drawn(tmp_path):
    for node in ("999999999", "99999", "9" * 5000, "\u0662"):
        architecture = {f"normal/{node}": ("0",), f"normal/{node}/0": ("a",)}
        assert cell_kinds(architecture) == []
        assert save_drawings(architecture, tmp_path) == []
    many = {f"normal/{n}/{s}": ("a",) for n in range(2, 40) for s in range(n)}
    assert save_drawings(many, tmp_path) == []
    assert list(tmp_path.iterdir()) == []
