"""The job from Python: the same cells and models as from the command line, and no trace in the caller's process."""

import random
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from common import only_run, slow_but

import supernet
from supernet.asked_search import _fitted
from supernet.calls import described
from supernet.data.batches import Resident
from supernet.data.dataset import CommonSettings, Parts, assemble
from supernet.runtime.errors import InputError
from supernet.runtime.report import RunReport
from supernet.search.differentiable.objectives import CostTerm
from supernet.search.recipe import SearchRecipe
from supernet.training.loop import Recipe

SPACE = supernet.Darts(channels=4, cells=3, nodes=2)
MICRO = supernet.NasBench201(channels=4, cells=1, stages=2, nodes=2)
SIZES = [
    "experiment=laptop",
    "space.channels=4",
    "space.cells=3",
    "space.nodes=2",
    "search.epochs=2",
    "retrain.epochs=1",
]
SIZES += ["retrain.network.darts.channels=6", "retrain.network.darts.cells=3", "baseline.random=0"]


@pytest.mark.parametrize("method", slow_but(["darts"], ["darts", "gdas", "p_darts"]))
def test_find_and_train_are_what_the_command_does(method, tmp_path, monkeypatch, capfd):
    """To the bit: genotype, weights and scores; the command line is given the words for the same sizes."""
    code, printed, folder = only_run(tmp_path, monkeypatch, capfd, f"method={method}", *SIZES, "runtime.threads=1")
    assert code == 0, printed
    data = supernet.data.digits()
    found = supernet.find(SPACE, data, method=getattr(supernet.methods, method)(), epochs=2, device="cpu")
    assert found == supernet.Architecture.load(folder / "genotype.json")
    model = supernet.train(found, SPACE.resized(channels=6), data, epochs=1, device="cpu")
    command = supernet.load(folder)
    assert all(
        torch.equal(one, other)
        for one, other in zip(model.network.state_dict().values(), command.network.state_dict().values(), strict=True)
    )
    tested = supernet.judge(model, data)
    assert tested.score == pytest.approx(command.provenance["test accuracy"], abs=0.006)  # another order of sums
    assert model.provenance["validation accuracy"] == command.provenance["validation accuracy"]
    with pytest.raises(RuntimeError, match="used already"):
        supernet.judge(model, data)


def test_the_whole_job_leaves_the_process_as_it_was_and_the_folder_full(tmp_path, capsys):
    torch.manual_seed(5), random.seed(5), np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), torch.are_deterministic_algorithms_enabled()
    data, folder = supernet.data.digits(), tmp_path / "run"
    found = supernet.find(MICRO, data, epochs=1, directory=folder, progress=True)
    model = supernet.train(found, MICRO, data, epochs=1, directory=folder, progress=True)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), torch.are_deterministic_algorithms_enabled()) == before[1:]
    printed = capsys.readouterr().out
    assert "search   1/1" in printed
    assert "retrain   1/1" in printed
    for name in ("genotype.json", "model.safetensors", "metrics/search.csv", "metrics/retrain.csv"):
        assert (folder / name).exists(), name
    assert {path.name for path in (folder / "tb").iterdir()} == {"search", "retrain"}
    image = torch.rand(1, 8, 8)
    assert torch.equal(supernet.load(folder)(image)[0].probs.data, model(image)[0].probs.data)


def test_a_call_made_again_goes_on_and_another_one_is_refused(tmp_path):
    data = supernet.data.digits()
    found = supernet.find(MICRO, data, epochs=1, directory=tmp_path)
    lines = (tmp_path / "metrics" / "search.csv").read_text()
    assert supernet.find(MICRO, data, epochs=1, directory=tmp_path) == found
    assert (tmp_path / "metrics" / "search.csv").read_text() == lines  # no step was taken again
    for changes in ({"seed": 1}, {"epochs": 2}, {"method": supernet.methods.gdas()}):
        with pytest.raises(InputError, match=r"there and .* in this run"):
            supernet.find(MICRO, data, **{"epochs": 1, "directory": tmp_path, **changes})


