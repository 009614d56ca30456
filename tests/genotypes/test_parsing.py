"""Genotype(...) as people have it: other codes' forms, logs, files of many, and what has lost a part on the way."""

import pytest

from supernet.genotypes.literature import PUBLISHED
from supernet.genotypes.parsing import count_genotypes, find_place, read_genotype
from supernet.runtime.errors import InputError

PAIRS = (
    "('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)"
)
NODES = PUBLISHED["darts_v2"].normal


def text(normal=f"[{PAIRS}]", reduce=f"[{PAIRS}]", normal_concat="range(2, 6)", more=""):
    return f"Genotype(normal={normal}, normal_concat={normal_concat}, reduce={reduce}, reduce_concat=range(2, 6){more})"


@pytest.mark.parametrize(
    "given",
    [
        text(more=", connectN=None, connects=None"),
        text(normal_concat="list(range(2, 6))"),
        text(normal_concat="(2, 3, 4, 5,)"),
        f"Genotype([{PAIRS}], range(2, 6), [{PAIRS}], [2, 3, 4, 5])",
        f"Genotype(reduce_concat=range(2, 6), reduce=[{PAIRS}], normal_concat=range(2, 6), normal=[{PAIRS}])",
        text().replace("0)", "0, 0.25)").replace("1)", "1, 1)").replace("2)", "2, 1e-3)"),
        text().replace("normal=", "\n  normal = # the cells\n").replace("'", '"'),
        text().replace("('", "(u'"),
        f"BEST = gt.{text()}",
        f"from x import *\n{text()}\nprint('done')",
        f'{{"epoch": 3, "genotype": "{text()}"}}',
        f"2018-06-27 13:25:46,379 genotype = {text()}\n2018-06-27 13:54:15,198 train_acc 99.7\n",
    ],
)
def test_forms_of_one_cell(given):
    assert read_genotype(given).normal == NODES
    assert read_genotype(given).reduce == NODES
    assert read_genotype(given).normal_concat == (2, 3, 4, 5)


