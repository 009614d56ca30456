import copy
import math
import signal

import pytest
import torch
from torch import nn

from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.run import Run
from supernet.training.averages import MovingAverage
from supernet.training.evaluation import evaluate
from supernet.training.loop import Recipe, Training, train
from supernet.training.schedules import Cosine
from tests.training.test_loop import AUGMENTATION, RECIPE, Recorder, images, network, same

AVERAGED = Recipe(**{**RECIPE.__dict__, "average": 0.9})


def test_each_number_moves_by_its_share_and_counts_are_copied():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = MovingAverage(module, 0.9)
    expected = {name: value.clone() for name, value in module.state_dict().items()}
    for step in range(1, 5):
        module(torch.randn(4, 1, 3, 3))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update(average.share(step))
        decay = 0.9 * (1 - math.exp(-step / 100))
        for name, value in module.state_dict().items():
            whole = not value.is_floating_point()
            expected[name] = value.clone() if whole else decay * expected[name] + (1 - decay) * value
    assert expected["1.num_batches_tracked"] == 4
    torch.testing.assert_close(average.state, expected)


def test_a_share_on_the_device_rounds_as_a_number_does():
    one, other = nn.Linear(3, 3), nn.Linear(3, 3)
    other.load_state_dict(one.state_dict())
    averages = MovingAverage(one, 0.99), MovingAverage(other, 0.99)
    for module in (one, other):
        nn.init.ones_(module.weight)
    averages[0].update(0.1)
    averages[1].update(torch.tensor(0.1))
    assert all(torch.equal(averages[0].state[name], value) for name, value in averages[1].state.items())


def test_the_network_has_its_own_weights_again_even_after_an_error():
    module = nn.Linear(2, 2)
    average = MovingAverage(module, 0.5)
    nn.init.ones_(module.weight)
    seen = []

    def fail():
        with average.instead():
            seen.append((module.weight == 1).all())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [False]
    assert (module.weight == 1).all()


def by_hand(keep):
    """The same training without an average, watched from outside: scores, and the average at the end of each epoch."""
    plain = Recipe(**{**RECIPE.__dict__, "keep": "last"})
    module = network()
    training = Training(module, images(1), images(2), AUGMENTATION, plain, run=Run())
    state = {name: value.clone() for name, value in module.state_dict().items()}
    step, request, ends = 0, training._request, []

    def watched(batch):
        nonlocal step
        made = request(batch)

        def take(tensors, numbers):
            nonlocal step
            results, step = made.step(tensors, numbers), step + 1
            decay = 0.9 * (1 - math.exp(-step / 100))
            for name, value in module.state_dict().items():
                whole = not value.is_floating_point()
                state[name] = value.clone() if whole else decay * state[name] + (1 - decay) * value
            return results

        return type(made)(made.key, made.tensors, made.numbers, take, parts=made.parts)

    training._request = watched
    for epoch in range(1, plain.epochs + 1):
        training.to(epoch)
        twin = copy.deepcopy(module)
        twin.load_state_dict(state)
        settings = {"batch_size": 8, "device": torch.device("cpu"), "task": training._task}
        ends.append((evaluate(twin, images(2), AUGMENTATION, **settings), twin))
    if keep == "last":
        return ends[-1]
    return max(ends, key=lambda end: end[0].score)  # the first of the best


@pytest.mark.parametrize("keep", ["last", "best"])
def test_what_is_evaluated_and_kept_is_the_average(keep):
    recipe = Recipe(**{**AVERAGED.__dict__, "keep": keep})
    trained = network()
    result = train(trained, images(1), images(2), AUGMENTATION, recipe, run=Run())
    scores, expected = by_hand(keep)
    assert result.valid.score == scores.score
    assert result.valid.loss == pytest.approx(scores.loss, rel=1e-5)
    torch.testing.assert_close(trained.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-6)
    assert not same(trained, network())


def test_without_a_decay_nothing_is_averaged():
    assert Training(network(), images(1), None, AUGMENTATION, RECIPE, run=Run())._average is None


@pytest.mark.parametrize(("keep", "stop_after"), [("best", 4), ("last", 8)])
def test_stopped_and_resumed_is_bitwise_the_same(tmp_path, keep, stop_after):
    recipe = Recipe(**{**AVERAGED.__dict__, "keep": keep})
    straight, whole = network(), Recorder()
    expected = train(straight, images(1), images(2), AUGMENTATION, recipe, run=Run(report=whole))
    interruption = Interruption()
    first, second, resumed = Recorder(interruption, stop_after), Recorder(), network()
    run = Run(report=first, checkpoint=tmp_path / "retrain.pt", interruption=interruption)
    with pytest.raises(Interrupted):
        train(network(), images(1), images(2), AUGMENTATION, recipe, run=run)
    assert interruption.signal == signal.SIGINT
    run = Run(report=second, checkpoint=tmp_path / "retrain.pt")
    assert train(resumed, images(1), images(2), AUGMENTATION, recipe, run=run) == expected
    assert same(resumed, straight)
    assert {**first.values, **second.values} == whole.values


def test_an_average_makes_up_for_steps_that_are_too_large():
    """Weights jump about a minimum; their average lies near it."""
    torch.manual_seed(0)
    line = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(line.weight)
    average, distances = MovingAverage(line, 0.9), []
    for step in range(1, 301):
        with torch.no_grad():
            line.weight.copy_(torch.randn(1, 1))
        average.update(average.share(step))
        distances.append((abs(line.weight.item()), abs(average.state["weight"].item())))
    own, averaged = (sum(column[200:]) for column in zip(*distances, strict=True))
    assert averaged < 0.5 * own


@pytest.mark.parametrize("average", [-0.1, 1.0, math.nan])
def test_a_decay_out_of_range_is_refused(average):
    with pytest.raises(ValueError, match="average="):
        Recipe(schedule=Cosine(0.1), average=average)
