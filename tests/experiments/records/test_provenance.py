"""What runs are told apart by."""

import pytest
from common import composed
from supernet.experiments.records.provenance import Invocation, settings_hash, timed, training_hash

from supernet.runtime.errors import InputError


def hashes(*overrides: str, cell: str = "a") -> tuple[str, str]:
    settings = composed("experiment=laptop", *overrides)
    return settings_hash(settings, cell), training_hash(settings, "darts")


@pytest.mark.parametrize(
    ("overrides", "same_settings", "same_training"),
    [
        (["seed=1", "name=other", "baseline.random=2", "runtime.engine=reference", "runtime.threads=1"], True, True),
        (["optimizer.lr=0.5"], False, True),
        (["space.channels=4"], False, True),  # of the search; the trained network has its own
        (["retrain.network.darts.channels=4"], False, False),
        (["retrain.epochs=3"], False, False),
        (["retrain=none"], False, False),
        (["data.crop_padding=3"], False, False),
        (["runtime.precision=bfloat16"], False, False),
    ],
)
def test_what_the_hashes_depend_on(overrides, same_settings, same_training):
    settings, training = hashes(*overrides)
    assert ((settings == hashes()[0]), (training == hashes()[1])) == (same_settings, same_training)


def test_an_experiment_that_is_typed_is_the_one_that_is_not():
    assert settings_hash(composed("experiment=digits"), "a") == settings_hash(composed(), "a")
    assert settings_hash(composed("experiment=laptop"), "a") != settings_hash(composed(), "a")


def test_a_given_cell_is_part_of_the_settings_under_any_name():
    assert hashes("genotype=one.json")[0] == hashes("genotype=two.json")[0] != hashes()[0]
    assert hashes("genotype=one.json", cell="b")[0] != hashes("genotype=one.json")[0]
    assert hashes(cell="b") == hashes(cell="a"), "what a search finds is no setting"


def test_options_that_were_not_named_are_empty():
    asked = Invocation({"method": "none", "space": "micro", "table": None})
    assert [asked.choice(group) for group in ("method", "space", "table", "data")] == ["", "micro", "", ""]


def test_times_of_several_attempts_add_up(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError), timed(tmp_path, "search"):
            raise RuntimeError("stopped")
    first = (tmp_path / "seconds.json").read_text()
    with timed(tmp_path, "random 0"):
        pass
    assert (tmp_path / "seconds.json").read_text() != first
    (tmp_path / "seconds.json").write_text("[1")
    with pytest.raises(InputError, match=r"seconds\.json: is not what this run wrote"), timed(tmp_path, "search"):
        pass
