"""SGD over flat tensors, held to PyTorch's own optimiser and clipping, to the bit."""

import copy
import io
import itertools

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from supernet.training.flat import FlatParameters, FlatSGD, clip_gradients, flattenable
from supernet.training.sgd import sgd

SETTINGS = [{}, {"weight_decay": 3e-4}, {"nesterov": True}, {"nesterov": True, "weight_decay": 0.01}]


def network(dtype=torch.float32, layout=torch.channels_last) -> nn.Module:
    """Sizes of all kinds: below a vector, with a rest, larger than what is taken at once."""
    torch.manual_seed(0)
    parts = nn.ModuleList(nn.Linear(inputs, 7) for inputs in (1, 5, 16, 17, 10_000))
    parts.append(nn.Conv2d(6, 6, 3, groups=6, bias=False))
    parts.append(nn.Conv2d(4, 9, 3))
    return parts.to(dtype).to(memory_format=layout)


def give_gradients(net, seed, absent=()):
    stream = torch.Generator().manual_seed(seed)
    for number, parameter in enumerate(net.parameters()):
        drawn = torch.randn(parameter.shape, generator=stream, dtype=torch.float64).to(parameter.dtype)
        wanted = torch.empty_like(parameter).copy_(drawn)
        parameter.grad = None if number in absent else wanted


def steps(optimizer, net, clip, absences, first=0):
    """Steps along drawn gradients; all numbers that they leave."""
    for seed, absent in enumerate(absences, start=first):
        optimizer.zero_grad()
        give_gradients(net, seed, absent)
        clip(0.9)
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + seed)
        optimizer.step()
    momenta = [optimizer.state[p].get("momentum_buffer") for p in net.parameters() if p in optimizer.state]
    return [
        t.detach().clone() for t in (*net.parameters(), *momenta, *(p.grad for p in net.parameters())) if t is not None
    ]


def plain(net, rate=0.1, momentum=0.9, **settings):
    optimizer = torch.optim.SGD(net.parameters(), rate, momentum, **settings)
    return optimizer, lambda largest: nn.utils.clip_grad_norm_(net.parameters(), largest)


def flat(net, rate=0.1, momentum=0.9, **settings):
    optimizer = sgd(net, rate, momentum, **settings)
    return optimizer, lambda largest: clip_gradients(optimizer, largest)


def same(ours, theirs):
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return file


WHOLE, PATHS = [()] * 4, [(0, 3), (), (1, 3, 11), (0,), (), (5, 6, 7)]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("absences", [WHOLE, PATHS, [(3,)] * 3], ids=["all", "some", "one never"])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
def test_steps_are_pytorchs_to_the_bit(settings, absences, layout):
    one, other = network(layout=layout), network(layout=layout)
    (theirs, clip_theirs), (ours, clip_ours) = plain(one, **settings), flat(other, **settings)
    assert same(steps(ours, other, clip_ours, absences), steps(theirs, one, clip_theirs, absences))
    assert [p.stride() for p in other.parameters()] == [p.stride() for p in one.parameters()]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_pytorchs_to_the_bit(dtype):
    one, other = network(dtype), network(dtype)
    (theirs, clip_theirs), (ours, clip_ours) = plain(one, weight_decay=0.01), flat(other, weight_decay=0.01)
    assert same(steps(ours, other, clip_ours, PATHS), steps(theirs, one, clip_theirs, PATHS))


def test_without_momentum_there_is_no_state():
    one, other = network(), network()
    (theirs, clip_theirs), (ours, clip_ours) = plain(one, momentum=0.0), flat(other, momentum=0.0)
    assert same(steps(ours, other, clip_ours, PATHS), steps(theirs, one, clip_theirs, PATHS))
    assert not ours.state


class Calls(TorchDispatchMode):
    """Counts operations that are called one by one."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("absent", [(), (3, 77)])
def test_clipping_and_step_are_a_handful_of_calls(absent):
    """Whatever the number of parameters; PyTorch's own are more than five for each."""
    counts = []
    for size in (50, 200):
        net = nn.ModuleList(nn.Linear(3, 3) for _ in range(size))
        optimizer, clip = flat(net, weight_decay=0.01)
        steps(optimizer, net, clip, [()])
        optimizer.zero_grad()
        give_gradients(net, 1, absent)
        with Calls() as calls:
            clip(0.9)
            optimizer.step()
            optimizer.zero_grad()
        counts.append(len(calls.names))
    assert counts[0] == counts[1] <= 20


