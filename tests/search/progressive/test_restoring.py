"""A finished search is restored bit for bit, trains nothing, and is refused where it is another one or not finished."""

from dataclasses import replace

import pytest
import torch

from supernet.data.augmentation import Augmentation
from supernet.data.batches import Resident
from supernet.runtime.errors import InputError
from supernet.runtime.run import Run
from supernet.search.collapse.settings import MonitorSettings
from supernet.search.methods import darts
from supernet.search.progressive.restoring import restore_stages
from supernet.search.progressive.search import StagedSearch, search_stages
from supernet.search.progressive.stages import Stage, resolve_stages
from supernet.space.nasbench201 import NasBench201

SPACE, SHAPE = NasBench201(channels=4, cells=1, stages=1, nodes=2), (1, 6, 6)
AUGMENTATION = Augmentation((0.5,), (0.25,))


def half(seed):
    stream = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (24, *SHAPE), dtype=torch.uint8, generator=stream)
    return Resident(pixels, torch.arange(24) % 3)


def planned(stages=(), epochs=2, **changes):
    method = darts().few_steps(epochs=epochs, batch_size=12)
    recipe = replace(method.recipe, least_steps=0, warm_up=0)
    resolved = resolve_stages(stages, SPACE, recipe, SHAPE, 3)
    settings = {"monitor": MonitorSettings(every=0), "seed": 3, **changes}
    return StagedSearch(resolved, method.chooser_for(SPACE), method.make_strategy, SHAPE, 3, **settings)


def arguments(folder, **changes):
    return {"run_of": lambda name: Run(checkpoint=folder / f"{name}.pt", fingerprint={"images": "these"}, **changes)}


@pytest.mark.parametrize("stages", [(), (Stage(length=0.5, keep=2), Stage(length=0.5))])
def test_a_finished_search_is_restored(tmp_path, stages):
    search = planned(stages)
    found = search_stages(search, half(1), half(2), AUGMENTATION, **arguments(tmp_path))
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    restored = restore_stages(search, half(1), half(2), AUGMENTATION, **arguments(tmp_path))
    last = torch.load(max(tmp_path.glob("search*.pt")), weights_only=True)["parts"]
    state = restored.problem.supernet.state_dict()
    assert state.keys() == last["supernet"].keys()
    assert all(torch.equal(state[name], value) for name, value in last["supernet"].items())
    assert restored.strategy.finish() == found.architecture
    assert restored.problem.supernet.training
    assert restored.problem.run.checkpoint is None
    most = 2 if stages else 5
    assert {len(d.options) for d in restored.decisions.values() if d.role == "operation"} == {most}
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_what_is_not_there_not_finished_or_another_search(tmp_path):
    search = planned()
    with pytest.raises(InputError, match="no such file; a search leaves it"):
        restore_stages(search, half(1), half(2), AUGMENTATION, **arguments(tmp_path))
    with pytest.raises(InputError, match="checkpoint=None"):
        restore_stages(search, half(1), half(2), AUGMENTATION, run_of=lambda name: Run())
    search_stages(search, half(1), half(2), AUGMENTATION, **arguments(tmp_path))
    with pytest.raises(InputError, match=r"search\.epochs is 2 there and 3 in this run"):
        restore_stages(planned(epochs=3), half(1), half(2), AUGMENTATION, **arguments(tmp_path))
    path = tmp_path / "search.pt"
    content = torch.load(path, weights_only=True)
    content["parts"]["epochs"] |= {"step": 2, "epoch": 1}
    torch.save(content, path)
    with pytest.raises(InputError, match="its search is at epoch 1 of 2; finish it first"):
        restore_stages(search, half(1), half(2), AUGMENTATION, **arguments(tmp_path))
