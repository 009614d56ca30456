"""Open sizes: counts that depend on number decisions, and layers as large as those say.

The weights of all sizes are shared: a smaller kernel is the middle of the largest one, fewer channels are its first
ones (once-for-all, Cai et al. 2020). A layer runs in one of two forms:

- The **mixture**, of any weights: one convolution with the kernel sum_k w_k pad(K_k), and channels times the mask
  sum_c w_c 1[channel < c]. It can be differentiated by the weights.
- The **slice**, of one-hot weights that nothing learns from: only the channels and the kernel that the options need.

Both compute the same for one-hot weights, in training mode, too: batch norms treat each channel by itself, and a
channel that the mask has made zero adds nothing to what reads it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.runtime.devices import constant
from supernet.space.architecture import Condition, Decision
from supernet.space.choices import NumberChoice
from supernet.space.choosers import Chooser
from supernet.space.joined_norms import JoinedBatchNorm2d

Value = int | float | bool | str


@runtime_checkable
class Part(Protocol):
    """A module whose form depends on number decisions.

    `decisions` are all on which it depends, but for the size of the image; `when` says when it is there at all.
    """

    decisions: tuple[Decision, ...]
    when: tuple[Condition, ...]

    def plain(self, answers: Mapping[str, str]) -> nn.Module:
        """Builds the plain module of this form, with new weights."""
        ...

    def channels_in(self, answers: Mapping[str, str]) -> int:
        """The channels that the plain module of this form is given."""
        ...

    def state(self, answers: Mapping[str, str]) -> dict[str, Tensor]:
        """The parameters and statistics that the plain module of this form has within this one, by name."""
        ...


class Size:
    """A count that follows from the answers to some number decisions.

    Args:
        choices: the open numbers on which it depends; () for a count that is fixed.
        counts: for each combination of options, by place, the count.

    Example:
        >>> width = NumberChoice(Decision("stage1/width", ("8", "16"), role="number"))
        >>> size = Size.of_choice(width, {"8": 8, "16": 16})
        >>> size.largest, size.of({"stage1/width": "8"})
        (16, 8)
        >>> width.weights = torch.tensor([0.25, 0.75])
        >>> size.mask()[[0, 7, 8, 15]]
        tensor([1.0000, 1.0000, 0.7500, 0.7500])
    """

    def __init__(self, choices: Sequence[NumberChoice], counts: Mapping[tuple[int, ...], int]) -> None:
        self.choices, self.counts = tuple(choices), dict(counts)
        self.largest = max(self.counts.values())

    @classmethod
    def fixed(cls, count: int) -> Size:
        """A count that depends on nothing."""
        return cls((), {(): count})

    @classmethod
    def of_choice(cls, choice: NumberChoice | None, counts: Mapping[str, int]) -> Size:
        """The count of each option that is left of one decision; a choice of None leaves one option for good."""
        if choice is None:
            (count,) = counts.values()
            return cls.fixed(count)
        return cls((choice,), {(place,): counts[option] for place, option in enumerate(choice.decision.options)})

    def combined(self, other: Size, count: Callable[[int, int], int]) -> Size:
        """The count that a function makes of two sizes."""
        choices = list(dict.fromkeys([*self.choices, *other.choices]))
        made = {}
        for places in itertools.product(*(range(len(choice.decision.options)) for choice in choices)):
            at = dict(zip(choices, places, strict=True))
            own, others = (size.counts[tuple(at[c] for c in size.choices)] for size in (self, other))
            made[places] = count(own, others)
        return Size(choices, made)

    def mapped(self, count: Callable[[int], int]) -> Size:
        """The count that a function makes of this one."""
        return Size(self.choices, {places: count(own) for places, own in self.counts.items()})

    @property
    def open(self) -> bool:
        """Whether there is more than one count."""
        return len(set(self.counts.values())) > 1

    def of(self, answers: Mapping[str, str]) -> int:
        """The count under these answers; of decisions that have none the largest option counts."""
        places = (c.decision.options.index(answers.get(c.decision.name, c.decision.options[-1])) for c in self.choices)
        return self.counts[tuple(places)]

    def now(self) -> int | None:
        """The one count that is computed in this pass; None where a mixture is."""
        if not self.open:
            return self.largest
        places = [choice.place for choice in self.choices]
        return None if None in places else self.counts[tuple(p for p in places if p is not None)]

    def mask(self) -> Tensor | None:
        """How much each channel counts in this pass, (largest,); None where all count in full."""
        if not self.open:
            return None
        like = self.choices[0].weights
        assert like is not None, "run the supernet, which hands out the weights"
        total = torch.zeros(self.largest, dtype=like.dtype, device=like.device)
        for places, count in self.counts.items():
            share = torch.ones((), dtype=like.dtype, device=like.device)
            for choice, place in zip(self.choices, places, strict=True):
                assert choice.weights is not None
                share = share * choice.weights[place]
            first = constant(tuple(float(c < count) for c in range(self.largest)), like.device, like.dtype)
            total = total + share * first
        return total


def masked(x: Tensor, size: Size) -> Tensor:
    """Lets each channel count as much as the mixture says.

    Args:
        x: (batch, channels, height, width) of the largest size.
        size: of the channels.

    Returns:
        The same times the mask.
    """
    mask = size.mask()
    return x if mask is None else x * mask.view(1, -1, 1, 1)


def fitted(x: Tensor, channels: int) -> Tensor:
    """Cuts channels off, or adds channels of zeros, where one part of a network is a slice and the next a mixture.

    Args:
        x: (batch, any channels, height, width).
        channels: how many there are to be.

    Returns:
        (batch, channels, height, width).

    Example:
        >>> fitted(torch.ones(1, 2, 1, 1), 3).flatten()
        tensor([1., 1., 0.])
    """
    given = x.shape[1]
    if given == channels:
        return x
    return x[:, :channels] if given > channels else F.pad(x, (0, 0, 0, 0, 0, channels - given))


def norm_of_first(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """The batch norm of the first channels of a larger norm, as the norm itself would treat them.

    Args:
        norm: of as many channels as `x` has, or more; in training mode its statistics of these channels are updated.
        x: (batch, channels, height, width).

    Returns:
        The normalised values, of the same shape.

    Example:
        >>> norm, x = nn.BatchNorm2d(3), torch.randn(4, 3, 2, 2)
        >>> torch.equal(norm_of_first(norm, x[:, :2]), nn.BatchNorm2d(2)(x[:, :2]))
        True
    """
    channels = x.shape[1]
    if channels == norm.num_features or isinstance(norm, JoinedBatchNorm2d):
        made: Tensor = norm(x)
        return made
    momentum, remembers = norm.momentum, norm.training and norm.track_running_stats
    if remembers and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if momentum is None:  # the mean of all batches
            momentum = 1.0 / float(norm.num_batches_tracked)
    mean, variance = norm.running_mean, norm.running_var
    known = mean is not None and variance is not None and (remembers or not norm.training)
    return F.batch_norm(
        x,
        mean[:channels] if known and mean is not None else None,
        variance[:channels] if known and variance is not None else None,
        None if norm.weight is None else norm.weight[:channels],
        None if norm.bias is None else norm.bias[:channels],
        norm.training or mean is None,
        0.0 if momentum is None else momentum,
        norm.eps,
    )


@dataclass(frozen=True)
class Number:
    """One of several values, and what is asked which of them.

    Args:
        values: option -> value, of the options that are left, from small to large.
        choice: what is asked; None where one value is left for good.
    """

    values: Mapping[str, Value]
    choice: NumberChoice | None = None

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The open question; () where there is none."""
        return () if self.choice is None else (self.choice.decision,)

    def of(self, answers: Mapping[str, str]) -> Value:
        """The value under these answers; where they have none the last of the options counts."""
        options = list(self.values)
        answer = options[-1] if self.choice is None else answers.get(self.choice.decision.name, options[-1])
        return self.values[answer]

    def now(self) -> Value | None:
        """The one value that is computed in this pass; None where several are mixed."""
        if len(self.values) == 1:
            return next(iter(self.values.values()))
        assert self.choice is not None
        place = self.choice.place
        return None if place is None else list(self.values.values())[place]

    def shares(self) -> list[tuple[Tensor, Value]]:
        """The weight and the value of each option in a mixture."""
        assert self.choice is not None
        assert self.choice.weights is not None, "run the supernet, which hands them out"
        return list(zip(self.choice.weights, self.values.values(), strict=True))

    def size(self) -> Size:
        """The values, which are whole numbers, as a size."""
        return Size.of_choice(self.choice, {option: int(value) for option, value in self.values.items()})

    def places(self) -> Size:
        """The place of the value among all options, as a size to combine with others."""
        return Size.of_choice(self.choice, {option: place for place, option in enumerate(self.values)})


