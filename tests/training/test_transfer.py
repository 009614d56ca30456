import dataclasses

import pytest
import torch
from torch import nn

import supernet
from supernet.data.augmentation import Augmentation
from supernet.deployment.predictor import Predictor
from supernet.detection.head import AnchorFree
from supernet.genotypes.literature import published
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.space.choosers import Decided
from supernet.space.darts import Darts
from supernet.training.from_scratch import FinalNetwork, begin_with, train_from_scratch
from supernet.training.loop import Recipe
from supernet.training.schedules import Cosine
from supernet.training.tasks.detection import Detection
from supernet.training.transfer import Taken, Transfer, class_tensors, take_over
from tests.training.test_loop import Recorder, images

CELL, SPACE = published("darts_v2"), Darts(channels=2, cells=3)
RECIPE = Recipe(epochs=1, batch_size=8, schedule=Cosine(0.05), drop_path=0.0, cutout=0, auxiliary_weight=0.0)


def predictor(channels=1, classes=("a", "b", "c"), space=SPACE, seed=0):
    torch.manual_seed(seed)
    network = space.network(Decided(CELL), (channels, 6, 6), len(classes))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after a training
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var)
    return Predictor(
        network.eval(),
        space=space,
        architecture=CELL,
        classes=classes,
        shape=(channels, 6, 6),
        augmentation=Augmentation(tuple(0.1 * (n + 1) for n in range(channels)), (0.5,) * channels),
        provenance={},
    )


def begun(donor, channels=1, classes=("a", "b", "c"), space=SPACE, recipe=RECIPE, **settings):
    """What a training with no learning at all makes of a donor, what was taken, and what was told."""
    final, report = FinalNetwork(space, (channels, 6, 6), len(classes), seed=7), Recorder()
    still = dataclasses.replace(recipe, schedule=Cosine(1e-30), weight_decay=0.0)
    source = images(1, 12)
    pixels = source.images.expand(-1, channels, -1, -1).contiguous()
    source = dataclasses.replace(source, images=pixels, labels=source.labels % len(classes))
    start = Transfer(donor, **settings)
    augmentation = start.normalised(Augmentation((0.5,) * channels, (0.25,) * channels))
    trained, result = train_from_scratch(
        final, CELL, source, None, augmentation, still, run=Run(report=report), transfer=start, classes=classes
    )
    return trained, result.taken, report.lines


def test_a_network_of_the_same_kind_is_the_donor():
    donor = predictor()
    trained, taken, lines = begun(donor, freeze="backbone")
    state = donor.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in trained.state_dict().items())
    assert set(taken.taken) == set(state)
    assert not taken.adapted
    assert not taken.new
    assert any("the backbone of it frozen" in line for line in lines)


def test_grey_to_colour_and_back_equal_a_computation_by_hand():
    grey, colour = predictor(1), predictor(3)
    made, taken, _ = begun(grey, channels=3, freeze="taken", classes=("a", "b", "x"))
    assert taken.adapted["stem.0.weight"] == "grey to colour"
    pixels = torch.rand(5, 1, 6, 6)
    expected = grey.network.stem(pixels)
    torch.testing.assert_close(made.eval().stem(pixels.expand(-1, 3, -1, -1)), expected)
    made, taken, _ = begun(colour, channels=1, freeze="taken", classes=("a", "b", "x"))
    assert taken.adapted["stem.0.weight"] == "colour to grey"
    torch.testing.assert_close(made.eval().stem(pixels), colour.network.stem(pixels.expand(-1, 3, -1, -1)))
    weight = colour.network.state_dict()["stem.0.weight"]
    assert torch.equal(made.state_dict()["stem.0.weight"][:, 0], weight[:, 0] + weight[:, 1] + weight[:, 2])


def test_rows_of_the_same_classes_are_taken_whatever_their_order():
    donor = predictor(classes=("a", "b", "c"))
    made, taken, lines = begun(donor, classes=("c", "new", "a", "other"))
    theirs, ours = donor.network.state_dict(), made.state_dict()
    for name in ("classifier.weight", "classifier.bias"):
        assert taken.adapted[name] == "2 of 4 classes"
        assert torch.equal(ours[name][0], theirs[name][2])
        assert torch.equal(ours[name][2], theirs[name][0])
    fresh = FinalNetwork(SPACE, (1, 6, 6), 4, seed=7).build(CELL).state_dict()
    assert torch.equal(ours["classifier.weight"][[1, 3]], fresh["classifier.weight"][[1, 3]])
    assert any("classifier" in line and "2 of 4 classes" in line for line in lines)
    whole = sum(taken.sizes.values())
    rows = 2 * (ours["classifier.weight"].shape[1] + 1)  # of the two classes that the donor lacks
    assert f"network: taken or adapted: {whole - rows:,} of {whole:,} numbers" in lines


