"""A network begins with the weights of another one: what fits is taken over, and what was is said.

Tensors are taken by name and shape. Two kinds are adapted: those that see the images, from grey to colour and back, and
those that have a row for each class, of which the rows of the same classes are taken. All others are new. What was
taken may be frozen, or learn more slowly than the rest; images are normalised as the donor's were: its weights expect
that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from supernet.data.augmentation import Augmentation
from supernet.data.reading import hashed
from supernet.deployment.loading import load
from supernet.deployment.predictor import Predictor
from supernet.runtime.errors import InputError
from supernet.runtime.text import quantity
from supernet.space.heads import Outputs
from supernet.training.fine_tuning import FineTuning

Freeze = Literal["nothing", "backbone", "taken"]

_NOT_THERE = "not in the donor"


@dataclass(frozen=True)
class Transfer:
    """A trained network, and how another one begins with its weights.

    Args:
        donor: what `supernet.load` or `supernet.train` gave.
        name: what lines call it.
        freeze: what stays as it was taken: "nothing"; the "backbone", all but the head that has the classes; or all
            that was "taken". Norms that stay keep their statistics, too. Rows of a classifier always learn.
        rate: what the learning rate is multiplied by for what was taken and is not frozen, in (0, 1].
        normalisation: whether images are normalised as the "donor" had them, or by the data's "own" mean and deviation.

    Raises:
        InputError: a setting is out of its range, or the donor has no weights, or such that are no numbers.

    docs/transfer.md has an example.
    """

    donor: Predictor
    name: str = "the donor"
    freeze: Freeze = "nothing"
    rate: float = 1.0
    normalisation: Literal["donor", "own"] = "donor"

    def __post_init__(self) -> None:
        if not isinstance(self.donor, Predictor):
            raise InputError("donor: has no weights by name, as an exported model; give the run that it was made from")
        if self.freeze not in ("nothing", "backbone", "taken"):
            raise InputError(f"freeze={self.freeze}: use nothing, backbone or taken")
        for name, value in self.donor.network.state_dict().items():
            if not value.isfinite().all():
                raise InputError(
                    f"donor: {name} holds infinite values or none (NaN): its training diverged; train anew"
                )
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0.0 < self.rate <= 1.0:
            given = str(self.rate)[:40]
            raise InputError(f"rate={given}: needs to lie in (0, 1], such as 0.1; freeze what shall not learn")
        if self.normalisation not in ("donor", "own"):
            raise InputError(f"normalisation={self.normalisation}: use donor or own")

    @property
    def fingerprint(self) -> str:
        """What tells this beginning from others: the donor's weights, and how they are used."""
        state = self.donor.network.state_dict()
        content = (part for name in sorted(state) for part in (name, _bytes(state[name])))
        return f"{hashed(content)[:12]} freeze={self.freeze} rate={self.rate} normalisation={self.normalisation}"

    def normalised(self, augmentation: Augmentation) -> Augmentation:
        """The augmentation with the normalisation that the network is to have.

        Grey images of a donor with colours get the means of its three numbers, colours those of a grey donor.

        Raises:
            InputError: the donor's images have another number of channels that is neither one nor three.
        """
        if self.normalisation == "own":
            return augmentation
        theirs, count = self.donor.augmentation, len(augmentation.mean)
        if len(theirs.mean) != count and 1 not in (len(theirs.mean), count):
            raise InputError(
                f"normalisation=donor: the donor's images have {quantity(len(theirs.mean), 'channel')} and these "
                f"{count}; use own"
            )
        mean, std = (_spread(numbers, count) for numbers in (theirs.mean, theirs.std))
        return replace(augmentation, mean=mean, std=std)


def beginning(init: Transfer | Predictor | str | Path) -> Transfer:
    """Makes a beginning of what a person gives: of a model, or of where one lies.

    Args:
        init: a beginning already, a model, or anything that `supernet.load` takes.

    Returns:
        The beginning; nothing is frozen unless it says so itself.

    Raises:
        InputError: there is no such model, or it has no weights by name.
    """
    if isinstance(init, Transfer):
        return init
    return transfer(str(init)) if isinstance(init, str | Path) else Transfer(init)


def transfer(
    path: str,
    freeze: Freeze = "nothing",
    rate: float = 1.0,
    normalisation: Literal["donor", "own"] = "donor",
) -> Transfer:
    """Loads a trained network to begin with.

    Args:
        path: anything that `supernet.load` takes: a run's folder, a file, a name.
        freeze: as for `Transfer`.
        rate: as for `Transfer`.
        normalisation: as for `Transfer`.

    Returns:
        The beginning.

    Raises:
        InputError: there is no such model, or a setting is out of its range.
    """
    donor = load(path)
    if not isinstance(donor, Predictor):
        raise InputError(f"path={path}: an exported model, without weights by name; give the run that it was made from")
    return Transfer(donor, str(path), freeze, rate, normalisation)


