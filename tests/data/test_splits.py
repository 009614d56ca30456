import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from supernet.data.splits import split_with_copies, stratified_split, stratified_subset
from supernet.runtime.errors import InputError


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(4, 30), min_size=2, max_size=6), st.floats(0.25, 0.75), st.integers(0, 100))
def test_split_covers_keeps_shares_and_repeats(counts, fraction, seed):
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])[torch.randperm(sum(counts))]
    first, second = stratified_split(labels, fraction, seed)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(labels)))
    assert len(first) == int(fraction * len(labels) + 0.5)
    assert first.tolist() == sorted(first.tolist())
    for c, n in enumerate(counts):
        assert abs(int((labels[first] == c).sum()) - fraction * n) < 1.5
    again, _ = stratified_split(labels, fraction, seed)
    assert torch.equal(first, again)


def test_seeds_differ():
    labels = torch.arange(100) % 4
    assert not torch.equal(stratified_split(labels, 0.5, 0)[0], stratified_split(labels, 0.5, 1)[0])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 100))
def test_subset_keeps_shares(counts, size):
    labels = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])
    assume(size >= sum(counts) / min(counts))
    chosen = stratified_subset(labels, size, 0)
    assert len(chosen) == min(size, len(labels))
    assert len(set(chosen.tolist())) == len(chosen)
    for c, n in enumerate(counts):
        assert abs(int((labels[chosen] == c).sum()) - len(chosen) * n / len(labels)) < 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stratified_split(torch.tensor([0, 0, 0, 1]), 0.5, 0), "class 1 has 1 image"),
        (lambda: stratified_split(torch.tensor([0, 1]), 1.0, 0), "between 0 and 1"),
        (lambda: stratified_split(torch.zeros(0, dtype=torch.long), 0.5, 0), "without images"),
        (lambda: stratified_subset(torch.arange(10), 3, 0), "take at least 10"),
        (lambda: stratified_subset(torch.arange(10), 0, 0), "at least 1"),
    ],
)
def test_what_cannot_be_split_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()


def test_a_named_class_is_named():
    with pytest.raises(InputError, match=r"class 1 \(dog\) has 1 image, too few"):
        stratified_split(torch.tensor([0, 0, 0, 1]), 0.5, 0, ("cat", "dog"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), min_size=6, max_size=60), st.integers(0, 50))
def test_copies_are_never_parted(images, seed):
    """Each image is (class, content)."""
    assume(all(len({content for label, content in images if label == kind}) != 1 for kind in range(3)))
    labels = torch.tensor([label for label, _ in images])
    groups = torch.tensor([content for _, content in images])
    first, second = split_with_copies(labels, groups, 0.2, seed) if len(set(images)) < len(images) else ([], [])
    if len(set(images)) < len(images):
        sides = [{images[i] for i in side.tolist()} for side in (first, second)]
        assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(images)))
        assert not sides[0] & sides[1]
        assert {label for label, _ in sides[0]} == {label for label, _ in sides[1]} == set(labels.tolist())


def test_without_copies_it_is_the_plain_split():
    labels = torch.arange(50) % 3
    plain, kept = stratified_split(labels, 0.2, 7), split_with_copies(labels, torch.arange(50), 0.2, 7)
    assert all(torch.equal(a, b) for a, b in zip(plain, kept, strict=True))
