"""Fuzzed released checkpoints: the pickle's opcodes, the zip archive around it, and the bytes of both."""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch

from reliability import mutations
from reliability.tensors import hypernetwork
from v2l.store.export import export_released
from v2l.store.pickles import stand_in
from v2l.store.released import converted, globals_in, read_released
from v2l.store.resolve import find_hypernetwork

_GLOBALS = [
    "os system",
    "posix system",
    "nt system",
    "builtins eval",
    "builtins exec",
    "__builtin__ eval",
    "builtins getattr",
    "builtins __import__",
    "builtins open",
    "builtins compile",
    "subprocess Popen",
    "subprocess check_call",
    "reliability.fuzz fire",
    "pickle loads",
    "_pickle loads",
    "torch load",
    "torch.hub load",
    "operator attrgetter",
    "functools partial",
    "importlib import_module",
    "runpy run_path",
    "webbrowser open",
    "types FunctionType",
    "types CodeType",
    "torch.storage _load_from_bytes",
    "torch._utils _rebuild_tensor",
    "torch serialization.load",
    "numpy.core.multiarray _reconstruct",
    "codecs encode",
    "_codecs encode",
    "collections OrderedDict.fromkeys",
    "builtins set.__init__",
    "torch FloatStorage.from_file",
    "torch UntypedStorage",
    "ctypes CDLL",
    "shutil rmtree",
    "socket socket",
    "asyncio run",
    "code interact",
    "pty spawn",
    "bdb Bdb",
    "pydoc pipepager",
    "timeit timeit",
    "torch._utils _rebuild_parameter",
    "ctx_to_lora.x __init__",
    "ctx_to_lora.os system",
    "peft os.system",
    "ctx_to_lora...x y",
    "collections namedtuple",
    "copyreg _reconstructor",
    "builtins type",
    "builtins object",
]
_PROGRAMS = [
    b"cos\nsystem\n(S'touch secret'\ntR",
    b"(S'touch secret'\nios\nsystem\n",
    b"(cos\nsystem\nS'touch secret'\no",
    b"\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch secret\x85R",
    b"creliability.fuzz\nfire\n)R",
    b"(ireliability.fuzz\nfire\n",
    b"\x82\x01",
    b"\x83\x01\0",
    b"\x84\x01\0\0\0",
    b"Psecret\n",
    b"cbuiltins\nexec\nX\x0a\0\0\0import os\n1\x85R",
    b"c__builtin__\neval\n(S'__import__(\"reliability.fuzz\").fuzz.fire()'\ntR",
    b"creliability.fuzz\nfire\n)\x81",
    b"creliability.fuzz\nfire\n)}\x92",
    b"ccollections\nOrderedDict\n)R}X\1\0\0\0aK\1sb",
    b"ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\0\0\0__defaults__K\1sb",
    b"cbuiltins\nset\n](NNe\x85R",
    b"))\x86" + b"2\x86" * 60,
    b"]q\x64h\x64a",
    b"}q\x64h\x64h\x64s",
    b"r\xff\xff\xff\xff0" + b"0",
    b"\x8b\xff\xff\xff\x7f",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x8d\xff\xff\xff\xff\0\0\0\0",
    b"T\xff\xff\xff\x7f",
    b"I" + b"9" * 5000 + b"\n",
    b"L" + b"9" * 5000 + b"L\n",
    b"\x8a\xff" + b"\x7f" * 255,
    b"\x97",
    b"\x98",
    b"(" * 1000,
    b"0" * 10,
    b"1",
    b"2" * 100,
    b"\x94" * 10,
    b"e",
    b"u",
    b"s",
    b"b",
    b"R",
    b"\x81",
    b"Q",
    b"a",
    b"\x90",
    b"\x91",
]
"""Pieces of pickles that run code, eat memory or confuse; some only where an unpickler is careless."""


@dataclass(frozen=True)
class Part:
    """Of a zip: what lies under a name, and what the archive's two places say of it where that is another thing."""

    name: str
    data: bytes
    method: int = 0
    flags: int = 0x800
    local_name: str | None = None
    size: int | None = None
    start: int | None = None
    attributes: int = 0


