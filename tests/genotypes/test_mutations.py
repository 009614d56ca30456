"""Seeded damage: each reader of what people bring answers with a sound value or with InputError in one line."""

import gzip
import random
import struct

import pytest
import torch
from mutations import mutated

from supernet import Darts, Decided, load, published
from supernet.data.augmentation import Augmentation
from supernet.deployment.bundle import save_bundle
from supernet.estimation.benchmark_tables import read_table
from supernet.genotypes.literature import PUBLISHED
from supernet.genotypes.parsing import read_genotype
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture
from supernet.space.nasbench201 import NasBench201, from_string, to_string
from supernet.space.operations import OPERATIONS

pytestmark = pytest.mark.slow

COUNT = 200


def sound(read, *given):
    """What `read` answers, or None where it refuses in one line."""
    said = ""
    try:
        return read(*given)
    except InputError as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 2000
    return None


def text_of(name: str) -> str:
    genotype = PUBLISHED[name]
    cells = {kind: [pair for node in getattr(genotype, kind) for pair in node] for kind in ("normal", "reduce")}
    concats = {f"{kind}_concat": list(getattr(genotype, f"{kind}_concat")) for kind in cells}
    return f"Genotype({', '.join(f'{key}={value}' for key, value in {**cells, **concats}.items())})"


def test_genotype_texts():
    rng, names, accepted = random.Random(0), list(PUBLISHED), 0
    for number in range(COUNT):
        given = mutated(text_of(names[number % len(names)]).encode(), rng).decode("utf-8", "replace")
        if (read := sound(read_genotype, given)) is None:
            continue
        accepted += 1
        for nodes, concat in ((read.normal, read.normal_concat), (read.reduce, read.reduce_concat)):
            assert max(concat) == len(nodes) + 1
            for node, pairs in enumerate(nodes, start=2):
                assert len(pairs) == 2
                assert all(o in OPERATIONS and 0 <= s < node for o, s in pairs)
    assert 0 < accepted < COUNT / 2


def test_genotype_files(tmp_path):
    rng, path = random.Random(1), tmp_path / "genotype.json"
    for number in range(COUNT):
        path.write_bytes(mutated(published(list(PUBLISHED)[number % len(PUBLISHED)]).to_json().encode(), rng))
        if (read := sound(Architecture.load, path)) is not None:
            assert Architecture.from_json(read.to_json()) == read
            with torch.device("meta"):
                sound(Darts(4, 2, 4).network, Decided(read), (3, 8, 8), 3)


def test_cells_of_nasbench201():
    rng = random.Random(2)
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    for _ in range(COUNT):
        given = mutated(cell.encode(), rng).decode("utf-8", "replace")
        if (read := sound(from_string, given)) is not None:
            assert from_string(to_string(read)) == read
            assert to_string(read).count("~") == given.count("~"), "no operation is lost"


def damaged(good: bytes, other: bytes, number: int, rng: random.Random) -> bytes:
    """A model file with bits flipped in it, its end gone, or the head of another."""
    length = 8 + struct.unpack("<Q", good[:8])[0]
    how = number % 5
    if how == 0:
        at = rng.randrange(length)
    elif how == 1:
        at = rng.randrange(length, len(good))
    elif how == 2:
        return good[: rng.randrange(len(good))]
    elif how == 3:
        return mutated(good[:length], rng) + good[length:]
    else:
        return other[: 8 + struct.unpack("<Q", other[:8])[0]] + mutated(good[length:], rng)
    return good[:at] + bytes([good[at] ^ (1 << rng.randrange(8))]) + good[at + 1 :]


def test_models(tmp_path):
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    space, architecture = Darts(4, 2), published("darts_v2")
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        network = space.network(Decided(architecture), (1, 8, 8), 3)
        save_bundle(
            path,
            network,
            space=space,
            architecture=architecture,
            classes=("ant", "bee", "cat"),
            augmentation=Augmentation((0.5,), (0.2,)),
            shape=(1, 8, 8),
            provenance={"seed": seed},
        )
    good, other = (path.read_bytes() for path in paths)
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    expected = load(paths[0])(image)[0]
    rng, refused = random.Random(3), 0
    for number in range(COUNT):
        paths[0].write_bytes(damaged(good, other, number, rng))
        if (model := sound(load, paths[0])) is None:
            refused += 1
            continue
        result = model(image)[0]
        assert torch.equal(result.probs.data, expected.probs.data)
        assert result.names == expected.names
    assert refused > 0.8 * COUNT


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_tables(tmp_path, name):
    cells = [to_string(a) for a in NasBench201(nodes=2).architectures()][::10]
    lines = ["arch,a,b", *(f"{cell},{number}.5,{number}" for number, cell in enumerate(cells))]
    raw = ("\n".join(lines) + "\n").encode()
    good = gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw
    rng, path = random.Random(4), tmp_path / name
    for _ in range(COUNT):
        path.write_bytes(mutated(good, rng))
        if (table := sound(read_table, str(path), ["a", "b"])) is not None:
            assert all(to_string(from_string(cell)) == cell for cell in table.rows)
            assert table.best("a") in list(table)