def test_triples_name_their_node():
    """FairDARTS' (operation, node, source): nodes have one edge or two, so that counting would misplace them."""
    cell = "[('sep_conv_3x3', 2, 0), ('sep_conv_3x3', 2, 1), ('sep_conv_3x3', 3, 1), ('dil_conv_3x3', 4, 0), "
    cell += "('sep_conv_5x5', 4, 1), ('dil_conv_5x5', 5, 1)]"
    assert read_genotype(text(cell, cell)).normal == (
        (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
        (("sep_conv_3x3", 1),),
        (("dil_conv_3x3", 0), ("sep_conv_5x5", 1)),
        (("dil_conv_5x5", 1),),
    )
    lost = cell.replace("('sep_conv_3x3', 3, 1), ", "")
    with pytest.raises(InputError, match="node 3 of normal has no operation"):
        read_genotype(text(lost, cell))


FIRST, LAST = "('sep_conv_3x3', 0), ", ", ('dil_conv_3x3', 2)"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (text(f"[{PAIRS.replace(FIRST, '', 1)}]"), "7 .* pairs, .*: 8 pairs"),
        (text(f"[{PAIRS}, ('skip_connect', 0)]"), "9 .* pairs"),
        (text(f"[{PAIRS.replace(FIRST, '', 1).replace(LAST, '')}]"), "6 .* pairs, .*up to 5"),
        (text(f"[{PAIRS}, ('skip_connect', 0), ('skip_connect', 1)]"), "10 .* pairs"),
        (text(f"[{PAIRS.replace(LAST, '')}]").replace("normal_concat=range(2, 6), ", ""), "7 .* pairs"),
        (text("[[('skip_connect', 0)], [('skip_connect', 1)]]"), "2 nodes .*ends with node 5"),
        (text(normal_concat="[2, 3, 4]"), "8 .* pairs, .*up to 4"),
        (text(normal_concat="[2, 3, 4, 7]"), "8 .* pairs, .*up to 7"),
        (text(normal_concat="[2, 3, 3, 5]"), "a node twice"),
        (text(normal_concat="[1, 2, 5]"), "concat must list nodes"),
        (text(normal_concat="range(2, 9999999999)"), "concat needs a range"),
        (text(normal_concat="range(2, 6, 0)"), "concat needs a range"),
        (text(normal_concat="range(2, 900)"), "concat must list nodes"),
        (text(normal_concat="range(2, 2)"), "concat needs a range"),
        (text(reduce="[('skip_connect', 0), ('skip_connect', 1)]").replace("reduce_concat=range(2, 6)", ""), "as many"),
        (text(f"[{PAIRS.replace('0)', '3)', 1)}]"), "node 2 of normal reads state 3; it can read 0 to 1"),
        (text(f"[{PAIRS.replace('0)', '-1)', 1)}]"), "reads state -1"),
        (text(f"[{PAIRS.replace('0)', 'True)', 1)}]"), "more than lists"),
        (text(f"[{PAIRS.replace('0)', '0, 2)', 1)}]"), "must be a list of"),
        (text(f"[{PAIRS.replace('0)', '9' * 5000 + ')', 1)}]"), "is no number"),
        (text(more=f", normal=[{PAIRS}]"), "normal is there twice"),
        (f"Genotype([{PAIRS}], normal=[{PAIRS}], reduce=[{PAIRS}])", "normal is there twice"),
        (text(more=", connects=[1]"), "connects is not None"),
        (f"Genotype(1, 2, 3, 4, {PAIRS})", "12 fields"),
        ("Genotype(normal=" + "[" * 100_000 + "]" * 100_000 + ")", "nested too deep"),
        ("Genotype(normal=" + "(" * 100_000, "nested too deep"),
        ("Genotype(normal=" + "-" * 100_000 + "1, reduce=[])", "more than lists"),
        ("Genotype(normal=a" + ".a" * 100_000 + ", reduce=[])", "more than lists"),
        ("Genotype(normal=[" + "('skip_connect', 0), " * 100_000 + "], reduce=[])", "more than lists|not readable"),
        ("Genotype(\0)", "more than lists"),
        (text().replace("sep_conv_3x3", "sep\ud800"), "unknown"),
        ("Genotype(*[1], **{'a': 1})", "more than lists"),
        ("Genotype(normal=[" * 20_000, "not readable|more than lists"),
    ],
)
def test_what_is_lost_or_forged_is_refused_in_one_line(given, says):
    with pytest.raises(InputError, match=says) as error:
        read_genotype(given)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_of_a_log_the_last_is_taken_and_of_a_file_with_names_the_one_asked_for():
    other = text(f"[{PAIRS.replace('dil_conv_3x3', 'dil_conv_5x5')}]")
    log = f"03:00 genotype = {text()}\n03:01 loss 0.1\n03:02 genotype = {other}\n"
    assert read_genotype(log).normal[-1][1] == ("dil_conv_5x5", 2)
    assert (find_place(log).line, count_genotypes(log)) == (3, 2)
    file = "Genotype = namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')\n"
    file += f"A = {text()}\n\nB = {other}\nBEST = A  # by validation\n"
    assert read_genotype(file, "A").normal == NODES
    assert read_genotype(file, "BEST").normal == NODES
    assert read_genotype(file, "B").normal[-1][1] == ("dil_conv_5x5", 2)
    with pytest.raises(InputError, match="holds 2 genotypes; name one as FILE:NAME; names: A, B"):
        read_genotype(file)
    with pytest.raises(InputError, match="no genotype 'C' in it; names: A, B"):
        read_genotype(file, "C")
    with pytest.raises(InputError, match="no genotype 'X'"):
        read_genotype(file + "X = Y\nY = X\n", "X")


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_cell_comes_back_from_its_text(name):
    genotype = PUBLISHED[name]
    cells = {kind: [pair for node in getattr(genotype, kind) for pair in node] for kind in ("normal", "reduce")}
    concats = {f"{kind}_concat": getattr(genotype, f"{kind}_concat") for kind in cells}
    written = ", ".join(f"{key}={value}" for key, value in {**cells, **concats}.items())
    assert read_genotype(f"Genotype({written})") == genotype
