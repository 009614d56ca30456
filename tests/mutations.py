"""Damage, by chance and from a seed, to what a stranger can hand over."""

import random

_INSERTS = [b"\x00", b"(", b")", b"[", b"]", b"{", b"}", b"'", b'"', b",", b"|", b"~", b"+", b"=", b"#", b"\n", b"\xff"]
_INSERTS += [b"NaN", b"-1", b"1e999", b"9" * 30, b"null", b"range(2, 99)", "é日".encode(), b"\x1b[31m", b"<script>"]
_INSERTS += [b"${oc.env:HOME}", b"_target_"]
_SIZES = [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"]  # four bytes that a header may take for a size


def mutated(data: bytes, rng: random.Random, *, early: bool = False) -> bytes:
    """The bytes with one to five of them, or spans, changed, lost, doubled, moved or put in; sometimes cut short.

    `early`: most often near the beginning, where a binary file says what follows.
    """
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        if not changed:
            break
        place = int(rng.random() ** 3 * len(changed)) if early else rng.randrange(len(changed))
        how = rng.choice(["flip", "flip", "lose", "double", "insert", "move", "swap", "size", "cut"])
        if how == "flip":
            changed[place] ^= 1 << rng.randrange(8)
        elif how == "lose":
            del changed[place : place + rng.randrange(1, 40)]
        elif how == "double":
            changed[place:place] = changed[place : place + rng.randrange(1, 40)]
        elif how == "insert":
            changed[place:place] = rng.choice(_INSERTS)
        elif how == "move":
            piece = changed[place : place + 20]
            del changed[place : place + 20]
            goal = rng.randrange(len(changed) + 1)
            changed[goal:goal] = piece
        elif how == "swap":
            other = rng.randrange(len(changed))
            changed[place], changed[other] = changed[other], changed[place]
        elif how == "size":
            changed[place : place + 4] = rng.choice(_SIZES)[: len(changed) - place]
        else:
            del changed[place:]
    return bytes(changed)
