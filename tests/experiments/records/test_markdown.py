"""Text from elsewhere in Markdown and in CSV files."""

import csv

import pytest
from supernet.experiments.records.markdown import code, escaped, markdown_table
from supernet.experiments.records.spreadsheet import cell, csv_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("method=darts seed=0", "method=darts seed=0"),
        ("stages=[{depth: 0.6}]", "stages=[{depth: 0.6}]"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a & b", "a &amp; b"),
        ("|none~0|", r"\|none~0\|"),
        ("a\\|b", r"a\\\|b"),
        ("`x`", r"\`x\`"),
        ("**a** _b_ ~~c~~ __d__ left_lung", r"\*\*a\*\* \_b\_ \~\~c\~\~ \_\_d\_\_ left_lung"),
        ("[here](http://x)", r"[here]\(http://x)"),
        ("two\nlines\r\x1b[31m", r"two\\nlines\\r\\x1b[31m"),
    ],
)
def test_text_is_shown_as_it_is_and_does_nothing(text, shown):
    assert escaped(text) == shown


def test_a_table_has_as_many_cells_as_its_head_whatever_they_hold():
    hostile = "a|b\\|c\n|d|"
    lines = markdown_table(["one", hostile], [[hostile, "two"]])
    assert lines[1] == "| --- | --- |"
    for line in lines:
        assert "\n" not in line
        inner = line.replace("\\\\", "").replace("\\|", "")
        assert inner.count("|") == 3


@pytest.mark.parametrize(
    ("text", "span"),
    [("a=[b|c]", "`a=[b|c]`"), ("a`b", r"a\`b"), ("<b>", "&lt;b&gt;"), ("[a](b)", r"[a]\(b)"), ("a\nb", r"`a\nb`")],
)
def test_a_code_span_holds_nothing_that_could_end_it(text, span):
    assert code(text) == span


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "  =1"])
def test_formulas_are_text_in_a_spreadsheet(text):
    assert str(cell(text)).startswith("'")
    assert not str(cell(text)).startswith("'\t")


@pytest.mark.parametrize("value", [1, -0.5, None, float("nan"), "-1.5", "+2", "a=b", "darts -x", "grün"])
def test_numbers_and_other_words_stay_what_they_are(value):
    assert cell(value) is value or cell(value) == value


def test_rows_go_through_a_csv_file():
    text = csv_text([["a,b", 'say "x"', "two\nlines", -1], ["=1", None]])
    assert list(csv.reader(text.splitlines())) == [["a,b", 'say "x"', "two\\nlines", "-1"], ["'=1", ""]]
