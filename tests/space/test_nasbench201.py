"""The benchmark's own figures: Dong and Yang 2020, and the table of its cells where there is a copy of it."""

import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from supernet.estimation.benchmark_tables import Table, read_table
from supernet.estimation.costs import macs, parameters
from supernet.runtime.errors import InputError
from supernet.search.differentiable.discretisers import argmax
from supernet.space.architecture import check, one_hot, random_architecture
from supernet.space.cells import Cell
from supernet.space.choices import Choice
from supernet.space.choosers import Decided, Undecided
from supernet.space.nasbench201 import (
    NASBENCH201_OPERATIONS,
    NasBench201,
    ResidualBlock,
    from_string,
    is_cell,
    to_string,
)
from supernet.space.supernet import Supernet

# Facts of the benchmark: index -> cell, parameters, multiply-adds on CIFAR-10.
KNOWN = {
    0: (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
        129_306,
        15_647_360,
    ),
    1462: (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        1_531_546,
        220_119_680,
    ),
    1651: ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 73_306, 7_783_040),
    13714: (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|",
        1_073_466,
        153_272_960,
    ),
}
SAMPLE = random.Random(201).sample(range(15_625), 500)


def copy_of_the_table() -> Path | None:
    """The benchmark as a CSV file, in a folder `shared` beside the repository or above it."""
    name = Path("shared", "data", "nasbench201", "nasbench201.csv.gz")
    return next((p / name for p in Path(__file__).resolve().parents if (p / name).is_file()), None)


@pytest.fixture(scope="module")
def benchmark() -> Table:
    if (path := copy_of_the_table()) is None:
        pytest.skip("there is no copy of the benchmark's table here")
    return read_table(str(path), ["cifar10_test_200", "params", "macs_cifar10"])


def network_of(cell: str, space: NasBench201 | None = None):
    return (space or NasBench201()).network(Decided(from_string(cell)), (3, 32, 32), 10)


def counts(cell: str) -> tuple[int, int]:
    """Parameters and multiply-adds by hand: what a cell costs is a sum over its convolutions."""
    widths = [(16, 32 * 32), (32, 16 * 16), (64, 8 * 8)]
    ones, threes = cell.count("nor_conv_1x1"), cell.count("nor_conv_3x3")
    learnt = sum(5 * (ones * (c * c + 2 * c) + threes * (9 * c * c + 2 * c)) for c, _ in widths)
    multiplied = sum(5 * pixels * (ones + 9 * threes) * c * c for c, pixels in widths)
    return 73_306 + learnt, 7_783_040 + multiplied


@pytest.fixture(scope="module")
def cells() -> list[str]:
    return [to_string(architecture) for architecture in NasBench201().architectures()]


def test_there_are_15625_cells_and_each_is_read_as_it_is_written(cells):
    assert len(set(cells)) == 5**6
    assert all(to_string(from_string(cell)) == cell for cell in cells)
    assert sum(1 for _ in NasBench201(nodes=2, operations=("none", "skip_connect")).architectures()) == 2**3


def test_they_are_the_cells_of_the_benchmark(cells, benchmark):
    assert set(benchmark.rows) == set(cells)
    for index, (cell, params, cost) in KNOWN.items():
        assert benchmark.index(from_string(cell)) == index
        assert [benchmark(from_string(cell)).values[c] for c in ("params", "macs_cifar10")] == [params, cost]
    assert benchmark(benchmark.best("cifar10_test_200")).values["cifar10_test_200"] == pytest.approx(94.373, abs=1e-3)


@pytest.mark.parametrize("index", KNOWN)
def test_known_cells_have_their_parameters_and_multiply_adds(index):
    cell, params, cost = KNOWN[index]
    assert parameters(network_of(cell)) == params
    assert macs(network_of(cell), (3, 32, 32)) == cost
    assert counts(cell) == (params, cost)


@pytest.mark.parametrize("part", range(2))
def test_parameters_of_a_sample_of_500_cells(cells, part):
    """Of each the network with one cell a stage; four more of these cells make it the benchmark's."""
    for index in SAMPLE[part::2]:
        network = network_of(cells[index], NasBench201(cells=1))
        inside = sum(parameters(block) for block in network.blocks if isinstance(block, Cell))
        assert parameters(network) + 4 * inside == counts(cells[index])[0], cells[index]