def test_nothing_is_printed_or_kept_unless_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    supernet.find(MICRO, supernet.data.digits(), epochs=1)
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_recipes_of_ones_own():
    data = supernet.data.digits()
    recipe = SearchRecipe(epochs=1, batch_size=32, share=0.25)
    seen = []

    def truth(architecture):
        seen.append(architecture)
        return supernet.Measured({"known": 1.0})

    found = supernet.find(MICRO, data, recipe=recipe, truth=truth)
    assert seen[1:] == [found]  # the first is asked before the search begins
    training = Recipe(epochs=1, batch_size=64, cutout=2, drop_path=0.0)
    model = supernet.train(found, MICRO, data, recipe=training, held_out=0)
    assert model.provenance["validation accuracy"] is None


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda d: supernet.find(MICRO, d, epochs=1, recipe=SearchRecipe()), "epochs=1: the recipe says them, too"),
        (lambda d: supernet.find(supernet.Darts, d, epochs=1), "space=Darts: needs a space, such as"),
        (lambda d: supernet.find(MICRO, "digits", epochs=1), "data=digits: needs images"),
        (lambda d: supernet.find(MICRO, d, method=supernet.methods.gdas, epochs=1), "method=gdas: needs a method"),
        (lambda d: supernet.find(MICRO, d, epochs=2.5), "epochs=2.5: needs a whole number"),
        (lambda d: supernet.find(MICRO, d, epochs="2"), "epochs=2: needs a whole number"),
        (lambda d: supernet.find(MICRO, d, recipe=Recipe()), "recipe=.*: needs a SearchRecipe"),
        (lambda d: supernet.find(MICRO, d, epochs=1, device=0), "device=0: needs auto, cpu"),
        (lambda d: supernet.train("darts_v2", SPACE, d, epochs=1), "architecture=darts_v2: needs an architecture"),
        (lambda d: supernet.train(supernet.random_cell(MICRO), MICRO, d, epochs=1, held_out=1.5), "held_out=1.5: "),
        (lambda d: supernet.judge("model.safetensors", d), "model=model.safetensors: needs a model"),
        (lambda d: supernet.find(SPACE, d, epochs=1, truth=supernet.tables.micro()), "no cell|cell"),
        (lambda d: supernet.find(MICRO, d, epochs=1, truth=3), "truth: gives int"),
        (lambda d: supernet.train(supernet.random_cell(SPACE), MICRO, d, epochs=1), "is of space 'darts', and the"),
        (
            lambda d: supernet.train(supernet.random_cell(MICRO.resized(nodes=4)), MICRO, d, epochs=1),
            "answers cell/3.*, which the space does not ask",
        ),
        (lambda d: supernet.train(supernet.random_cell(SPACE), SPACE, d), "recipe.cutout=16: erases images of 8 x 8"),
        (lambda d: supernet.find(MICRO, d, epochs=1, directory=""), "directory=: an empty path"),
        (lambda d: supernet.find(MICRO, d, epochs=1, directory=__file__), "is a file; give a folder"),
        (lambda d: supernet.find(MICRO, d, epochs=0), "epochs=0: needs at least 1"),
        (lambda d: supernet.find(MICRO, d, epochs=1, seed=-1), "seed=-1: needs to lie between 0"),
        (lambda d: supernet.find(MICRO, d, epochs=1, device="gpu"), "device=gpu: use auto, cpu"),
        (lambda d: supernet.train(supernet.random_cell(MICRO), MICRO, d, epochs=1, recipe=Recipe()), "epochs=1: "),
    ],
)
def test_one_line_says_what_is_wrong(call, says):
    with pytest.raises(InputError, match=says.replace("(", r"\(")) as error:
        call(supernet.data.digits())
    assert "\n" not in str(error.value)


def test_a_model_is_judged_by_images_of_its_own_kind():
    data = supernet.data.digits()
    model = supernet.train(supernet.random_cell(MICRO), MICRO, data, epochs=1)
    with pytest.raises(InputError, match="model: its classes are"):
        supernet.judge(model, replace(data, classes=data.classes[:9]))
    assert 0 <= supernet.judge(model, data).score <= 1  # a refusal opens nothing


