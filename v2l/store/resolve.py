"""Names -> verified files: `tiny`, `500m`, `2.2b`, a folder or a Hub id, and the hypernetwork that goes with it.

What is on the disk, whole and as it was fetched (`v2l.store.pins`) is used without asking the network; `pull`
asks for newer versions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import v2l
from v2l.config import PRESETS, HypernetConfig, Preset, Sampling
from v2l.errors import ModelError
from v2l.model.config import TextConfig
from v2l.model.folder import (
    INDEX,
    check_architecture,
    check_base,
    check_hypernetwork,
    missing_files,
    read_hypernet_config,
    stored_tensors,
    weight_names,
)
from v2l.store import hub
from v2l.store.hub import NotOnHub, Repo
from v2l.store.names import TINY_ID, TRAINED, WEIGHTS_ENDINGS, base_repo, checkpoint_place, model_name, named_preset
from v2l.store.pins import is_damaged, keep, pinned
from v2l.store.released import converted
from v2l.system.cache import sha256_of
from v2l.system.progress import Progress

TINY_FOLDER = Path(v2l.__file__).parent / "tiny" / "weights"
_SMALL = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
          "added_tokens.json", "vocab.json", "merges.txt", "chat_template.json", "chat_template.jinja",
          "preprocessor_config.json", "processor_config.json", INDEX)
"""All files that are fetched of a base's repository besides its safetensors."""



@dataclass(frozen=True)
class ModelFiles:
    """A base model on this disk, verified."""

    name: str
    """What adapters record: the Hub id, `v2l/tiny`, or the folder's name."""
    folder: Path
    """config.json, tokenizer.json, safetensors and what else came with them."""
    revision: str | None
    """Commit on the Hub, where it came from there."""
    resolution: int
    """Longest edge of frames it is meant to see, in pixels."""


@dataclass(frozen=True)
class HypernetFiles:
    """A hypernetwork on this disk, verified."""

    name: str
    """`repository:file`, or the file's name."""
    weights: Path
    """safetensors, with the released tensor names."""
    config: HypernetConfig
    sha256: str
    """sha256 of the weights file."""


@dataclass(frozen=True)
class Availability:
    """How much of a preset is on this disk."""

    name: str
    about: str
    base: str
    base_folder: Path | None
    """Folder of the base; None until all its files are there."""
    hypernetwork: str
    hypernetwork_file: Path | None
    size: int
    """Bytes on the disk."""

    @property
    def ready(self) -> bool:
        return self.base_folder is not None and self.hypernetwork_file is not None


def find_base(model: str, *, offline: bool = False, progress: Progress | None = None) -> ModelFiles:
    """The base that `model` names (preset, FOLDER or HUB_ID[@REVISION]), fetched if it is not there.

    `v2l/tiny`, as adapters record it, is `tiny`. Raises ModelError, UsageError for a name that can be none of these.
    """
    return _find_base(model, offline, progress, refresh=False)


def find_hypernetwork(model: str, checkpoint: str | None = None, *, offline: bool = False,
                      progress: Progress | None = None) -> HypernetFiles:
    """The hypernetwork that `checkpoint` names (FILE, HUB_ID[@REVISION][:FILE] or a preset), else the one of `model`.

    Raises ModelError if there is none, or if it is damaged or was refused.
    """
    return _find_hypernetwork(model, checkpoint, offline, progress, refresh=False)


def pull(
    name: str, checkpoint: str | None = None, progress: Progress | None = None
) -> tuple[ModelFiles, HypernetFiles | None]:
    """Fetches the newest version of a preset, or of a base by its Hub id, and of its hypernetwork: the one that
    `checkpoint` names, or the one that goes with it (None: there is none we know of)."""
    base = _find_base(name := model_name(name), False, progress, refresh=True)
    if checkpoint is None and named_preset(name) is None and not Path(name).is_dir():
        return base, None
    return base, _find_hypernetwork(name, checkpoint, False, progress, refresh=True)


def cached_base(repo: Repo) -> Path | None:
    """The folder of a base in the Hugging Face cache, if it has all its files. No network; no weights are read."""
    folder = hub.snapshot(pinned(repo, "config.json"))
    return folder if folder and not missing_files(folder) else None


def check_fit(base_config: dict[str, Any], config: HypernetConfig, base: str, checkpoint: str) -> None:
    """ModelError, naming both sides, unless the hypernetwork was made for a base of this shape (its config.json)."""
    text = TextConfig.from_json(base_config)
    has = (text.num_layers, text.hidden_size, text.intermediate_size, text.hidden_size)
    wants = (config.num_layers, config.hidden_size, config.d_in, config.d_out)
    if has != wants:
        words = "{} layers of width {} with down_proj {} -> {}"
        made_for = f" (made for {config.base})" if config.base else ""
        raise ModelError(f"The base {base} and the hypernetwork {checkpoint} do not fit: "
                         f"the base has {words.format(*has)}, the hypernetwork{made_for} needs {words.format(*wants)}; "
                         "choose another --model or --checkpoint.")


