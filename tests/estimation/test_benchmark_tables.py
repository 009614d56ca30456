import gzip
import math
import statistics

import pytest

from supernet.estimation.benchmark_tables import micro, micro_mobile, read_table
from supernet.estimation.costs import macs, parameters
from supernet.estimation.scores import Measured
from supernet.runtime.errors import InputError
from supernet.space import spaces
from supernet.space.architecture import Architecture
from supernet.space.choosers import Decided
from supernet.space.nasbench201 import NasBench201, from_string, to_string
from supernet.space.survey import candidates_of
from supernet.space.texts import from_text

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|"
MICRO = NasBench201(channels=8, cells=1, stages=1, nodes=2)
TEXT = f"""# a comment, with commas
arch,other,top
{CELL},,91.5
# another
|none~0|+|none~0|none~1|,x,10
"""


@pytest.mark.parametrize(("name", "pack"), [("t.csv", bytes), ("t.csv.gz", gzip.compress)])
def test_look_ups_plain_and_compressed(tmp_path, name, pack):
    path = tmp_path / name
    path.write_bytes(pack(TEXT.encode()))
    table = read_table(str(path), ["top"])
    assert table(from_string(CELL)) == Measured({"top": 91.5})
    assert [to_string(a) for a in table] == [CELL, "|none~0|+|none~0|none~1|"]
    assert (len(table), table.index(from_string("|none~0|+|none~0|none~1|"))) == (2, 1)
    assert to_string(table.best("top")) == CELL


def test_an_empty_field_is_not_known(tmp_path):
    (tmp_path / "t.csv").write_text(TEXT.replace(",x,", ",3,"))
    table = read_table(str(tmp_path / "t.csv"), ["other"])
    assert math.isnan(table(from_string(CELL)).values["other"])
    assert to_string(table.best("other")) == "|none~0|+|none~0|none~1|"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no column 'arch'; its columns: none"),
        (b"arch,a\n|none~0|,1\n", "has no column 'top'; its columns: arch, a"),
        (b"arch,top\n", "has no rows"),
        (b"arch,top\n|none~0|,1\n|none~0|,2\n", "is there twice"),
        (b"arch,top,top\n|none~0|,1,2\n", "two columns 'top'"),
        (b"arch,top\n|none~0|,1\narch,top\n", "row 1: genotype 'arch'"),
        (b"arch,top\n| none~0 |,1\n|none~0|,2\n", "is there twice"),
        (b"arch,top\n|none~0|,\n", "column 'top' has no number"),
        (b"arch,top\n|none~0|,nan\n", "column 'top' has no number"),
        (b"arch,top\n|none~0|,inf\n", "is not a number"),
        (b"arch,top\n|none~0|,1_0\n", "is not a number"),
        (b"arch,top\n|none~0|," + b"9" * 5000 + b"\n", "is not a number"),
        (b"arch,top\n|no\x00ne~0|,1\n", "row 0: genotype"),
        ("arch,top\n|none~0|,\u0663\n".encode(), "is not a number"),
        (bytes(range(128)) * 10, "has no column"),
        (b'arch,top\n"(4, 0, 3, 1, 4, 3)",1\n', "numbers alone do not say"),
        (b"arch,top\n|none~0|,high\n", "top='high' of .none~0. is not a number"),
        (b"arch,top\n|none~0|\n", "row 0 has 1 field"),
        (b"arch,top\nnone,1\n", "node 1 needs an operation"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (b'arch,top\n"' + b"x" * 200_000 + b'",1\n', "not a CSV file"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, says):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        read_table(str(tmp_path / "t.csv"), ["top"])
    assert "\n" not in str(error.value)


def test_damaged_and_absent_files_are_refused_in_one_line(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(TEXT.encode())[:40])
    (tmp_path / "plain.csv.gz").write_text(TEXT)
    for name in ("t.csv.gz", "plain.csv.gz"):
        with pytest.raises(InputError, match="cannot be read as text"):
            read_table(str(tmp_path / name), ["top"])
    with pytest.raises(InputError, match=r"^path=.*absent.csv: no such file"):
        read_table(str(tmp_path / "absent.csv"), ["top"])


def test_a_file_that_unpacks_to_gigabytes_is_refused_without_unpacking_it(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(TEXT.encode()) + gzip.compress(b"#" * (1 << 20)) * 1024)
    with pytest.raises(InputError, match="more than 64 MiB"):
        read_table(str(tmp_path / "t.csv.gz"), ["top"])


def test_cells_are_compared_as_cells(tmp_path):
    cells = [CELL.replace("+", " + "), "Structure(3 nodes with |none~0|+|none~0|none~1|)"]
    (tmp_path / "t.csv").write_text("arch,top\n" + "".join(f"{cell},{n}\n" for n, cell in enumerate(cells)))
    table = read_table(str(tmp_path / "t.csv"), ["top"])
    assert table(from_string(CELL)).values == {"top": 0}
    assert table.index(from_string("|none~0|+|none~0|none~1|")) == 1


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "."])
def test_names_that_no_table_can_have_are_refused_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no such file|a folder"):
        read_table(name, ["top"])


