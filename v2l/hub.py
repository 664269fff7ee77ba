"""Files of a Hub repository in the Hugging Face cache, fetched with huggingface_hub's client.

Two things the client leaves to us: a large file that was interrupted continues where it stopped, also in a later
process (the client forgets what it had), and what goes wrong becomes one sentence with the way out. HF_HOME,
HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN are honoured as they are at the time of the call.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2l.errors import ModelError
from v2l.verify import hash_of

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes there, bytes in all or None) while a file comes in."""

_REPO = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class NotOnHub(ModelError):
    """The repository, revision or file does not exist (or is hidden from us)."""


@dataclass(frozen=True)
class Repo:
    """A model repository at a branch, tag or commit."""

    id: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> Repo | None:
        """`org/name` or `org/name@revision`; None for anything else."""
        found = _REPO.fullmatch(text)
        return cls(found[1], found[2] or "main") if found else None

    def __str__(self) -> str:
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"

    @property
    def folder(self) -> Path:
        """Where the Hugging Face cache keeps this repository."""
        return hub_cache() / f"models--{self.id.replace('/', '--')}"


def hub_cache() -> Path:
    """The Hugging Face cache that the environment names now."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.expandvars(named)).expanduser()


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    said = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return said.upper() in ("1", "ON", "YES", "TRUE")


def snapshot(repo: Repo) -> Path | None:
    """The cached folder of a repository at its revision, whole or not; None if there is none. No network."""
    commit = repo.revision
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (repo.folder / "refs" / commit).read_text().strip()
        except OSError:
            return None
    folder = repo.folder / "snapshots" / commit
    return folder if commit and folder.is_dir() else None


def resolve(repo: Repo) -> tuple[Repo, list[str]]:
    """Asks the Hub: the repository pinned to the commit its revision is at, and the names of its files."""
    with _explained(repo, str(repo)):
        from huggingface_hub import HfApi

        info = HfApi(endpoint=endpoint()).model_info(repo.id, revision=repo.revision)
        commit = str(info.sha)
        names = [file.rfilename for file in info.siblings or ()]
        if not names:
            names = HfApi(endpoint=endpoint()).list_repo_files(repo.id, revision=commit)
    return Repo(repo.id, commit), names


def remember(repo: Repo, pinned: Repo) -> None:
    """From now on the cache holds `repo`'s revision: called once all of a snapshot's files are there."""
    if repo.revision != pinned.revision:
        with _explained(repo, str(repo)):
            ref = repo.folder / "refs" / repo.revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(pinned.revision)


def download(repo: Repo, name: str, progress: Progress | None = None) -> Path:
    """One file of a repository, from the cache or the Hub. Large ones continue where an earlier try stopped."""
    with _explained(repo, f"{repo}:{name}"):
        from huggingface_hub import hf_hub_download

        bar = _bar(name, progress)
        if name.endswith((".safetensors", ".pt")):
            _fetch_blob(repo, name, bar)  # the client below finds the content in its cache and only gives it its name
        return Path(hf_hub_download(repo.id, name, revision=repo.revision, cache_dir=hub_cache(), endpoint=endpoint(),
                                    tqdm_class=bar))


def _fetch_blob(repo: Repo, name: str, bar: type[Any]) -> None:
    """Puts the content of a file where the client's cache keeps contents: blobs/ETAG."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

    if _COMMIT.fullmatch(repo.revision) and (repo.folder / "snapshots" / repo.revision / name).exists():
        return
    url = hf_hub_url(repo.id, name, revision=repo.revision, endpoint=endpoint())
    facts = get_hf_file_metadata(url)
    if facts.etag is None or facts.size is None or not re.fullmatch(r"[\w-]+", facts.etag):
        return  # no Hub of the usual kind; what the client makes of it is as good as anything
    blob = repo.folder / "blobs" / facts.etag
    lock = hub_cache() / ".locks" / repo.folder.name / f"{facts.etag}.v2l.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return
        partial = blob.with_name(f"{blob.name}.v2l.incomplete")
        with partial.open("ab") as f:
            if f.tell() > facts.size:
                f.truncate(0)
            if shutil.disk_usage(blob.parent).free < facts.size - f.tell():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # now, not after gigabytes
            try:
                http_get(url, f, resume_size=f.tell(), headers=build_hf_headers(), expected_size=facts.size,
                         tqdm_class=bar)
            except OSError as error:
                if error.errno is None and str(error).startswith("Consistency check failed"):
                    raise _damaged(partial, f"{repo}:{name}", "has another size than the Hub says") from None
                raise
            f.flush()
            os.fsync(f.fileno())
        # A large file's ETag is the sha256 of its content.
        if re.fullmatch(r"[0-9a-f]{64}", facts.etag) and hash_of(partial) != facts.etag:
            raise _damaged(partial, f"{repo}:{name}", "came in with another content than the Hub says")
        os.replace(partial, blob)


