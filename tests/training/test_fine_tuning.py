import pytest
import torch
from torch import nn

from supernet.execution.engines import engine
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.run import Run
from supernet.training.fine_tuning import FineTuning
from supernet.training.flat import FlatSGD, clip_gradients
from supernet.training.loop import Recipe, train
from supernet.training.schedules import Cosine
from supernet.training.sgd import sgd
from tests.training.test_loop import AUGMENTATION, Recorder, images, network, same

RECIPE = Recipe(epochs=2, batch_size=8, schedule=Cosine(0.05), drop_path=0.0, cutout=0, auxiliary_weight=0.4)


def names(module, *prefixes):
    return frozenset(name for name in module.state_dict() if name.startswith(prefixes))


@pytest.mark.parametrize("name", ["reference", "fused"])
def test_what_is_frozen_does_not_move_and_the_rest_does(name):
    """Weights and statistics, on both engines: each has its own way with norms."""
    trained = engine(name).apply(network())
    frozen = names(trained, "stem", "cells.0", "cells.1")
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    train(trained, images(1), images(2), AUGMENTATION, RECIPE, run=Run(), tuning=FineTuning(frozen))
    moved = {key for key, value in trained.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == before.keys() - frozen - {key for key, value in before.items() if not value.numel()}
    assert all(parameter.requires_grad for parameter in trained.parameters())


def test_the_engines_agree_on_a_network_of_which_half_is_frozen():
    results = []
    for name in ("reference", "fused"):
        trained = engine(name).apply(network()).to(memory_format=torch.contiguous_format)
        tuning = FineTuning(names(trained, "stem", "cells.0"), names(trained, "cells.1"), 0.5)
        train(trained, images(1), None, AUGMENTATION, RECIPE, run=Run(), tuning=tuning)
        results.append(trained.state_dict())
    torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-4)


def test_groups_move_at_their_rates():
    """Against PyTorch's SGD, with two groups written out."""
    torch.manual_seed(0)
    one, other = (nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)) for _ in range(2))
    other.load_state_dict(one.state_dict())
    tuning = FineTuning(slow=names(one, "0."), rate=0.25)
    ours = sgd(one, 0.1, 0.9, weight_decay=1e-3, groups=tuning.groups(one))
    assert isinstance(ours, FlatSGD)
    for group in ours.param_groups:
        group["lr"] = 0.1 * group["factor"]
    rates = [{"params": other[2].parameters(), "lr": 0.1}, {"params": other[0].parameters(), "lr": 0.025}]
    theirs = torch.optim.SGD(rates, 0.1, 0.9, weight_decay=1e-3)
    for _ in range(3):
        inputs = torch.randn(4, 3)
        for module, optimizer in ((one, ours), (other, theirs)):
            optimizer.zero_grad()
            module(inputs).square().sum().backward()
            if optimizer is ours:
                clip_gradients(ours, 0.5)
            else:
                nn.utils.clip_grad_norm_([*other[2].parameters(), *other[0].parameters()], 0.5)
            optimizer.step()
    assert same(one, other)


def test_a_training_multiplies_the_rate_of_each_epoch():
    """One step of plain descent: the slow part moves by a tenth of what it would."""
    recipe = Recipe(
        epochs=1, batch_size=20, schedule=Cosine(0.1), momentum=0.0, weight_decay=0.0, drop_path=0.0, cutout=0
    )
    start, moved = network().state_dict(), []
    slow = names(network(), "cells")
    for tuning in (None, FineTuning(slow=slow, rate=0.1)):
        trained = network()
        train(trained, images(1), None, AUGMENTATION, recipe, run=Run(), tuning=tuning)
        moved.append({name: value - start[name] for name, value in trained.named_parameters()})
    assert any(change.abs().max() > 1e-3 for name, change in moved[0].items() if name in slow)
    for name, change in moved[0].items():
        factor = 0.1 if name in slow else 1.0
        torch.testing.assert_close(moved[1][name], factor * change, rtol=1e-3, atol=1e-6)


def test_stopped_and_resumed_is_bitwise_the_same(tmp_path):
    def tuned(run):
        trained = network()
        tuning = FineTuning(names(trained, "stem"), names(trained, "cells.0"), 0.1)
        recipe = Recipe(**{**RECIPE.__dict__, "average": 0.9})
        train(trained, images(1), images(2), AUGMENTATION, recipe, run=run, tuning=tuning)
        return trained

    straight, interruption = tuned(Run()), Interruption()
    file = tmp_path / "retrain.pt"
    with pytest.raises(Interrupted):
        tuned(Run(report=Recorder(interruption, 4), checkpoint=file, interruption=interruption))
    assert same(tuned(Run(checkpoint=file)), straight)


class Broken(nn.Module):
    """Fails in its second step."""

    def __init__(self):
        super().__init__()
        self.inside, self.steps = network(), 0

    def forward(self, images):
        self.steps += 1
        if self.steps == 2:
            raise RuntimeError("broken")
        return self.inside(images)


def marks(module):
    """What of a network learns: the parameters that want a gradient, and the parts in training mode."""
    return [p.requires_grad for p in module.parameters()], [part.training for part in module.modules()]


def test_a_training_that_is_interrupted_leaves_nothing_frozen(tmp_path):
    trained, interruption = network().train(), Interruption()
    free = marks(trained)
    run = Run(report=Recorder(interruption, 1), checkpoint=tmp_path / "retrain.pt", interruption=interruption)
    with pytest.raises(Interrupted):
        train(
            trained, images(1), None, AUGMENTATION, RECIPE, run=run, tuning=FineTuning(names(trained, "stem", "cells"))
        )
    assert marks(trained) == free


def test_a_training_that_fails_leaves_nothing_frozen():
    trained = Broken().train()
    free = marks(trained)
    with pytest.raises(RuntimeError, match="broken"):
        train(
            trained, images(1), None, AUGMENTATION, RECIPE, run=Run(), tuning=FineTuning(names(trained, "inside.stem"))
        )
    assert trained.steps == 2
    assert marks(trained) == free


def test_what_somebody_else_has_frozen_stays_so():
    trained = network()
    trained.stem.requires_grad_(False)
    with FineTuning(names(trained, "stem", "cells")).held(trained):
        assert not any(p.requires_grad for p in [*trained.stem.parameters(), *trained.cells.parameters()])
        assert not any(part.training for part in trained.cells.modules() if isinstance(part, nn.BatchNorm2d))
    assert not any(p.requires_grad for p in trained.stem.parameters())
    assert all(p.requires_grad for p in trained.cells.parameters())
    assert all(part.training for part in trained.modules())


def test_nothing_left_to_learn_is_refused():
    module = nn.Linear(1, 1)
    with pytest.raises(InputError, match="freeze: nothing of the network is left to learn"):
        FineTuning(frozenset({"weight", "bias"})).groups(module)