def zipped(parts: list[Part], comment: bytes = b"", before: bytes = b"") -> bytes:
    """A zip as told, whether or not it makes sense."""
    out, directory = bytearray(before), bytearray()
    for part in parts:
        data = part.data
        if part.method == 8:
            with io.BytesIO() as packed:
                with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                    archive.writestr("a", data)
                data = packed.getvalue()[31 : 31 + archive.getinfo("a").compress_size]
        crc, size = zipfile.crc32(part.data), len(part.data) if part.size is None else part.size
        packed_size = len(data) if part.method else size
        at = len(out) if part.start is None else part.start
        name, local = part.name.encode("utf-8", "replace"), (part.local_name or part.name).encode("utf-8", "replace")
        told = struct.pack("<HHHHHIIIHH", 20, part.flags, part.method, 0, 33, crc, packed_size, size, len(local), 0)
        out += b"PK\3\4" + told + local + data
        told = struct.pack(
            "<HHHHHHIIIHHHHHII",
            20,
            20,
            part.flags,
            part.method,
            0,
            33,
            crc,
            packed_size,
            size,
            len(name),
            0,
            0,
            0,
            0,
            part.attributes,
            at,
        )
        directory += b"PK\1\2" + told + name
    end = struct.pack("<HHHHIIH", 0, 0, len(parts), len(parts), len(directory), len(out), len(comment))
    return bytes(out + directory + b"PK\5\6" + end + comment)


class Checkpoints:
    """`.pt` files as the released code saves them."""

    name = "released"

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "a.pt"
        ours, _ = hypernetwork(folder, latent_size=2)
        export_released(find_hypernetwork("tiny", str(ours)), self.file)
        with zipfile.ZipFile(self.file) as archive:
            self.parts = [Part(name, archive.read(name)) for name in archive.namelist()]
        self.whole = self.file.read_bytes()
        self.pickle = next(part.data for part in self.parts if part.name.endswith("data.pkl"))
        self.turn = 0

    def write(self, random: Random) -> bool:
        kind = random.random()
        if kind < 0.03:
            self.file.write_bytes(random.choice([self.whole, zipped(self.parts)]))
            return True
        if kind < 0.15:
            head = len(self.whole) - 8000 if random.random() < 0.5 else 0
            data = mutations.of_bytes(random, self.whole[head:])
            self.file.write_bytes(self.whole[:head] + data)
            return False
        parts = list(self.parts)
        if kind < 0.75:
            code = _opcodes(random, self.pickle)
            parts = [replace(part, data=code) if part.name.endswith("data.pkl") else part for part in parts]
        if kind > 0.65:
            self.file.write_bytes(_archive(random, parts))
        else:
            self.file.write_bytes(zipped(parts))
        return False

    def read(self) -> None:
        tensors, config = read_released(self.file)
        try:
            theirs = _torchs(self.file)
        except (RuntimeError, AssertionError, TypeError, ValueError):
            return  # torch asks more of what says nothing here: who needs a gradient, on how many disks a zip lies
        assert tensors.keys() == theirs.keys()
        for name, tensor in tensors.items():
            assert tensor.dtype == theirs[name].dtype and tensor.equal(theirs[name]), name
        assert config.num_layers == tensors["head.weight"].shape[0]
        self.turn += 1
        if self.turn % 20 == 0:
            weights, again, _ = converted(self.file)
            assert again == config and weights.is_file()