@pytest.mark.parametrize("absences", [WHOLE, PATHS], ids=["all", "some"])
@pytest.mark.parametrize(("before", "after"), [(plain, flat), (flat, plain), (flat, flat)])
def test_a_checkpoint_goes_on_in_either_optimiser(before, after, absences):
    one, other, straight = network(), network(), network()
    optimizer, clip = plain(straight, weight_decay=0.01)
    expected = steps(optimizer, straight, clip, absences)
    optimizer, clip = before(one, weight_decay=0.01)
    steps(optimizer, one, clip, absences[:2])
    states = {"network": one.state_dict(), "optimizer": optimizer.state_dict()}
    kept = torch.load(saved(states), weights_only=True)
    other.load_state_dict(kept["network"])
    optimizer, clip = after(other, rate=0.7, weight_decay=0.01)
    optimizer.load_state_dict(kept["optimizer"])
    assert same(steps(optimizer, other, clip, absences[2:], first=2), expected)


def test_the_state_is_that_of_pytorch():
    one, other = network(), network()
    (theirs, clip_theirs), (ours, clip_ours) = plain(one), flat(other)
    for absences in ([(3,)], [()]):
        steps(theirs, one, clip_theirs, absences), steps(ours, other, clip_ours, absences)
        there, here = theirs.state_dict(), ours.state_dict()
        assert here["param_groups"] == there["param_groups"]
        assert here["state"].keys() == there["state"].keys()
        for number, kept in there["state"].items():
            assert here["state"][number].keys() == kept.keys()
            assert torch.equal(here["state"][number]["momentum_buffer"], kept["momentum_buffer"])
            assert here["state"][number]["momentum_buffer"].stride() == kept["momentum_buffer"].stride()


def moved_by_the_user(net):
    net[0].weight.data = net[0].weight.data.clone()


def another_layout(net):
    net.to(memory_format=torch.contiguous_format)


def transposed(net):
    net[6].weight.data = net[6].weight.data.clone().contiguous()


@pytest.mark.parametrize("change", [moved_by_the_user, another_layout, transposed])
@pytest.mark.parametrize("absences", [WHOLE, PATHS], ids=["all", "some"])
def test_parameters_that_were_moved_since_are_still_trained(change, absences):
    one, other = network(), network()
    (theirs, clip_theirs), (ours, clip_ours) = plain(one), flat(other)
    steps(theirs, one, clip_theirs, absences[:2]), steps(ours, other, clip_ours, absences[:2])
    change(one), change(other)
    assert same(
        steps(ours, other, clip_ours, absences[2:], first=2), steps(theirs, one, clip_theirs, absences[2:], first=2)
    )


@pytest.mark.parametrize("change", [moved_by_the_user, another_layout, transposed])
@pytest.mark.parametrize("clips", [True, False], ids=["after clipping", "without clipping"])
def test_parameters_that_were_moved_just_before_a_step_are_still_trained(change, clips):
    made = []
    for kind in (plain, flat):
        net = network()
        optimizer, clip = kind(net)
        steps(optimizer, net, clip, WHOLE)
        give_gradients(net, 4)
        if clips:
            clip(0.9)
        change(net)
        optimizer.step()
        made.append([*net.parameters()])
    assert same(*made)


def test_a_layer_that_lost_outputs_in_place_is_still_trained():
    made = []
    for kind in (plain, flat):
        net = nn.Linear(5, 3, bias=False)
        nn.init.ones_(net.weight)
        optimizer, clip = kind(net)
        net.weight.data = net.weight.data[:1]  # where it lay, one number behind the other
        made.append(steps(optimizer, net, clip, WHOLE))
    assert same(*made)


def test_a_matrix_that_was_turned_in_place_is_still_trained():
    one, other = nn.Linear(16, 16), nn.Linear(16, 16)
    other.load_state_dict(one.state_dict())
    (theirs, clip_theirs), (ours, clip_ours) = plain(one), flat(other)
    for net in (one, other):
        net.weight.data = net.weight.data.t()
    assert same(steps(ours, other, clip_ours, WHOLE), steps(theirs, one, clip_theirs, WHOLE))


