"""Few images: what follows from their number, and what is refused before anything runs."""

import json

import numpy as np
import pytest
from common import composed, tiny
from PIL import Image
from supernet.experiments.job import prepare
from supernet.experiments.retraining import balanced
from supernet.experiments.searching import check_search
from supernet.experiments.sizes import check_shares

from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interruption
from supernet.training.lengths import length_in_words


def folder(root, counts: dict[str, int], size: int = 8):
    """root/<class>/<image>: noise, brighter from class to class."""
    rng = np.random.default_rng(0)
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 60, (size, size, 3)) + 60 * label
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return ["data=image_folder", f"data.path={root}"]


def job_of(tmp_path, *words):
    return prepare(composed(*words, "runtime.threads=1"), tmp_path, Interruption())


def test_the_digits_are_trained_as_ever(tmp_path):
    job = job_of(tmp_path)
    assert job.retrain_recipe is not None
    assert [job.retrain_recipe.batch_size, job.search.stages[0].recipe.batch_size] == [64, 64]
    for recipe, (part, _) in (
        (job.retrain_recipe, job.divided.retrain),
        (job.search.stages[0].recipe, job.divided.search),
    ):
        assert length_in_words(recipe, job.data.train.subset(part)) == ""
    assert job.settings["retrain"]["batch_size"] == 64, "what is recorded has no null in it"


def test_fifty_photos_get_as_many_steps_as_the_digits(tmp_path):
    job = job_of(tmp_path, "experiment=laptop", *folder(tmp_path / "photos", {"cat": 25, "dog": 25}))
    training = job.data.train.subset(job.divided.retrain[0])
    assert (
        length_in_words(job.retrain_recipe, training) == "36 images: 20 epochs of 20 steps (5 passes) in batches of 9"
    )
    halves = [job.data.train.subset(half) for half in job.divided.search]
    assert (
        length_in_words(job.search.stages[0].recipe, halves[0])
        == "20 images: 8 epochs of 12 steps (6 passes) in batches of 10"
    )


def test_what_is_typed_is_obeyed(tmp_path):
    words = ["retrain.batch_size=36", "search.batch_size=4", "retrain.epochs=3", "retrain.least_steps=0"]
    job = job_of(tmp_path, *folder(tmp_path / "photos", {"cat": 25, "dog": 25}), *words)
    assert job.retrain_recipe.batch_size == 36
    assert job.search.stages[0].recipe.batch_size == 4
    assert length_in_words(job.retrain_recipe, job.data.train.subset(job.divided.retrain[0])).startswith(
        "36 images: 3 ep"
    )


def test_eight_pictures_a_class_end_in_a_model(supernet, tmp_path):
    words = ["experiment=quick", *folder(tmp_path / "photos", {"cat": 8, "dog": 8}), "runtime.threads=1"]
    code, said = supernet(*words, "baseline.random=0", "hydra.run.dir=run")
    assert code == 0, said
    (found,) = json.loads((tmp_path / "run" / "summary.json").read_text())["finalists"]
    assert found["valid_chance"] == found["test_chance"] - 1 / 6 == 0.5


@pytest.mark.parametrize(
    ("cats", "words", "says"),
    [
        (2, [], r"search.share=0.5: class 0 \(cat\) has 1 image, too few .* or take a known cell"),
        (2, ["genotype=darts_v2"], r"retrain_valid=0.1: class 0 \(cat\) .*hold nothing out: retrain_valid=0"),
        (1, [], r"class 0 \(cat\) has 1 image"),
    ],
)
def test_too_few_is_known_before_anything_runs(tmp_path, cats, words, says):
    with pytest.raises(InputError, match=says):
        job_of(tmp_path, *folder(tmp_path / "photos", {"cat": cats, "dog": 12}), *words)


def test_three_of_a_class_are_enough(tmp_path):
    job = job_of(tmp_path, *folder(tmp_path / "photos", {"cat": 3, "dog": 30}))
    check_search(job)
    for part in (*job.divided.search, *job.divided.retrain):
        assert len(job.data.train.labels[part].unique()) == 2
    assert not balanced(job.data)


def test_an_unbalanced_set_has_the_row_to_beat(supernet, tmp_path):
    labels = (np.arange(200) < 16).astype(int)
    pixels = np.random.default_rng(0).integers(0, 256, (200, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "rare.npz", train_images=pixels, train_labels=labels)
    code, said = supernet(*tiny(tmp_path / "rare.npz"), "baseline.random=0", "hydra.run.dir=run")
    assert code == 0, said
    (found,) = json.loads((tmp_path / "run" / "summary.json").read_text())["finalists"]
    assert found["test_chance"] == pytest.approx(37 / 40)
    assert 0 <= found["test_others"]["balanced_accuracy"] <= 1
    row = next(line for line in said.splitlines() if "always the largest" in line or "always" in line)
    assert "0.9250" in row
    tested = json.loads((tmp_path / "run" / "test.json").read_text())["searched"]
    assert tested["others"]["balanced_accuracy"] == found["test_others"]["balanced_accuracy"]


@pytest.mark.parametrize("word", ["data.mean=[]", "data.std=[]", "data.classes=[a,b,nan]", "data.std=[nan]"])
def test_an_empty_list_is_not_the_default(tmp_path, images, word):
    with pytest.raises(InputError, match=r"one number|finite"):
        prepare(composed(*tiny(images, word)), tmp_path, Interruption())


@pytest.mark.parametrize(
    ("words", "side", "stem"),
    [
        ((), 8, 1),
        (("space.image_size=224",), 224, 2),
        (("space.resolutions=[224]",), None, 2),
    ],
)
def test_a_mobile_space_has_the_strides_for_the_images(tmp_path, words, side, stem):
    job = job_of(tmp_path, "experiment=quick", "space=mobilenet_v3", "space.width=0.25", *words)
    assert job.settings["space"]["image_size"] == side
    assert job.space.stem_stride == job.final.space.stem_stride == stem
    assert job.template.fingerprint["space.image_size"] == str(side)  # another size is another search


def test_other_spaces_have_no_image_size(tmp_path):
    assert "image_size" not in job_of(tmp_path, "experiment=quick").settings["space"]


@pytest.mark.parametrize(
    ("settings", "processes", "line"),
    [
        (
            {"search": {"batch_size": 7}, "retrain": None},
            4,
            r"search\.batch_size=7: 4 processes share a batch, and each",
        ),
        ({"search": {"batch_size": 9}, "retrain": {"batch_size": 3}}, 2, r"retrain\.batch_size=3: 2 processes"),
        ({"search": {"batch_size": None}, "retrain": None}, 40, r"search\.batch_size=null, up to 64: 40 processes"),
        ({"search": {"batch_size": None}, "retrain": {"batch_size": 80}}, 32, ""),
        ({"search": {"batch_size": 4}, "retrain": {"batch_size": 80}, "genotype": "darts_v2"}, 40, ""),
        ({"search": {"batch_size": 1}, "retrain": None}, 1, ""),
    ],
)
def test_more_processes_than_a_batch_has_images_for_are_refused_before_they_start(settings, processes, line):
    if not line:
        check_shares(settings, processes)
        return
    with pytest.raises(InputError, match=line):
        check_shares(settings, processes)
