import numpy as np

from supernet.clinical import tables
from supernet.clinical.intervals import short
from supernet.clinical.report import report
from supernet.clinical.scores import Scores


def made(several: bool):
    draws = np.random.default_rng(0)
    labels = draws.integers(2, size=(100, 3)) if several else draws.integers(2, size=100)
    logits = draws.normal(size=(100, 3)) + labels if several else draws.normal(size=(100, 2)) + np.eye(2)[labels]
    return report(Scores(logits, labels), Scores(logits, labels), "abc"[: logits.shape[1]], replicates=20)


def test_rows_have_as_many_cells_as_the_head_has():
    for each in (made(False), made(True)):
        for table in (tables.networks({"searched": each, "random 0": each}), tables.classes(each), tables.points(each)):
            assert table.rows
            assert {len(row) for row in table.rows} == {len(table.head)}


def test_what_is_said_is_what_was_measured():
    binary = made(False)
    (row,) = tables.networks({"searched": binary}).rows
    reached = [p.test for p in binary.classes[0].points[:2]]
    shares = [short(share.value) for test in reached for share in (test.sensitivity, test.specificity)]
    wanted = ("searched", str(binary.macro_auroc), str(binary.classes[0].average_precision), *shares)
    assert row[:7] == wanted
    assert tables.brief({"searched": binary}).rows == ((*wanted[:2], *shares, row[-1]),)
    several = made(True)
    (row,) = tables.networks({"searched": several}).rows
    for column, name in ((3, "sensitivity"), (4, "specificity")):
        assert row[column] == short(np.mean([getattr(c.points[0].test, name).value for c in several.classes]))
    assert "accuracy" not in tables.networks({"searched": several}).head


def test_what_is_not_known_is_a_dash():
    nothing = Scores(np.zeros((5, 2)), [[0, 1]] * 5)
    empty = report(nothing, nothing, "ab", replicates=2)
    assert tables.networks({"a": empty}).rows[0][1:3] == ("-",) * 2
    assert tables.classes(empty).rows[0][3:6] == ("-",) * 3
    assert tables.points(empty).rows[0][2:] == ("-",) * 7
