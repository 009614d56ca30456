import pytest

from supernet.runtime.errors import InputError
from supernet.space import spaces
from supernet.space.architecture import Architecture
from supernet.space.darts import Darts
from supernet.space.nasbench201 import from_string
from supernet.space.survey import candidates_of, random_cell
from supernet.space.texts import from_text, to_text

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|"


@pytest.mark.parametrize("space", [Darts(nodes=2), spaces.micro_mobile(), spaces.micro()])
def test_what_is_written_is_read_again(space):
    drawn = {random_cell(space, number=number) for number in range(20)}
    assert {from_text(to_text(one), space.name) for one in drawn} == drawn
    assert len({to_text(one) for one in drawn}) == len(drawn) > 10


def test_all_networks_of_the_micro_mobile_space_have_texts_of_their_own():
    texts = [to_text(one) for one in candidates_of(spaces.micro_mobile()).all()]
    assert len(set(texts)) == len(texts) == 160
    assert not any(set(text) & set(',"\n') for text in texts), "a field of a CSV file without quotes"


def test_the_order_of_answers_and_blanks_play_no_part():
    names = {"stage10/depth": ("1",), "stage2/1/kernel": ("3",), "stage2/depth": ("1",)}
    backwards = dict(reversed(names.items()))
    assert to_text(Architecture("m", names)) == "stage2/1/kernel=3 stage2/depth=1 stage10/depth=1"
    assert to_text(Architecture("m", backwards)) == to_text(Architecture("m", names))
    assert from_text("  stage10/depth=1\tstage2/1/kernel=3  stage2/depth=1 ", "m") == Architecture("m", names)


def test_cells_of_the_benchmark_are_written_as_it_writes_them():
    assert to_text(from_string(CELL)) == CELL
    assert from_text(CELL, "nasbench201") == from_string(CELL)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "needs answers such as"),
        ("stage1/depth", "'stage1/depth' is no answer"),
        ("=3", "'=3' is no answer"),
        ("a=", "'a=' is no answer"),
        ("a=1+", r"'a=1\+' is no answer"),
        ("a=1=2", "'a=1=2' is no answer"),
        ("a+b=1", r"'a\+b=1' is no answer"),
        ("a=1 a=2", "'a' is there twice"),
        ("x" * 10_000, "is no answer"),
    ],
)
def test_other_texts_are_refused_in_one_line(text, says):
    with pytest.raises(InputError, match=says) as error:
        from_text(text, "mobile")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("word", ["a b", "a=b", "a+b", "a\nb", ""])
def test_names_that_no_line_can_hold_are_refused(word):
    for choices in ({word: ("1",)}, {"a": (word,)}):
        with pytest.raises(InputError, match="no line can hold it"):
            to_text(Architecture("mobile", choices))
