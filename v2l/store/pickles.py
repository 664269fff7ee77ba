"""A torch checkpoint, read by an unpickler that can only build values: nothing the file names is imported or called.

torch's own restricted unpickler is not used: versions we allow let a hostile file corrupt memory through it
(CVE-2026-24747), and it reads the zip archive with other eyes than whoever checks that file before. Here one reader
finds the parts of the archive, all of them stored as they are, and one unpickler of as few opcodes as `torch.save`
needs builds strings, numbers, containers, records and tensors.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

MAX_DIRECTORY, MAX_PICKLE = 16 << 20, 1 << 20
"""Bytes of the archive's list of parts, and of the list of its tensors."""
MAX_AXES = 8
_END, _END_64, _LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_LOCAL = b"PK\3\4"
_FLAGS = 0x808
"""Flags that a part may have: its sizes come after it, its name is UTF-8."""
_FOLDER = 0x10

_STORAGES = {"Float": ("<f4", "float32"), "Half": ("<f2", "float16"), "BFloat16": ("<i2", "bfloat16"),
             "Double": ("<f8", "float64"), "Long": ("<i8", "int64"), "Int": ("<i4", "int32"), "Short": ("<i2", "int16"),
             "Char": ("i1", "int8"), "Byte": ("u1", "uint8"), "Bool": ("u1", "bool")}
"""torch's name of a kind of storage: how numpy holds its numbers (the digit counts bytes), and how torch calls them."""


class StandIn:
    """Stands in for an instance of any class of the released code: state in `__dict__`, an enum's value in `args`."""

    def __init__(self, *args: object) -> None:
        self.args = args


def stand_in(dotted: str) -> type[StandIn]:
    """A class by a dotted name, whose objects hold what was stored and do nothing."""
    module, name = dotted.rsplit(".", 1)
    return type(name, (StandIn,), {"__module__": module})


# The archive.


class Archive:
    """The parts of a torch zip, each a piece of the file as it lies there. Raises zipfile.BadZipFile and OSError."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with file.open("rb") as f:
            if f.read(4) != _LOCAL:  # torch would take it for a pickle
                raise zipfile.BadZipFile("it does not begin as a checkpoint does")
            if _directory_size(f) > MAX_DIRECTORY:
                raise zipfile.BadZipFile("its list of parts is longer than that of any checkpoint")
            with zipfile.ZipFile(f) as archive:
                parts = archive.infolist()
            self._checksums = {part.filename: part.CRC for part in parts}
            self._places = {part.filename: (_start(f, part), part.file_size) for part in parts}
        if len(self._places) != len(parts):
            raise zipfile.BadZipFile("two of its parts have the same name")
        spans = sorted((start, start + size) for start, size in self._places.values())
        if any(end > begin for (_, end), (begin, _) in pairwise([*spans, (file.stat().st_size, 0)])):
            raise zipfile.BadZipFile("its parts overlap, or it is cut short")

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def names(self) -> list[str]:
        return list(self._places)

    def size(self, name: str) -> int:
        """Bytes of a part."""
        return self._places[name][1]

    @cached_property
    def _bytes(self) -> np.ndarray[Any, Any]:
        """The file, mapped as a private copy: writing to it changes nothing on the disk."""
        import numpy as np

        return np.asarray(np.memmap(self.file, np.uint8, "c"))

    def bytes(self, name: str) -> np.ndarray[Any, Any]:
        """A part. Raises zipfile.BadZipFile where it is not what its checksum says."""
        start, size = self._places[name]
        data = self._bytes[start:start + size]
        if zlib.crc32(data.data) != self._checksums[name]:
            raise zipfile.BadZipFile(f"{name[:200]} is damaged")
        return data

    def array(self, name: str, dtype: str) -> np.ndarray[Any, Any]:
        """A part as numbers in one row."""
        import numpy as np

        # Parts may begin anywhere, and torch wants numbers at their own boundaries.
        return np.require(self.bytes(name).view(dtype), requirements="A")


def _directory_size(f: Any) -> int:
    """Bytes of a zip's list of parts, which is read whole."""
    f.seek(0, 2)
    f.seek(max(0, f.tell() - 98))
    tail = f.read()
    if tail[-22:-18] != _END or tail[-2:] != b"\0\0":
        raise zipfile.BadZipFile("it does not end as a checkpoint does")
    size = int.from_bytes(tail[-10:-6], "little")
    if tail[-42:-38] == _LOCATOR_64 and tail[-98:-94] == _END_64:
        size = max(size, int.from_bytes(tail[-58:-50], "little"))
    elif size == 0xFFFFFFFF:
        raise zipfile.BadZipFile("it does not say how long its list of parts is")
    return size