def test_a_checkpoint_of_other_classes_or_another_normalisation_is_refused(tmp_path):
    """Of the same images and labels: old weights beside new settings would be a wrong model."""
    data, cell = supernet.data.digits(), supernet.random_cell(MICRO)
    supernet.train(cell, MICRO, data, epochs=1, directory=tmp_path)
    others = [replace(data, classes=tuple("abcdefghij"))]
    others += [replace(data, augmentation=replace(data.augmentation, mean=(0.1,)))]
    for other in others:
        with pytest.raises(InputError, match=r"there and .* in this run"):
            supernet.train(cell, MICRO, other, epochs=1, directory=tmp_path)


def test_a_model_is_judged_with_its_own_normalisation():
    data = supernet.data.digits()
    model = supernet.train(supernet.random_cell(MICRO), MICRO, data, epochs=2)
    other = supernet.data.digits()
    score = supernet.judge(model, data).score
    assert supernet.judge(model, replace(other, augmentation=replace(other.augmentation, mean=(0.9,)))).score == score


def test_a_folder_of_another_search_is_refused(tmp_path):
    data = supernet.data.digits()
    supernet.find(MICRO, data, epochs=1, directory=tmp_path)
    with pytest.raises(InputError, match="holds another search"):
        supernet.find(MICRO, data, method=supernet.methods.p_darts(), epochs=3, directory=tmp_path)


def test_ctrl_c_saves_and_the_same_call_goes_on_to_the_same_end(tmp_path, monkeypatch):
    data, straight = supernet.data.digits(), None
    straight = supernet.find(MICRO, data, epochs=2)
    steps = []

    def stop(self, done, total, message):
        steps.append(done)
        if len(steps) == 5:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(RunReport, "progress", stop)
        with pytest.raises(KeyboardInterrupt, match=r"all is saved in .*, and the same call goes on"):
            supernet.find(MICRO, data, epochs=2, directory=tmp_path)
    assert supernet.find(MICRO, data, epochs=2, directory=tmp_path) == straight


def test_an_operation_of_ones_own_goes_all_the_way():
    def blur(site):
        return torch.nn.AvgPool2d(3, site.stride, padding=1)

    space = replace(MICRO, operations=("blur", "nor_conv_1x1"))
    data, own = supernet.data.digits(), {"blur": blur}
    found = supernet.find(space, data, epochs=1, operations=own)
    assert {kept for name, kept in found.items() if name.count("/") == 2} <= {("blur",), ("nor_conv_1x1",)}
    model = supernet.train(found, space, data, epochs=1, operations=own)
    assert len(model(torch.rand(2, 1, 8, 8))) == 2


def test_few_epochs_of_a_detector_are_small_batches_at_a_small_rate(monkeypatch):
    """The recipe of a classification would hold 64 large pictures at once, and move by larger steps."""
    boxes = torch.tensor([[[0.0, 2.0, 2.0, 20.0, 20.0, 0.0, 324.0]]]).expand(640, 1, 7).clone()
    parts = Resident(torch.zeros(640, 3, 32, 32, dtype=torch.uint8), boxes)
    small = Resident(parts.images[:4], boxes[:4])
    data = assemble("dots", Parts(parts, small, small), CommonSettings(mean=(0.5,) * 3, std=(0.5,) * 3))
    seen = []

    def stop(final, architecture, images, valid, augmentation, recipe, **more):
        seen.append(recipe)
        raise InputError("stop")

    monkeypatch.setattr("supernet.api.train_from_scratch", stop)
    with pytest.raises(InputError, match="stop"):
        supernet.train(supernet.published("darts_v2"), supernet.Darts(4, 3, stem="imagenet"), data, epochs=30)
    method, halves = _fitted(supernet.methods.darts(), 30, None, data, 0)
    for recipe in (seen[0], method.recipe):
        assert recipe.batch_size == 8
        assert recipe.schedule.start == 0.02
        assert recipe.schedule.warm_up > 0
        assert recipe.clip == 10
    assert 0 < seen[0].average < 1
    assert seen[0].label_smoothing == 0
    assert len(halves[0]) == 320


def test_a_rate_that_was_chosen_stays():
    assert supernet.methods.darts().with_rate(0.5).few_steps().optimizer.keywords["lr"] == 0.5
    assert supernet.methods.darts().few_steps().optimizer.keywords["lr"] == 0.01


