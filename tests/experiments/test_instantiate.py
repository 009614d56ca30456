import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from supernet.experiments.conversion import convert
from supernet.experiments.instantiate import UNFIT, NamedError, build, named

from supernet.runtime.errors import InputError
from supernet.runtime.limits import Limit


@dataclass(frozen=True)
class Part:
    size: int
    rate: float = 0.5
    name: str | None = None
    kind: Literal["a", "b"] = "a"
    sides: tuple[int, ...] = ()
    inner: Any = None
    limit: Limit = 1.0
    names: tuple[str, ...] = ()
    pair: tuple[float, float] = (0.0, 0.0)
    call: Callable[[int], int] | None = None
    costs: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        if self.size > 100:
            raise InputError(f"size={self.size}: too large")


def small(number: int, most: int = 3) -> int:
    if number > most:
        raise InputError(f"most={most}: {number} is more")
    return int(1 / number)


HERE = f"{__name__}.Part"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or __import__(__name__))


def test_builds_trees_with_the_types_asked_for():
    part = build(
        {"_target_": HERE, "size": 3, "rate": 1, "sides": [1, 2], "inner": [{"_target_": HERE, "size": 1}]}, "p"
    )
    assert part == Part(3, 1.0, sides=(1, 2), inner=[Part(1)])
    assert isinstance(part.rate, float)
    later = build({"_target_": HERE, "_partial_": True, "rate": 2.5}, "p")
    assert later(size=4) == Part(4, 2.5)
    assert build({"plain": [1, {"x": None}]}, "p") == {"plain": [1, {"x": None}]}


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"size": "x"}, "p.size=x: needs a whole number"),
        ({"size": True}, "p.size=True: needs a whole number"),
        ({"size": 1.5}, "p.size=1.5: needs a whole number"),
        ({"size": 1, "rate": "fast"}, "p.rate=fast: needs a number"),
        ({"size": 1, "kind": "c"}, "p.kind=c: use one of a, b"),
        ({"size": 1, "sides": 3}, "p.sides=3: needs a list"),
        ({"size": 1, "sides": [1, "x"]}, r"p.sides\[1\]=x: needs a whole number"),
        ({"size": 1, "name": [1]}, r"p.name=\[1\]: needs text"),
        ({"size": 1, "other": 2}, "p.other: unknown setting; known: size, rate, name"),
        ({"rate": 1.0}, "p.size: needs a value"),
        ({"size": "???"}, "p.size: needs a value; give one with p.size="),
        ({"size": 101}, "^p.size=101: too large"),
        ({"size": 10**20}, "whole number below 2"),
        ({"size": 1, "rate": math.nan}, "p.rate=nan: needs a finite number"),
        ({"size": 1, "rate": math.inf}, "p.rate=inf: needs a finite number"),
        ({"size": 1, "sides": [], "limit": math.nan}, "p.limit=nan: needs a finite number"),
        ({"size": 1, "names": ["a", ""]}, "an empty text in it"),
        ({"size": 1, "pair": [1.0]}, r"p.pair=\[1.0\]: needs a list of 2"),
        ({"size": 1, "pair": [1.0, math.inf]}, r"p.pair\[1\]=inf: needs a finite"),
        ({"size": 1, "call": {"a": 1}}, "p.call={'a': 1}: needs an object"),
        ({"size": 1, "call": []}, r"p.call=\[\]: needs an object"),
        ({"size": 1, "costs": [1]}, r"p.costs=\[1\]: needs names and values"),
        ({"size": 1, "_partial_": 5}, "p._partial_=5: needs true or false"),
    ],
)
def test_mistakes_name_key_value_and_way_out(node, says):
    with pytest.raises(InputError, match=says):
        build({"_target_": HERE, **node}, "p")


def test_what_cannot_be_found_or_must_not_be_used():
    for name in ("nowhere.Thing", f"{__name__}.Absent", "os.system"):
        with pytest.raises(InputError, match=r"p\._target_=") as error:
            build({"_target_": name}, "p")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("endless", [math.inf, "inf", ".inf"])
def test_only_a_limit_may_be_infinite(endless):
    assert build({"_target_": HERE, "size": 1, "limit": endless}, "p").limit == math.inf
    assert convert(endless, Limit | None, "k") == math.inf


def test_convert_knows_the_usual_annotations():
    assert convert(None, int | None, "k") is None
    assert convert([3], Sequence[float], "k") == (3.0,)
    assert convert([1], list[int], "k") == [1]
    assert convert({"a": [1]}, dict[str, tuple[int, ...]], "k") == {"a": (1,)}
    assert convert(7, str, "k") == "7"
    assert convert("yes", bool | str, "k") == "yes"
    assert convert(object, type, "k") is object


def told(message: str, parts: dict[str, object], kind: type[Exception] = InputError, **how: Any) -> str:
    with pytest.raises(InputError) as error, named(parts, UNFIT, **how):
        raise kind(message)
    return str(error.value)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("size=101: too large", "p.size=101: too large"),
        ("costs.none=-1: needs 0 or more", "p.costs.none=-1: needs 0 or more"),
        ("sides[1]=0: too small", "p.sides[1]=0: too small"),
        ("costs: none for 'a'", "p.costs: none for 'a'"),
        ("length=3: too long", "p: length=3: too long"),  # no parameter of this part
        ("size matters", "p: size matters"),
        ("the sky is blue", "p: the sky is blue"),
        ("", "p: "),
    ],
)
def test_the_key_stands_before_what_a_part_says(message, says):
    assert told(message, {"p": Part}) == says
    assert told(message, {"p": Part(1)}) == says  # an object is known by its class
    assert told(message, {"p": Part}, TypeError) == says


def test_of_several_parts_the_one_that_has_the_parameter_is_named():
    parts = {"s": small, "p": Part}
    assert told("most=1: too few", parts) == "s.most=1: too few"
    assert told("size=1: too few", parts) == "p.size=1: too few"
    assert told("all wrong", parts) == "p: all wrong"
    assert told("all wrong", {"s": small}, way_out="; leave it") == "s: all wrong; leave it"
    assert told("most=1: too few", {"": Part, "s": small}) == "s.most=1: too few"
    assert told("all wrong", {"": Part, "s": small}) == "all wrong"


def test_a_part_at_an_empty_key_has_the_names_that_a_person_gives():
    with pytest.raises(NamedError) as error, named({"q": small}), named({"": Part, "r": Part}):
        raise InputError("sides[1]=0: too small")
    assert str(error.value) == "sides[1]=0: too small"


def test_what_has_its_key_keeps_it():
    assert told("p.size=1: too few", {"q": Part}, NamedError) == "p.size=1: too few"


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), named({"p": Part}, UNFIT):
        small(0)
    with pytest.raises(TypeError), named({"p": Part}):
        raise TypeError("a bug")


def test_what_is_called_later_says_its_key_then():
    later = build({"_target_": f"{__name__}.small", "_partial_": True, "most": 2}, "p")
    assert (later(1), later.func, later.keywords) == (1, small, {"most": 2})
    with pytest.raises(NamedError, match=r"^p\.most=2: 3 is more"), named({"q": Part}):
        later(3)
    with pytest.raises(TypeError, match="unexpected"):  # a function may have bugs
        later(1, other=1)
    made = build({"_target_": HERE, "_partial_": True}, "p")
    with pytest.raises(NamedError, match=r"^p\.size=101: too large"):
        made(101)
    with pytest.raises(NamedError, match=r"^p: .*unexpected"):  # a class is made of what a person gave
        made(1, other=1)