@dataclass(frozen=True)
class Taken:
    """What a network has from another one, by the names of its tensors.

    Args:
        taken: those that are the donor's.
        adapted: those made of the donor's, and how.
        new: those with weights of their own, and why.
        sizes: how many numbers each tensor has.
        own: how many numbers of a tensor that was adapted are not the donor's: those of the classes that it lacks.
    """

    taken: tuple[str, ...]
    adapted: Mapping[str, str]
    new: Mapping[str, str]
    sizes: Mapping[str, int]
    own: Mapping[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """A short table: how many tensors of each part of the network were taken, adapted and new, and why.

        Example:
            >>> sizes = {"stem.weight": 9, "cells.0.weight": 20, "classifier.weight": 8}
            >>> shape = {"classifier.weight": "8x2 there, 4x2 here"}
            >>> for line in Taken(("cells.0.weight",), {"stem.weight": "grey to colour"}, shape, sizes).lines():
            ...     print(line)
            taken or adapted: 29 of 37 numbers
              part        taken  adapted  new
              stem            0        1    0  grey to colour
              cells           1        0    0
              classifier      0        0    1  8x2 there, 4x2 here
        """
        count = sum(size - self.own.get(name, 0) for name, size in self.sizes.items() if name not in self.new)
        parts = list(dict.fromkeys(map(_part, self.sizes)))
        width = max(len("part"), *map(len, parts))
        made = [f"taken or adapted: {count:,} of {quantity(sum(self.sizes.values()), 'number')}"]
        made.append(f"  {'part':<{width}}  taken  adapted  new")
        for part in parts:
            own = [[n for n in names if _part(n) == part] for names in (self.taken, self.adapted, self.new)]
            reasons = Counter([self.adapted[name] for name in own[1]] + [self.new[name] for name in own[2]])
            shown = [reason for reason, _ in reasons.most_common(2)]
            more = [f"and {quantity(len(reasons) - 2, 'other reason')}"] if len(reasons) > 2 else []
            numbers = f"  {part:<{width}}  {len(own[0]):>5}  {len(own[1]):>7}  {len(own[2]):>3}  "
            made.append((numbers + "; ".join([*shown, *more])).rstrip())
        return made

    def to_json(self) -> dict[str, Any]:
        """The names, to be kept."""
        return {"taken": list(self.taken), "adapted": dict(self.adapted), "new": dict(self.new)}


@torch.no_grad()
def take_over(
    network: nn.Module,
    donor: Mapping[str, Tensor],
    *,
    channels: tuple[int, int],
    classes: tuple[Sequence[str], Sequence[str]],
    rows: Collection[str] = (),
) -> Taken:
    """Writes the tensors of another network into one, where they fit by name and shape.

    A convolution of the images is adapted where one of the two networks sees grey ones: from colour to grey by the sum
    over the channels, from grey to colour by equal parts, so that grey images in three channels look as they did. Of a
    tensor with a row for each class the rows of the same classes are taken, and the others stay.

    Args:
        network: is written to.
        donor: tensors by name.
        channels: of the images: the donor's, and the network's.
        classes: their names: the donor's, and the network's.
        rows: the network's tensors whose first side goes over the classes (`class_tensors`).

    Returns:
        What was taken, adapted and new.

    Example:
        >>> grey, colour = nn.Conv2d(1, 2, 3), nn.Conv2d(3, 2, 3)
        >>> taken = take_over(colour, grey.state_dict(), channels=(1, 3), classes=((), ()))
        >>> taken.taken, taken.adapted
        (('bias',), {'weight': 'grey to colour'})
        >>> image = torch.rand(1, 1, 5, 5)
        >>> torch.allclose(colour(image.expand(-1, 3, -1, -1)), grey(image), atol=1e-6)
        True
    """
    taken, adapted, new, left = list[str](), dict[str, str](), dict[str, str](), dict[str, int]()
    own = network.state_dict()
    for name, value in own.items():
        there = donor.get(name)
        if there is None:
            new[name] = _NOT_THERE
        elif name in rows and tuple(classes[0]) != tuple(classes[1]):
            if found := _take_rows(value, there, classes):
                adapted[name] = f"{found} of {quantity(len(classes[1]), 'class')}"
                left[name] = (len(value) - found) * value[0].numel()
            else:
                new[name] = "no class in common"
        elif there.shape == value.shape:
            value.copy_(there)
            taken.append(name)
        elif (made := _recoloured(there, value.shape, channels)) is not None:
            value.copy_(made)
            adapted[name] = "grey to colour" if channels[0] == 1 else "colour to grey"
        else:
            new[name] = f"{_shape(there)} there, {_shape(value)} here"
    return Taken(tuple(taken), adapted, new, {name: value.numel() for name, value in own.items()}, left)


def _take_rows(value: Tensor, there: Tensor, classes: tuple[Sequence[str], Sequence[str]]) -> int:
    """Writes the rows of the same classes; returns how many, 0 where the tensors have not one row for each class.

    A head of one class may have a second row, which is not used.
    """
    theirs, ours = classes
    as_many = all(len(rows) in (len(names), max(len(names), 2)) for rows, names in ((there, theirs), (value, ours)))
    if not as_many or there.shape[1:] != value.shape[1:]:
        return 0
    places = {name: number for number, name in enumerate(theirs)}
    common = [(number, places[name]) for number, name in enumerate(ours) if name in places]
    for number, place in common:
        value[number] = there[place].to(value)
    return len(common)


def _recoloured(there: Tensor, shape: Sequence[int], channels: tuple[int, int]) -> Tensor | None:
    """The weight of a convolution of images with another number of channels, where one of the two is grey."""
    theirs, ours = channels
    sides = (*there.shape[:1], ours, *there.shape[2:])
    if there.dim() != 4 or 1 not in channels or there.shape[1] != theirs or sides != tuple(shape):
        return None
    return there.float().sum(1, keepdim=True).div(ours).expand(*shape)


def class_tensors(make: Callable[[Outputs], nn.Module], outputs: Outputs, more: Outputs) -> frozenset[str]:
    """Finds the tensors that have a row for each class: those that another class makes larger.

    Args:
        make: builds the network for such outputs; nothing is computed with it.
        outputs: those of the network.
        more: the same for more classes.

    Returns:
        Their names.

    Example:
        >>> sorted(class_tensors(lambda classes: nn.Sequential(nn.Linear(2, 3), nn.Linear(3, classes)), 10, 11))
        ['1.bias', '1.weight']
    """
    with torch.device("meta"):
        one, other = make(outputs).state_dict(), make(more).state_dict()
    return frozenset(name for name, value in one.items() if name not in other or other[name].shape != value.shape)


def head_tensors(make: Callable[[Outputs], nn.Module], outputs: Outputs, rows: Collection[str]) -> frozenset[str]:
    """Finds the tensors of what comes behind the backbone: of a head, or of the layer that has the classes.

    Args:
        make: builds the network for such outputs; nothing is computed with it.
        outputs: those of the network.
        rows: the tensors that have a row for each class.

    Returns:
        Their names.
    """
    if isinstance(outputs, int):
        return frozenset(rows)
    with torch.device("meta"):
        plain = make(1).state_dict()
        return frozenset(rows) | {name for name in make(outputs).state_dict() if name not in plain}


def fine_tuning(
    taken: Taken, freeze: Freeze, rate: float, *, rows: Collection[str], head: Collection[str]
) -> FineTuning:
    """Says what of a network learns, and how fast, after something was taken over.

    Args:
        taken: what was.
        freeze: what of it stays (`Transfer`).
        rate: what the learning rate of the rest of it is multiplied by.
        rows: tensors with a row for each class; those that were adapted always learn.
        head: the tensors behind the backbone.

    Returns:
        What is frozen, and what moves more slowly.
    """
    theirs = {*taken.taken, *(name for name in taken.adapted if name not in rows)}
    frozen: set[str] = set()
    if freeze == "taken":
        frozen = theirs
    elif freeze == "backbone":
        frozen = theirs - set(head)
    return FineTuning(frozenset(frozen), frozenset(theirs - frozen), rate)


def check_taken(taken: Taken, name: str) -> None:
    """Raises InputError where nothing but vectors fits: the network would be as one from scratch."""
    given = {*taken.taken, *taken.adapted}
    if not any(name.endswith("weight") and taken.sizes[name] > 1 for name in given):
        reasons = Counter(taken.new.values()).most_common(1)
        raise InputError(
            f"{name}: nothing of it fits this network (mostly: {reasons[0][0] if reasons else 'it is empty'}); give a "
            "network of the same space, or start from scratch"
        )


def how_used(start: Transfer) -> str:
    """How a donor's weights are used, in words."""
    words = {"nothing": [], "backbone": ["the backbone of it frozen"], "taken": ["all of it frozen"]}[start.freeze]
    if start.rate != 1.0 and start.freeze != "taken":
        words = [*words, f"{'the rest of it' if words else 'all of it'} at {start.rate:g} of the learning rate"]
    own = "as its own" if start.normalisation == "donor" else "by their own mean and deviation"
    return ", ".join([*words, f"images normalised {own}"])


def differences(one: Any, other: Any) -> list[str]:
    """What settings of two spaces differ in, in words; empty where they are of other kinds."""
    if type(one) is not type(other):
        return []
    pairs = ((f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return [f"{name}={there} there, {here} here" for name, there, here in pairs if there != here]


def _spread(numbers: Sequence[float], count: int) -> tuple[float, ...]:
    return tuple(numbers) if len(numbers) == count else (sum(numbers) / len(numbers),) * count


def _part(name: str) -> str:
    return name.partition(".")[0]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()
