"""Which code runs, so that a process and the one that it starts can tell that both are of one installation."""

from __future__ import annotations

import hashlib
from pathlib import Path

import v2l


def code_version() -> str:
    """The version of v2l and a digest of the code of this room, as they stand on the disk now."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return f"{v2l.__version__} {digest.hexdigest()[:16]}"


CODE = code_version()
"""What `code_version` gave when this process began to watch."""