def test_settings_in_words_are_the_same_in_every_process_and_tell_methods_apart():
    one, other = described(supernet.methods.pc_darts()), described(supernet.methods.pc_darts(channel_divisor=2))
    assert one == described(supernet.methods.pc_darts()) != other
    assert " at 0x" not in one
    for name in supernet.methods.__all__:
        if name not in ("Method", "adam"):
            assert " at 0x" not in described(getattr(supernet.methods, name)())


def test_the_tab_key_shows_what_there_is():
    assert {"find", "train", "judge", "load", "data", "methods", "Darts", "NasBench201"} <= set(supernet.__all__)
    assert {"digits", "image_folder", "npz", "cifar10"} <= set(dir(supernet.data))
    assert {"pc_darts", "gdas", "random_search"} <= set(dir(supernet.methods))
    assert {"darts", "nasbench201", "micro", "s1"} <= set(dir(supernet.spaces))
    assert {"micro", "read_table"} <= set(dir(supernet.tables))
    for name in supernet.__all__:
        assert getattr(supernet, name).__doc__, name


@pytest.mark.parametrize(
    ("more", "share"),
    [({}, 0.9), ({"epochs": 1}, 0.5), ({"recipe": SearchRecipe(epochs=1, share=0.25)}, 0.25)],
)
def test_the_images_are_divided_as_the_search_wants_it(monkeypatch, more, share):
    """SNAS learns from nine images in ten; a search of few steps and a recipe say it themselves."""
    given = []

    def stopped(planned, weights, architecture, *_, **__):
        given.extend([weights, architecture])
        raise InterruptedError

    monkeypatch.setattr("supernet.asked_search.search_stages", stopped)
    with pytest.raises(InterruptedError):
        supernet.find(MICRO, supernet.data.digits(), method=supernet.methods.snas(), device="cpu", **more)
    assert len(given[0]) / (len(given[0]) + len(given[1])) == pytest.approx(share, abs=0.001)


def test_find_keeps_limits_on_the_final_network(tmp_path):
    """Of more channels than the search has; a folder goes on under the same limits only."""
    data, final = supernet.data.digits(), MICRO.resized(channels=8)
    costs = supernet.scores.CostScore(final, data.shape, len(data.classes))
    sizes = sorted(costs(cell).values["parameters"] for cell in MICRO.architectures())
    limit = sizes[len(sizes) // 20]
    search = {"limits": {"params": limit}, "final": final, "epochs": 1, "directory": tmp_path / "limited"}
    found = supernet.find(MICRO, data, **search)
    assert costs(found).values["parameters"] <= limit
    assert supernet.find(MICRO, data, **search) == found
    with pytest.raises(InputError, match="limits"):
        supernet.find(MICRO, data, **{**search, "limits": {"params": 2 * limit}})
    where = search.pop("directory")
    assert supernet.restore(where, MICRO, data, **search).decisions
    with pytest.raises(InputError, match=r"limits.macs=1: no architecture keeps it; the cheapest has"):
        supernet.find(MICRO, data, epochs=1, limits={"macs": 1}, directory=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_costs_of_ones_own_limit_and_guide_a_search():
    data = supernet.data.digits()
    costs = supernet.scores.SpaceCosts(MICRO, data.shape, len(data.classes))
    own = {"time": costs.form("macs").changed(constant=1.0, factor=1e-5), "letters": lambda cell: len(cell.to_json())}
    guided = supernet.methods.darts().with_parts(terms={"time": CostTerm("time", target=2.0, drawn=False)})
    limits = {"time": 3.0, "letters": 230}
    found = supernet.find(MICRO, data, method=guided, epochs=1, limits=limits, costs=own)
    assert own["time"].of(found) <= 3.0
    assert len(found.to_json()) <= 230
    explored = supernet.explore(MICRO, costs_score, evaluations=10, limits={"time": 3.0}, costs=own, data=data)
    assert max(own["time"].of(one.architecture) for one in explored.evaluations) <= 3.0


def costs_score(cell):
    return supernet.Measured({"letters": float(len(cell.to_json()))})