def test_momenta_that_the_user_drops_begin_anew():
    one, other = network(), network()
    (theirs, clip_theirs), (ours, clip_ours) = plain(one), flat(other)
    for optimizer, net, clip in ((theirs, one, clip_theirs), (ours, other, clip_ours)):
        steps(optimizer, net, clip, WHOLE)
        optimizer.state.clear()
    assert same(steps(ours, other, clip_ours, WHOLE), steps(theirs, one, clip_theirs, WHOLE))
    for optimizer, net in ((theirs, one), (ours, other)):
        del optimizer.state[net[1].weight]
    assert same(steps(ours, other, clip_ours, PATHS), steps(theirs, one, clip_theirs, PATHS))


def test_gradients_that_add_up_without_zeroing():
    one, other = nn.Linear(5, 3), nn.Linear(5, 3)
    other.load_state_dict(one.state_dict())
    inputs = torch.randn(4, 5)
    (theirs, clip_theirs), (ours, clip_ours) = plain(one), flat(other)
    for net, optimizer, clip in ((one, theirs, clip_theirs), (other, ours, clip_ours)):
        for _ in range(3):
            net(inputs).square().sum().backward()
            clip(1.0)
            optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        net(inputs).sum().backward()
        optimizer.step()
    assert same([*other.parameters()], [*one.parameters()])


def test_several_groups_and_types_and_one_that_is_added():
    nets = [nn.ModuleList([nn.Linear(5, 3), nn.Linear(3, 3).double(), nn.Linear(3, 2)]) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    made = []
    for kind, net in zip((torch.optim.SGD, FlatSGD), nets, strict=True):
        optimizer = kind([{"params": [*net[0].parameters(), *net[1].parameters()]}], 0.1, 0.9)
        optimizer.add_param_group({"params": net[2].parameters(), "lr": 0.2})
        for seed in range(3):
            give_gradients(net, seed, absent=(4,) if seed == 1 else ())
            clip_gradients(optimizer, 1.0)
            optimizer.step()
        made.append([*net.parameters()])
    assert same(*made)


def test_parameters_of_a_flat_tensor_in_another_order_are_trained():
    made = []
    for kind in (torch.optim.SGD, FlatSGD):
        net = nn.ParameterList([nn.Parameter(torch.full((16,), float(number))) for number in range(3)])
        kind(net.parameters(), 0.1, 0.9)
        optimizer = kind([net[0], net[2], net[1]], 0.1, 0.9)
        made.append(steps(optimizer, net, lambda largest, o=optimizer: clip_gradients(o, largest), WHOLE))
    assert same(*made)


def test_sparse_gradients_are_followed():
    made = []
    for kind in (plain, flat):
        net = nn.Embedding(4, 3, sparse=True)
        nn.init.ones_(net.weight)
        optimizer, _ = kind(net, momentum=0.0)
        net(torch.tensor([1, 3, 1])).sum().backward()
        optimizer.step()
        assert net.weight.grad.is_sparse
        made.append([net.weight])
    assert same(*made)


def test_a_parameter_begins_where_an_allocation_of_its_own_would():
    """Kernels of a processor may take other ways, and round otherwise, elsewhere."""
    net = network()
    flat(net)
    assert {parameter.data_ptr() % 64 for parameter in net.parameters()} == {0}


def test_what_cannot_be_one_tensor_is_left_alone():
    whole = torch.zeros(6)
    shared = [nn.Parameter(whole[:2]), nn.Parameter(whole[2:4])]
    wide = nn.Parameter(torch.zeros(2, 1).expand(2, 3))
    other = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, dtype=torch.float64))]
    overlapping = nn.Parameter(torch.zeros(6)[:2, None].expand(2, 3))  # of a tensor that has as many numbers
    twice = [nn.Parameter(whole), nn.Parameter(whole.view(2, 3))]
    halves = [nn.Parameter(torch.zeros(32)[:16]), nn.Parameter(torch.zeros(32)[16:])]  # of two tensors
    lazy = list(nn.LazyLinear(2).parameters())
    of_processes = nn.Parameter(torch.zeros(2)).share_memory_()
    alone = [wide, overlapping, nn.Parameter(whole[4:]), of_processes, nn.Parameter(torch.zeros(0))]
    for parameters in (shared, other, twice, halves, lazy, *([parameter] for parameter in alone)):
        assert not flattenable(parameters)
        with pytest.raises(ValueError, match="cannot be one tensor"):
            FlatParameters(parameters)
    assert FlatSGD(shared, 0.1, 0.9).gather() is None
    assert shared[0].untyped_storage().data_ptr() == whole.data_ptr()
    assert FlatSGD([of_processes], 0.1, 0.9).gather() is None
    assert of_processes.is_shared()


