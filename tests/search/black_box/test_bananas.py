"""BANANAS against its paper, the authors' encoding by hand, and the mistake of another library."""

import math

import pytest
import torch

from supernet.runtime.errors import InputError
from supernet.search.black_box.bananas import Bananas, path_encoding
from supernet.space.darts import Darts
from supernet.space.genes import Candidates
from supernet.space.nasbench201 import NASBENCH201_OPERATIONS, NasBench201, from_string
from supernet.space.survey import candidates_of

ALL = candidates_of(NasBench201())
DARTS = candidates_of(Darts(nodes=2, operations=("none", "skip_connect", "sep_conv_3x3")))
QUICK = {"layers": 2, "width": 8, "epochs": 5}


def convolutions(cell) -> float:
    return float(sum(kept == ("nor_conv_3x3",) for kept in cell.values()))


def answered(explorer: Bananas, count: int, value=convolutions) -> list:
    asked = []
    for _ in range(count):
        asked.append(explorer.ask())
        explorer.tell(asked[-1], (value(asked[-1]),))
    return asked


def test_the_defaults_are_published():
    explorer = Bananas(ALL)
    assert (explorer._initial, explorer._round, explorer._mutants, explorer._parents) == (10, 10, 100, 5)
    assert (explorer._members, explorer._layers, explorer._width) == (5, 10, 20)
    assert (explorer._epochs, explorer._rate) == (150, 0.01)


def test_the_truncated_path_encoding_has_thirty_features():
    """One operation: edge 0-3. Two: 0-1-3 and 0-2-3. The path of three, 0-1-2-3, is cut off."""
    encode, names = path_encoding(ALL), NASBENCH201_OPERATIONS
    cell = from_string("|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|")
    features = encode(cell)
    expected = {
        names.index("nor_conv_3x3"),
        5 + 5 * names.index("none") + names.index("avg_pool_3x3"),
        5 + 5 * names.index("skip_connect") + names.index("none"),
    }
    assert len(features) == 30
    assert {place for place, feature in enumerate(features) if feature} == expected
    whole = path_encoding(ALL, longest=3)(cell)
    assert len(whole) == 155
    three = 25 * names.index("none") + 5 * names.index("nor_conv_1x1") + names.index("none")
    assert {place for place, feature in enumerate(whole) if feature} == expected | {30 + three}


def test_spaces_without_such_cells_are_encoded_by_their_answers():
    assert path_encoding(DARTS) is None
    cell = DARTS.random(Bananas(DARTS).rng)
    assert Bananas(DARTS)._encode(cell) == DARTS.encode(cell)
    assert Bananas(ALL, encoding="one_hot")._encode == ALL.encode
    with pytest.raises(InputError, match=r"^encoding=paths"):
        Bananas(DARTS, encoding="paths")


def test_every_mutant_differs_from_a_best_one_in_one_answer():
    """Mutants must not be mutants of the mutant before, whose distance from the parent would grow."""
    explorer = Bananas(ALL, **QUICK)
    first = answered(explorer, 10)
    best = sorted(first, key=lambda cell: -convolutions(cell))[:5]
    mutants = explorer._candidates()
    assert len(mutants) > 30  # more than the best one alone has
    for mutant in mutants:
        distances = [sum(mutant[name] != parent[name] for name in parent) for parent in best]
        assert min(distances) == 1
    keys = [ALL.key(mutant) for mutant in mutants]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & set(explorer.told)


def test_a_round_is_the_ten_largest_draws_and_all_of_it_is_tried():
    explorer = Bananas(ALL, **QUICK)
    answered(explorer, 10)
    explorer.ask()
    queue = list(explorer._queue)
    assert len(queue) == 10
    assert answered(explorer, 10) == queue


def test_draws_are_of_each_candidate_alone_with_the_ensemble_s_mean_and_spread(monkeypatch):
    predictions = torch.tensor([[1.0, 9.0, 3.0, -9.0], [3.0, 9.0, 3.0, -9.0]])

    class Known:
        def __init__(self, features, **settings):
            pass

        def fit(self, inputs, targets, **settings):
            assert targets.mean().abs() < 1e-6  # standardised
            assert targets.std(correction=0) == pytest.approx(1.0)

        def predict(self, inputs):
            return predictions

    monkeypatch.setattr("supernet.search.black_box.bananas.Ensemble", Known)
    explorer = Bananas(ALL, round=2)
    answered(explorer, 10)
    mutants = explorer._candidates()[:4]
    chosen = [explorer._chosen(mutants) for _ in range(2000)]
    assert all(pair[0] is mutants[1] for pair in chosen)  # 9 without spread is more than 2 +- 1 ever is
    second = sum(pair[1] is mutants[0] for pair in chosen) / 2000
    assert second == pytest.approx(0.5 * math.erfc(1 / math.sqrt(2)), abs=0.03)  # P(2 + N > 3)


def test_the_ensemble_finds_what_mutants_alone_would_not():
    """Under a smooth objective a round chosen by the ensemble is better than its candidates are in the mean."""
    gains = []
    for seed in range(3):
        explorer = Bananas(ALL, seed=seed, epochs=60)
        answered(explorer, 30)
        mutants = explorer._candidates()
        chosen = explorer._chosen(mutants)
        gains.append(sum(map(convolutions, chosen)) / len(chosen) - sum(map(convolutions, mutants)) / len(mutants))
    assert min(gains) > 0.0


def test_infinite_objectives_do_not_reach_the_ensemble():
    explorer = Bananas(ALL, **QUICK)
    asked = answered(explorer, 25, lambda cell: -math.inf if convolutions(cell) < 1 else convolutions(cell))
    assert len({ALL.key(cell) for cell in asked}) == 25


def test_mutants_keep_the_limits():
    limited = Candidates(
        ALL.space, {d.name: d for d in ALL.decisions}, fits=lambda cell: cell["cell/1/0"] != ("nor_conv_3x3",)
    )
    assert all(cell["cell/1/0"] != ("nor_conv_3x3",) for cell in answered(Bananas(limited, **QUICK), 40))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"round": 0}, "^round=0"),
        ({"epochs": 0}, "^epochs=0"),
        ({"learning_rate": -1.0}, "^learning_rate=-1.0"),
        ({"encoding": "adjacency"}, "^encoding=adjacency: known"),
    ],
)
def test_bad_settings_are_one_line(settings, words):
    with pytest.raises(InputError, match=words):
        Bananas(ALL, **settings)
