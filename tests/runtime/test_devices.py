"""Small tensors on a device; here it is the processor."""

import torch

from supernet.runtime.devices import constant, send


def test_sent_is_what_was_given():
    numbers = torch.arange(3.0)
    assert torch.equal(send(numbers, "cpu"), numbers)


def test_a_constant_is_made_once_for_each_type():
    cpu = torch.device("cpu")
    one = constant((0.0, 1.0), cpu)
    assert torch.equal(one, torch.tensor([0.0, 1.0]))
    assert constant((0.0, 1.0), cpu) is one
    assert constant((0.0, 1.0), cpu, torch.float64).dtype == torch.float64
    assert torch.equal(constant((3, 1), cpu, torch.long), torch.tensor([3, 1]))


def test_a_constant_that_a_validation_made_serves_a_training():
    with torch.inference_mode():
        constant((0.5, 0.25), torch.device("cpu"))
    x = torch.ones(2, requires_grad=True)
    (x * constant((0.5, 0.25), torch.device("cpu"))).sum().backward()
    assert x.grad.tolist() == [0.5, 0.25]