def test_cells_of_another_space_are_refused_in_one_line():
    with pytest.raises(InputError, match=r"^micro: has no cell .*; its 125 cells are of another space"):
        micro()(from_string("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"))


def test_micro_knows_every_cell_of_its_space_and_what_it_costs():
    table = micro(["params", "macs"])
    assert {to_string(a) for a in MICRO.architectures()} == set(table.rows)
    for architecture in list(table)[::25]:
        network = MICRO.network(Decided(architecture), (1, 8, 8), 10)
        assert table(architecture).values == {"params": parameters(network), "macs": macs(network, (1, 8, 8))}


OTHER = """# space: mobile
arch,top
stage1/depth=2 stage1/1/kernel=3,91.5
stage1/1/kernel=5 stage1/depth=1,90
"""


def test_a_table_of_another_space(tmp_path):
    (tmp_path / "t.csv").write_text(OTHER)
    table = read_table(tmp_path / "t.csv", ["top"])
    first = Architecture("mobile", {"stage1/1/kernel": ("3",), "stage1/depth": ("2",)})
    assert (table.space, table(first).values, next(iter(table))) == ("mobile", {"top": 91.5}, first)
    assert table.best("top") == first
    assert table.index(from_text("stage1/depth=1 stage1/1/kernel=5", "mobile")) == 1
    with pytest.raises(InputError, match="has no network stage1/depth=3; its 2 networks are of another space"):
        table(from_text("stage1/depth=3", "mobile"))
    with pytest.raises(InputError, match="of space 'nasbench201'; only cells of 'mobile'"):
        table(from_string(CELL))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("# space: darts\n" + OTHER, "2 of its comments name a space"),
        (OTHER.replace("# space: mobile\n", ""), "row 0: genotype 'stage1/depth=2"),
        (OTHER + "stage1/1/kernel=3  stage1/depth=2,3\n", "is there twice"),
        (OTHER + "stage1,3\n", "row 2: genotype 'stage1': 'stage1' is no answer"),
    ],
)
def test_broken_tables_of_another_space_are_refused_in_one_line(tmp_path, content, says):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=says):
        read_table(tmp_path / "t.csv", ["top"])


def test_micro_mobile_knows_every_network_of_its_space_and_what_it_costs():
    table, space = micro_mobile(["params", "macs"]), spaces.micro_mobile()
    assert set(table) == set(candidates_of(space).all())
    for architecture in list(table)[::40]:
        network = space.network(Decided(architecture), (1, 8, 8), 10)
        assert table(architecture).values == {"params": parameters(network), "macs": macs(network, (1, 8, 8))}


