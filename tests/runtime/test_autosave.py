import signal

import pytest

from supernet.runtime.autosave import Autosave, check_progress
from supernet.runtime.errors import InputError
from supernet.runtime.interrupt import Interrupted, Interruption
from supernet.runtime.run import Run


class Counter:
    def __init__(self):
        self.value = 0

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


def saved(path):
    counter = Counter()
    found = Autosave(Run(checkpoint=path), {"counter": counter}, lambda: None).restore()
    return counter.value if found else None


@pytest.mark.parametrize(
    ("step", "epoch"), [(99, 99), (-1, 0), (0, -1), (10**12, 1), (float("nan"), 0), (0, 1), (True, 0), ("1", 0)]
)
def test_a_place_that_no_loop_can_be_at_is_refused(step, epoch):
    with pytest.raises(InputError, match=rf"it says step {step}, epoch {epoch}; this run has 1 epoch of 3 steps"):
        check_progress(step, epoch, per_epoch=3, epochs=1)


def test_saves_when_it_is_time_and_not_before(tmp_path):
    counter, path = Counter(), tmp_path / "x.pt"
    autosave = Autosave(Run(checkpoint=path, save_seconds=1e9), {"counter": counter}, lambda: None)
    autosave.between_steps()
    assert saved(path) is None
    counter.value = 3
    Autosave(Run(checkpoint=path, save_seconds=0.0), {"counter": counter}, lambda: None).between_steps()
    assert saved(path) == 3


def test_saves_before_it_stops(tmp_path):
    counter, path, interruption = Counter(), tmp_path / "x.pt", Interruption()
    autosave = Autosave(Run(checkpoint=path, interruption=interruption), {"counter": counter}, lambda: None)
    counter.value, interruption.signal = 5, signal.SIGTERM
    with pytest.raises(Interrupted):
        autosave.between_steps()
    assert saved(path) == 5


def test_a_bad_state_never_replaces_a_good_one(tmp_path):
    counter, path = Counter(), tmp_path / "x.pt"

    def check():
        if counter.value < 0:
            raise ValueError("bad")

    autosave = Autosave(Run(checkpoint=path), {"counter": counter}, check)
    counter.value = 7
    autosave.save()
    counter.value = -1
    with pytest.raises(ValueError, match="bad"):
        autosave.save()
    assert saved(path) == 7