def test_parameters_of_whole_networks(cells):
    for index in SAMPLE[:40]:
        assert parameters(network_of(cells[index])) == counts(cells[index])[0], cells[index]


@pytest.mark.slow
def test_parameters_of_the_whole_networks_of_all_500(cells):
    for index in SAMPLE:
        assert parameters(network_of(cells[index])) == counts(cells[index])[0], cells[index]


def test_counts_of_the_sample_are_those_of_the_benchmark(cells, benchmark):
    for index in SAMPLE:
        row = benchmark(from_string(cells[index])).values
        assert (row["params"], row["macs_cifar10"]) == counts(cells[index]), cells[index]


def test_multiply_adds_of_a_smaller_sample(cells):
    for index in SAMPLE[:6]:
        assert macs(network_of(cells[index]), (3, 32, 32)) == counts(cells[index])[1], cells[index]


def supernet_of(space: NasBench201, shape=(1, 9, 7), classes=4) -> Supernet:
    return Supernet(space.network(Undecided(), shape, classes))


@pytest.mark.parametrize("space", [NasBench201(4, 1), NasBench201(4, 2, 1, 2), NasBench201(3, 1, 2, 4)])
def test_one_hot_supernet_equals_the_derived_network(space):
    """With an architecture's one-hot weights the supernet computes what the network built from it does."""
    torch.manual_seed(0)
    supernet = supernet_of(space).double()
    for seed in range(4):
        architecture = random_architecture(space.name, supernet.decisions, torch.Generator().manual_seed(seed))
        check(architecture, supernet.decisions)
        assert from_string(to_string(architecture)) == architecture
        derived = space.network(Decided(architecture, searching=True), (1, 9, 7), 4).double()
        names = {}
        for name in derived.state_dict():
            parts = name.split(".")
            if "edges" in parts:
                source, node = parts[3].split("-")
                parts[4:4] = ["candidates", architecture[f"cell/{node}/{source}"][0]]
            names[name] = "network." + ".".join(parts)
        state = supernet.state_dict()
        derived.load_state_dict({name: state[ours] for name, ours in names.items()})
        images = torch.randn(3, 1, 9, 7, dtype=torch.float64)
        weights = one_hot(architecture, supernet.decisions, dtype=torch.float64)
        for mode in (True, False):
            torch.testing.assert_close(
                supernet.train(mode)(images, weights), derived.train(mode)(images), rtol=1e-12, atol=1e-12
            )
        assert not [m for m in derived.modules() if isinstance(m, Choice)]


def test_a_network_computes_what_the_paper_says():
    """Stem, a cell of each operation, the residual block, the head: written out with functions."""
    torch.manual_seed(0)
    cell = "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
    network = NasBench201(2, 1, 2).network(Decided(from_string(cell)), (3, 6, 6), 4).double()
    p = {name: value.detach() for name, value in network.named_parameters()}
    x = torch.randn(5, 3, 6, 6, dtype=torch.float64)

    def norm(x, name):
        return F.batch_norm(x, None, None, p[f"{name}.weight"], p[f"{name}.bias"], training=True)

    def conv(x, name, index):
        weight = p[f"{name}.{index}.weight"]
        return norm(F.conv2d(F.relu(x), weight, padding=weight.shape[-1] // 2), f"{name}.{index + 1}")

    def run_cell(x0, block):
        edge = f"blocks.{block}.edges"
        x1 = conv(x0, f"{edge}.0-1", 1)
        x2 = F.avg_pool2d(x0, 3, 1, 1, count_include_pad=False) + conv(x1, f"{edge}.1-2", 1)
        return x0 + conv(x2, f"{edge}.2-3", 1)

    state = run_cell(norm(F.conv2d(x, p["stem.0.weight"], padding=1), "stem.1"), 0)
    inner = norm(
        F.conv2d(F.relu(state), p["blocks.1.convolutions.1.weight"], stride=2, padding=1), "blocks.1.convolutions.2"
    )
    inner = conv(inner, "blocks.1.convolutions", 4)
    state = run_cell(inner + F.conv2d(F.avg_pool2d(state, 2), p["blocks.1.shortcut.1.weight"]), 2)
    logits = F.relu(norm(state, "last.0")).mean((2, 3)) @ p["classifier.weight"].T + p["classifier.bias"]
    torch.testing.assert_close(network(x), logits, rtol=1e-10, atol=1e-10)


def test_in_the_search_only_the_cells_norms_do_not_learn():
    supernet = supernet_of(NasBench201(4, 1))
    learns = {
        name: module.affine for name, module in supernet.named_modules() if isinstance(module, torch.nn.BatchNorm2d)
    }
    assert all(affine == (".edges." not in name) for name, affine in learns.items())
    assert not any("pool" in name for name in learns)
    assert list(supernet.decisions["cell/3/1"].options) == list(NASBENCH201_OPERATIONS)


def test_none_is_an_ordinary_answer_here():
    decisions = supernet_of(NasBench201(2, 1, 1)).decisions
    edges = [name for name, decision in decisions.items() if decision.role == "operation"]
    weights = {name: torch.tensor([0.3, 0.2, 0.2, 0.2, 0.1]) for name in edges}
    weights["cell/2/1"] = torch.tensor([0.2, 0.1, 0.1, 0.5, 0.1])
    cell = to_string(argmax("nasbench201", decisions, weights))
    assert cell == "|none~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|none~2|"
    generator = torch.Generator().manual_seed(0)
    drawn = [to_string(random_architecture("nasbench201", decisions, generator)) for _ in range(1000)]
    for operation in NASBENCH201_OPERATIONS:  # 6000 draws, a fifth each, within five standard deviations
        assert sum(cell.count(operation) for cell in drawn) == pytest.approx(1200, abs=155)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1)])