def test_in_micro_mobile_sizes_matter():
    """Networks differ by far more than seeds do, and each kernel and expansion has a part in that."""
    table = micro_mobile(["digits_test", "digits_test_std"])
    rows = {one: table(one).values for one in table}
    noise = math.sqrt(statistics.mean(row["digits_test_std"] ** 2 for row in rows.values()))
    assert statistics.stdev(row["digits_test"] for row in rows.values()) > 2.5 * noise / math.sqrt(3)

    def gain(name, small, large):
        """The mean difference between networks that are equal in all else, in standard errors."""
        pairs = [(one, Architecture("mobile", {**one, name: (large,)})) for one in rows if one.get(name) == (small,)]
        assert len(pairs) >= 64
        gains = [rows[other]["digits_test"] - rows[one]["digits_test"] for one, other in pairs]
        return statistics.mean(gains) / (statistics.stdev(gains) / math.sqrt(len(gains)))

    for block in ("stage1/1", "stage2/1", "stage2/2"):
        assert min(gain(f"{block}/expand", "2", "6"), gain(f"{block}/kernel", "3", "5")) > 4, block
    assert abs(gain("stage1/1/squeeze", "plain", "se")) < 2, "it costs parameters and gains nothing"


@pytest.mark.parametrize("read", [micro, micro_mobile])
def test_means_are_those_of_the_single_runs(read):
    each = [f"digits_{part}_{seed}" for part in ("valid", "test") for seed in range(3)]
    table = read(["digits_valid", "digits_valid_std", "digits_test", "digits_test_std", *each])
    for architecture in table:
        row = table(architecture).values
        for part in ("valid", "test"):
            runs = [row[f"digits_{part}_{seed}"] for seed in range(3)]
            assert row[f"digits_{part}"] == pytest.approx(statistics.mean(runs), abs=2e-3)
            assert row[f"digits_{part}_std"] == pytest.approx(statistics.stdev(runs), abs=2e-3)


def test_micro_tells_cells_apart_and_has_a_trap():
    """Cells differ by far more than seeds do, and those without a convolution are far behind."""
    table = micro(["digits_valid", "digits_test", "digits_test_std"])
    scores = {to_string(a): table(a).values for a in table}
    noise = math.sqrt(statistics.mean(row["digits_test_std"] ** 2 for row in scores.values()))
    spread = statistics.stdev(row["digits_test"] for row in scores.values())
    assert spread > 5 * noise / math.sqrt(3)
    best = scores[to_string(table.best("digits_valid"))]["digits_test"]
    collapsed = scores["|skip_connect~0|+|skip_connect~0|skip_connect~1|"]["digits_test"]
    assert best > 90 > 60 > collapsed
    assert max(row["digits_test"] for cell, row in scores.items() if "conv" not in cell) < 60


def test_a_file_that_counts_the_cells_of_another_table(tmp_path):
    (tmp_path / "t.csv").write_text(TEXT.replace(",x,", ",,"))
    (tmp_path / "times.csv").write_text("index,ms\n1,2.5\n0,4.0\n")
    times = read_table(tmp_path / "times.csv", ["ms"], read_table(tmp_path / "t.csv", ["top"]))
    assert times(from_string(CELL)).values == {"ms": 4.0}
    assert times(from_string("|none~0|+|none~0|none~1|")).values == {"ms": 2.5}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("index,ms\n2,1\n", "row 0: index='2': needs a whole number from 0 to 1"),
        ("index,ms\n0,1\n-1,1\n", "row 1: index='-1'"),
        ("index,ms\n\u0661,1\n", "needs a whole number"),
        ("index,ms\n" + "9" * 5000 + ",1\n", "needs a whole number"),
        ("index,ms\n1,1\n1,2\n", "is there twice"),
        ("arch,ms\n|none~0|,1\n", "has no column 'index'"),
    ],
)
def test_indices_that_are_none(tmp_path, content, says):
    (tmp_path / "t.csv").write_text(TEXT.replace(",x,", ",,"))
    (tmp_path / "times.csv").write_text(content)
    with pytest.raises(InputError, match=says):
        read_table(tmp_path / "times.csv", ["ms"], read_table(tmp_path / "t.csv", ["top"]))