def test_a_donor_whose_weights_are_no_numbers_is_refused():
    donor = predictor()
    donor.network.state_dict()["classifier.bias"][1] = float("nan")
    with pytest.raises(InputError, match=r"donor: classifier\.bias holds infinite values or none"):
        Transfer(donor)


def test_as_many_classes_of_other_names_are_new():
    """The shapes fit, and what they say does not."""
    donor = predictor(classes=("a", "b", "c"))
    made, taken, _ = begun(donor, classes=("x", "y", "z"))
    assert taken.new == dict.fromkeys(("classifier.weight", "classifier.bias"), "no class in common")
    assert not torch.equal(made.state_dict()["classifier.weight"], donor.network.state_dict()["classifier.weight"])


def test_more_and_wider_cells_are_new_and_said():
    donor = predictor()
    _, taken, lines = begun(donor, space=Darts(channels=2, cells=4))
    assert any(name.startswith("cells.3.") and why == "not in the donor" for name, why in taken.new.items())
    assert any("cells=3 there, 4 here" in line for line in lines)
    with pytest.raises(InputError, match="nothing of it fits this network"):
        begun(donor, space=Darts(channels=4, cells=3, stem_multiplier=5), classes=("x", "y"))


def test_the_head_and_adapted_rows_learn_where_the_backbone_is_frozen():
    donor = predictor()
    final = FinalNetwork(SPACE, (1, 6, 6), 3, seed=7)
    state, seen = donor.network.state_dict(), {}
    for freeze, classes in (("backbone", ("a", "b", "c")), ("taken", ("a", "b", "x"))):
        start = Transfer(donor, freeze=freeze)
        trained, _ = train_from_scratch(
            final, CELL, images(1), None, donor.augmentation, RECIPE, run=Run(), transfer=start, classes=classes
        )
        seen[freeze] = {name for name, value in trained.state_dict().items() if not torch.equal(value, state[name])}
    assert seen == {freeze: {"classifier.weight", "classifier.bias"} for freeze in ("backbone", "taken")}


def test_the_donors_normalisation():
    own = Augmentation((0.5,) * 3, (0.25,) * 3, flip=True)
    same = Transfer(predictor(3)).normalised(own)
    assert (same.mean, same.std, same.flip) == (predictor(3).augmentation.mean, (0.5,) * 3, True)
    assert Transfer(predictor(1)).normalised(own).mean == (0.1,) * 3
    assert Transfer(predictor(3)).normalised(Augmentation((0.5,), (0.25,))).mean == pytest.approx((0.2,))
    assert Transfer(predictor(3), normalisation="own").normalised(own) is own
    with pytest.raises(InputError, match="normalisation=donor: the donor's images have 3 channels and these 4"):
        Transfer(predictor(3)).normalised(Augmentation((0.5,) * 4, (0.25,) * 4))


def test_other_numbers_of_channels_are_new():
    one, other = nn.Conv2d(3, 2, 1), nn.Conv2d(4, 2, 1)
    taken = take_over(other, one.state_dict(), channels=(3, 4), classes=((), ()))
    assert taken.new == {"weight": "2x3x1x1 there, 2x4x1x1 here"}


def test_tensors_of_half_precision_and_whole_numbers_are_taken():
    one, other = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    nn.init.constant_(one.weight, 0.5)
    one(torch.rand(2, 2, 3, 3))
    state = {name: value.half() if value.is_floating_point() else value for name, value in one.state_dict().items()}
    assert take_over(other, state, channels=(1, 1), classes=((), ())).new == {}
    assert (other.weight[0].item(), other.num_batches_tracked.item(), other.weight.dtype) == (0.5, 1, torch.float32)


def test_class_tensors_are_those_that_another_class_makes_larger():
    found = class_tensors(lambda outputs: SPACE.network(Decided(CELL), (1, 6, 6), outputs), 3, 4)
    assert found == {"classifier.weight", "classifier.bias"}


