"""Files of a Hub repository in the Hugging Face cache, fetched with huggingface_hub's client.

Two things the client leaves to us: a file that was interrupted continues where it stopped, also in a later process (the
client forgets what it had, and leaves it there), and what goes wrong becomes one sentence with the way out. HF_HOME,
HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN are honoured as they are at the time of the call.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from v2l.config import PRESETS
from v2l.errors import ModelError
from v2l.store.connection import ask_json, check_settings, connection, endpoint, hub_home, no_hub, within_limit
from v2l.system.cache import hash_of, needs_home, remember
from v2l.system.files import LEFT_OVER, reach_disk, replacing
from v2l.system.progress import Progress
from v2l.wording import command

_REPO = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@((?!/|.*\.\.)[\w./-]+))?")
"""`org/name` and its revision, which names a file of the cache and must not lead out of it."""
TRIES = 5
"""Times in a row that a connection may bring nothing before a download gives up."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PARTIAL = ".v2l.incomplete"


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
        match = _REPO.fullmatch(text)
        return cls(match[1], match[2] or "main") if match else None

    def __str__(self) -> str:
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"

    @property
    def folder(self) -> Path:
        """Where the Hugging Face cache keeps this repository."""
        return hub_cache() / f"models--{self.id.replace('/', '--')}"


def hub_cache() -> Path:
    """The Hugging Face cache that the environment names now. ModelError for a user who has no home."""
    named = (os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
             or os.path.join(hub_home(), "hub"))
    with needs_home("HF_HOME"):
        return Path(os.path.expandvars(named)).expanduser()


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")


def snapshot(repo: Repo) -> Path | None:
    """The cached folder of a repository at its revision, whole or not; None if there is none. No network."""
    commit = repo.revision
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (repo.folder / "refs" / commit).read_text().strip()
        except OSError:
            return None
    folder = repo.folder / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and folder.is_dir() else None


def resolve(repo: Repo) -> tuple[Repo, list[str]]:
    """Asks the Hub: the repository pinned to the commit its revision is at, and the names of its files."""
    with _explained(repo, str(repo)):
        pinned, sizes = _about(repo)
        if not sizes:
            from huggingface_hub import HfApi

            api = HfApi(endpoint=endpoint())
            return pinned, within_limit(lambda: api.list_repo_files(repo.id, revision=pinned.revision), str(repo))
    return pinned, list(sizes)


def file_sizes(repo: Repo) -> tuple[Repo, dict[str, int]]:
    """`resolve` with the bytes of files, by their names, as far as the Hub tells them."""
    hub_cache()  # where there is no place for files, nothing is asked
    with _explained(repo, str(repo)):
        pinned, sizes = _about(repo, "?blobs=true")
        return pinned, {name: size for name, size in sizes.items() if size is not None}


def _about(repo: Repo, query: str = "") -> tuple[Repo, dict[str, int | None]]:
    """The repository pinned to its commit, and its files with their bytes where the Hub tells them."""
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    validate_repo_id(repo.id)
    told = ask_json(f"/api/models/{repo.id}/revision/{quote(repo.revision, safe='')}{query}", str(repo))
    commit, files = (told.get("sha"), told.get("siblings") or ()) if isinstance(told, dict) else (None, ())
    if not (isinstance(commit, str) and _COMMIT.fullmatch(commit)):
        raise no_hub(f"no commit of {repo}")
    try:
        sizes = {file["rfilename"]: file.get("size") for file in files}
    except (TypeError, KeyError, AttributeError):
        raise no_hub(f"files of {repo} without names") from None
    if not all(isinstance(name, str) and (size is None or type(size) is int) for name, size in sizes.items()):
        raise no_hub(f"files of {repo} with strange names or sizes")
    return Repo(repo.id, commit), sizes


def set_revision(repo: Repo, pinned: Repo) -> None:
    """Notes in the cache which commit `repo`'s revision is at, once all of that snapshot's files are there. Removes
    what an interrupted download left of files that this one did not want, of another commit for example."""
    with suppress(OSError):
        for partial in (repo.folder / "blobs").glob(f"*{_PARTIAL}"):
            if time.time() - partial.stat().st_mtime > LEFT_OVER:
                partial.unlink()
    if repo.revision != pinned.revision:
        with _explained(repo, str(repo)):
            ref = repo.folder / "refs" / repo.revision
            with suppress(OSError, ValueError):
                if ref.read_text() == pinned.revision:
                    return  # a cache that is shared may be read-only
            ref.parent.mkdir(parents=True, exist_ok=True)
            with replacing(ref) as file:
                file.write(pinned.revision.encode())


def download(repo: Repo, name: str, progress: Progress | None = None) -> Path:
    """One file of a repository, from the cache or the Hub, where it goes on where an earlier try stopped."""
    with _explained(repo, f"{repo}:{name}"):
        from huggingface_hub import hf_hub_download

        _fetch_blob(repo, name, progress)  # the client then finds the content in its cache and gives it its name
        no_bar: Any = _NoBar
        return Path(hf_hub_download(repo.id, name, revision=repo.revision, cache_dir=hub_cache(), endpoint=endpoint(),
                                    tqdm_class=no_bar))


