"""What TAB offers for names of files: folders, and files of the kind that is asked for."""

from __future__ import annotations

import os


def paths(beginning: str, endings: tuple[str, ...]) -> list[str]:
    """Folders, and files with one of the endings, whose path begins so."""
    end = max(beginning.rfind(separator) for separator in {"/", os.sep}) + 1
    place, name = beginning[:end], beginning[end:]
    try:
        with os.scandir(place or ".") as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries]
    except OSError:
        return []
    return sorted(f"{place}{each}{'/' if is_folder else ''}" for each, is_folder in found
                  if each.startswith(name) and each.startswith(".") == name.startswith(".")
                  and (is_folder or each.lower().endswith(endings)))


def adapter_paths(incomplete: str) -> list[str]:
    """Folders and adapters that an argument may go on to."""
    from v2l.config import ADAPTER_SUFFIX

    return paths(incomplete, (ADAPTER_SUFFIX,))


def manifest_paths(incomplete: str) -> list[str]:
    """Folders and manifests that an argument may go on to."""
    return paths(incomplete, (".jsonl", ".json"))


def video_paths(incomplete: str) -> list[str]:
    """Folders and videos that an argument may go on to."""
    from v2l.video.folder import EXTENSIONS

    return paths(incomplete, EXTENSIONS)
