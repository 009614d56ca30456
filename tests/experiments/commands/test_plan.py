"""supernet-plan: what it says is counted and measured, and mistakes are one line."""

import pytest
import torch
from common import typed_words
from supernet.experiments import several_devices
from supernet.experiments.commands import plan as plan_module
from supernet.experiments.commands.plan import Need, duration, main
from supernet.experiments.links import Link

from supernet.training.loop import Recipe


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    return lambda *words: typed_words(main, "supernet-plan", monkeypatch, capsys, *words)


def test_says_what_both_stages_need_and_leaves_nothing(run, tmp_path):
    code, out, err = run("experiment=quick", "runtime.threads=1")
    assert code == 0, err
    rows = [line for line in out.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["search", "retraining"]
    assert list(tmp_path.iterdir()) == []


def test_each_stage_has_a_row(run):
    stages = "stages=[{width: 1.5, keep: 3}, {channel_divisor: 2}]"
    code, out, err = run("experiment=micro", "table=none", "runtime.threads=1", "search.batch_size=8", stages)
    assert code == 0, err
    rows = [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if line.startswith("│")]
    assert [row[1] for row in rows] == ["search1", "search2", "retraining"]
    first, second = (int(row[2].replace(",", "")) for row in rows[:2])
    assert second < first, "fewer operations on fewer channels"


def test_a_given_genotype_needs_no_search(run):
    code, out, err = run("experiment=quick", "genotype=darts_v2", "space.nodes=4")
    assert code == 0, err
    assert "search" not in out.replace("research", "")


def test_batches_follow_from_few_images_as_in_the_job(run, images):
    code, out, err = run("data=npz", f"data.path={images}", "space=darts_quick", "retrain.network.darts.channels=4")
    assert code == 0, err
    rows = [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if line.startswith("│")]
    assert [row[3] for row in rows] == ["9", "9"]  # 45 and 81 images


def test_the_optimiser_is_that_of_the_loop():
    recipe = Recipe(weight_decay=0.01, nesterov=True, momentum=0.8)
    (group,) = plan_module._sgd(torch.nn.Linear(2, 2), recipe).param_groups
    assert (group["weight_decay"], group["nesterov"], group["momentum"], group["lr"]) == (0.01, True, 0.8, 0.025)


def test_a_batch_that_does_not_fit_is_told(run, monkeypatch):
    monkeypatch.setattr(plan_module, "_free", lambda device: 2_000_000)
    code, out, _ = run("experiment=quick", "space.channels=8")
    assert code == 0
    assert "does not fit; search.batch_size=" in out


def cells_of(out, first):
    """The rows of a table whose first column has these words, a list of cells each."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    return [row for row in rows if row[0] in first]


@pytest.fixture
def fast(monkeypatch):
    """The way between two processes is known, and a line is wide enough for the table."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(several_devices, "measured", lambda backend, sizes: Link(1e9, 1e-4))
    monkeypatch.setattr(plan_module, "_STEPS", 1)


def test_several_devices_have_their_share_and_a_table(run, fast):
    sizes = ("runtime.threads=1", "search.batch_size=8", "runtime.devices=2")
    code, out, err = run("experiment=quick", "retrain=none", *sizes)
    assert code == 0, err
    alone, several = out.split("On several devices")
    assert [row[:3:2] for row in cells_of(alone, ("search",))] == [["search", "8"]]
    assert [row[:3] for row in cells_of(several, ("search", "all"))] == [["search", "2", "4"]]
    said = " ".join(several.split())
    assert "search on 2: a device sends in a step: 1 meeting of hosts; outputs 2 x" in said
    assert "gradients of the architect 1 x 320 bytes; weights' gradients and statistics 1 x" in said


@pytest.mark.slow
def test_each_stage_has_a_row_for_each_number_of_devices(run, fast):
    code, out, err = run("experiment=quick", "runtime.threads=1", "plan.devices=4,2", "architect=unrolled")
    assert code == 0, err
    alone, several = out.split("On several devices")
    assert [row[0] for row in cells_of(alone, ("search", "retraining"))] == ["search", "retraining"]
    found = [row[:3] for row in cells_of(several, ("search", "retraining", "all"))]
    assert found[:2] == [["search", "2", "32"], ["retraining", "2", "32"]]
    assert found[2:] == [["search", "4", "16"], ["retraining", "4", "16"], ["all", "2", ""], ["all", "4", ""]]
    searching = " ".join(several.split()).split(" on 2: ")[1]
    assert "gradients of the architect 2 x 320 bytes" in searching, "of the alphas, at both ends of a difference"
    assert searching.count("gradients of the architect 1 x") == 2, "of the weights, and of weights and alphas"


def test_a_batch_that_cannot_be_shared_is_told_before_anything_is_measured(run):
    code, out, err = run("experiment=quick", "plan.devices=2,64")
    assert code == 2
    assert "batch_size=64: 64 processes share a batch, and each needs 2 images; 128 or more" in err
    assert out == ""


def test_memory_grows_with_the_batch_as_it_says(run):
    kept = []

    def forward(batch):
        x = batch.images.requires_grad_()
        y = x.relu()
        kept.append(x.numel() * 4 + 0)
        return (y * y).sum()

    from supernet.data.batches import Batch

    two = Batch(torch.randn(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))
    four = Batch(torch.randn(4, 3, 4, 4), torch.zeros(4, dtype=torch.int64))
    assert plan_module._kept(forward, four) == 2 * plan_module._kept(forward, two) == 4 * 48 * 4


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["search.epochs=-3"], 2, "search.epochs=-3: needs at least 1"),
        (["epochs=3"], 2, "did you mean retrain.epochs, search.epochs"),
        (["seed=1,2"], 2, "seed=1,2: several values are a sweep"),
        (["plan.devices=one"], 2, "plan.devices=one: needs whole numbers from 2 on"),
        (["seed=abc"], 2, "seed=abc: Value 'abc'"),
        (["space=nowhere"], 2, "space=nowhere: no such option; known: darts"),
        (["data=npz", "data.path=nowhere.npz"], 2, "nowhere.npz"),
    ],
)
def test_mistakes(run, arguments, code, says):
    got, out, err = run(*arguments)
    assert got == code
    assert says in err
    assert "Traceback" not in out + err


def test_durations():
    assert [duration(s) for s in (0.51, 99.0, 120.0, 7200.0)] == ["0.5 s", "99.0 s", "2 min", "2.0 h"]
    assert Need("search", 1, 2, 3.0, None, 4.0, 5).fits is None
