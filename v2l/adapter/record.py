"""What an adapter file says about itself: one JSON document, checked field by field (v2l/README.md section 10).

A file of one segment states everything at the top. In a file of several, a top-level field holds for every segment,
save those that carry a value of their own under `own`. `pieces` and `combine` are the two directions, and exact
inverses: that is what lets a composed file be taken apart into the bytes it was made of.

Each segment names its slice of the rank axis. In version 1 the slices are of the hypernetwork's rank r, one a segment.
A record that has a list `compressed` is of version 2: there, segments that were compressed together share one slice,
and an entry of that list, in the order of the axis, says of the slice

- `rank`: [from, to), fewer ranks than its segments had before
- `norms`: by layer, the Frobenius norm of the sum of B^T A that was compressed (the scale left out)
- `errors`: by layer, how far from that sum the stored factors are, as a part of its norm; where some of it had been
  compressed before, at most how far from the original sum; `error`: the same over all layers together
- `sha256`: of what was compressed, A and then B as they were stored

A source that was watched live says more: see `v2l.adapter.wall`.

Fields nobody here knows are kept. `metadata` stands for the safetensors file's other metadata keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from v2l.adapter.wall import check_live, check_times
from v2l.config import DEFAULT_MODEL, Strategy
from v2l.system.strict_json import Invalid, check_depth, encode, is_finite, is_positive, is_unicode

VERSIONS = "1", "2"
"""Versions of the format that are read; `needed_version` says which one a record needs."""

Record = dict[str, Any]


def needed_version(record: Record) -> str:
    """Version of the format that can hold this record: files that need no more stay readable by every v2l."""
    return "2" if "compressed" in record else "1"


# The fields and what each must be.

Check = Callable[[Any], bool]


def _text(x: Any) -> bool:
    return isinstance(x, str) and x != ""


def _count(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and 0 <= x < 2**63


def _positive_count(x: Any) -> bool:
    return _count(x) and x > 0


def _not_negative(x: Any) -> bool:
    return is_finite(x) and x >= 0


def _metadata(x: Any) -> bool:
    return (isinstance(x, dict) and all(is_unicode(y) for pair in x.items() for y in pair)
            and not x.keys() & {"format", "version", "record"})


def _span(x: Any) -> bool:
    return isinstance(x, list) and len(x) == 2 and all(map(_count, x))


def _measured(x: Any) -> bool:
    """Whether x is a number whose products and sums stay finite."""
    return is_finite(x) and 0 <= x < 1e100


def _compute(x: Any) -> bool:
    return (isinstance(x, dict) and _text(x.get("dtype")) and _text(x.get("device"))
            and ("tokens" not in x or _count(x["tokens"])) and ("decoder" not in x or _text(x["decoder"])))


Schema = Mapping[str, "Check | Schema"]
_FIELDS: Schema = {
    "base": {"id": _text, "revision": lambda x: x is None or _text(x), "fingerprint": _text},
    "hypernetwork": {"id": _text, "sha256": _text},
    "rank": _positive_count,
    "scale": is_positive,
    "target_modules": lambda x: x == ["down_proj"],
    "sampling": {"frames": _positive_count, "fps": is_positive, "skip": _not_negative, "resolution": _positive_count},
    "prompt": lambda x: isinstance(x, str),
    "compute": _compute,
    "v2l": _text,
}
_SOURCE: Schema = {
    "name": _text, "duration": _not_negative, "fps": _not_negative, "frames": _count, "width": _count,
    "height": _count, "size": _count, "sha256": _text,
}
_SEGMENT: Schema = {
    "source": _count, "start": is_finite, "end": is_finite,
    "timestamps": lambda x: isinstance(x, list) and len(x) > 0 and all(map(is_finite, x)),
    "rank": _span,
}
_BLOCK: Schema = {
    "rank": _span, "error": _not_negative, "sha256": _text,
    "errors": lambda x: isinstance(x, list) and all(map(_measured, x)),
    "norms": lambda x: isinstance(x, list) and all(map(_measured, x)),
}


def _match(value: Any, schema: Schema, where: str) -> None:
    if not isinstance(value, dict):
        raise Invalid(f"{where} is not an object")
    for key, expected in schema.items():
        if key not in value:
            raise Invalid(f"{where} lacks '{key}'")
        if not callable(expected):
            _match(value[key], expected, f"'{key}' in {where}")
        elif not expected(value[key]):
            raise Invalid(f"'{key}' in {where} is not what it should be")


def _fixed(record: Record) -> tuple[Any, ...]:
    """Fields that a file has once, whatever its segments say: tensors of different kinds do not share a file."""
    return (record["base"]["fingerprint"], record["hypernetwork"]["sha256"], record["rank"], record["scale"],
            record["target_modules"])


def check(record: Any, layers: int, total_rank: int, bias_rank: int) -> None:
    """Raises Invalid unless the record is whole and agrees with tensors of so many layers and these ranks."""
    check_depth(record)
    _match(record, _FIELDS, "its record")
    if not _metadata(record.get("metadata", {})):
        raise Invalid("'metadata' in its record is not what it should be")
    sources, segments = record.get("sources"), record.get("segments")
    if not isinstance(sources, list) or not isinstance(segments, list) or not segments:
        raise Invalid("its record lists no sources or no segments")
    for i, source in enumerate(sources):
        _match(source, _SOURCE, f"source {i} of its record")
        if not _not_negative(source.get("start", 0)):
            raise Invalid(f"'start' in source {i} of its record is not what it should be")
        check_live(source, f"source {i} of its record")
    for i, segment in enumerate(segments):
        where = f"segment {i} of its record"
        _match(segment, _SEGMENT, where)
        if segment["source"] >= len(sources) or segment["start"] > segment["end"]:
            raise Invalid(f"{where} has an impossible source or span")
        check_times(sources[segment["source"]], segment, where)
        if "own" in segment:
            _check_own(record, segment["own"], where)
    blocks = _check_blocks(record["compressed"], layers) if "compressed" in record else []
    end = _check_slices(segments, blocks, record["rank"])
    if record["rank"] != bias_rank or end != total_rank:
        raise Invalid(f"{len(segments)} segments of rank {record['rank']} do not fit tensors of rank {total_rank} "
                      f"with a bias of rank {bias_rank}")


def _check_blocks(blocks: Any, layers: int) -> list[Record]:
    if not isinstance(blocks, list) or not blocks:
        raise Invalid("'compressed' in its record is not what it should be")
    for i, block in enumerate(blocks):
        _match(block, _BLOCK, f"compression {i} of its record")
        if len(block["errors"]) != layers or len(block["norms"]) != layers:
            raise Invalid(f"compression {i} of its record is not of {layers} layers")
    return blocks


def _check_slices(segments: Sequence[Record], blocks: Sequence[Record], rank: int) -> int:
    """Raises Invalid unless the segments' slices fill the rank axis in order; returns where it ends."""
    end, rest = 0, list(blocks)
    for (first, last), group in groupby(segments, key=lambda segment: segment["rank"]):
        count, width = len(list(group)), last - first
        if rest and rest[0]["rank"] == [first, last]:
            del rest[0]
            fits = 0 < width < count * rank
        else:
            fits = count == 1 and width == rank
        if first != end or not fits:
            raise Invalid(f"its segments do not share out the ranks from {end} on")
        end = last
    if rest:
        raise Invalid("'compressed' in its record names ranks that no segment has")
    return end


