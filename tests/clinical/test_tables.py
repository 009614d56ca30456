import numpy as np

from supernet.clinical import tables
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
    sensitivity = binary.classes[0].points[0].test.sensitivity
    specificity = binary.classes[0].points[1].test.specificity
    assert row[:5] == (
        "searched",
        str(binary.macro_auroc),
        str(binary.classes[0].average_precision),
        str(sensitivity),
        str(specificity),
    )
    several = made(True)
    (row,) = tables.networks({"searched": several}).rows
    mean = np.mean([c.points[0].test.sensitivity.value for c in several.classes])
    assert row[3] == f"{mean:.3f}"[1:]
    assert "accuracy" not in tables.networks({"searched": several}).head


def test_what_is_not_known_is_a_dash():
    nothing = Scores(np.zeros((5, 2)), [[0, 1]] * 5)
    empty = report(nothing, nothing, "ab", replicates=2)
    assert tables.networks({"a": empty}).rows[0][1:5] == ("-",) * 4
    assert tables.classes(empty).rows[0][3:6] == ("-",) * 3
    assert tables.points(empty).rows[0][2:] == ("-",) * 7
