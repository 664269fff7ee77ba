"""What an adapter file says about itself: one JSON document, checked field by field (DESIGN, "The .v2lora file").

A file of one segment states everything at the top. In a file of several, a top-level field holds for every segment,
save those that carry a value of their own under `own`. `singles` and `combine` are the two directions, and exact
inverses: that is what lets a composed file be taken apart into the bytes it was made of.

Fields nobody here knows are kept. `metadata` stands for the safetensors file's other metadata keys.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_DEPTH = 32
"""Of nested JSON; our own documents need 5."""

Record = dict[str, Any]


class Invalid(ValueError):
    """Why something is not of this format, as the end of a sentence; who catches it adds the file's name."""


def encode(value: Any) -> str:
    """The one way we write a value as JSON: sorted, compact, ASCII (file names may hold undecodable bytes)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def decode(text: bytes | str) -> Any:
    """JSON without its laxities: no duplicate keys, no NaN or infinity, no bottomless nesting. Raises Invalid."""
    try:
        value = json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text,
            object_pairs_hook=_object, parse_float=_number, parse_constant=_number)
    except Invalid:
        raise
    except (ValueError, RecursionError) as error:
        raise Invalid("its header is not valid JSON") from error
    check_depth(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> Record:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Invalid("its header names a key twice")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Invalid("its header holds a number that is not finite")
    return value


def check_depth(value: Any) -> None:
    """Raises Invalid where containers are nested too deep to be handled safely; does not recurse itself."""
    level = [value]
    for _ in range(MAX_DEPTH):
        containers = [x for x in level if isinstance(x, (dict, list))]
        level = [y for x in containers for y in (x.values() if isinstance(x, dict) else x)]
        if not level:
            return
    raise Invalid("its header is nested too deep")


# The fields and what each must be.

Check = Callable[[Any], bool]


def _text(x: Any) -> bool:
    return isinstance(x, str) and x != ""


def _finite(x: Any) -> bool:
    """A number that fits a float; JSON's integers have no bound of their own."""
    return isinstance(x, (int, float)) and not isinstance(x, bool) and -1e300 < x < 1e300


def _count(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and 0 <= x < 2**63


def _positive(x: Any) -> bool:
    return _finite(x) and x > 0


def _positive_count(x: Any) -> bool:
    return _count(x) and x > 0


def _not_negative(x: Any) -> bool:
    return _finite(x) and x >= 0


def _metadata(x: Any) -> bool:
    return (isinstance(x, dict) and all(isinstance(y, str) for pair in x.items() for y in pair)
            and not x.keys() & {"format", "version", "record"})


Schema = Mapping[str, "Check | Schema"]
_FIELDS: Schema = {
    "base": {"id": _text, "revision": lambda x: x is None or _text(x), "fingerprint": _text},
    "hypernetwork": {"id": _text, "sha256": _text},
    "rank": _positive_count,
    "scale": _positive,
    "target_modules": lambda x: x == ["down_proj"],
    "sampling": {"frames": _positive_count, "fps": _positive, "skip": _not_negative, "resolution": _positive_count},
    "prompt": lambda x: isinstance(x, str),
    "compute": {"dtype": _text, "device": _text},
    "v2l": _text,
}
_SOURCE: Schema = {
    "name": _text, "duration": _not_negative, "fps": _not_negative, "frames": _count, "width": _count,
    "height": _count, "size": _count, "sha256": _text,
}
_SEGMENT: Schema = {
    "source": _count, "start": _finite, "end": _finite,
    "timestamps": lambda x: isinstance(x, list) and len(x) > 0 and all(map(_finite, x)),
    "rank": lambda x: isinstance(x, list) and len(x) == 2 and all(map(_count, x)),
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
    """What one file has once, whatever its segments say: tensors of different kinds do not share a file."""
    return (record["base"]["fingerprint"], record["hypernetwork"]["sha256"], record["rank"], record["scale"],
            record["target_modules"])


def check(record: Any, total_rank: int, bias_rank: int) -> None:
    """Raises Invalid unless the record is whole and agrees with tensors of these ranks."""
    check_depth(record)
    _match(record, _FIELDS, "its record")
    if not _metadata(record.get("metadata", {})):
        raise Invalid("'metadata' in its record is not what it should be")
    sources, segments = record.get("sources"), record.get("segments")
    if not isinstance(sources, list) or not isinstance(segments, list) or not segments:
        raise Invalid("its record lists no sources or no segments")
    for i, source in enumerate(sources):
        _match(source, _SOURCE, f"source {i} of its record")
    rank = record["rank"]
    if rank != bias_rank or total_rank != rank * len(segments):
        raise Invalid(f"{len(segments)} segments of rank {rank} do not fit tensors of rank {total_rank} "
                      f"with a bias of rank {bias_rank}")
    for i, segment in enumerate(segments):
        where = f"segment {i} of its record"
        _match(segment, _SEGMENT, where)
        if segment["source"] >= len(sources) or segment["start"] > segment["end"]:
            raise Invalid(f"{where} has an impossible source or span")
        if segment["rank"] != [i * rank, (i + 1) * rank]:
            raise Invalid(f"{where} does not hold the ranks {i * rank} to {(i + 1) * rank}")
        if "own" in segment:
            _check_own(record, segment["own"], where)


def _check_own(record: Record, own: Any, where: str) -> None:
    if not isinstance(own, dict) or own.keys() & {"sources", "segments"}:
        raise Invalid(f"'own' in {where} is not what it should be")
    view = {**record, **own}
    _match(view, _FIELDS, where)
    if _fixed(view) != _fixed(record) or not _metadata(view.get("metadata", {})):
        raise Invalid(f"'own' in {where} contradicts the record")


# One record of k segments <-> k records of one.


def singles(record: Record) -> list[Record]:
    """For each segment, the record of a file that holds it alone. The record must have passed `check`."""
    shared = {key: value for key, value in record.items() if key not in ("sources", "segments")}
    return [
        {**shared, **segment.get("own", {}), "sources": [record["sources"][segment["source"]]],
         "segments": [{**{key: value for key, value in segment.items() if key != "own"},
                       "source": 0, "rank": [0, record["rank"]]}]}
        for segment in record["segments"]
    ]


def combine(records: Sequence[Record]) -> Record:
    """Records of one segment each -> one record of them all, in the given order.

    A field that all have is stated once, as the first has it; a segment keeps under `own` what is different there, and
    what only some have. Equal means equal as JSON: 1 and 1.0 are different bytes. A source is listed once however many
    segments it has.
    """
    first = records[0]
    keys = dict.fromkeys(key for record in records for key in record if key not in ("sources", "segments"))
    shared = {key: first[key] for key in keys if all(key in record for record in records)}
    stated = {key: encode(value) for key, value in shared.items()}
    sources: dict[str, tuple[int, Record]] = {}
    segments = []
    for i, record in enumerate(records):
        source, segment, rank = record["sources"][0], record["segments"][0], record["rank"]
        number, _ = sources.setdefault(encode(source), (len(sources), source))
        own = {key: record[key] for key in keys if key in record and stated.get(key) != encode(record[key])}
        segment = {**segment, "source": number, "rank": [i * rank, (i + 1) * rank]}
        segments.append({**segment, "own": own} if own else segment)
    return {**shared, "sources": [source for _, source in sources.values()], "segments": segments}
