"""Damage and malice for files: bytes anyhow, JSON by its structure, safetensors by their parts."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

_BYTES = [
    b"\0",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff" * 8,
    b"\0" * 8,
    b"{",
    b"}",
    b"[",
    b'"',
    b",",
    b":",
    b"\\u0000",
    b"null",
    b"NaN",
    b"1e999",
    b"-1",
    b"9" * 30,
    b"\xed\xa0\x80",
    b"\n",
    b"PK\3\4",
    b"PK\1\2",
    b"PK\5\6",
]


def of_bytes(random: Random, data: bytes, head: int = 0) -> bytes:
    """Some bytes flipped, replaced, deleted, repeated, moved, cut off or overwritten; most within the first `head`."""
    out = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 2, 4, 8])):
        size = len(out) or 1
        at = random.randrange(min(head, size) if head and random.random() < 0.8 else size)
        length = random.choice([1, 1, 2, 4, 8, 16, 64])
        kind = random.randrange(8)
        if kind == 0 and out:
            out[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            piece = random.choice(_BYTES)
            out[at : at + len(piece)] = piece
        elif kind == 2:
            out[at:at] = random.choice(_BYTES)
        elif kind == 3:
            del out[at : at + length]
        elif kind == 4:
            out[at:at] = out[at : at + length]
        elif kind == 5:
            other = random.randrange(size)
            out[at : at + length] = out[other : other + length]
        elif kind == 6 and random.random() < 0.3:
            del out[at:]
        else:
            out[at : at + length] = random.randbytes(length)
    return bytes(out)


# JSON.


class Raw(str):
    """Stands in a value for text that goes into the JSON as it is."""


def tricks(random: Random) -> Any:
    """A value that somebody may not have thought of."""
    return random.choice(_TRICKS)()


def _nested(opening: str, closing: str, depth: int) -> Raw:
    return Raw(opening * depth + "1" + closing * depth)


_TRICKS: list[Callable[[], Any]] = [
    lambda: None,
    lambda: True,
    lambda: False,
    lambda: 0,
    lambda: -1,
    lambda: 1,
    lambda: 2,
    lambda: 0.5,
    lambda: -0.0,
    lambda: 2**31,
    lambda: 2**53 + 1,
    lambda: 2**63,
    lambda: 2**64,
    lambda: 10**400,
    lambda: Raw("9" * 5000),
    lambda: Raw("1e308"),
    lambda: Raw("1e999"),
    lambda: Raw("-1e999"),
    lambda: Raw("1e-400"),
    lambda: Raw("NaN"),
    lambda: Raw("Infinity"),
    lambda: Raw("-Infinity"),
    lambda: 1.7e308,
    lambda: 1e300,
    lambda: 5e-324,
    lambda: 1e16,
    lambda: "",
    lambda: " ",
    lambda: "\0",
    lambda: "\ud800",
    lambda: "\udfff\ud800",
    lambda: "\x1b[31mred\x9b0m",
    lambda: "\u202emoc.exe",
    lambda: "\r\n\x08",
    lambda: "a" * 5000,
    lambda: "/etc/passwd",
    lambda: "../secret",
    lambda: "../../../../../../etc/passwd",
    lambda: "C:\\Windows\\x",
    lambda: "\\\\host\\share",
    lambda: "a\0b",
    lambda: "~/.ssh/id",
    lambda: "file:///etc/passwd",
    lambda: "$HOME",
    lambda: "%s%n{0}",
    lambda: "<script>",
    lambda: [],
    lambda: {},
    lambda: [[]],
    lambda: [None],
    lambda: {"": None},
    lambda: [1] * 300,
    lambda: {str(i): i for i in range(300)},
    lambda: _nested("[", "]", 40),
    lambda: _nested("[", "]", 3000),
    lambda: _nested('{"a":', "}", 40),
    lambda: _nested('{"a":', "}", 100_000),
    lambda: "F32",
    lambda: [0, 0],
    lambda: Raw('{"a":1,"a":2}'),
    lambda: Raw("01"),
    lambda: Raw("'a'"),
    lambda: Raw("[1,]"),
    lambda: Raw("\u00e9"),
]


def of_json(random: Random, value: Any, names: tuple[str, ...] = ()) -> Any:
    """A value (it is changed) with some of its parts replaced, removed, doubled, moved or put elsewhere; `names` are
    keys that mean something to somebody."""
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        places = _places(value)
        if not places:
            return tricks(random)
        holder, key = random.choice(places)
        kind = random.randrange(9)
        if kind <= 2:
            holder[key] = tricks(random)
        elif kind == 3:
            del holder[key]
        elif kind == 4:
            other, from_ = random.choice(places)
            if (isinstance(other, dict) and from_ in other) or (isinstance(other, list) and from_ < len(other)):
                holder[key] = json.loads(json.dumps(other[from_], default=str))
        elif kind == 5 and isinstance(holder, dict):
            holder[random.choice([*map(str, _TRICK_KEYS), *names, *holder])] = holder[key]
        elif kind == 6 and isinstance(holder, list):
            holder[key:key] = [holder[key]] * random.choice([1, 2, 100])
        elif kind == 7 and type(holder[key]) in (int, float):
            holder[key] = holder[key] + random.choice([-1, 1, 0.5, 1000, 2**32, -(2**32)])
        else:
            holder[key] = random.choice([[holder[key]], {"a": holder[key]}, str(holder[key])[:100]])
    return value


_TRICK_KEYS = (
    "",
    "__class__",
    "__proto__",
    "auto_map",
    "trust_remote_code",
    "../x",
    "\0",
    "\ud800",
    "\x1b[2J",
    "own",
    "metadata",
    "compressed",
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of all that is within a value."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else list(range(len(one))) if isinstance(one, list) else []
        found += [(one, key) for key in keys]
        waiting += [one[key] for key in keys]
    return found


def dumped(random: Random, value: Any) -> bytes:
    """JSON text of a value that may hold `Raw`; now and then a key twice, something around it, or another encoding."""
    twice = random.random() < 0.06
    text = _dumped(value, random if twice else None)
    kind = random.random()
    if kind < 0.02:
        text = random.choice(["\ufeff", " \n\t", "//x\n", "[" * 20]) + text
    elif kind < 0.04:
        text += random.choice(["x", "{}", "\0", ",", "\n\n "])
    elif kind < 0.05:
        return text.encode("utf-16", "surrogatepass")
    return text.encode("utf-8", "surrogatepass")


def _dumped(value: Any, twice: Random | None) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        pairs = [f"{json.dumps(str(key))}:{_dumped(inner, twice)}" for key, inner in value.items()]
        if twice and pairs and twice.random() < 0.3:
            pairs.append(twice.choice(pairs))
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_dumped(inner, twice) for inner in value) + "]"
    if isinstance(value, int) and abs(value) >= 10**400:
        return "1" + "0" * 400
    return json.dumps(value)


# safetensors.

Parts = tuple[dict[str, Any], bytes]
"""The header of a safetensors file and the bytes of its tensors."""


def parts(data: bytes) -> Parts:
    end = 8 + struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:end]), data[end:]


def framed(text: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text + data


def of_safetensors(random: Random, header: dict[str, Any], data: bytes) -> Parts:
    """The layout of the tensors changed as somebody would who wants to read or write beyond it."""
    names = [name for name in header if name != "__metadata__"]
    one, other = header[random.choice(names)], header[random.choice(names)]
    kind = random.randrange(12)
    if kind == 0:
        one["data_offsets"] = list(other["data_offsets"])  # overlap
    elif kind == 1:
        one["data_offsets"] = [x + random.choice([-4, -1, 1, 2, 4, 2**40, 2**63]) for x in one["data_offsets"]]
    elif kind == 2:
        one["data_offsets"] = one["data_offsets"][::-1]
    elif kind == 3:
        one["dtype"] = random.choice(["F64", "F16", "BF16", "F32", "I8", "BOOL", "F8_E4M3", "X", "f32", "F4"])
    elif kind == 4:
        one["shape"] = random.choice(
            [
                [],
                [0],
                [1],
                [-1, -1],
                [2**32, 2**32],
                one["shape"][::-1],
                [*one["shape"], 1],
                [2**62, 4],
                one["shape"][1:],
                [1.0],
                [True, *one["shape"][1:]],
            ]
        )
    elif kind == 5:
        one["shape"], other["shape"] = other["shape"], one["shape"]
    elif kind == 6:
        del header[random.choice(names)]
    elif kind == 7:
        header[random.choice(["x", "../x", "", "down_proj.C", "\x1b[31m", "lm_head.weight", "a" * 300])] = dict(one)
    elif kind == 8:
        data = data[: random.randrange(len(data) + 1)]
    elif kind == 9:
        data += random.randbytes(random.choice([1, 4, 64]))
    elif kind == 10:
        gap = random.choice([1, 4, 64])  # a hole before the data, which every offset leaves out
        for name in names:
            header[name]["data_offsets"] = [x + gap for x in header[name]["data_offsets"]]
        data = bytes(gap) + data
    else:
        return header, of_numbers(random, data)
    return header, data


def of_numbers(random: Random, data: bytes) -> bytes:
    """Some numbers made infinite, not numbers, or as large as can be."""
    out = bytearray(data)
    for _ in range(random.choice([1, 3, 100])):
        at = random.randrange(max(1, len(out) // 4)) * 4
        out[at : at + 4] = random.choice(
            [
                b"\0\0\x80\x7f",
                b"\0\0\xc0\x7f",
                b"\xff\xff\x7f\x7f",
                b"\0\0\xc0\xff",
                b"\0\x7c\0\x7e",
                b"\x80\x7f\x80\xff",
                b"\xff\xff\xff\xff",
                b"\1\0\0\0",
            ]
        )
    return bytes(out[: len(data)])
