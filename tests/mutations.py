"""Damage, by chance and from a seed, to what a stranger can hand over."""

import random

_INSERTS = [b"\x00", b"(", b"]", b"{", b"'", b'"', b"NaN", b"-1", b"1e999", b"9" * 30, "é日".encode(), b"\n", b"\xff"]
_INSERTS += [b"\x1b[31m", b"null", b",", b"${oc.env:HOME}", b"_target_", b"<script>"]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to five of them, or spans of them, changed, lost, doubled or put in; sometimes cut short."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        if not changed:
            break
        place = rng.randrange(len(changed))
        how = rng.choice(["flip", "flip", "lose", "double", "insert", "swap", "cut"])
        if how == "flip":
            changed[place] ^= 1 << rng.randrange(8)
        elif how == "lose":
            del changed[place : place + rng.randrange(1, 12)]
        elif how == "double":
            changed[place:place] = changed[place : place + rng.randrange(1, 30)]
        elif how == "insert":
            changed[place:place] = rng.choice(_INSERTS)
        elif how == "swap":
            other = rng.randrange(len(changed))
            changed[place], changed[other] = changed[other], changed[place]
        else:
            del changed[place:]
    return bytes(changed)
