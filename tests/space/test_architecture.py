import json

import pytest
import torch
from common import edge_decision, node_decision
from hypothesis import given
from hypothesis import strategies as st

from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture, Decision, check, one_hot, one_path, random_architecture

DECISIONS = {
    d.name: d
    for d in (
        node_decision("normal/2", ("0", "1", "x"), 2),
        edge_decision("normal/2/0", ("none", "a", "b")),
        edge_decision("normal/2/1", ("none", "a", "b")),
        edge_decision("normal/2/x", ("none", "a", "b")),
        Decision("width", ("8", "16")),
    )
}
ARCHITECTURE = Architecture(
    "toy", {"normal/2": ("0", "x"), "normal/2/0": ("a",), "normal/2/x": ("b",), "width": ("16",)}
)


@given(st.dictionaries(st.text(), st.lists(st.text(), min_size=1, max_size=3).map(tuple), max_size=5), st.text())
def test_json_round_trip(choices, space):
    architecture = Architecture(space, choices)
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert hash(again) == hash(architecture)
    assert again.to_json() == architecture.to_json()


def test_save_and_load(tmp_path):
    ARCHITECTURE.save(tmp_path / "genotype.json")
    assert Architecture.load(tmp_path / "genotype.json") == ARCHITECTURE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[]", "not a genotype"),
        ('{"format": "other"}', "not a genotype"),
        ('{"format": "supernet.genotype", "version": 99}', "version 99"),
        ('{"format": "supernet.genotype", "version": 1, "space": "darts", "choices": {"a": []}}', "list of options"),
        ('{"format": "supernet.genotype", "version": 1, "space": 3, "choices": {}}', "must be a name"),
        (json.dumps({"format": "supernet.genotype", "version": 1, "space": "d", "choices": {"a": [1]}}), "options"),
    ],
)
def test_refuses_what_is_no_genotype(tmp_path, text, says):
    path = tmp_path / "genotype.json"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as error:
        Architecture.load(path)
    assert "\n" not in str(error.value)


def test_missing_or_binary_file_is_one_line(tmp_path):
    (tmp_path / "binary").write_bytes(b"\x80\x04\xff")
    for name in ("absent", "binary"):
        with pytest.raises(InputError, match=name):
            Architecture.load(tmp_path / name)


def test_check_accepts_an_answer_to_every_question():
    check(ARCHITECTURE, DECISIONS)


def test_check_accepts_a_node_with_fewer_inputs():
    """FairDARTS leaves out weak edges, and then their operations are not asked for."""
    fewer = {**ARCHITECTURE.choices, "normal/2": ("0",)}
    del fewer["normal/2/x"]
    check(Architecture("toy", fewer), DECISIONS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"width": None}, "no answer to 'width'"),
        ({"normal/2/x": None}, "no answer to 'normal/2/x'"),
        ({"normal/2/0": ("sep_conv_9x9",)}, "sep_conv_9x9.*known: none, a, b"),
        ({"normal/2": ()}, "keeps nothing; 1 to 2"),
        ({"normal/2": ("0", "0")}, "1 to 2 different ones"),
        ({"normal/2": ("0", "1", "x")}, "1 to 2 different ones"),
        ({"width": ()}, "keeps nothing; exactly 1"),
        ({"width": ("8", "16")}, "exactly 1"),
    ],
)
def test_check_names_the_misfit(change, says):
    choices = {n: c for n, c in {**ARCHITECTURE.choices, **change}.items() if c is not None}
    with pytest.raises(InputError, match=says):
        check(Architecture("toy", choices), DECISIONS)


def test_one_hot_is_one_for_what_is_kept():
    weights = one_hot(ARCHITECTURE, DECISIONS, dtype=torch.float64)
    assert weights["normal/2"].tolist() == [1, 0, 1]
    assert weights["normal/2/0"].tolist() == [0, 1, 0]
    assert weights["normal/2/1"].tolist() == [0, 0, 0]  # its edge was not kept
    assert weights["width"].dtype == torch.float64


def test_random_architectures_are_valid_uniform_and_seeded():
    draws = [random_architecture("toy", DECISIONS, torch.Generator().manual_seed(s)) for s in range(300)]
    for architecture in draws:
        check(architecture, DECISIONS)
        assert "none" not in [o for kept in architecture.values() for o in kept]
    assert len(set(draws)) == 3 * 2 * 2 * 2  # every genotype there is
    pairs = [architecture["normal/2"] for architecture in draws]
    assert all(70 < pairs.count(pair) < 130 for pair in set(pairs))
    assert draws[0] == random_architecture("toy", DECISIONS, torch.Generator().manual_seed(0))


def test_one_path_has_something_on_everywhere_and_the_cheapest_where_nothing_counts():
    path = one_path(ARCHITECTURE, DECISIONS)
    assert path["normal/2"].tolist() == [1, 0, 1]
    assert path["normal/2/1"].tolist() == [1, 0, 0]  # not kept: "none"
    plain = one_hot(ARCHITECTURE, DECISIONS)
    assert all(torch.equal(path[name], plain[name]) for name in path if name != "normal/2/1")
    edge = edge_decision("normal/2/1", ("a", "skip_connect"))
    assert one_path(ARCHITECTURE, {**DECISIONS, edge.name: edge})[edge.name].tolist() == [0, 1]
    edge = edge_decision("normal/2/1", ("a", "b"))
    assert one_path(ARCHITECTURE, {**DECISIONS, edge.name: edge})[edge.name].tolist() == [1, 0]


HEAD = '{"format": "supernet.genotype", "version": 1, "space": "d", "choices": '


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        (HEAD + '{"a": ["x"], "a": ["y"]}}', "'a' is there twice"),
        (HEAD + '{"a": ["x"]}, "space": "e"}', "'space' is there twice"),
        (HEAD + '{"a": ["\\ud800"]}}', "lone surrogate"),
        (HEAD + '{"a": ["' + "x" * 501 + '"]}}', "longer than the 500 letters"),
        (HEAD + '{"a": [' + '"x", ' * 6000 + '"x"]}}', "more than 5,000 answers"),
        (HEAD.replace(": 1", ": " + "1" * 5000) + "{}}", "not JSON"),
        (HEAD.replace(": 1", ": " + "1" * 4000) + "{}}", "version 1111"),
        (HEAD + '{"a": ["' + "x" * (5 << 20) + '"]}}', "more than 4 MiB"),
    ],
)
def test_what_is_too_deep_large_or_doubled_is_refused_in_one_line(tmp_path, text, says):
    path = tmp_path / "genotype.json"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as error:
        Architecture.load(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_none_is_an_answer_to_a_number():
    """A block without squeeze-and-excite; "none" on an edge is one only where the edge is optional."""
    squeeze, edge = (Decision("a", ("none", "se"), role=role) for role in ("number", "operation"))
    assert (squeeze.answers, edge.answers) == (("none", "se"), ("se",))
    drawn = {random_architecture("mine", {"a": squeeze}, torch.Generator().manual_seed(n))["a"] for n in range(20)}
    assert drawn == {("none",), ("se",)}