def _check_own(record: Record, own: Any, where: str) -> None:
    if not isinstance(own, dict) or own.keys() & _LISTS:
        raise Invalid(f"'own' in {where} is not what it should be")
    view = {**record, **own}
    _match(view, _FIELDS, where)
    if _fixed(view) != _fixed(record) or not _metadata(view.get("metadata", {})):
        raise Invalid(f"'own' in {where} contradicts the record")


# One record of k segments <-> k records of one.

_LISTS = {"sources", "segments", "compressed"}
"""Keys of what a record says of its segments one by one."""


@dataclass(frozen=True)
class Piece:
    """A part of an adapter that has no parts: a segment, or segments that were compressed together."""

    segments: list[Record]
    """Records of the segments, each of a file that holds it alone, as `singles` gives them."""
    block: Record | None = None
    """Entry about it in `compressed`, if it was compressed."""

    @property
    def rank(self) -> int:
        """Width on the rank axis."""
        first, last = self.block["rank"] if self.block else (0, self.segments[0]["rank"])
        return int(last - first)


def pieces(record: Record) -> list[Piece]:
    """The pieces of a record that has passed `check`, in the order of the rank axis."""
    blocks = {tuple(block["rank"]): block for block in record.get("compressed", ())}
    pairs = zip(record["segments"], singles(record), strict=True)
    return [Piece([view for _, view in group], blocks.get(span))
            for span, group in groupby(pairs, key=lambda pair: tuple(pair[0]["rank"]))]


