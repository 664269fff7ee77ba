"""What fetching a model would bring in, asked before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from v2l.config import PRESETS
from v2l.store import hub
from v2l.store.hub import NotOnHub, Repo
from v2l.store.names import preset_of
from v2l.store.resolve import is_base_file


def to_fetch(name: str, checkpoint: str | None = None) -> dict[str, int]:
    """Bytes that `resolve.pull` would fetch at most, by repository: what has not changed since an earlier commit is not
    fetched again. Nothing of one whose files are all there, or of which no sizes are told. ModelError where the Hub
    cannot be asked."""
    preset = PRESETS.get(name) or preset_of(name)
    wanted: list[tuple[list[Repo], Callable[[str], bool]]] = []
    base = Repo(preset.base) if preset and preset.base and name == preset.name else Repo.parse(name)
    if base is not None and not Path(name).is_dir() and not (preset and not preset.base):
        wanted.append(([base], lambda file: is_base_file(file) or file.endswith(".safetensors")))
    if checkpoint is not None:
        repo, _, file = checkpoint.partition(":")
        if (named := Repo.parse(repo)) and file and not Path(checkpoint).exists():
            wanted.append(([named], file.__eq__))
    elif preset and preset.checkpoints:
        wanted.append(([Repo(id) for id in preset.checkpoints], preset.checkpoint_file.__eq__))
    sizes = dict(_missing(repos, is_wanted) for repos, is_wanted in wanted)
    return {repo: size for repo, size in sizes.items() if size}


def _missing(repos: list[Repo], is_wanted: Callable[[str], bool]) -> tuple[str, int]:
    """The first of these repositories that has wanted files, and bytes of those that are not in the cache."""
    for repo in repos:
        with suppress(NotOnHub):
            exact, sizes = hub.file_sizes(repo)
            if sizes := {file: size for file, size in sizes.items() if is_wanted(file)}:
                there = hub.snapshot(exact)
                return repo.id, sum(size for file, size in sizes.items() if not (there and (there / file).exists()))
    return repos[0].id, 0


def free_space() -> int | None:
    """Bytes free where downloads go; None where that cannot be told."""
    place = hub.hub_cache()
    while not place.exists() and place != place.parent:
        place = place.parent
    with suppress(OSError):
        return shutil.disk_usage(place).free
    return None