def _torchs(file: Path) -> dict[str, torch.Tensor]:
    """The tensors as torch's own restricted unpickler reads them."""
    with zipfile.ZipFile(file) as archive:
        code = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    classes: list[Any] = [
        (stand_in(name), name)
        for name in sorted(set(globals_in(code, file).values()))
        if name.startswith(("peft.", "ctx_to_lora."))
    ]
    with torch.serialization.safe_globals(classes):
        content = torch.load(str(file), weights_only=True, map_location="cpu")
    return {name.replace("_orig_mod.", ""): value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _opcodes(random: Random, code: bytes) -> bytes:
    """A pickle with opcodes put in, taken out, doubled, swapped, or with other arguments."""
    at = [position for _, _, position in pickletools.genops(code)]
    pieces = [code[start:end] for start, end in zip(at, [*at[1:], len(code)], strict=True)]
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        place, kind = random.randrange(len(pieces)), random.randrange(10)
        if kind <= 1:
            pieces.insert(place, random.choice(_PROGRAMS) + random.choice([b"", b"0"]))
        elif kind == 2:
            place = random.choice([i for i, piece in enumerate(pieces) if piece[:1] == b"c"] or [place])
            pieces[place] = b"c" + random.choice(_GLOBALS).replace(" ", "\n", 1).encode() + b"\n"
        elif kind == 3:
            pieces.insert(
                place,
                b"c"
                + random.choice(_GLOBALS).replace(" ", "\n", 1).encode()
                + random.choice([b"\n)R0", b"\n0", b"\nX\6\0\0\0secret\x85R0", b"\n)\x81}b0"]),
            )
        elif kind == 4:
            del pieces[place]
        elif kind == 5:
            pieces.insert(place, random.choice(pieces))
        elif kind == 6:
            other = random.randrange(len(pieces))
            pieces[place], pieces[other] = pieces[other], pieces[place]
        elif kind == 7:
            pieces[place] = mutations.of_bytes(random, pieces[place])
        elif kind == 8:
            place = random.choice([i for i, piece in enumerate(pieces) if piece[:1] in b"KMJ"] or [place])
            pieces[place] = random.choice(
                [
                    b"K\0",
                    b"K\1",
                    b"K\xff",
                    b"M\xff\xff",
                    b"J\xff\xff\xff\x7f",
                    b"J\xff\xff\xff\xff",
                    b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
                    b"N",
                    b"\x88",
                    b"G\x7f\xf0" + b"\0" * 6,
                ]
            )
        else:
            place = random.choice([i for i, piece in enumerate(pieces) if piece[:1] == b"X"] or [place])
            text = random.choice(
                [
                    b"",
                    b"0",
                    b"../secret",
                    b"/etc/passwd",
                    b"\xed\xa0\x80",
                    b"\x1b[31m",
                    b"a" * 3000,
                    b"\0",
                    b"storage",
                    b"head.weight",
                    b"__class__",
                    b"lora_alpha",
                ]
            )
            pieces[place] = b"X" + struct.pack("<I", len(text)) + text
    return b"".join(pieces)


def _archive(random: Random, parts: list[Part]) -> bytes:
    """A zip whose parts are packed, doubled, elsewhere, of other sizes or names; or with things around it."""
    comment, before = b"", b""
    for _ in range(random.choice([1, 1, 2, 3])):
        place, kind = random.randrange(len(parts)), random.randrange(14)
        if random.random() < 0.3:
            place = next((i for i, part in enumerate(parts) if part.name.endswith("data.pkl")), place)
        part = parts[place]
        if kind == 0:
            parts[place] = replace(part, method=8)
        elif kind == 1:
            parts[place] = replace(
                part, method=random.choice([1, 8, 9, 12, 14, 99]), size=random.choice([0, 2**31, 2**32 - 1])
            )
        elif kind == 2:
            parts[place] = replace(part, flags=random.choice([1, 0x801, 0x8, 0x2000, 0xFFFF, 0x20, 0x40]))
        elif kind == 3:
            parts.insert(place, replace(part, data=mutations.of_bytes(random, part.data)))  # twice the name
        elif kind == 4:
            parts[place] = replace(
                part, size=random.choice([0, 1, len(part.data) - 1, len(part.data) + 1, 10**6, 2**32 - 1])
            )
        elif kind == 5:
            parts[place] = replace(part, start=random.choice([0, 1, 50, 10**6, 2**32 - 1]))
        elif kind == 6:
            parts[place] = replace(part, local_name=random.choice(["x", "../secret", part.name + "x", part.name[::-1]]))
        elif kind == 7:
            parts[place] = replace(
                part,
                name=random.choice(
                    [
                        "../secret",
                        "/etc/passwd",
                        "a/../data.pkl",
                        "",
                        "a\\b",
                        "\0",
                        part.name.upper(),
                        part.name + "/",
                        "x/data.pkl",
                        "a" * 3000,
                    ]
                ),
            )
        elif kind == 8:
            parts.insert(
                place,
                Part(
                    random.choice(["evil/data.pkl", "data.pkl", "a/data/data.pkl", "a.pkl", "code/x.py"]),
                    random.choice(_PROGRAMS),
                ),
            )
        elif kind == 9:
            del parts[place]
            if not parts:
                parts = [part]
        elif kind == 10:
            comment = random.choice([b"x", b"PK\5\6" + bytes(18), random.randbytes(100)])
        elif kind == 11:
            before = random.choice([b"MZ", bytes(100), b"\x80\x02cos\nsystem\n.", b"PK\3\4"])
        elif kind == 12:
            parts[place] = replace(part, attributes=0o120777 << 16, data=b"../secret")
        else:
            other = random.randrange(len(parts))
            parts[place], parts[other] = (replace(part, data=parts[other].data), replace(parts[other], data=part.data))
    data = zipped(parts, comment, before)
    return mutations.of_bytes(random, data) if random.random() < 0.1 else data
