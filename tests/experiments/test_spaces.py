"""All steps of the job in spaces other than DARTS: search, discretise, retrain, keep, load, draw."""

import contextlib
import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from common import tiny
from supernet.experiments.commands import show

from supernet import load
from supernet.estimation.benchmark_tables import micro
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import NasBench201, from_string, to_string

SMALL = ["space=nasbench201", "space.channels=2", "space.cells=1", "space.nodes=2"]
COLUMNS = ("cifar10_test_200", "cifar100_test_200", "imagenet16_120_test_200")


@pytest.fixture
def cells_csv(tmp_path) -> Path:
    """A made-up table of all cells of two nodes."""
    cells = [to_string(a) for a in NasBench201(nodes=2).architectures()]
    rows = [f"{cell},{number},{number / 2},{number / 4}" for number, cell in enumerate(cells)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join([f"arch,{','.join(COLUMNS)}", *rows]))
    return path


def the_run(root: Path) -> Path:
    (directory,) = (path.parent for path in root.glob("runs/*/*/.hydra"))
    return directory


def logged(run: Path) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for row in csv.DictReader((run / "metrics" / "search.csv").open()):
        if row["tag"].startswith("table/"):
            values.setdefault(row["tag"].removeprefix("table/"), []).append(float(row["value"]))
    return values


def test_nasbench201_with_a_table(supernet, images, cells_csv, tmp_path, monkeypatch, capfd):
    code, printed = supernet(*tiny(images, *SMALL, "table=nasbench201", f"table.path={cells_csv}", "search.epochs=2"))
    assert code == 0, printed
    run = the_run(tmp_path)
    found = Architecture.load(run / "genotype.json")
    rank = [to_string(a) for a in NasBench201(nodes=2).architectures()].index(to_string(found))
    truth = logged(run)
    assert set(truth) == set(COLUMNS)
    assert all(len(values) == 2 for values in truth.values())
    assert [truth[name][-1] for name in COLUMNS] == [rank, rank / 2, rank / 4]
    predictor = load(run)
    assert predictor.architecture == found
    assert predictor(torch.zeros(2, 1, 6, 6, dtype=torch.uint8))[0].probs.top1 in (0, 1, 2)
    assert json.loads((run / "summary.json").read_text())["finalists"][0]["parameters"] == sum(
        p.numel() for p in predictor.network.parameters()
    )
    assert "<svg" in (run / "genotype.svg").read_text()

    monkeypatch.setattr(sys, "argv", ["supernet-show", str(run), "--output", str(tmp_path / "drawn")])
    show.main()
    printed = capfd.readouterr().out
    assert "the trained network" in printed
    assert "  1 = " in printed
    assert (tmp_path / "drawn" / "genotype.svg").exists()


def test_without_a_table_nothing_is_logged_and_a_cell_as_a_string_skips_the_search(supernet, images, tmp_path):
    cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|"
    code, printed = supernet(*tiny(images, *SMALL, f"genotype='{cell}'", "baseline.random=0"))
    assert code == 0, printed
    assert Architecture.load(the_run(tmp_path) / "genotype.json") == from_string(cell)
    assert not (the_run(tmp_path) / "metrics" / "search.csv").exists()


def test_robustdarts_s4(supernet, images, tmp_path):
    sizes = ["space.channels=2", "space.cells=3", "space.nodes=2"]
    code, printed = supernet(*tiny(images, "space=s4", *sizes, "baseline.random=0"))
    assert code == 0, printed
    kept = {
        o for n, k in Architecture.load(the_run(tmp_path) / "genotype.json").items() if n.count("/") == 2 for o in k
    }
    assert kept <= {"noise", "sep_conv_3x3"}
    assert logged(the_run(tmp_path)) == {}


