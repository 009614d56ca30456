"""Lists the samples of shards once: where the picture of each lies, and what is said of it.

A sample is what webdataset takes for one: members one behind the other whose names are equal up to the first point of
the last part, such as `cat/7.jpg` and `cat/7.cls`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from supernet.data import dicom, kept
from supernet.data.images import SUFFIXES
from supernet.data.members import Shard
from supernet.data.names import Names
from supernet.data.shard_lists import webdataset_module
from supernet.data.tar_members import Found, members_of
from supernet.runtime.errors import InputError
from supernet.runtime.text import printable, quantity

PICTURES = frozenset(ending[1:] for ending in SUFFIXES - dicom.SUFFIXES)
_THREADS = 8
_LONGEST_NAME, _LONGEST_LABEL = 1024, 200  # characters
_MOST_JSON = 2**20  # bytes
_MOST_PICTURE = 2**30
_NOT_OURS = re.compile(r"__[^/]*__($|/)")  # what webdataset passes over, too
_JSON = "json."
LINKS, NO_PICTURE, NO_LABEL = "links or special members", "samples without a picture", "samples without a label"


@dataclass(frozen=True)
class Wanted:
    """What is read of each sample.

    Args:
        label: the ending of the member with its class, such as cls, or json.FIELD for a field of its JSON.
        image: the ending of its picture; None: the one that there is.

    Raises:
        InputError: an ending is empty.
    """

    label: str = "cls"
    image: str | None = None

    def __post_init__(self) -> None:
        if not self.member or self.field == "":
            raise InputError(f"label={self.label}: use an ending such as cls, or json.FIELD")
        if self.member == "json" and self.field is None:
            raise InputError("label=json: which field of it? json.FIELD")
        if self.picture == "":
            raise InputError(f"image={self.image}: use an ending such as jpg")

    @property
    def member(self) -> str:
        """The ending of the member with the label."""
        return "json" if self.field is not None else self.label.lower().removeprefix(".")

    @property
    def field(self) -> str | None:
        """The field of the JSON that holds the label; None where the whole member is it."""
        begins = self.label[: len(_JSON)].lower() == _JSON
        return self.label[len(_JSON) :] if begins else None

    @property
    def picture(self) -> str | None:
        """The ending of the picture."""
        return None if self.image is None else self.image.lower().removeprefix(".")


@dataclass(frozen=True)
class Index:
    """The samples of some shards that have a picture and a label.

    Args:
        shards: the files.
        shard: (N,) int32, the place in `shards` of that of each sample.
        offsets: (N,) int64, where its picture begins there, in bytes.
        sizes: (N,) int64, of its picture, in bytes.
        names: of its picture.
        texts: the labels that there are, as they are written.
        labels: (N,) int32, the place in `texts` of that of each sample.
        left_out: how many there are of what has no place here, by what it is.
    """

    shards: tuple[Shard, ...]
    shard: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    names: Names
    texts: tuple[str, ...]
    labels: np.ndarray
    left_out: Counter[str] = field(default_factory=Counter)


def index_of(paths: Sequence[str], wanted: Wanted, cache_from: int | None) -> Index:
    """Lists the samples of shards, or takes the list that was kept while they were as they are.

    Args:
        paths: the tar files.
        wanted: what is read of each sample.
        cache_from: samples from which on the list is kept in the person's cache folder; None: it is not.

    Returns:
        The list, in the order of the files.

    Raises:
        InputError: a file is no sound tar file, or a label is none.
    """
    shards = tuple(Shard.at(path) for path in paths)
    key = "\0".join(["shards", str(wanted), *paths])
    if cache_from is not None and (arrays := kept.load(key)) is not None and (index := _of_arrays(shards, arrays)):
        return index
    index = _listed(shards, wanted)
    if cache_from is not None and len(index.shard) >= cache_from:
        kept.keep(key, _as_arrays(index))
    return index


@dataclass
class _Lines:
    """The samples of one shard while they are listed."""

    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def _listed(shards: tuple[Shard, ...], wanted: Wanted) -> Index:
    parted = webdataset_module("webdataset.tariterators").base_plus_ext
    pool = ThreadPoolExecutor(min(_THREADS, len(shards)))
    try:
        lines = list(pool.map(lambda shard: _lines_of(shard, wanted, parted), shards))
    finally:
        pool.shutdown(cancel_futures=True)
    texts = sorted({text for each in lines for text in each.labels})
    place = {text: number for number, text in enumerate(texts)}
    return Index(
        shards,
        np.repeat(np.arange(len(shards), dtype=np.int32), [len(each.offsets) for each in lines]),
        np.array([offset for each in lines for offset in each.offsets], np.int64),
        np.array([size for each in lines for size in each.sizes], np.int64),
        Names.of(name for each in lines for name in each.names),
        tuple(texts),
        np.array([place[text] for each in lines for text in each.labels], np.int32),
        sum((each.left_out for each in lines), Counter()),
    )


def _lines_of(shard: Shard, wanted: Wanted, parted: Callable[[str], tuple[str | None, str | None]]) -> _Lines:
    lines = _Lines()
    lacking: dict[str, set[str]] = {NO_PICTURE: set(), NO_LABEL: set()}
    for key, sample in _samples(shard, parted, lines.left_out):
        picture = _picture_of(shard, sample, wanted)
        text = _label_of(shard, sample, wanted) if picture else ""
        if picture and text:
            lines.offsets.append(picture.offset)
            lines.sizes.append(picture.size)
            lines.names.append(picture.name)
            lines.labels.append(text)
        else:
            reason, other = (NO_LABEL, NO_PICTURE) if picture else (NO_PICTURE, NO_LABEL)
            lines.left_out[reason] += 1
            lacking[reason].add(key)
            if key in lacking[other]:
                raise InputError(
                    f"{shard.path}: the members of {printable(key)} lie apart, and those of a sample have to lie one "
                    "behind the other; write it anew, such as by tar --sort=name"
                )
    return lines


def _samples(
    shard: Shard, parted: Callable[[str], tuple[str | None, str | None]], left_out: Counter[str]
) -> Iterator[tuple[str, dict[str, Found]]]:
    """The name that the members of each sample share, and they by their endings."""
    current, sample = "", dict[str, Found]()
    for member in members_of(shard):
        if not member.regular:
            left_out[LINKS] += 1
            continue
        if len(member.name) > _LONGEST_NAME:
            length = quantity(len(member.name), "character")
            raise InputError(f"{shard.path}: a name of {length}; use at most {_LONGEST_NAME:,}")
        key, ending = (None, None) if _NOT_OURS.match(member.name) else parted(member.name)
        if key is None or ending is None:
            continue
        if key != current and sample:
            yield current, sample
            sample = {}
        current = key
        if ending.lower() in sample:
            raise InputError(f"{shard.path}: {printable(member.name)} is there twice")
        sample[ending.lower()] = member
    if sample:
        yield current, sample


def _picture_of(shard: Shard, sample: dict[str, Found], wanted: Wanted) -> Found | None:
    if wanted.picture is not None:
        chosen = [wanted.picture] if wanted.picture in sample else []
    else:
        chosen = [ending for ending in sample if ending in PICTURES]
        chosen = chosen or [ending for ending in sample if ending.rpartition(".")[2] in PICTURES]  # such as rgb.png
    if not chosen:
        return None
    picture = sample[chosen[0]]
    if len(chosen) > 1:
        endings = " and ".join(chosen[:3])
        raise InputError(
            f"{shard.path}: {printable(picture.name)} has pictures as {endings}; image={chosen[0]} takes one"
        )
    if picture.size > _MOST_PICTURE:
        raise InputError(f"{shard.path}: {printable(picture.name)} has {picture.size:,} bytes; leave it out")
    return picture


def _label_of(shard: Shard, sample: dict[str, Found], wanted: Wanted) -> str:
    """The label as it is written, without space around it; "" where there is none."""
    member = sample.get(wanted.member)
    if member is None:
        return ""
    where = f"{shard.path}: {printable(member.name)}"
    if member.size > _MOST_JSON:
        raise InputError(f"{where}: {member.size:,} bytes are no label")
    try:
        text = shard.read(member.offset, member.size).decode("utf-8-sig")
        value = text.strip() if wanted.field is None else _field(json.loads(text), wanted.field)
        str(value).encode()  # JSON can say half a character
    except (ValueError, RecursionError):
        form = "text" if wanted.field is None else "JSON"
        raise InputError(f"{where}: no {form} in UTF-8; correct it or leave it out") from None
    if value is None:
        return ""
    if type(value) not in (int, str) or len(label := str(value).strip()) > _LONGEST_LABEL:
        raise InputError(f"{where}: {printable(str(value)[:40])} is no label; use a whole number or a name")
    return label


def _field(content: object, name: str) -> object:
    return content.get(name) if isinstance(content, dict) else None


def _as_arrays(index: Index) -> dict[str, np.ndarray]:
    counts = [index.left_out[reason] for reason in (LINKS, NO_PICTURE, NO_LABEL)]
    return {
        "stamp": _stamp(index.shards),
        "shard": index.shard,
        "offsets": index.offsets,
        "sizes": index.sizes,
        "labels": index.labels,
        "left_out": np.array(counts, np.int64),
        **kept.packed_names("names", index.names),
        **kept.packed_names("texts", Names.of(index.texts)),
    }


def _stamp(shards: Sequence[Shard]) -> np.ndarray:
    """By what a change of the shards is noticed."""
    return np.array([(shard.size, shard.changed) for shard in shards], np.int64)


def _of_arrays(shards: tuple[Shard, ...], arrays: kept.Arrays) -> Index | None:
    """The list that was kept; None where it does not fit the shards."""
    try:
        if not np.array_equal(arrays["stamp"], _stamp(shards)):
            return None
        names, texts = kept.unpacked_names("names", arrays), tuple(kept.unpacked_names("texts", arrays))
        shard, offsets, sizes, labels = (arrays[name] for name in ("shard", "offsets", "sizes", "labels"))
        lengths = np.array([each.size for each in shards], np.int64)
        sound = (
            [each.dtype for each in (shard, offsets, sizes, labels)] == [np.int32, np.int64, np.int64, np.int32]
            and all(each.shape == (len(names),) for each in (shard, offsets, sizes, labels))
            and ((shard >= 0) & (shard < len(shards)) & (labels >= 0) & (labels < len(texts))).all()
            and ((offsets >= 0) & (sizes >= 0) & (sizes <= _MOST_PICTURE)).all()
            and (offsets + sizes <= lengths[shard]).all()
        )
        counts = [int(count) for count in arrays["left_out"]]
        left_out = Counter(dict(zip((LINKS, NO_PICTURE, NO_LABEL), counts, strict=True)))
        return Index(shards, shard, offsets, sizes, names, texts, labels, left_out) if sound else None
    except (KeyError, ValueError, TypeError, IndexError):
        return None


def left_out_notes(left_out: Counter[str]) -> list[str]:
    """At most one line on what was left out.

    Example:
        >>> left_out_notes(Counter({NO_LABEL: 3, LINKS: 1}))
        ['left out: 3 samples without a label, 1 link or special member']
    """
    one = {LINKS: "link or special member", NO_PICTURE: "sample without a picture", NO_LABEL: "sample without a label"}
    counts = [quantity(count, one[reason], reason) for reason, count in left_out.most_common() if count]
    return [f"left out: {', '.join(counts)}"] if counts else []
