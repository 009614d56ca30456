"""What a file of a model says of it besides the weights. All that is read is checked before it is used."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from supernet.data.augmentation import Augmentation
from supernet.data.preparation import Preparation
from supernet.deployment.answers import ONE_LABEL, Answer, answer_of, plain_answer
from supernet.runtime.errors import InputError
from supernet.runtime.text import printable, quantity
from supernet.space.architecture import Architecture

_MOST_PIXELS = 1 << 26  # of an image: a file that names more would only take all memory


@dataclass(frozen=True)
class Description:
    """A model without its weights, and without the class of its space, which a reader may not have.

    Args:
        space: the name of its space.
        settings: of the space, by name.
        architecture: its genotype.
        classes: the names of the classes, in the order of the outputs.
        shape: the (channels, height, width) of its images.
        augmentation: how images are prepared and normalised; what it does in training is not written.
        provenance: how the model was made, such as the seed, and its accuracies.
        answer: what the network's output says.
        report: what was measured of the model, plain values, such as its operating points; {}: nothing.
        card: what a person should know before using it, plain values; {}: nothing.
    """

    space: str
    settings: Mapping[str, Any]
    architecture: Architecture
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    augmentation: Augmentation
    provenance: Mapping[str, Any]
    answer: Answer = ONE_LABEL
    report: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """The form that is written: plain containers, which `understood` reads."""
        return {
            "space": {"name": self.space, "settings": dict(self.settings)},
            "genotype": json.loads(self.architecture.to_json()),
            "classes": list(self.classes),
            "shape": list(self.shape),
            "normalisation": {"mean": list(self.augmentation.mean), "std": list(self.augmentation.std)},
            "preparation": asdict(self.augmentation.preparation),
            "provenance": dict(self.provenance),
            "task": plain_answer(self.answer),
            "report": dict(self.report),
            "card": dict(self.card),
        }


def settings_of(space: Any) -> dict[str, Any]:
    """The settings of a space as a finished model has them: an auxiliary head has served training and is left out."""
    kept = replace(space, auxiliary=False) if any(f.name == "auxiliary" for f in fields(space)) else space
    return asdict(kept)


def understood(described: Mapping[str, Any], path: Path) -> Description:
    """Reads what `Description.plain` has made.

    Args:
        described: the containers, as they were in a file.
        path: of the file, for messages.

    Returns:
        The description. Whether its space is known, and that of its genotype (`check_genotype`), is still to be seen.

    Raises:
        InputError: a part is missing, malformed or does not fit the others, in one line.
    """
    try:
        space = described["space"]
        architecture = Architecture.from_json(json.dumps(described["genotype"]), origin=f"{path}: genotype")
        classes = tuple(described["classes"])
        channels, height, width = described["shape"]
        normalisation = described["normalisation"]
        prepared = Preparation.from_plain(described.get("preparation", {}))  # older files have none
        mean, std = (tuple(map(float, normalisation[key])) for key in ("mean", "std"))
        augmentation = Augmentation(mean, std, preparation=prepared)
        provenance = dict(described["provenance"])
        name, settings = str(space["name"]), dict(space["settings"])
        answer = answer_of(described["task"]) if "task" in described else ONE_LABEL  # version 1 knows no other
        report, card = (dict(described.get(key, {})) for key in ("report", "card"))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise incomplete(error, path) from None
    shape = (channels, height, width)
    if not _go_together(described["classes"], shape, augmentation):
        raise InputError(
            f"{path}: {quantity(len(classes), 'class')}, shape {shape} and normalisation do not go together"
        )
    try:
        answer.check_classes(classes)
    except InputError as error:
        raise incomplete(error, path) from None
    return Description(name, settings, architecture, classes, shape, augmentation, provenance, answer, report, card)


def check_genotype(described: Description, path: Path) -> None:
    """Raises InputError where the genotype is of another space than the model says."""
    if described.architecture.space != described.space:
        raise InputError(
            f"{path}: its genotype is of space {described.architecture.space!r}, not of {described.space!r}"
        )


def incomplete(error: Exception, path: Path) -> InputError:
    """The one line about an error that a description has caused; it names the file."""
    if isinstance(error, InputError):
        return InputError(error if printable(path) in str(error) else f"{path}: {error}")
    return InputError(f"{path}: its description is incomplete or damaged ({type(error).__name__}: {error})")


def _go_together(classes: Any, shape: Sequence[Any], augmentation: Augmentation) -> bool:
    """Whether names are a list of text, sides are whole numbers and each channel has a sound mean and deviation."""
    return (
        isinstance(classes, list)
        and len(classes) >= 1
        and all(isinstance(name, str) for name in classes)
        and all(type(side) is int and 1 <= side < 1 << 20 for side in shape)
        and shape[1] * shape[2] <= _MOST_PIXELS
        and len(augmentation.mean) == len(augmentation.std) == shape[0]
        and all(map(math.isfinite, (*augmentation.mean, *augmentation.std)))
        and min(augmentation.std) > 0
    )