def _fetch_blob(repo: Repo, name: str, progress: Progress | None) -> None:
    """Puts the content of a file where the client's cache keeps contents: blobs/ETAG."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    if _COMMIT.fullmatch(repo.revision) and (repo.folder / "snapshots" / repo.revision / name).exists():
        return
    url = hf_hub_url(repo.id, name, revision=repo.revision, endpoint=endpoint())
    facts = within_limit(lambda: get_hf_file_metadata(url), f"{repo}:{name}")
    if facts.etag is None or facts.size is None or not re.fullmatch(r"[\w-]+", facts.etag):
        return  # no Hub of the usual kind; what the client makes of it is as good as anything
    blob = repo.folder / "blobs" / facts.etag
    lock = hub_cache() / ".locks" / repo.folder.name / f"{facts.etag}.v2l.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return
        partial = blob.with_name(blob.name + _PARTIAL)
        with partial.open("ab") as f:
            if f.tell() > facts.size:
                f.seek(0)
                f.truncate()
            if shutil.disk_usage(blob.parent).free < facts.size - f.tell():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # now, not after gigabytes
            _stream(url, f, facts.size, lambda done: progress(name, done, facts.size) if progress else None)
            reach_disk(f.fileno())
        # A large file's ETag is the sha256 of its content.
        sizes_differ, hashed = partial.stat().st_size != facts.size, re.fullmatch(r"[0-9a-f]{64}", facts.etag)
        if sizes_differ or (hashed and hash_of(partial) != facts.etag):
            partial.unlink()
            raise ModelError(f"{repo}:{name} came in with another {'size' if sizes_differ else 'content'} than the Hub "
                             "says and was thrown away; try again.")
        os.replace(partial, blob)
        if hashed:
            remember(blob, facts.etag)


def _stream(url: str, f: IO[bytes], size: int, report: Callable[[int], None]) -> None:
    """Appends to `f` what it lacks of `size` bytes, writing what arrives as it arrives; a lost connection is taken up
    again until `TRIES` in a row bring nothing. (The client's own downloader forgets up to 10 MB at every loss.)"""
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    tries = TRIES
    while True:
        start = f.tell()
        report(start)
        if start >= size:
            return
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}  # compressed bytes could not be resumed
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            with get_session().stream("GET", url, headers=headers, follow_redirects=True,
                                      timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
                hf_raise_for_status(response)
                if response.status_code != 206:  # a server that knows no ranges begins anew
                    f.seek(0)
                    f.truncate()
                for block in response.iter_bytes():
                    f.write(block)
                    report(f.tell())
                    if f.tell() > size:  # an answer that may have no end; what came is found to be too long
                        return
            return
        except _transport_error() as error:
            if isinstance(error, OSError):  # a status, not a lost connection
                raise
            f.flush()
            tries = TRIES if f.tell() > start else tries - 1
            if tries == 0:
                raise
            time.sleep(1)


def _transport_error() -> Any:
    """Base of what the client's connections raise: httpx's in huggingface_hub 1, httpx2's in 2."""
    from huggingface_hub import errors

    return vars(errors)["HTTPError"]


class _NoBar:
    """What huggingface_hub takes for a tqdm class and shows nothing: the command line is the only room that prints."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def update(self, n: float | None = 1) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None: ...


@contextmanager
def _explained(repo: Repo, what: str) -> Iterator[None]:
    """Errors of the client as one sentence each; its log stays quiet meanwhile, since these sentences say it all. No
    request waits for ever: the client sets no limit to some."""
    check_settings()
    from huggingface_hub import constants, errors

    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.CRITICAL)
    web = f"{endpoint()}/{repo.id}"
    session = connection()
    limits = session.timeout
    session.timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT  # seconds without a byte
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
        if status == 401:  # what the Hub answers for what does not exist, too
            raise NotOnHub(f"{what} does not exist at {endpoint()}, or it is private; check the name, "
                           "or log in with `hf auth login` or HF_TOKEN.") from None
        if status == 403:
            raise ModelError(f"{endpoint()} refused access to {what} ; log in with `hf auth login` "
                             "or check HF_TOKEN.") from None
        raise ModelError(f"{endpoint()} answered with status {status} for {what}; try again later, "
                         "a download continues where it stopped.") from None
    except UnicodeError:  # a header is ASCII
        raise ModelError(f"{what} cannot be asked for with this HF_TOKEN, which holds a character that no token has; "
                         "set it anew.") from None
    except errors.HFValidationError:
        raise ModelError(f"{repo.id!r} is no name of a Hub repository; they look like org/name.") from None
    except _transport_error() as error:
        reason = str(error) or type(error).__name__
        raise ModelError(f"The connection to {endpoint()} failed while fetching {what} ({reason}); check "
                         "the network and try again: a download continues where it stopped, and what is in the cache "
                         "works without.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ModelError(f"There is no space left for {what} in {hub_cache()}; free some, or move the cache with "
                             "HF_HOME, and try again: the download continues where it stopped.") from None
        raise ModelError(f"{what} could not be stored in {hub_cache()} ({error.strerror or error}); "
                         "check that folder, or move the cache with HF_HOME.") from None
    finally:
        log.setLevel(level)
        session.timeout = limits


def offline_error(what: str) -> ModelError:
    """What is to be said of a file or repository that is not there and may not be fetched."""
    forbidden = next((name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)), None)
    why = f", as {forbidden} says" if forbidden and is_offline() else ""
    names = (preset.name for preset in PRESETS.values()
             if what.partition("@")[0] == preset.base or what.endswith(f":{preset.checkpoint_file}"))
    pull = command("models pull", next(names, what.partition(":")[0]))
    return ModelError(f"{what} is not in the Hugging Face cache ({hub_cache()}) and v2l is offline{why}; fetch it "
                      f"with `{pull}` while there is a connection, or "
                      "copy its folder of that cache from a machine that has it (`v2l models pull --help` says how).")