def available() -> list[Availability]:
    """The presets and what of them is on this disk. No network; nothing is loaded."""
    return [_availability(preset) for preset in PRESETS.values()]


# --- bases ---


def _find_base(model: str, offline: bool, progress: Progress | None, refresh: bool) -> ModelFiles:
    preset = named_preset(model)
    if preset is not None and not preset.base:
        if not TINY_FOLDER.is_dir():
            raise ModelError(f"This installation of v2l lacks its embedded model ({TINY_FOLDER}); install v2l again.")
        check_base(TINY_FOLDER / "base")
        return ModelFiles(TINY_ID, TINY_FOLDER / "base", None, preset.resolution)
    resolution = preset.resolution if preset else Sampling.resolution
    folder = Path(model)
    if model not in PRESETS and folder.is_dir():
        check_base(folder)
        return ModelFiles(folder.resolve().name, folder, None, resolution)
    repo = Repo(preset.base) if preset and model == preset.name else base_repo(model)
    folder = _hub_base(repo, offline or hub.is_offline(), progress, refresh)
    return ModelFiles(repo.id, folder, folder.name, resolution)


def is_base_file(name: str) -> bool:
    """Whether a file is fetched of a base's repository besides its safetensors."""
    return name in _SMALL


def _hub_base(repo: Repo, offline: bool, progress: Progress | None, refresh: bool) -> Path:
    """The snapshot folder of a base, whole and checked."""
    return hub_model(repo, "v2l needs a base with a fast tokenizer and safetensors", is_base_file,
                     check_architecture, check_base, offline, progress, refresh)


def hub_model(repo: Repo, needs: str, is_small: Callable[[str], bool], check_config: Callable[[Path], object],
              check: Callable[[Path], object], offline: bool = False, progress: Progress | None = None,
              refresh: bool = False) -> Path:
    """The snapshot folder of a model: as it was fetched before, and held against what is recorded of that, or fetched
    and recorded. `is_small` tells by their names the files that come besides the safetensors; `check_config` is called
    before those come, `check` with the whole folder; `needs` ends the message about one that lacks files.

    Raises ModelError, also where a file has another content than it had.
    """
    offline = offline or hub.is_offline()
    wanted = repo if refresh else pinned(repo, "config.json")
    cached = hub.snapshot(wanted)
    if cached and not refresh:
        try:
            check(cached)
            small = [file.name for file in cached.iterdir() if is_small(file.name)]
            keep(repo, cached, dict.fromkeys([*small, *weight_names(cached)]))
            return cached
        except ModelError:
            if offline:
                raise
    if offline:
        raise hub.offline_error(str(repo))
    exact, names = hub.resolve(wanted)
    if cached := hub.snapshot(exact):
        _drop_damaged(repo, cached)
    _require(repo, ["config.json", "tokenizer.json"], names, needs)
    folder = hub.download(exact, "config.json", progress).parent
    check_config(folder)  # before gigabytes of something else come in
    small = [name for name in names if is_small(name)]
    for name in small:
        hub.download(exact, name, progress)
    weights = weight_names(folder)
    _require(repo, weights, names, needs)
    for name in weights:
        hub.download(exact, name, progress)
    check(folder)
    keep(repo, folder, [*small, *weights])
    hub.set_revision(wanted, exact)
    return folder


def _require(repo: Repo, wanted: Sequence[str], names: Sequence[str], needs: str) -> None:
    if absent := [name for name in wanted if name not in names]:
        raise ModelError(f"{repo} has no {' and no '.join(absent)}; {needs}.")


def _drop_damaged(repo: Repo, folder: Path) -> None:
    """Takes what is not whole, or not as it was fetched, out of the cache, so that it is fetched again."""
    for file in folder.rglob("*"):
        try:
            if file.suffix == ".safetensors":
                stored_tensors(file)
            damaged = is_damaged(repo, folder, file.relative_to(folder).as_posix())
        except ModelError:
            damaged = True
        if damaged:
            file.resolve().unlink(missing_ok=True)
            file.unlink(missing_ok=True)


# --- hypernetworks ---


def _find_hypernetwork(model: str, checkpoint: str | None, offline: bool, progress: Progress | None,
                       refresh: bool) -> HypernetFiles:
    offline = offline or hub.is_offline()
    if checkpoint is not None:
        return _named_checkpoint(model, checkpoint, offline, progress, refresh)
    preset = named_preset(model)
    if preset is not None and not preset.checkpoints:
        return _ours(TINY_FOLDER / TRAINED, TINY_ID)
    if model not in PRESETS:
        for file in (Path(model, TRAINED), Path(model, "hypernetwork.pt")):
            if file.is_file():
                return _open(file, file.name)
    if preset is not None:
        file = _first_with([Repo(id) for id in preset.checkpoints], preset.checkpoint_file, offline, progress, refresh)
        return _released(file, f"{preset.checkpoints[0]}:{preset.checkpoint_file}")
    raise ModelError(f"No hypernetwork is known for {model}; name one with --checkpoint FILE or HUB_ID:FILE.")


