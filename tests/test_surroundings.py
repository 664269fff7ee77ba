"""Surroundings that are not as usual: no home, no working folder, odd settings of the network, no memory."""

from __future__ import annotations

import errno
import importlib
import mmap
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.adapters import make
from support.cli import environment, refused, run
from support.hub import preset_hub
from support.processes import ROOT

from v2l.adapter import file as adapter_file
from v2l.adapter import save
from v2l.config import Decoding
from v2l.errors import ModelError, UsageError, is_memory, sentence
from v2l.model.generate import choose_token
from v2l.store import hub as client
from v2l.store.default import default_model
from v2l.store.resolve import pull
from v2l.system.cache import cache_dir, sha256_of

EXAMPLE = Path(ROOT) / "examples" / "one-shape.mp4"


def test_a_package_that_cannot_be_loaded_is_no_bug_in_v2l(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch is with TORCH_LOGS=garbage, of which it says all that it would take."""
    (tmp_path / "fragile.py").write_text("raise ValueError('\\nInvalid settings: garbage, use ' + 'a name or ' * 99)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="Invalid") as caught:
        importlib.import_module("fragile")
    told = sentence(caught.value)
    assert told.startswith("fragile cannot be loaded (ValueError: Invalid settings: garbage, use a name")
    assert "FRAGILE_" in told and len(told) < 250
    (tmp_path / "unmapped.py").write_text("raise ImportError('libx.so: failed to map segment from shared object')\n")
    with pytest.raises(ImportError) as caught:
        importlib.import_module("unmapped")
    assert "unmapped cannot be loaded" in (told := sentence(caught.value)) and "ulimit -v" in told


def test_too_small_a_limit_of_memory_is_told_before_libraries_end_the_process(tmp_path: Path) -> None:
    """torch is loaded below 1 GB of addresses, and then ends with a signal or without."""
    program = ("import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_AS, (900_000 << 10,) * 2); "
               f"sys.argv = ['v2l', 'ingest', {str(EXAMPLE)!r}, '--output-dir', {str(tmp_path)!r}]; "
               "runpy.run_module('v2l', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    assert done.returncode == 1 and "may take 922 MB of memory (ulimit -v)" in done.stderr


def test_a_configuration_of_nothing_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As other programs are told to read no configuration: with /dev/null. Another file is no folder."""
    monkeypatch.setenv("V2L_CONFIG", os.devnull)
    assert default_model().name == "tiny"
    monkeypatch.setenv("V2L_CONFIG", str(EXAMPLE))
    with pytest.raises(UsageError, match=r"one-shape\.mp4 is no folder"):
        default_model()


# Nobody's home.


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the system does not know, with no HOME, as `docker run --user 12345` has one."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "V2L_CACHE", "V2L_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_who_has_no_home_can_use_what_needs_no_cache(homeless: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                    ) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLE, "a.mp4")
    assert run("ingest", "a.mp4", "--frames", 2).stdout == "a.v2lora\n"
    assert run("ask", "a.v2lora", "What?", "--max-new-tokens", 2).stdout
    assert run("compose", "a.v2lora", "-o", "b.v2lora").stdout == "b.v2lora\n"
    assert len(sha256_of(tmp_path / "a.mp4")) == 64
    assert sorted(os.listdir()) == ["a.mp4", "a.v2lora", "b.v2lora"]  # and no folder that is called ~


def test_what_is_cached_asks_for_a_folder(homeless: None) -> None:
    said = "There is no home folder for this user; set HF_HOME to a folder, or HOME."
    assert refused("models", "pull", "500m") == said
    with pytest.raises(ModelError, match="set V2L_CACHE to a folder"):
        cache_dir()


# No working folder.


def test_a_working_folder_that_was_deleted(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    code = f"import os; os.rmdir({str(tmp_path / 'gone')!r}); from v2l.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "ingest", str(EXAMPLE), "-o", str(tmp_path / "a.v2lora")],
                          cwd=tmp_path / "gone", env=environment(PYTHONPATH=ROOT), capture_output=True, text=True,
                          timeout=100)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: The working folder no longer exists; change to another one.\n"


