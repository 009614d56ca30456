import math

import pytest
import torch
from torch import nn

from supernet.training.meters import Averages, Meter, NotFinite, check_finite, memory_gb


def filled() -> Meter:
    meter = Meter()
    for loss, correct, n in ((1.0, 3, 4), (2.0, 0, 1), (4.0, 1, 2)):
        meter.add(torch.tensor(loss), torch.tensor(correct), n)
    return meter


def test_averages_weigh_images_not_batches():
    assert filled().read() == Averages((4 * 1.0 + 2.0 + 2 * 4.0) / 7, 4 / 7, 7)
    assert Meter().read() == Averages(0.0, 0.0, 0)


def test_state_goes_round_and_reset_forgets():
    twin, meter = Meter(), filled()
    twin.load_state_dict(meter.state_dict())
    assert twin.read() == meter.read()
    meter.reset()
    assert meter.read().count == 0
    assert twin.read().count == 7


def test_names_the_first_bad_step(tmp_path):
    meter, network = filled(), nn.Linear(2, 2)
    check_finite(meter, network, 3, None)
    meter.add(torch.tensor(math.nan), torch.tensor(0), 2)
    meter.add(torch.tensor(1.0), torch.tensor(0), 2)
    with pytest.raises(NotFinite, match="not finite at step 14; there is no checkpoint"):
        check_finite(meter, network, 15, tmp_path / "absent.pt")
    (tmp_path / "good.pt").touch()
    with pytest.raises(NotFinite, match=r"last good checkpoint is .*good\.pt"):
        check_finite(meter, network, 15, tmp_path / "good.pt")


def test_a_weight_that_is_not_finite_is_found():
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight[0, 0] = math.inf
    with pytest.raises(NotFinite, match="a weight is not finite after step 5"):
        check_finite(Meter(), network, 5, None)


def test_memory_is_that_of_the_process():
    assert 0.05 < memory_gb(torch.device("cpu")) < 200
