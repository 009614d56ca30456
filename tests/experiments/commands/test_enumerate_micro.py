"""The command behind table=micro."""

import random
import statistics

import pytest
from supernet.experiments.commands.enumerate_micro import RUN_COLUMNS, accuracies, job_of, table_lines, train_all

from supernet.estimation.benchmark_tables import micro, read_table
from supernet.runtime.errors import InputError
from supernet.space.nasbench201 import from_string, to_string

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"


@pytest.fixture(scope="module")
def job():
    return job_of(0)


@pytest.fixture
def runs(job, tmp_path):
    """Made-up runs of all cells with two seeds."""
    draw = random.Random(0)
    cells = [to_string(architecture) for architecture in job.space.architectures()]
    rows = [f"{cell},{seed},{draw.random():.4f},{draw.random():.4f},36" for seed in (1, 0) for cell in cells]
    path = tmp_path / "runs"
    path.write_text("\n".join([",".join(RUN_COLUMNS), *rows]) + "\n")
    return path


def test_a_training_again_gives_what_the_table_says(job):
    """To the digit where the table was made; elsewhere sums are rounded otherwise, and the noise of a seed remains."""
    valid, test = accuracies(job, from_string(BEST), job.data.test.open())
    known = micro(["digits_valid_0", "digits_test_0"])(from_string(BEST)).values
    assert 100 * valid == pytest.approx(known["digits_valid_0"], abs=6)
    assert 100 * test == pytest.approx(known["digits_test_0"], abs=6)


def test_the_table_is_one_and_holds_means_and_spreads(job, runs, tmp_path):
    lines = list(table_lines(job, 359, runs, seeds=2))
    assert "2.50 hours" in " ".join(line for line in lines if line.startswith("#"))
    (tmp_path / "micro.csv").write_text("\n".join(lines))
    made = read_table(str(tmp_path / "micro.csv"), ["digits_test", "digits_test_std", "digits_test_0", "digits_test_1"])
    assert list(made) == list(job.space.architectures())
    for architecture in made:
        mean, spread, *each = made(architecture).values.values()
        assert mean == pytest.approx(statistics.mean(each), abs=1e-3)
        assert spread == pytest.approx(statistics.stdev(each), abs=1e-3)


def test_what_has_been_trained_is_not_trained_again(job, runs):
    before = runs.read_text()
    train_all([job], None, runs)
    assert runs.read_text() == before


@pytest.mark.parametrize("last", ["|none~0|+|none~0|none~1|,0,0.5", "x,0,0.5,0.5,nan", "x,zero,0.5,0.5,1"])
def test_runs_cut_off_in_a_line_say_so(tmp_path, last):
    (tmp_path / "runs").write_text(f"{','.join(RUN_COLUMNS)}\nx,0,0.5,0.5,3\n{last}")
    with pytest.raises(InputError, match="damaged; each line needs arch, seed"):
        train_all([], None, tmp_path / "runs")
