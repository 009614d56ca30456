import pytest
import torch
from torch import nn

from supernet.estimation.memory import chained_peak, peak_memory

IMAGE = torch.zeros(1, 2, 8, 8, device="meta")
BYTES = 8 * 8 * 4  # of one map


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(2, 4, 1, device="meta")

    def forward(self, x):
        return self.function(self, x)


def peak(function):
    return peak_memory(Lambda(function), IMAGE) / BYTES


def test_by_hand():
    assert peak(lambda self, x: self.conv(x)) == 2 + 4
    assert peak(lambda self, x: self.conv(x).relu()) == 2 + 4  # writes over what it reads
    assert peak(lambda self, x: self.conv(x).view(1, -1)) == 2 + 4  # takes nothing
    assert peak(lambda self, x: torch.cat([x, self.conv(x)], 1)) == 2 + 4 + 6
    assert peak(lambda self, x: torch.cat([self.conv(x), self.conv(x)], 1)) == 4 + 4 + 8  # the image is gone
    assert peak(lambda self, x: self.conv(x).mean(dim=(2, 3))) == 2 + 4
    # while the second convolution runs; the sum writes over one of them
    assert peak(lambda self, x: self.conv(x) + self.conv(x)) == 2 + 4 + 4


def test_what_is_needed_later_stays():
    late = peak(lambda self, x: self.conv(x.relu()).sum() + x.sum())
    assert late == 2 + 2 + 4  # the image, what the activation made of it, and the convolution


def test_norms_and_inplace_activations_write_over_their_input():
    chain = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Hardswish()).to("meta")
    assert peak_memory(chain, IMAGE) == 6 * BYTES
    assert chain.training


def test_on_meta_it_is_as_on_the_cpu():
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    image = torch.zeros(1, 2, 8, 8)
    assert peak_memory(network, image) == peak_memory(network.to("meta"), image.to("meta"))


@pytest.mark.parametrize(("held", "known"), [(False, True), (True, False)])
def test_a_chain_is_told_from_what_runs_side_by_side(held, known):
    def forward(self, x):
        made = x.new_empty(1, 4, 8, 8)
        return made.sum() + x.sum() if held else made.sum()

    found = chained_peak(Lambda(forward), IMAGE)
    assert (found is not None) == known