def first_of(module: nn.Module, plain: nn.Module, **changed: Tensor) -> dict[str, Tensor]:
    """The state of a smaller module whose tensors are the first channels of those of a larger one.

    Args:
        module: the larger one.
        plain: the smaller one, with the same names; it may lie on the meta device.
        changed: tensors, by name with underscores for dots, to take in place of the larger module's.

    Returns:
        A state for the smaller module; the tensors are parts of the larger one's.

    Example:
        >>> first_of(nn.Linear(3, 2), nn.Linear(2, 1))["weight"].shape
        torch.Size([1, 2])
    """
    own = module.state_dict()
    return {
        name: changed.get(name.replace(".", "_"), own[name])[tuple(map(slice, like.shape))]
        for name, like in plain.state_dict().items()
    }


class Kernel:
    """The kernel of a depthwise convolution whose size is open: smaller ones are the middle of the larger.

    With transforms, a smaller kernel is a learnt linear map of the middle of the next larger one, shared by all
    channels (once-for-all, Cai et al. 2020, section 3.3; one of 25 x 25 for 7 to 5 and one of 9 x 9 for 5 to 3).

    Args:
        size: the sizes, each of them odd.
        transforms: the linear maps, by the size of the kernel that comes out; none: no map.
    """

    def __init__(self, size: Number, transforms: Mapping[str, nn.Module]) -> None:
        self.size, self._sizes, self._transforms = size, [int(v) for v in size.values.values()], dict(transforms)

    def now(self, weight: Tensor) -> Tensor:
        """The kernel of this pass.

        Args:
            weight: of the largest size, (channels, 1, size, size).

        Returns:
            The kernel of the one size that counts, or the mixture, of the largest size.
        """
        if (size := self.size.now()) is not None:
            return self._all(weight, int(size))[int(size)]
        largest, total, kernels = weight.shape[-1], torch.zeros_like(weight), self._all(weight, self._sizes[0])
        for share, size in self.size.shares():
            kernel = kernels[int(size)]
            total = total + share * F.pad(kernel, [(largest - kernel.shape[-1]) // 2] * 4)
        return total

    def of(self, weight: Tensor, answers: Mapping[str, str]) -> Tensor:
        """The kernel under these answers, made of that of the largest size."""
        size = int(self.size.of(answers))
        return self._all(weight, size)[size]

    def _all(self, weight: Tensor, down_to: int) -> dict[int, Tensor]:
        """The kernels of all sizes down to one, by size."""
        kernels = {self._sizes[-1]: weight}
        for size, larger in zip(self._sizes[-2::-1], self._sizes[:0:-1], strict=True):
            if size < down_to:
                break
            kernels[size] = self._smaller(kernels[larger], size)
        return kernels

    def _smaller(self, kernel: Tensor, size: int) -> Tensor:
        border = (kernel.shape[-1] - size) // 2
        middle = kernel[..., border : border + size, border : border + size]
        if str(size) not in self._transforms:
            return middle
        mapped: Tensor = self._transforms[str(size)](middle.reshape(*middle.shape[:2], size * size))
        return mapped.view_as(middle)


def identity_map(size: int) -> nn.Linear:
    """A linear map of kernels, at its start the one that changes nothing.

    Args:
        size: of the kernels.

    Returns:
        The map of vectors of size * size values.
    """
    made = nn.Linear(size * size, size * size, bias=False)
    if not made.weight.is_meta:
        with torch.no_grad():
            made.weight.copy_(torch.eye(size * size))
    return made


class Questions:
    """Asks a chooser for numbers, and keeps what stays open so that a network can hold it.

    Args:
        choose: answers.

    Example:
        >>> from supernet.space.choosers import Undecided
        >>> questions = Questions(Undecided())
        >>> questions.ask("stage1/1/kernel", {"3": 3}).now(), len(questions.open)
        (3, 0)
        >>> questions.ask("stage1/1/kernel", {"3": 3, "5": 5}).decisions[0].options, len(questions.open)
        (('3', '5'), 1)
    """

    def __init__(self, choose: Chooser) -> None:
        self._choose = choose
        self.open = nn.ModuleList()

    def ask(
        self, name: str, values: Mapping[str, Value], *, group: str = "", when: tuple[Condition, ...] = ()
    ) -> Number:
        """Asks which value a number has; where there is one only, nobody is asked.

        Args:
            name: of the decision.
            values: option -> value, from small to large.
            group: of the decision.
            when: its conditions.

        Returns:
            The number, open or not.
        """
        if len(values) == 1:
            return Number(values)
        left, choice = self._choose.number(Decision(name, tuple(values), role="number", group=group, when=when))
        if choice is not None:
            self.open.append(choice)
        return Number({option: values[option] for option in left}, choice)
