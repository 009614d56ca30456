"""Decisions (what a search chooses), weights (how much each option counts) and architectures (what was chosen)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from supernet.runtime.devices import send
from supernet.runtime.errors import InputError
from supernet.runtime.files import write_whole
from supernet.runtime.reading import read_text

Weights = dict[str, Tensor]
"""Decision name -> how much of each option runs now, shape (options,).

Where a decision is `auxiliary`, the weight of its auxiliary skip connection may follow: shape (options + 1,)."""

FORMAT = "supernet.genotype"
VERSION = 1
_CHEAP = ("none", "skip_connect")
_LARGEST = 4 << 20  # bytes of a genotype.json
_LONGEST = 500  # letters of a name
_MOST = 5_000  # answers: options kept, over all decisions; the published cells have some 50


Role = Literal["operation", "inputs", "number"]
"""What the options of a decision are: operations of an edge, states that may feed a node, or sizes such as a width."""

Condition = tuple[str, tuple[str, ...]]
"""(name of a decision, some of its options): met where the architecture keeps one of these options."""


@dataclass(frozen=True)
class Decision:
    """An open question of a network.

    Places that ask under one name share the decision.

    Args:
        name: such as "normal/2" (the inputs of node 2 of every normal cell) or "normal/2/0" (the operation of the edge
            from state 0 to that node).
        options: the possible answers.
        keep: how many of them survive.
        role: what the options are.
        group: decisions of one group are shown and decided together: the cell's kind, such as "normal".
        when: what else has to be kept for this decision to matter, such as ("normal/2", ("0",)) for that edge, or
            ("stage2/depth", ("3", "4")) for the third block of a stage. All conditions have to be met.
        optional: "none" can be kept like any other option, as that of a number can; otherwise it only takes part in
            the search.
        auxiliary: a skip connection runs beside the options (DARTS-), which is no answer.
    """

    name: str
    options: tuple[str, ...]
    keep: int = 1
    role: Role = "operation"
    group: str = ""
    when: tuple[Condition, ...] = ()
    optional: bool = False
    auxiliary: bool = False

    @property
    def answers(self) -> tuple[str, ...]:
        """The options that an architecture can keep."""
        every = self.optional or self.role == "number"  # "none" is a number, such as that of squeezes, like any other
        return self.options if every else tuple(o for o in self.options if o != "none")


@dataclass(frozen=True)
class Architecture(Mapping[str, tuple[str, ...]]):
    """A genotype: for each decision the options kept, and the name of the space whose questions it answers.

    `save` and `load` write and read `genotype.json`.

    Args:
        space: the name of the space.
        choices: the options kept, by decision. Decisions about edges that lead into nothing are absent.

    Example:
        >>> cell = Architecture("nasbench201", {"cell/1": ("0",), "cell/1/0": ("skip_connect",)})
        >>> cell["cell/1/0"], Architecture.from_json(cell.to_json()) == cell
        (('skip_connect',), True)
    """

    space: str
    choices: Mapping[str, tuple[str, ...]]

    def __getitem__(self, name: str) -> tuple[str, ...]:
        return self.choices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.choices)

    def __len__(self) -> int:
        return len(self.choices)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Kept, because explorers look up the same architectures again and again."""
        return hash((self.space, frozenset(self.choices.items())))

    def to_json(self) -> str:
        """Writes the genotype as JSON text, one decision a line, sorted: two equal genotypes are equal texts.

        Returns:
            The text.
        """
        rows = ",\n".join(f"    {json.dumps(name)}: {json.dumps(list(self.choices[name]))}" for name in sorted(self))
        head = f'{{\n  "format": "{FORMAT}",\n  "version": {VERSION},\n  "space": {json.dumps(self.space)},\n'
        return f'{head}  "choices": {{\n{rows}\n  }}\n}}\n'

    @classmethod
    def from_json(cls, text: str, origin: str = "genotype") -> Architecture:
        """Reads what `to_json` has written.

        Args:
            text: the JSON text.
            origin: names the source in messages.

        Returns:
            The genotype.

        Raises:
            InputError: the text is anything else.
        """
        try:
            data = json.loads(text, object_pairs_hook=_once)
        except InputError as error:
            raise InputError(f"{origin}: {error}") from None
        except (ValueError, RecursionError) as error:
            reason = "nested too deep" if isinstance(error, RecursionError) else error
            raise InputError(f"{origin}: not JSON ({reason}); expected a genotype.json written by supernet") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(f"{origin}: not a genotype ('format' must be {FORMAT!r})")
        if data.get("version") != VERSION:
            raise InputError(
                f"{origin}: genotype version {str(data.get('version'))[:40]}; this supernet reads {VERSION}"
            )
        space, choices = data.get("space"), data.get("choices")
        well_formed = (
            isinstance(space, str)
            and isinstance(choices, dict)
            and all(isinstance(v, list) and v and all(isinstance(o, str) for o in v) for v in choices.values())
        )
        if not well_formed or not isinstance(choices, dict):
            raise InputError(f"{origin}: 'space' must be a name and 'choices' map each decision to a list of options")
        if sum(map(len, choices.values())) > _MOST:
            raise InputError(f"{origin}: more than {_MOST:,} answers; a network of such a genotype cannot be built")
        words = (str(space), *choices, *(option for kept in choices.values() for option in kept))
        if broken := next((word for word in words if not _is_text(word)), None):
            raise InputError(f"{origin}: {broken[:40]!r} holds half a character (a lone surrogate); names are text")
        if long := next((word for word in words if len(word) > _LONGEST), None):
            raise InputError(f"{origin}: {long[:40]!r}... is longer than the {_LONGEST} letters that a name may have")
        return cls(str(space), {name: tuple(kept) for name, kept in choices.items()})

    def save(self, path: str | Path) -> None:
        """Writes the genotype as JSON; an older file is replaced by a whole one.

        Args:
            path: of the file.
        """
        write_whole(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Architecture:
        """Reads a genotype written by `save`.

        Args:
            path: of the file.

        Returns:
            The genotype.

        Raises:
            InputError: the file is missing or is anything else.
        """
        where = str(path)
        return cls.from_json(read_text(path, where, _LARGEST), origin=where)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuses a JSON object that has a key twice: the second value would silently replace the first."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in made if names.count(name) > 1)
        raise InputError(f"{twice[:80]!r} is there twice")
    return made


def _is_text(word: str) -> bool:
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def edge_name(inputs: str, source: str) -> str:
    """The name of the operation decision of an edge.

    Args:
        inputs: the name of the input decision of its node.
        source: the state from which it comes.

    Returns:
        The name.

    Example:
        >>> edge_name("normal/2", "0")
        'normal/2/0'
    """
    return f"{inputs}/{source}"


def matters(decision: Decision, architecture: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether an architecture has to answer a decision: it keeps all on which the decision depends (`Decision.when`).

    Args:
        decision: the question.
        architecture: the options kept, by decision.

    Returns:
        Whether its answer has an effect.

    Example:
        >>> edge = Decision("normal/2/0", ("none", "skip_connect"), when=(("normal/2", ("0",)),))
        >>> matters(edge, {"normal/2": ("0", "1")}), matters(edge, {"normal/2": ("1",)})
        (True, False)
    """
    return met(decision.when, architecture)


def met(conditions: tuple[Condition, ...], architecture: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether an architecture meets all conditions.

    Args:
        conditions: of a decision, or of a part of a network.
        architecture: the options kept, by decision.

    Returns:
        Whether of each condition one option is kept.

    Example:
        >>> met((("stage1/depth", ("3", "4")),), {"stage1/depth": ("4",)})
        True
    """
    return all(any(option in architecture.get(name, ()) for option in options) for name, options in conditions)


def edges_into(node: Decision, decisions: Mapping[str, Decision]) -> dict[str, Decision]:
    """Finds the operation decisions of the edges into a node.

    Args:
        node: the decision on the inputs of the node.
        decisions: all of the network, by name.

    Returns:
        The decisions, by the state from which the edge comes.
    """
    conditions = {(node.name, (source,)): source for source in node.options}
    return {
        conditions[condition]: decision
        for decision in decisions.values()
        for condition in decision.when
        if decision.role == "operation" and condition in conditions
    }


def check(architecture: Architecture, decisions: Mapping[str, Decision]) -> None:
    """Checks that an architecture answers each decision with known options.

    A node may have fewer inputs than its decision keeps, but one (FairDARTS leaves out weak edges).

    Args:
        architecture: the options kept, by decision.
        decisions: all of the network, by name.

    Raises:
        InputError: names the first misfit.
    """
    for name, decision in decisions.items():
        if not matters(decision, architecture):
            continue
        if name not in architecture:
            raise InputError(f"the genotype has no answer to {name!r}; one of {', '.join(decision.options)} is needed")
        kept = architecture[name]
        if unknown := sorted(set(kept) - set(decision.options)):
            raise InputError(f"{name}={unknown[0]!r} is unknown; known: {', '.join(decision.options)}")
        least = 1 if decision.role == "inputs" else decision.keep
        if len(set(kept)) != len(kept) or not least <= len(kept) <= decision.keep:
            number = f"exactly {decision.keep}" if least == decision.keep else f"{least} to {decision.keep}"
            raise InputError(
                f"the genotype's {name} keeps {', '.join(kept) or 'nothing'}; {number} different ones are needed"
            )


def one_hot(
    architecture: Architecture,
    decisions: Mapping[str, Decision],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Weights:
    """Weights under which the supernet computes what the architecture alone would: 1 for options kept, 0 elsewhere.

    Args:
        architecture: the options kept, by decision.
        decisions: of the supernet, by name.
        dtype: of the weights.
        device: where they lie.

    Returns:
        The weights of each decision, (options,).

    Example:
        >>> edge = Decision("a", ("none", "skip_connect"))
        >>> one_hot(Architecture("mine", {"a": ("skip_connect",)}), {"a": edge})
        {'a': tensor([0., 1.])}
    """
    return _sent(_rows(architecture, decisions), dtype, device)


def one_path(
    architecture: Architecture,
    decisions: Mapping[str, Decision],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Weights:
    """Returns `one_hot`, but each edge that is not kept runs its cheapest operation: its node gives it no weight.

    A supernet that runs one operation on each edge (`choices.single_path`) needs this: some operation has to run on
    every edge.

    Args:
        architecture: the options kept, by decision.
        decisions: of the supernet, by name.
        dtype: of the weights.
        device: where they lie.

    Returns:
        The weights of each decision, (options,).
    """
    rows = _rows(architecture, decisions)
    for name, decision in decisions.items():
        if name not in architecture:
            idle = next((o for o in _CHEAP if o in decision.options), decision.options[0])
            rows[name][decision.options.index(idle)] = 1.0
    return _sent(rows, dtype, device)


def _rows(architecture: Architecture, decisions: Mapping[str, Decision]) -> dict[str, list[float]]:
    """1 for each option that is kept, 0 for the others."""
    return {name: [float(o in architecture.get(name, ())) for o in d.options] for name, d in decisions.items()}


def _sent(rows: Mapping[str, Sequence[float]], dtype: torch.dtype, device: torch.device | str) -> Weights:
    """The rows as tensors on a device, sent there at once and without waiting for it."""
    together = torch.tensor([number for row in rows.values() for number in row], dtype=dtype)
    return dict(zip(rows, send(together, device).split([len(row) for row in rows.values()]), strict=True))


def random_architecture(space: str, decisions: Mapping[str, Decision], generator: torch.Generator) -> Architecture:
    """Draws an architecture uniformly: of each decision as many options as it keeps, operations only of kept edges.

    "none" is drawn only where it can be an answer.

    Args:
        space: the name of the space.
        decisions: all of the network, by name.
        generator: draws.

    Returns:
        The architecture.

    Example:
        >>> edges = {"a": Decision("a", ("none", "skip_connect"))}
        >>> random_architecture("mine", edges, torch.Generator().manual_seed(0)).choices
        {'a': ('skip_connect',)}
    """

    def depth(decision: Decision) -> int:
        return max((1 + depth(decisions[name]) for name, _ in decision.when if name in decisions), default=0)

    def draw(decision: Decision) -> tuple[str, ...]:
        order = torch.randperm(len(decision.answers), generator=generator).tolist()
        return tuple(decision.answers[i] for i in sorted(order[: decision.keep]))

    choices: dict[str, tuple[str, ...]] = {}
    for _, level in groupby(sorted(decisions.values(), key=depth), key=depth):  # what others depend on comes first
        choices |= {decision.name: draw(decision) for decision in level if matters(decision, choices)}
    return Architecture(space, choices)
