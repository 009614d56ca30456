"""Places of parameters and settings, found once."""

import copy

import pytest
import torch
from torch import nn

from supernet.runtime.parameter_slots import ModuleSettings, ParameterSlots


def test_a_shared_parameter_is_one():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    places = ParameterSlots(network)
    assert all(a is b for a, b in zip(places.now(), network.parameters(), strict=True))
    stand_ins = [torch.randn_like(p) for p in places.now()]
    with places.replaced(stand_ins):
        assert network[0].weight is network[1].weight is stand_ins[0]
        assert all(a is b for a, b in zip(places.now(), stand_ins, strict=True))
    assert all(a is b for a, b in zip(places.now(), network.parameters(), strict=True))


def test_any_setting_makes_other_settings():
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.0))
    settings = ModuleSettings(network)
    before = settings.now()
    assert settings.now() == before
    network[1].momentum = 0.3
    assert settings.now() != before
    network[1].momentum = 0.1
    assert settings.now() == before
    network[2].odd = 3  # a new one
    assert settings.now() != before
    del network[2].odd
    network[2].forward = lambda x: x
    assert settings.now() == before


def test_places_of_a_copy_are_the_copys():
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    network.slots = ParameterSlots(network)
    other = copy.deepcopy(network)
    assert all(a is b for a, b in zip(other.slots.now(), other.parameters(), strict=True))
    assert not any(a is b for a, b in zip(other.slots.now(), network.parameters(), strict=True))


def test_a_network_that_fails_has_its_parameters_again():
    network = nn.Linear(3, 3)
    places, own = ParameterSlots(network), list(network.parameters())
    with pytest.raises(RuntimeError), places.replaced([torch.zeros(3, 3), torch.zeros(3)]):
        raise RuntimeError
    assert all(a is b for a, b in zip(network.parameters(), own, strict=True))