def test_a_detector_begins_with_a_classifier_and_with_another_detector():
    """Of one class its head has a row to spare."""
    space = Darts(channels=4, cells=3, stem="imagenet", nodes=2)
    cell = supernet.random_cell(space, seed=0)
    task = Detection(("a",), AnchorFree(1, width=8, towers=1))

    def final_of(classes):
        return FinalNetwork(space, (1, 32, 32), task.outputs(classes), seed=7)

    def donor_of(network, classes):
        plain = Augmentation((0.5,), (0.5,))
        settings = {"space": space, "architecture": cell, "classes": classes, "shape": (1, 32, 32)}
        return Predictor(network, **settings, augmentation=plain, provenance={})

    def taken_by(classes, donor):
        network = final_of(classes).build(cell)
        return network.state_dict(), *begin_with(
            Transfer(donor, freeze="backbone"), network, final_of(classes), cell, classes, task
        )

    classifier = space.network(Decided(cell), (1, 32, 32), 2)
    begun, taken, tuning = taken_by(("b", "a"), donor_of(classifier, ("a", "b")))
    assert {name.split(".")[0] for name in tuning.frozen} == {"stem", "stem1", "cells"}
    assert {name.split(".")[0] for name in taken.new} == {"prediction"}
    assert torch.equal(begun["stem.0.weight"], classifier.state_dict()["stem.0.weight"])
    detector = final_of(("b", "a")).build(cell)
    nn.init.normal_(detector.prediction.classes.weight)
    begun, taken, tuning = taken_by(("a",), donor_of(detector, ("b", "a")))
    assert set(taken.adapted.values()) == {"1 of 1 class"}
    assert torch.equal(begun["prediction.classes.weight"][0], detector.prediction.classes.weight[1])
    assert taken.new == {}
    assert not any(name.startswith("prediction") for name in tuning.frozen)


def test_a_table_says_the_most_frequent_reasons():
    new = {"cells.0": "a", "cells.1": "a", "cells.2": "b", "cells.3": "c"}
    (*_, line) = Taken((), {}, new, dict.fromkeys(new, 1)).lines()
    assert line.split(maxsplit=4) == ["cells", "0", "0", "4", "a; b; and 1 other reason"]


def test_a_checkpoint_of_another_beginning_is_refused(tmp_path):
    final, run = FinalNetwork(SPACE, (1, 6, 6), 3), Run(checkpoint=tmp_path / "retrain.pt")
    settings = {"classes": ("a", "b", "c"), "run": run}
    augmentation = Augmentation((0.5,), (0.25,))
    train_from_scratch(final, CELL, images(1), None, augmentation, RECIPE, transfer=Transfer(predictor()), **settings)
    for other in (Transfer(predictor(seed=1)), Transfer(predictor(), rate=0.1), None):
        with pytest.raises(InputError, match=r"init is .*; begin with the same weights, frozen and"):
            train_from_scratch(final, CELL, images(1), None, augmentation, RECIPE, transfer=other, **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"freeze": "all"}, "freeze=all: use nothing"),
        ({"rate": 0.0}, "rate=0.0"),
        ({"rate": 2.0}, "rate=2.0"),
        *(({"rate": rate}, "rate=.*needs to lie in") for rate in (float("nan"), "0.1", None, True, [0.1])),
        ({"normalisation": "none"}, "normalisation=none"),
        ({"donor": 3}, "donor: has no weights by name"),
    ],
)
def test_settings_out_of_range_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        Transfer(**{"donor": predictor(), **settings})


def test_from_python_by_model_by_file_and_by_name_of_a_mistake(tmp_path):
    whole = supernet.data.digits()
    data = dataclasses.replace(whole, train=whole.train.subset(torch.arange(60)))
    donor = predictor(3, classes=("0", "1", "x"))
    donor.save(tmp_path / "model.safetensors")
    models = [
        supernet.train(CELL, SPACE, data, recipe=RECIPE, held_out=0, init=init)
        for init in (donor, tmp_path / "model.safetensors")
    ]
    states = [model.network.state_dict() for model in models]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert models[0].augmentation.mean == pytest.approx((0.2,))
    with pytest.raises(InputError, match="no such model"):
        supernet.train(CELL, SPACE, data, recipe=RECIPE, init=tmp_path / "nothing")
    with pytest.raises(InputError, match="init=3: needs a model"):
        supernet.train(CELL, SPACE, data, recipe=RECIPE, init=3)
