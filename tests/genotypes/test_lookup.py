import logging

import pytest

from supernet.genotypes.literature import published
from supernet.genotypes.lookup import find_genotype
from supernet.runtime.errors import InputError
from supernet.space.nasbench201 import from_string

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|"
PAIRS = "[('sep_conv_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 0), ('skip_connect', 1)]"
TEXT = f"Genotype(normal={PAIRS}, normal_concat=range(2, 4), reduce={PAIRS}, reduce_concat=range(2, 4))"
OTHER = TEXT.replace("skip_connect", "max_pool_3x3")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    published("darts_v2").save(tmp_path / "run" / "genotype.json")
    (tmp_path / "several.py").write_text(f"A = {TEXT}\nB = {OTHER}\n")
    (tmp_path / "log.txt").write_text(f"0:00 genotype = {TEXT}\n0:01 genotype = {OTHER}\n")
    (tmp_path / "cell.txt").write_text(f"{CELL}\n")
    (tmp_path / "a:b.txt").write_text(TEXT)
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


def test_every_way_to_name_a_genotype():
    assert find_genotype("run") == find_genotype("run/genotype.json") == published("darts_v2")
    assert find_genotype("DARTS_v2") == published("darts_v2")
    assert find_genotype(TEXT) == find_genotype("several.py:A") == find_genotype("a:b.txt")
    assert find_genotype(f"BEST = gt.{TEXT}\n" + "#" * 5000) == find_genotype(TEXT)
    assert find_genotype("several.py:B") == find_genotype(OTHER)
    for cell in (CELL, f" {CELL.replace('+', ' + ')}", "cell.txt", f"Structure(3 nodes with {CELL})"):
        assert find_genotype(cell) == from_string(CELL)


def test_which_of_a_log_is_taken_is_said(caplog):
    with caplog.at_level(logging.WARNING, "supernet"):
        assert find_genotype("log.txt") == find_genotype(OTHER)
    assert caplog.messages == ["genotype=log.txt: holds 2 genotypes; taken is the last, in line 2"]


def test_cells_of_nasbench201_are_found_in_a_log(caplog, folder):
    other = CELL.replace("none", "skip_connect")
    log = f"[epoch 0] genotype : Structure(3 nodes with {CELL})\n[epoch 1] genotype : Structure(3 nodes with {other})\n"
    (folder / "autodl.txt").write_text(log)
    with caplog.at_level(logging.WARNING, "supernet"):
        assert find_genotype("autodl.txt") == from_string(other)
    assert caplog.messages == ["genotype=autodl.txt: holds 2 genotypes; taken is the last, in line 2"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("x" * 300, "neither a file nor a published name"),
        ("x" * 100_000, "neither a file nor a published name"),
        ("a\0b", "neither a file nor"),
        ("", "neither a file nor|no genotype.json"),
        ("loop", "neither a file nor"),
        ("/dev/zero", "neither a file nor"),
        ("empty", "no genotype.json in this folder"),
        ("several.py", "names: A, B"),
        ("several.py:C", "no genotype 'C'"),
        ("absent.py:A", "neither a file nor"),
        ("|", "node 1 needs"),
        ("4,0,3,1,4,3", "numbers alone"),
        ("Genotype(" + "x" * 300, "more than lists"),
        ("\x1b[31mdarts\n", "neither a file nor"),
    ],
)
def test_what_is_none_is_refused_in_one_short_line(name, says):
    with pytest.raises(InputError, match=says) as error:
        find_genotype(name)
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 700
