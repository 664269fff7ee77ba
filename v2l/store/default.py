"""The model that is taken where none is named: what V2L_MODEL says, else what `v2l models use` wrote, else `tiny`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from v2l.config import DEFAULT_MODEL
from v2l.errors import ModelError, OutputError, UsageError
from v2l.store.names import TINY_ID, check_name, model_name
from v2l.store.resolve import TINY_FOLDER, HypernetFiles, ModelFiles
from v2l.system.cache import needs_home
from v2l.system.files import replacing
from v2l.system.lines import text_of
from v2l.wording import command

VARIABLE = "V2L_MODEL"
TINY_WORLD = TINY_FOLDER / "world.safetensors"


@dataclass(frozen=True)
class DefaultModel:
    """A model's name, and where it was named."""

    name: str
    origin: str
    """`V2L_MODEL`, the configuration's file, or nothing where v2l itself named it."""

    @contextmanager
    def told(self) -> Iterator[None]:
        """Adds to a ModelError of this model, which nobody typed, where it was named and the ways out."""
        try:
            yield
        except ModelError as error:
            if not self.origin or self.name == DEFAULT_MODEL:
                raise
            pull = command("models pull", self.name)
            fetch = "" if pull in str(error) or _is_folder(self.name) else f"fetch it with `{pull}`, or "
            leave = "--model tiny" if self.origin == VARIABLE else "`v2l models use tiny`"  # V2L_MODEL is heard first
            raise type(error)(f"{str(error).rstrip('.')}; {self.name} is the default model, as {self.origin} says: "
                              f"{fetch}take another with {leave}.") from None


def config_file() -> Path:
    """The file whose one line names the model: in the folder that V2L_CONFIG names, else in the platform's."""
    from platformdirs import user_config_dir

    with needs_home("V2L_CONFIG"):
        return Path(os.environ.get("V2L_CONFIG") or user_config_dir("v2l")).expanduser() / "model"


def default_model() -> DefaultModel:
    """The model that is taken where none is named. UsageError, which says where it was named, for a name that can be
    none, and for a configuration that cannot be read."""
    origin, name = VARIABLE, os.environ.get(VARIABLE, "").strip()
    if not name:
        with suppress(ModelError):  # who has no home has configured nothing
            file = config_file()
            origin, name = str(file), _line(file)
    if not name:
        return DefaultModel(DEFAULT_MODEL, "")
    name = model_name(name)
    try:
        check_name(name)
    except UsageError as error:
        raise UsageError(f"{origin} names the default model, and {str(error)[0].lower()}{str(error)[1:]}") from None
    return DefaultModel(name, origin)


def chosen_model(model: str | None) -> DefaultModel:
    """The model that was named, or the default one where none was. UsageError for a name that can be none."""
    if model is None:
        return default_model()
    check_name(name := model_name(model))
    return DefaultModel(name, "")


def _line(file: Path) -> str:
    try:
        return text_of(file.read_bytes()).strip()
    except FileNotFoundError:
        return ""
    except NotADirectoryError:
        if str(file.parent) == os.devnull:  # as programs are told to read no configuration
            return ""
        raise UsageError(f"{file.parent} is no folder, and the default model is configured in one; name one with "
                         "V2L_CONFIG, or remove that variable.") from None
    except (OSError, ValueError) as error:  # ValueError: bytes that are no text
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"{file}, which names the default model, cannot be read ({reason}); name one anew with: "
                         "v2l models use NAME.") from None


def world_of(base: ModelFiles, hypernetwork: Callable[[], HypernetFiles]) -> Path | None:
    """The file of the test that tells the world a model was made for from all else (`v2l.model.familiar`): `tiny` alone
    has one. The hypernetwork, which asking a video directly has no other use for, is found only with that base."""
    return TINY_WORLD if base.name == TINY_ID and hypernetwork().name == TINY_ID else None


def set_default_model(name: str) -> Path:
    """Writes the name of a preset, a folder or a Hub id to the configuration's file, whose path is returned.
    UsageError for a name that can be none of these, OutputError where it cannot be written."""
    name = model_name(name)
    check_name(name)
    file = config_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as out:
            # From any folder the same; a name that is a preset's is one even where a folder is called so.
            out.write((name if not _is_folder(name) else str(Path(name).absolute())).encode() + b"\n")
    except OSError as error:
        raise OutputError(f"The configuration {file} cannot be written ({error.strerror}); V2L_CONFIG can name another "
                          "folder.") from None
    return file


def _is_folder(name: str) -> bool:
    from v2l.config import PRESETS

    return name not in PRESETS and Path(name).is_dir()
