import pytest
import torch

from supernet.data.groups import group_notes, joined, named_in, numbered
from supernet.runtime.errors import InputError


def test_joined_is_the_connected_components():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, 40, (60,), generator=generator) for _ in range(2))
    found = joined(first, second)
    parent = list(range(60))  # the same by an independent union-find

    def root(place):
        return place if parent[place] == place else root(parent[place])

    for grouping in (first, second):
        for a in range(60):
            for b in range(a):
                if grouping[a] == grouping[b]:
                    parent[root(a)] = root(b)
    same = torch.tensor([[root(a) == root(b) for a in range(60)] for b in range(60)])
    assert torch.equal(found[:, None] == found[None], same)
    chain = torch.arange(100)
    assert joined(chain // 2, (chain + 1) // 2).unique().tolist() == [0]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(", "no regular expression"),
        ("a", "needs one group in parentheses, such as .*, and has 0"),
        ("(a)(b)", "and has 2"),
        ("(p[0-9])", "does not fit 1 of 2 files, such as x.png"),
        ("(q)|x|p", "2 of 2 files"),
    ],
)
def test_patterns_that_do_not_serve(pattern, says):
    with pytest.raises(InputError, match=says) as error:
        named_in(["p1.png", "x.png"], pattern)
    assert "\n" not in str(error.value)


def test_notes_tell_what_stands_on_both_sides():
    assert numbered([]).tolist() == []
    notes = group_notes({"train": [1, 2, 3], "val": [4], "test": [2, 3, 9]}, "patient")
    assert notes[1:] == ["warning: 2 of them have images in test, too"]