def _start(f: Any, part: zipfile.ZipInfo) -> int:
    """Where in the file the bytes of a part begin. Both places that tell of it must agree."""
    stored = part.compress_type == zipfile.ZIP_STORED and part.compress_size == part.file_size
    if not stored or part.flag_bits & ~_FLAGS:
        raise zipfile.BadZipFile(f"{part.filename[:200]} is compressed or encrypted, which torch never does")
    if part.external_attr & _FOLDER:  # other readers find nothing in it
        raise zipfile.BadZipFile(f"{part.filename[:200]} is marked as a folder")
    f.seek(part.header_offset)
    head = f.read(30)
    name, extra = int.from_bytes(head[26:28], "little"), int.from_bytes(head[28:30], "little")
    encoding = "utf-8" if part.flag_bits & 0x800 else "cp437"
    if len(head) != 30 or head[:4] != _LOCAL or f.read(name) != part.orig_filename.encode(encoding):
        raise zipfile.BadZipFile(f"{part.filename[:200]} is not where the archive says")
    return part.header_offset + 30 + name + extra


# The pickle.


@dataclass(frozen=True)
class _Storage:
    """Numbers of one kind: a part of the archive."""

    part: str
    kind: str


class _Function:
    """What a pickle may call: a few functions of ours, by the names of others."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class _Mark:
    """Where on the stack the things begin that an opcode takes together."""


_MARK = _Mark()


class Unpickler:
    """Builds what a pickle of an archive describes. `kinds` gives, for the name of each global in it, what it stands
    for: a class from `stand_in`, or the name of one of torch's and Python's that torch checkpoints need.

    Raises UnpicklingError, and what wrong numbers of things on a stack raise: ValueError, TypeError, IndexError,
    KeyError.
    """

    def __init__(self, archive: Archive, prefix: str, kinds: Mapping[str, Any]) -> None:
        self._archive, self._prefix, self._kinds = archive, prefix, kinds
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._numbers: dict[_Storage, Tensor] = {}
        """Numbers of the storages met so far: thousands of tensors may share one, which is checked and aligned once."""
        self._functions = {
            "collections.OrderedDict": _Function(self._dict),
            "builtins.set": _Function(lambda items=(): {_key(item) for item in _of(items, list)}),
            "torch._utils._rebuild_tensor_v2": _Function(self._tensor),
            "torch._utils._rebuild_parameter": _Function(lambda data, *_: data),
        }

    def run(self, opcodes: Iterable[tuple[str, Any]]) -> Any:
        """Names and arguments of opcodes, as from `opcodes_of` -> the value."""
        for name, argument in opcodes:
            if name in _PUSHED:
                self._stack.append(argument if argument is not None else _PUSHED[name]())
            elif step := getattr(self, f"_do_{name.lower()}", None):
                step(argument)
            elif name not in ("PROTO", "STOP"):
                raise UnpicklingError(f"it uses the opcode {name}, which torch does not write")
        value = self._stack.pop()
        if self._stack:
            raise UnpicklingError("it leaves something over")
        return value

    def _marked(self) -> list[Any]:
        """The things above the last mark, taken off with it."""
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise UnpicklingError("it lacks a mark")
        things, self._stack[at:] = self._stack[at + 1:], []
        return things

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise UnpicklingError("it has a mark too many")
        return value

    def _take(self, count: int) -> list[Any]:
        return [self._pop() for _ in range(count)][::-1]

    def _dict(self, pairs: Any = ()) -> dict[Any, Any]:
        return {_key(key): value for key, value in (_of(pair, list, tuple) for pair in _of(pairs, list, tuple))}

    def _tensor(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
        storage = _of(storage, _Storage)
        if storage not in self._numbers:
            self._numbers[storage] = self._stored(storage)
        numbers = self._numbers[storage]
        sizes, strides = [list(map(_count, _of(x, tuple)[:MAX_AXES])) for x in (size, stride)]
        # One beyond the last number it takes.
        end = 0 if 0 in sizes else _count(offset) + 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        if end > len(numbers) or math.prod(sizes) >= 1 << 62:
            raise UnpicklingError(f"a tensor of {sizes} is larger than what is stored of it")
        return numbers.as_strided(sizes, strides, offset if end else 0)

    def _stored(self, storage: _Storage) -> Tensor:
        import torch

        dtype, name = _STORAGES[storage.kind]
        numbers = torch.from_numpy(self._archive.array(storage.part, dtype))
        return numbers.view(getattr(torch, name))

    # What each opcode does.

    def _do_mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _do_tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._marked()))

    def _do_tuple1(self, _: Any) -> None:
        self._stack.append(tuple(self._take(1)))

    def _do_tuple2(self, _: Any) -> None:
        self._stack.append(tuple(self._take(2)))

    def _do_tuple3(self, _: Any) -> None:
        self._stack.append(tuple(self._take(3)))

    def _do_append(self, _: Any) -> None:
        value = self._pop()
        _of(self._stack[-1], list).append(value)

    def _do_appends(self, _: Any) -> None:
        values = self._marked()
        _of(self._stack[-1], list).extend(values)

    def _do_setitem(self, _: Any) -> None:
        key, value = self._take(2)
        _of(self._stack[-1], dict)[_key(key)] = value

    def _do_setitems(self, _: Any) -> None:
        things = self._marked()
        _of(self._stack[-1], dict).update(zip(map(_key, things[::2]), things[1::2], strict=True))

    def _do_binput(self, place: int) -> None:
        if self._stack[-1] is _MARK:
            raise UnpicklingError("it remembers a mark")
        self._memo[place] = self._stack[-1]

    _do_long_binput = _do_binput

    def _do_binget(self, place: int) -> None:
        self._stack.append(self._memo[place])

    _do_long_binget = _do_binget

    def _do_global(self, names: str) -> None:
        name = self._kinds[names]
        self._stack.append(self._functions.get(name, name) if isinstance(name, str) else name)

    def _do_reduce(self, _: Any) -> None:
        function, arguments = self._take(2)
        make = function if _is_stand_in(function) else _of(function, _Function).call
        self._stack.append(make(*_of(arguments, tuple)))

    def _do_newobj(self, _: Any) -> None:
        kind, arguments = self._take(2)
        if not _is_stand_in(kind) or arguments != ():
            raise UnpicklingError("it makes an object of what is no class of the released code")
        self._stack.append(kind.__new__(kind))

    def _do_build(self, _: Any) -> None:
        state = self._pop()
        instance = self._stack[-1]
        if isinstance(instance, StandIn):
            vars(instance).update({_of(key, str): value for key, value in _of(state, dict).items()})
        elif not isinstance(instance, dict):  # to a dictionary torch adds a note of versions, which says nothing here
            raise UnpicklingError("it changes what is no object")

    def _do_binpersid(self, _: Any) -> None:
        what, kind, key, _place, count = _of(self._pop(), tuple)
        part, kind = f"{self._prefix}/data/{_of(key, str)}", _of(kind, str).split(".")[-1].removesuffix("Storage")
        if what != "storage" or kind not in _STORAGES or part not in self._archive:
            raise UnpicklingError("it names numbers that the file does not hold")
        if self._archive.size(part) != _count(count) * int(_STORAGES[kind][0][-1]):
            raise UnpicklingError(f"{part} is not as long as it should be")
        self._stack.append(_Storage(part, kind))


_PUSHED: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_LIST": list, "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple, "BININT": int, "BININT1": int, "BININT2": int, "LONG1": int, "BINFLOAT": float,
    "BINUNICODE": str, "SHORT_BINSTRING": str}
"""Opcodes that put a value on the stack: their argument, or one of these."""


def _is_stand_in(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, StandIn)


def _of(value: Any, *kinds: type) -> Any:
    """A value that must be of one of these very kinds."""
    if type(value) not in kinds:
        raise UnpicklingError(f"it uses a {type(value).__name__} where there must be a {kinds[0].__name__}")
    return value


def _key(value: Any) -> Any:
    """What may be a key: never a container, which could take forever to hash."""
    return _of(value, str, int, bool)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise UnpicklingError("it has a size that is no number from 0 on")
    return value


def opcodes_of(data: bytes) -> Iterator[tuple[str, Any]]:
    """Names and arguments of a pickle's opcodes, up to STOP; nothing is done with them. ValueError."""
    return ((opcode.name, argument) for opcode, argument, _ in pickletools.genops(data))