def singles(record: Record) -> list[Record]:
    """Records of the segments, each of a file that holds it alone: where it was compressed, as it was before.

    The record must have passed `check`.
    """
    shared = {key: value for key, value in record.items() if key not in _LISTS}
    return [
        {**shared, **segment.get("own", {}), "sources": [record["sources"][segment["source"]]],
         "segments": [{**{key: value for key, value in segment.items() if key != "own"},
                       "source": 0, "rank": [0, record["rank"]]}]}
        for segment in record["segments"]
    ]


def is_foreign(record: Record) -> bool:
    """Whether the model that watched was made for nothing like a video here, as it told by itself."""
    return any(one["compute"].get("foreign") is True for one in singles(record))


def foreign_text(*names: str, of: int = 1, then: str = "v2l ingest VIDEO --model 500m --force") -> str:
    """What is said where `tiny` has watched what is none of its world: one of these names, or some `of` that many.
    `then` is what to write once there is a model for it."""
    few = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    who = f"{names[0]} shows" if len(names) == 1 else f"{len(names)} of {of} show"
    which, answers = ("", "it answers") if len(names) == 1 else (f" ({few})", "they answer")
    return (f"{who} nothing that {DEFAULT_MODEL} knows, which is coloured shapes and slides{which}: what {answers} is "
            f"made up. For real videos: v2l models pull 500m, and then {then}.")


def as_one_text(segments: int) -> str:
    """What is to be said of segments that were compressed together, the middle of a sentence."""
    many = f", garbled as they are more than {Strategy.join_up_to}" if segments > Strategy.join_up_to else ""
    return f"{segments} segments are asked as one, for \"What happened?\" too: one answer{many}, and no times"


def many_as_one_text(name: str, segments: int) -> str:
    """What is to be said where so many segments are asked as one that the answer is garbled."""
    return (f"{name}: {segments} segments are asked as one; of more than {Strategy.join_up_to} that garbles answers; "
            "each is asked by itself without --join or --strategy join, of what was composed without --max-rank.")


def combine(pieces: Sequence[Piece]) -> Record:
    """Pieces of records -> one record of them all, in the given order.

    A field that all segments have is stated once, as the first has it; a segment keeps under `own` what is different
    there, and what only some have. Equal means equal as JSON: 1 and 1.0 are different bytes. A source is listed once
    however many segments it has.
    """
    records = [record for piece in pieces for record in piece.segments]
    keys = dict.fromkeys(key for record in records for key in record if key not in _LISTS)
    shared = {key: records[0][key] for key in keys if all(key in record for record in records)}
    stated = {key: encode(value) for key, value in shared.items()}
    sources: dict[str, tuple[int, Record]] = {}
    segments, blocks, end = [], [], 0
    for piece in pieces:
        span, end = [end, end + piece.rank], end + piece.rank
        if piece.block:
            blocks.append({**piece.block, "rank": span})
        for record in piece.segments:
            source, segment = record["sources"][0], record["segments"][0]
            number, _ = sources.setdefault(encode(source), (len(sources), source))
            own = {key: record[key] for key in keys if key in record and stated.get(key) != encode(record[key])}
            segment = {**segment, "source": number, "rank": span}
            segments.append({**segment, "own": own} if own else segment)
    whole = {**shared, "sources": [source for _, source in sources.values()], "segments": segments}
    return {**whole, "compressed": blocks} if blocks else whole