def _damaged(partial: Path, what: str, how: str) -> ModelError:
    partial.unlink(missing_ok=True)
    return ModelError(f"{what} {how} and was thrown away; try again.")


def _bar(name: str, progress: Progress | None) -> type[Any]:
    """What huggingface_hub takes for a tqdm class: prints nothing, tells `progress`."""

    class Bar:
        def __init__(self, *_: object, total: int | None = None, initial: int = 0, **__: object) -> None:
            self.total, self.n = total, initial
            self.update(0)

        def update(self, n: float | None = 1) -> None:
            self.n += int(n or 0)
            if progress is not None:
                progress(name, self.n, self.total)

        def close(self) -> None: ...

        def refresh(self) -> None: ...

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

    return Bar


@contextmanager
def _explained(repo: Repo, what: str) -> Iterator[None]:
    """Errors of the client as one sentence each; its log stays quiet meanwhile, since these sentences say it all."""
    from huggingface_hub import errors

    # httpx's in 1.x, httpx2's since: the client's errors derive from it.
    transport: Any = vars(errors)["HTTPError"]
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.CRITICAL)
    web = f"{endpoint()}/{repo.id}"
    try:
        yield
    except errors.GatedRepoError:
        raise ModelError(f"{what} is gated: accept its terms at {web}, then log in with `hf auth login` "
                         "or set HF_TOKEN.") from None
    except errors.RepositoryNotFoundError:
        raise NotOnHub(f"There is no repository {repo.id} at {endpoint()}, or it is private; check the name, "
                       "or log in with `hf auth login` or HF_TOKEN.") from None
    except errors.RevisionNotFoundError:
        raise NotOnHub(f"{repo.id} has no revision {repo.revision}; {web} lists the branches and tags.") from None
    except errors.LocalEntryNotFoundError as error:
        reason = str(error.__cause__ or "no connection").splitlines()[0]
        raise ModelError(f"{what} could not be fetched from {endpoint()} ({reason}) and is not in the cache; "
                         "check the connection and try again.") from None
    except errors.EntryNotFoundError:
        raise NotOnHub(f"{what} does not exist; {web} lists the files there are.") from None
    except errors.OfflineModeIsEnabled:
        raise offline_error(what) from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status == 404:
            raise NotOnHub(f"{what} does not exist at {endpoint()}; check the name.") from None
        if status in (401, 403):
            raise ModelError(f"{endpoint()} refused access to {what} (status {status}); log in with `hf auth login` "
                             "or check HF_TOKEN.") from None
        raise ModelError(f"{endpoint()} answered with status {status} for {what}; try again later, "
                         "a download continues where it stopped.") from None
    except errors.HFValidationError:
        raise ModelError(f"{repo.id!r} is no name of a Hub repository; they look like org/name.") from None
    except transport as error:
        reason = str(error) or type(error).__name__
        raise ModelError(f"The connection to {endpoint()} failed while fetching {what} ({reason}); "
                         "try again, a download continues where it stopped.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ModelError(f"There is no space left for {what} in {hub_cache()}; free some, or move the cache with "
                             "HF_HOME, and try again: the download continues where it stopped.") from None
        raise ModelError(f"{what} could not be stored in {hub_cache()} ({error.strerror or error}); "
                         "check that folder, or move the cache with HF_HOME.") from None
    finally:
        log.setLevel(level)


def offline_error(what: str) -> ModelError:
    return ModelError(f"{what} is not in the Hugging Face cache ({hub_cache()}) and v2l is offline; "
                      "fetch it with `v2l models pull` while there is a connection.")
