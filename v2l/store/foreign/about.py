"""What v2l says beside, or inside, of what it writes for other engines: where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import v2l
from v2l.adapter.factors import Factors
from v2l.adapter.file import Adapter
from v2l.adapter.record import Record
from v2l.store.resolve import ModelFiles
from v2l.system.cache import sha256_of

ABOUT = "v2l.json"
"""Name of a file in a folder, by which it is known as ours, and key of a GGUF file."""


def about_adapter(adapter: Adapter, file: Path, factors: Factors, format: str) -> Record:
    """What is said of an adapter's factors: the file they came from, its base and its segments."""
    segments = [{"video": adapter.sources[segment["source"]]["name"], "start": segment["start"], "end": segment["end"]}
                for segment in adapter.segments]
    return {"format": format, "v2l": v2l.__version__, "adapter": {"name": file.name, "sha256": sha256_of(file)},
            "base": adapter.record["base"], "segments": segments, "rank": factors.rank, "alpha": factors.alpha,
            "dtype": factors.dtype}


def about_base(files: ModelFiles, fingerprint: str, type: str) -> Record:
    """What is said of a base's text stack in another format."""
    return {"format": "gguf", "v2l": v2l.__version__, "type": type,
            "base": {"id": files.name, "revision": files.revision, "fingerprint": fingerprint}}


def write_document(path: Path, content: Any) -> None:
    """Writes JSON for people to read. OSError."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