def test_a_second_optimiser_of_the_same_network_moves_the_same_memory():
    net = network()
    first, _ = flat(net)
    addresses = [p.data_ptr() for p in net.parameters()]
    second, clip = flat(net)
    assert [p.data_ptr() for p in net.parameters()] == addresses
    give_gradients(net, 0)
    assert first.gather() is not None
    before = [p.detach().clone() for p in net.parameters()]
    steps(second, net, clip, WHOLE)
    assert not any(map(torch.equal, net.parameters(), before))
    assert not flattenable(list(net[0].parameters()))  # of a part that would leave the whole


def test_copies_and_pickles_train_by_themselves():
    net = network()
    optimizer, clip = flat(net)
    steps(optimizer, net, clip, WHOLE[:2])
    for again in (copy.deepcopy, lambda both: torch.load(saved(both), weights_only=False)):
        twin, copied = again((net, optimizer))
        assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in net.parameters()}
        ours = steps(copied, twin, lambda largest, o=copied: clip_gradients(o, largest), WHOLE, first=2)
        single, theirs_clip = plain(reference := network())
        steps(single, reference, theirs_clip, WHOLE[:2])
        assert same(ours, steps(single, reference, theirs_clip, WHOLE, first=2))
        assert isinstance(copied, FlatSGD)
        assert copied.gather() is not None


def test_a_part_that_is_shared_or_frozen():
    nets = [nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)]) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    made = []
    for kind, net in zip((plain, flat), nets, strict=True):
        net[1].weight = net[0].weight
        net[2].requires_grad_(False)
        optimizer, clip = kind(net)
        for _ in range(3):
            optimizer.zero_grad()
            net[2](net[1](net[0](torch.ones(2, 4)))).square().sum().backward()
            clip(0.5)
            optimizer.step()
        made.append([*net.parameters()])
    assert same(*made)


def test_hooks_schedulers_and_closures_work():
    called, net = [], nn.Linear(2, 1)
    optimizer, _ = flat(net)
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def closure():
        optimizer.zero_grad()
        loss = net(torch.ones(1, 2)).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).requires_grad
    schedule.step()
    assert called == ["before", "after"]
    assert optimizer.param_groups[0]["lr"] == 0.05


@pytest.mark.parametrize("largest", [0.5, 1e6, float("inf")])
@pytest.mark.parametrize("broken", [None, float("nan"), float("inf")])
def test_clipping_is_pytorchs(largest, broken):
    one, other = network(), network()
    optimizer, _ = flat(other)
    for net in (one, other):
        give_gradients(net, 0)
        if broken is not None:
            net[2].weight.grad[0, 0] = broken
    theirs, ours = nn.utils.clip_grad_norm_(one.parameters(), largest), clip_gradients(optimizer, largest)
    assert torch.allclose(ours, theirs, rtol=0, atol=0, equal_nan=True)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=0, atol=0, equal_nan=True)
    assert clip_gradients(flat(nn.Linear(2, 2))[0], largest) == 0.0  # where nothing has a gradient


def test_what_was_not_finite_is_gone_after_a_checkpoint():
    """From the gaps, too: on a GPU the norm is that of the whole tensor."""
    net = network()
    optimizer, clip = flat(net)
    kept = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    give_gradients(net, 0)
    net[0].weight.grad[0, 0] = float("nan")
    clip(1.0)
    assert optimizer.gather().isnan().all()
    net.load_state_dict(kept[0])
    optimizer.load_state_dict(kept[1])
    optimizer.zero_grad()
    give_gradients(net, 1)
    assert optimizer.gather().isfinite().all()


@pytest.mark.slow
def test_every_size_is_pytorchs_to_the_bit():
    for size, settings in itertools.product([*range(1, 260), 4095, 65_535, 65_537, 131_073], SETTINGS):
        parts = [
            nn.ParameterList([nn.Parameter(torch.linspace(-1, 1, size)), nn.Parameter(torch.ones(3))]) for _ in "12"
        ]
        (theirs, clip_theirs), (ours, clip_ours) = plain(parts[0], **settings), flat(parts[1], **settings)
        assert same(steps(ours, parts[1], clip_ours, WHOLE), steps(theirs, parts[0], clip_theirs, WHOLE)), size