def test_micro_logs_the_truth_that_comes_with_it(supernet, tmp_path):
    code, printed = supernet("experiment=micro", "search.epochs=1", "search.warm_up=0", "retrain.epochs=1", "seed=3")
    assert code == 0, printed
    run = the_run(tmp_path)
    known = micro()(Architecture.load(run / "genotype.json"))
    assert logged(run) == {name: [pytest.approx(value)] for name, value in known.values.items()}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["table=micro"], "of space 'darts'; only cells of 'nasbench201'"),
        (["table=micro", "space=nasbench201"], "table: micro: has no cell"),
        (["table=nasbench201", "space=nasbench201"], "table.path: needs a value"),
        (["table=nasbench201", "space=nasbench201", "table.path=absent.csv"], "table.path=absent.csv: no such file"),
        (["table=micro", "space=micro", "table.columns=[speed]"], "table: micro: has no column 'speed'"),
        (["space=nasbench201", "space.stages=0"], "space.stages=0: needs to be at least 1"),
        (["space=nasbench201", "+space.stem=cifar"], "space.stem: unknown setting; known: channels, cells, stages"),
        (["space=nasbench201", "genotype='|none~1|'"], "node 1 needs an operation"),
    ],
)
def test_mistakes_are_one_line(supernet, images, arguments, says):
    code, printed = supernet(*tiny(images, *arguments))
    assert code == 2, printed
    lines = [line for line in printed.splitlines() if line.startswith("supernet: ") and "seed 0" not in line]
    assert len(lines) == 1, printed
    assert says in lines[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"], "parameters  316,346"),
        (["|none~0|", "--stem", "imagenet"], "NAS-Bench-201 has no other stem"),
        (["mine.json"], "of space 'mine', whose sizes are not known here; known: darts, nasbench201"),
    ],
)
def test_show_knows_the_spaces(monkeypatch, tmp_path, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    Architecture("mine", {"depth": ("3",)}).save(tmp_path / "mine.json")
    monkeypatch.setattr(sys, "argv", ["supernet-show", *arguments])
    with contextlib.suppress(SystemExit):
        show.main()
    assert says in "".join(capsys.readouterr())


MOBILE = ["space.width=0.1", "method=gdas", "protocol=few_steps", "search=laptop"]


@pytest.mark.parametrize(
    ("space", "sharing"), [pytest.param("mobilenet_v3", "nested", marks=pytest.mark.slow), ("proxyless", "separate")]
)
def test_a_mobile_network_from_the_search_to_the_predictions(
    supernet, images, tmp_path, monkeypatch, capfd, space, sharing
):
    words = tiny(images, f"space={space}", *MOBILE, "search.warm_up=0", "search.least_steps=0")
    code, printed = supernet(*words)
    assert code == 0, printed
    run = the_run(tmp_path)
    predictor = load(run)
    assert predictor.space.sharing == sharing
    assert predictor.space.stem_stride == 1  # images of 6 x 6
    assert predictor(torch.zeros(2, 1, 6, 6, dtype=torch.uint8))[0].probs.top1 in (0, 1, 2)
    assert (run / "genotype.svg").read_text().count("stage/block") >= 1
    assert not (run / "genotype.dot").exists()
    monkeypatch.setattr(sys, "argv", ["supernet-show", str(run)])
    show.main()
    out = capfd.readouterr().out
    assert f"parameters  {sum(p.numel() for p in predictor.network.parameters()):,}" in out
    assert "stage2/1" in out
    assert "squeeze" in out


def shown(monkeypatch, capfd, *words: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["supernet-show", *words])
    code = 0
    try:
        show.main()
    except SystemExit as stop:
        code = stop.code
    out, err = capfd.readouterr()
    return code, out + err


def test_a_published_mobile_network_is_shown_with_its_blocks(monkeypatch, capfd, tmp_path):
    code, printed = shown(monkeypatch, capfd, "MobileNet_V3_Large", "--output", str(tmp_path / "picture"))
    assert code == 0
    assert "parameters  5,483,032" in printed
    assert "MACs        216,589,760" in printed
    assert "stage6/3  160     960  160       5       1      yes   hardswish" in printed
    assert {path.name for path in (tmp_path / "picture").iterdir()} == {"genotype.svg", "genotype.png"}
    code, printed = shown(monkeypatch, capfd, "mobilenet_v2", "--output", str(tmp_path / "picture"))
    assert (code, "has a drawing already" in printed) == (2, True)
    code, printed = shown(monkeypatch, capfd, "mobilenet_v2", "--width", "0.5", "--image-size", "32", "--classes", "10")
    assert "parameters  700,490" in printed  # torchvision's of this width with ten classes


def test_sizes_of_the_other_kind_of_network_are_refused(monkeypatch, capfd, tmp_path):
    published_net = tmp_path / "genotype.json"
    published_net.write_text(Architecture("mobile", {"stage1/1": ("k3_e3",)}).to_json())
    for words, message in (
        (("mobilenet_v2", "--cells", "8"), "a mobile network has --width and --image-size"),
        (("darts_v2", "--width", "0.5"), "darts_v2 is a cell, which has --channels and --cells"),
        ((str(published_net),), "whose sizes are not in a genotype; known: mobilenet_v2, "),
        (("mobilenet_v2", "--width", "0"), "width=0.0: needs to lie between 0 and 16"),
    ):
        code, printed = shown(monkeypatch, capfd, *words)
        assert code == 2
        assert message in printed
        assert printed.count("\n") == 1


def test_a_published_network_is_trained_and_one_of_another_space_is_refused(supernet, images, tmp_path):
    words = tiny(images, "genotype=mobilenet_v3_small", "space.size=small", "space.width=0.1", "baseline.random=0")
    code, printed = supernet(*words, "space=mobilenet_v3")
    assert code == 0, printed
    assert load(the_run(tmp_path)).architecture["stage2/2/expand"] == ("3.67",)
    code, printed = supernet(*tiny(images, "genotype=mobilenet_v3_small", "name=other"))
    assert code == 2
    assert "genotype=mobilenet_v3_small: is of space 'mobile', and space=... is of 'darts'" in printed
