"""Names as typed: what `--model` and `--checkpoint` mean, and what can be no model. Nothing is read or fetched."""

from __future__ import annotations

from pathlib import Path

from v2l.config import DEFAULT_MODEL, PRESETS, Preset
from v2l.errors import ModelError, UsageError
from v2l.store.hub import Repo
from v2l.wording import nearest

TINY_ID = "v2l/tiny"
WEIGHTS_ENDINGS = (".pt", ".safetensors")
TRAINED = "hypernetwork.safetensors"
"""What `v2l train` writes into its folder, and what a model's folder may hold beside the base."""


def model_name(model: str) -> str:
    """A model's name, that of a preset in small letters: `500M` is `500m`, unless a folder is called so."""
    return model.lower() if model.lower() in PRESETS and not Path(model).is_dir() else model


def named_preset(model: str) -> Preset | None:
    """The preset that a short name or the Hub id of its base means."""
    return PRESETS.get(model) or preset_of(model)


def preset_of(base: str) -> Preset | None:
    """The preset with this base, given by its Hub id, which is what adapters record."""
    return next((p for p in PRESETS.values() if base.partition("@")[0] == (p.base or TINY_ID)), None)


def base_repo(model: str) -> Repo:
    """The repository of a base that is neither a preset nor a folder. UsageError where the name is no Hub id."""
    repo = Repo.parse(model)
    if repo is None or Path(model).is_file():
        raise UsageError(f"There is no model {model}{nearest(model, PRESETS)}: it is none of {', '.join(PRESETS)}, "
                         "no folder, and no Hub id (org/name).")
    return repo


def check_name(model: str) -> None:
    """UsageError for a name that is no preset, no folder and no Hub id. No network; whether it is there is not
    asked."""
    if named_preset(model) is None and not Path(model).is_dir():
        base_repo(model)


def checkpoint_place(checkpoint: str) -> Preset | Path | tuple[Repo, str]:
    """What `--checkpoint` names: a preset's hypernetwork, a file of this disk, or a repository and a file in it (""
    where none was named). ModelError for what can be none of these; whether the Hub has it is not asked."""
    name = DEFAULT_MODEL if checkpoint == TINY_ID else model_name(checkpoint)
    if name in PRESETS and (checkpoint == TINY_ID or not Path(checkpoint).exists()):
        return PRESETS[name]
    path = Path(checkpoint)
    if path.is_dir() and (path / TRAINED).is_file():
        path /= TRAINED
    if path.is_file():
        return path
    name, _, file = checkpoint.partition(":")
    repo = Repo.parse(name)
    if repo is None or (not file and name.endswith(WEIGHTS_ENDINGS)):
        wrong = f"The folder {checkpoint} holds no {TRAINED}" if path.is_dir() else f"There is no file {checkpoint}"
        raise ModelError(f"{wrong}; --checkpoint takes a folder that `v2l train run` filled, a .pt or .safetensors "
                         "file, or HUB_ID:FILE.")
    if file and not file.endswith(WEIGHTS_ENDINGS):
        raise ModelError(f"{checkpoint} names no .pt or .safetensors file.")
    return repo, file