def _named_checkpoint(model: str, checkpoint: str, offline: bool, progress: Progress | None,
                      refresh: bool) -> HypernetFiles:
    place = checkpoint_place(checkpoint)
    if isinstance(place, Preset):
        return _find_hypernetwork(place.name, None, offline, progress, refresh)
    if isinstance(place, Path):
        return _open(place, place.name)
    repo, file = place
    if not file:
        file = _choose(repo, model, offline, refresh)
    path = _first_with([repo], file, offline, progress, refresh)
    if file.endswith(".safetensors"):
        _first_with([repo], file.removesuffix(".safetensors") + ".json", offline, progress, refresh)
    return _open(path, f"{repo}:{file}")


def _choose(repo: Repo, model: str, offline: bool, refresh: bool) -> str:
    """The weights file that is meant where only a repository was named: the preset's, or its only one."""
    preset = named_preset(model)
    if preset is not None and repo.id in preset.checkpoints:
        return preset.checkpoint_file
    cached = None if refresh else hub.snapshot(repo)
    files = [file.name for file in cached.iterdir() if file.suffix in WEIGHTS_ENDINGS] if cached else []
    if len(files) != 1 and not offline:
        files = [name for name in hub.resolve(repo)[1] if name.endswith(WEIGHTS_ENDINGS)]
    if not files:
        raise hub.offline_error(str(repo)) if offline else ModelError(f"{repo} holds no .pt or .safetensors file.")
    if len(files) > 1:
        raise ModelError(f"{repo} holds {', '.join(sorted(files))}; say which with --checkpoint {repo}:FILE.")
    return files[0]


def _first_with(repos: list[Repo], file: str, offline: bool, progress: Progress | None, refresh: bool) -> Path:
    """A file of the first of these repositories that has it: in the cache, else on the Hub."""
    for repo in repos:
        if (path := _cached(repo, file)) is not None:
            folder = _snapshot_of(path, file)
            try:
                if not refresh:
                    keep(repo, folder, [file])
                    return path
            except ModelError:
                if offline:
                    raise
            _drop_damaged(repo, folder)
    if offline:
        raise hub.offline_error(f"{repos[0]}:{file}")
    absent: list[NotOnHub] = []
    for repo in repos:
        try:
            path = hub.download(repo if refresh else pinned(repo, file), file, progress)
            keep(repo, _snapshot_of(path, file), [file])
            return path
        except NotOnHub as error:
            absent.append(error)
    raise absent[0]


def _cached(repo: Repo, file: str) -> Path | None:
    folder = hub.snapshot(pinned(repo, file))
    return folder / file if folder and (folder / file).is_file() else None


def _snapshot_of(path: Path, file: str) -> Path:
    """The folder of a commit, from the path of one of its files."""
    return path.parents[len(Path(file).parts) - 1]


def _open(file: Path, name: str) -> HypernetFiles:
    return _ours(file, name) if file.suffix == ".safetensors" else _released(file, name)


def _released(file: Path, name: str) -> HypernetFiles:
    weights, config, sha256 = converted(file)
    return HypernetFiles(name, weights, config, sha256)


def _ours(weights: Path, name: str) -> HypernetFiles:
    """Our safetensors, described by the JSON beside it."""
    config = read_hypernet_config(weights.with_suffix(".json"))
    check_hypernetwork(weights, config)
    return HypernetFiles(name, weights, config, sha256_of(weights))


# --- what is on this disk ---


def _availability(preset: Preset) -> Availability:
    if not preset.base:
        base, file = TINY_FOLDER / "base", TINY_FOLDER / TRAINED
        return _with_size(preset, TINY_ID, base if base.is_dir() else None, TINY_ID, file if file.is_file() else None)
    base_folder = cached_base(Repo(preset.base))
    files = (_cached(Repo(id), preset.checkpoint_file) for id in preset.checkpoints)
    return _with_size(preset, preset.base, base_folder, f"{preset.checkpoints[0]}:{preset.checkpoint_file}",
                      next((file for file in files if file), None))


def _with_size(preset: Preset, base: str, folder: Path | None, hypernetwork: str, file: Path | None) -> Availability:
    files = [*(folder.iterdir() if folder else ()), *([file] if file else ())]
    size = sum(file.stat().st_size for file in files if file.is_file())
    return Availability(preset.name, preset.about, base, folder, hypernetwork, file, size)