# The network.


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Hub that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield


def test_no_request_waits_for_ever(silent_hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    assert "failed while fetching" in refused("models", "pull", "500m")


@pytest.mark.parametrize(("name", "value", "said"), [
    ("ALL_PROXY", "socks5://127.0.0.1:9", "No connection can be made with these settings (Using SOCKS proxy"),
    ("SSL_CERT_FILE", "/nowhere.pem", "No connection can be made with these settings (No such file or directory)"),
    ("HF_TOKEN", "über", "with this HF_TOKEN, which holds a character that no token has"),
])
def test_settings_of_the_network_that_cannot_be_used(tmp_path: Path, name: str, value: str, said: str) -> None:
    env = environment(**{name: value, "PYTHONPATH": ROOT, "HF_ENDPOINT": "http://127.0.0.1:9"})
    done = subprocess.run([sys.executable, "-m", "v2l", "models", "pull", "500m"], env=env, capture_output=True,
                          text=True, timeout=100)
    assert done.returncode == 1 and said in done.stderr and "bug" not in done.stderr


def test_pull_writes_nothing_where_all_is_current(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that several users share may be read-only for them."""
    with preset_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        pulled = pull("500m")
        files = {path: path.stat().st_mtime_ns for path in client.hub_cache().rglob("*") if path.is_file()}

        def read_only(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(client, "replacing", read_only)
        assert pull("500m") == pulled
    assert {path: path.stat().st_mtime_ns for path in client.hub_cache().rglob("*") if path.is_file()} == files


# Memory and numbers.


def test_a_file_that_cannot_be_mapped_is_a_matter_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    save(make(1), tmp_path / "a.v2lora")
    monkeypatch.setattr(adapter_file, "MAP_FROM", 0)
    monkeypatch.setattr(mmap, "mmap", full)
    with pytest.raises(MemoryError):
        adapter_file.load(tmp_path / "a.v2lora")
    assert is_memory(RuntimeError("unable to mmap 16 bytes from file <x>: Cannot allocate memory (12)"))


@pytest.mark.parametrize("temperature", [1e-320, 5e-324, 1e-300, 1e-39])
def test_the_smallest_temperature_is_none(temperature: float) -> None:
    draws = torch.Generator().manual_seed(0)
    assert choose_token(torch.tensor([1.0, 3.0, 2.0]), Decoding(temperature=temperature), draws) == (1, True)


# What libraries log.


@pytest.mark.parametrize("debug", [False, True])
def test_what_libraries_log_is_not_printed_among_results(tmp_path: Path, debug: bool) -> None:
    """FFmpeg's lines about a damaged video, which PyAV hands to Python's logging, and what loggers without a handler
    say, which Python's last resort would print; with V2L_DEBUG they are seen."""
    content = bytearray(EXAMPLE.read_bytes())
    content[len(content) // 3:len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    (tmp_path / "damaged.mp4").write_bytes(content)
    code = f"""
import av, logging, sys
from pathlib import Path
from v2l.cli import app
from v2l.errors import VideoError
from v2l.store import resolve
from v2l.video.clip import Sampling, open_clip
def log():
    for name in ("huggingface_hub", "transformers.models", "anything"):
        logging.getLogger(name).warning("noise")
    av.logging.set_level(av.logging.VERBOSE)  # as another library might
    try:
        list(open_clip(Path({str(tmp_path / 'damaged.mp4')!r}), Sampling()).frames())
    except VideoError:
        return True
available = resolve.available
resolve.available = lambda: available() if log() else []
sys.argv = ["v2l", "models", "--json"]
app.main()
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(PYTHONPATH=ROOT, V2L_DEBUG=str(int(debug))),
                          capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3
    assert len(done.stderr.splitlines()) > 3 and "noise" in done.stderr if debug else done.stderr == ""
