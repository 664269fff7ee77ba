"""Servers that are no Hub, answers without an end, and settings of the connection that cannot be read."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.cli import environment
from support.hub import preset_hub
from support.processes import ROOT

from v2l.config import PRESETS
from v2l.errors import ModelError, sentence
from v2l.store import connection, hub
from v2l.store.hub import Repo, file_sizes, resolve

REPO = Repo("org/name")
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Foreign:
    """A server that answers everything with `start` and then, for as long as it is listened to, `more` 20 times a
    second."""

    def __init__(self) -> None:
        self.start, self.more = b"", b""
        self.closed = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.socket.accept()
                threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            client.recv(65536)
            client.sendall(self.start)
            while self.more and not self.closed.wait(0.05):
                client.sendall(self.more)

    def body(self, content: bytes) -> None:
        self.start, self.more = JSON + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(content) + content, b""


@pytest.fixture(scope="module")
def server() -> Iterator[Foreign]:
    server = Foreign()
    yield server
    server.closed.set()
    server.socket.close()


@pytest.fixture
def foreign(server: Foreign, monkeypatch: pytest.MonkeyPatch) -> Foreign:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.socket.getsockname()[1]}")
    return server


@pytest.mark.parametrize(("content", "said"), [
    (b"<html>log in</html>", "a web page about org/name"),
    (b"", "no JSON about org/name"),
    (b"[" * 100_000, "no JSON about org/name"),
    (b"[]", "no commit of org/name"),
    (b"null", "no commit of org/name"),
    (b'{"id": null, "sha": null, "siblings": [{"x": 1}]}', "no commit of org/name"),
    (b'{"sha": "%s", "siblings": [{"x": 1}]}' % (b"0" * 40), "files of org/name without names"),
    (b'{"sha": "%s", "siblings": 7}' % (b"0" * 40), "files of org/name without names"),
    (b'{"sha": "%s", "siblings": [{"rfilename": "a", "size": "big"}]}' % (b"0" * 40), "files of org/name with strange"),
])
def test_a_server_that_is_no_hub_is_told_from_one(foreign: Foreign, content: bytes, said: str) -> None:
    foreign.body(content)
    for ask in resolve, file_sizes:
        with pytest.raises(ModelError, match=rf"^http://.* did not answer as a Hub does \({said}.*\); check "
                                             "HF_ENDPOINT, or whether the network wants you to log in first"):
            ask(REPO)


@pytest.mark.parametrize(("start", "more"), [
    (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    (JSON + b"Content-Length: 100000\r\n\r\n", b" "),
])
def test_an_answer_that_drips_ends(
        foreign: Foreign, monkeypatch: pytest.MonkeyPatch, start: bytes, more: bytes
) -> None:
    monkeypatch.setattr(connection, "LONGEST", 0.3)
    foreign.start, foreign.more = start, more
    with pytest.raises(ModelError, match=r"took longer than 0\.3 s to answer about org/name; check HF_ENDPOINT"):
        resolve(REPO)


def test_facts_of_a_file_that_drip_end(foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LONGEST", 0.3)
    foreign.start, foreign.more = b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"
    with pytest.raises(ModelError, match=r"took longer than 0\.3 s to answer about org/name:config\.json"):
        hub.download(REPO, "config.json")


def test_an_answer_that_is_too_large_ends(foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LARGEST", 2**20)
    foreign.start, foreign.more = JSON + b"\r\n", b" " * 2**19
    with pytest.raises(ModelError, match=r"did not answer as a Hub does \(more than 1 MB about org/name\)"):
        resolve(REPO)


def test_content_longer_than_the_hub_says_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with preset_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        server.body["config.json"] = b" " * 2**24
        seen = []
        with pytest.raises(ModelError, match="came in with another size"):
            hub.download(Repo(PRESETS["500m"].base), "config.json", lambda name, done, total: seen.append(done))
        assert max(seen) < 2**23


@pytest.mark.parametrize(("name", "value", "said"), [
    *((name, value, rf"^{name} is no address of a proxy; they look like http://")
      for name in ("HTTPS_PROXY", "http_proxy", "ALL_PROXY")
      for value in ("http://user:secret@h:y", "http://[::1", "h:99999", "foo://h")),
    *(("HF_ENDPOINT", value, r"^HF_ENDPOINT \(.*\) is no address of a Hub; they look like https://")
      for value in ("nohttp", "http://[::1", "http://127.0.0.1:99999", "ftp://h", "http://")),
    *((name, value, rf"^{name} \({value}\) is no number of seconds; set it to one such as 30")
      for name in ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT") for value in ("x", "", "-1", "9999999")),
])
def test_the_setting_at_fault_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    with pytest.raises(ModelError, match=said) as caught:
        resolve(REPO)
    assert "secret" not in str(caught.value)


def test_a_token_that_cannot_be_read_is_no_fault_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path))
    with pytest.raises(ModelError, match=r"^HF_TOKEN_PATH \(.*\) is no file with a token \(Is a directory\)"):
        resolve(REPO)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))  # nobody is logged in
    with pytest.raises(ModelError, match=r"The connection to http://127\.0\.0\.1:9 failed"):
        resolve(REPO)
    monkeypatch.delenv("HF_TOKEN_PATH")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").mkdir()
    with pytest.raises(ModelError, match=r"token is no file with a token \(Is a directory\); name another with"):
        resolve(REPO)


def test_settings_that_end_the_import_of_the_client_are_named_before_it() -> None:
    env = environment(HF_ENDPOINT="http://[::1", PYTHONPATH=ROOT)
    done = subprocess.run([sys.executable, "-m", "v2l", "models", "pull", "500m"], env=env, capture_output=True,
                          text=True, timeout=100)
    assert done.returncode == 1 and done.stderr.startswith("Error: HF_ENDPOINT (http://[::1) is no address of a Hub")


def test_variables_of_the_client_begin_with_hf() -> None:
    with pytest.raises(ValueError, match="garbage") as caught:
        exec("raise ValueError('garbage')", {"__name__": "huggingface_hub.constants"})
    told = sentence(caught.value)
    assert told.startswith("huggingface_hub cannot be loaded (ValueError: garbage)") and "(HF_...)" in told