def test_residual_block_halves_upwards(size):
    out = ResidualBlock(3, 6)(torch.randn(2, 3, *size))
    assert out.shape == (2, 6, *(-(-s // 2) for s in size))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "node 1 needs an operation from each state before it, as in |skip_connect~0|"),
        ("|skip_connect~1|", "node 1"),
        ("|none~0|+|none~0|", "node 2 needs .* as in .skip_connect~0.skip_connect~1."),
        ("|none~0|+|none~1|none~0|", "node 2"),
        ("|none|", "node 1"),
        ("x" * 500, "'x{80}': node 1"),
    ],
)
def test_other_strings_are_refused_in_one_line(text, says):
    with pytest.raises(InputError, match=says.replace("|", r"\|")) as error:
        from_string(text)
    assert "\n" not in str(error.value)


def test_cells_of_other_spaces_cannot_be_written():
    darts = type(from_string("|none~0|"))("darts", {"normal/2": ("0", "1")})
    with pytest.raises(InputError, match="of space 'darts'"):
        to_string(darts)


@pytest.mark.parametrize(
    "settings",
    [{"channels": 0}, {"cells": 0}, {"stages": 0}, {"nodes": 0}, {"operations": ()}, {"operations": ("none",) * 2}],
)
def test_bad_settings_are_one_line(settings):
    (name,) = settings
    with pytest.raises(InputError, match=f"^{name}="):
        NasBench201(**settings)


@pytest.mark.parametrize("written", ["{}", " {}\n", "Structure(4 nodes with {})", "{:wide}"])
def test_blanks_and_the_words_around_a_cell_play_no_part(written):
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    given = cell.replace("|", " | ").replace("+", " + ") if "wide" in written else written.format(cell)
    assert to_string(from_string(given)) == cell
    assert is_cell(given)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("(4, 0, 3, 1, 4, 3)", "numbers alone do not say"),
        ("[4,0,3,1,4,3]", "numbers alone do not say"),
        ("|none~" + "9" * 5000 + "|", "node 1 needs"),
        ("|none~\u0660|", "node 1 needs"),
        ("|<script>~0|", "node 1 needs"),
        ("||none~0|", "node 1 needs"),
        ("none~0", "node 1 needs"),
        ("|none~0|+", "node 2 needs"),
        ("+".join("|" + "|".join(f"none~{s}" for s in range(n)) + "|" for n in range(1, 120)), "119 nodes"),
    ],
)
def test_other_writings_are_refused_in_one_line(text, says):
    with pytest.raises(InputError, match=says) as error:
        from_string(text)
    assert len(str(error.value)) < 400
