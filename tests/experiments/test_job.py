"""Every part of the main job, made of the settings and checked before anything runs."""

from types import SimpleNamespace

import pytest
import torch
from common import composed, tiny
from supernet.experiments.job import _DECIDE, _fingerprint, from_table, prepare, random_cell
from torch import nn

from supernet.estimation.scores import Measured
from supernet.execution.engines import engine
from supernet.execution.fused.executor import fused
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.space.architecture import Architecture, check
from supernet.space.choosers import Undecided
from supernet.space.supernet import Supernet

CELL = Architecture("mine", {"a": ("skip_connect",)})


@pytest.fixture(autouse=True)
def settled():
    """What a job sets for the whole process is put back."""
    before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(before)
    torch.set_num_threads(threads)


def job_of(images, folder, *more):
    return prepare(composed(*tiny(images), "runtime.progress=false", *more), folder, Interruption())


def test_parts_follow_the_settings(images, tmp_path):
    job = job_of(images, tmp_path, "seed=7", "runtime.save_seconds=5", "search.epochs=2", "retrain.epochs=4")
    assert (job.seed, job.device, job.template.save_seconds) == (7, torch.device("cpu"), 5.0)
    assert (job.search.seed, job.final.seed) == (7, 7)
    assert job.retrain_recipe.epochs == 4
    assert [stage.recipe.epochs for stage in job.search.stages] == [2]
    assert job.data.shape == job.final.shape == job.search.shape == (1, 6, 6)
    assert job.final.engine == engine("fused", "cpu")
    assert job.final.engine.executor is fused


def test_each_step_reports_and_saves_under_its_name(images, tmp_path):
    job = job_of(images, tmp_path)
    run = job.run("search")
    run.report.close()
    assert run.checkpoint == tmp_path / "checkpoints" / "search.pt"
    assert (run.seed, run.fingerprint) == (job.seed, job.template.fingerprint)
    assert job.template.checkpoint is None


def test_a_checkpoint_is_of_its_images_space_and_seed(images, tmp_path):
    job, second = (job_of(images, tmp_path, f"seed={seed}", "space.nodes=2") for seed in (1, 2))
    one, other = job.template.fingerprint, second.template.fingerprint
    assert {name for name in one if one[name] != other[name]} == {"seed"}
    assert one["images"].startswith("90 training, 0 validation, 30 test (labels and pixels ")
    assert (one["space"], one["space.nodes"]) == ("darts", "2")
    assert not [name for name in one if name.startswith(("search.", "runtime."))]  # recipes are the loops' business
    assert not [name for name in one if name.endswith("path")]  # the images may move
    places = ("path", "train", "valid", "test", "cache", "size")
    settings = {"data": dict.fromkeys(places, "x"), **dict.fromkeys(("space", "retrain_valid", *_DECIDE))}
    settings |= {"retrain": None, "strategy": {}, "limits": {}, "costs": {}, "seed": 0}
    shards = _fingerprint(settings, job.space, job.data, job.task)
    assert [name for name in shards if name.startswith("data.")] == ["data.size"]


def test_random_cells_answer_the_space_and_are_numbered(images, tmp_path):
    job = job_of(images, tmp_path)
    decisions = Supernet(job.space.network(Undecided(), job.data.shape, 3)).decisions
    cells = [random_cell(job, number) for number in range(4)]
    for cell in cells:
        check(cell, decisions)
    assert len(set(cells)) > 1
    assert random_cell(job, 2) == cells[2]


def test_own_operations_are_built_in_both_networks(images, tmp_path):
    own = "+operations.mine={_target_: torch.nn.Identity}"
    job = job_of(images, tmp_path, own)
    assert isinstance(job.final.factories["mine"](None), nn.Identity)
    assert "sep_conv_3x3" in job.final.factories


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seed=-1"], "seed=-1: needs to lie between 0 and 4294967295"),
        (["runtime.threads=0"], "runtime.threads=0: needs at least 1"),
        (["runtime.save_seconds=-1"], "runtime.save_seconds=-1"),
        (["runtime.engine=turbo"], "runtime.engine=turbo"),
        (["runtime.precision=float16"], "runtime.precision=float16: use float32, tf32, bfloat16"),
        (["stages=[3]"], "stages[0]=3: needs settings of a stage"),
        (["+operations.mine=3"], "operations.mine=3: needs a function"),
        (["retrain.keep=best", "retrain_valid=0"], "retrain.keep=best: needs validation images"),
        (["search.share=1"], "search.share=1.0"),
    ],
)
def test_mistakes_show_before_anything_runs(images, tmp_path, words, says):
    with pytest.raises(InputError) as error:
        job_of(images, tmp_path, *words)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_what_a_table_knows():
    assert from_table(SimpleNamespace(table=None), CELL) == {}
    assert from_table(SimpleNamespace(table=lambda cell: Measured({"top": float(len(cell))})), CELL) == {"top": 1.0}
    with pytest.raises(InputError, match=r"^table: gives dict for an architecture; needs .*Measured$"):
        from_table(SimpleNamespace(table=lambda cell: {}), CELL)


def test_a_table_that_lacks_a_cell_says_how_to_do_without():
    def lacking(cell):
        raise InputError("has no such cell")

    with pytest.raises(InputError, match=r"table.*has no such cell; table=none does without it$"):
        from_table(SimpleNamespace(table=lacking), CELL)
