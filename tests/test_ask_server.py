"""`v2l ask --server` prints what `v2l ask` prints, by a real server on the loopback."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from support.cli import process, refused, run
from support.serving import Server, serving
from support.watched import watched

from v2l.adapter import save
from v2l.adapter.join import join
from v2l.cli.server_address import ServerAddress
from v2l.engine import Engine
from v2l.errors import V2LError
from v2l.serve.batcher import Batcher
from v2l.serve.guard import Rules
from v2l.serve.library import Library
from v2l.serve.service import Service
from v2l.tiny.world import held_out_clips

HERE = ("--device", "cpu", "--dtype", "float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    engine = Engine("tiny", offline=True, device="cpu", dtype="float32")
    clips = list(held_out_clips(6, seed=5))
    made = [watched(engine, clip, times, 12.0 * i, 12.0 * i + 12, "clip.mp4") for i, (clip, times) in enumerate(clips)]
    (clip, times), *_ = clips
    cut = [watched(engine, clip, times, 12.0 * i, 12.0 * i + 12, "cut.mp4", seed=i) for i in range(3)]
    for name, adapter in {"one": made[0], "two": made[1], "many": join(made)[0], "cut": join(cut)[0]}.items():
        save(adapter, folder / f"{name}.v2lora")
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Service:
    engine = Engine("tiny", offline=True, device="cpu", dtype="float32")
    return Service(engine, Library([folder]), Batcher(engine))


@pytest.fixture(scope="module")
def server(service: Service) -> Iterator[Server]:
    with serving(service) as server:
        yield server


@pytest.fixture
def at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


CALLS = [
    ["one.v2lora", "What happened?"],
    ["one.v2lora", "What happened?", "--json"],
    ["many.v2lora", "What happened?", "When does a red ring appear?", "What is first?", "What happens at 0:15?"],
    ["many.v2lora", "When does a red ring appear?", "--json"],
    ["many.v2lora", "What happened?", "--timeline", "--json"],
    ["cut.v2lora", "What happened?", "--timeline", "--format", "srt"],
    ["many.v2lora", "Is there a ring?", "--from", "12", "--to", "30", "--video", "clip.mp4"],
    ["many.v2lora", "Is there a ring?", "--strategy", "route", "--segment-scale", "1/k", "--max-new-tokens", "3"],
    ["one.v2lora", "What happened?", "--temperature", "0.7"],
    ["one.v2lora", "two.v2lora", "--join", "What happened?", "--json"],
    [".", "Is there a red ring?", "What happened?"],
    [".", "none.v2lora", "Is there a red ring?", "--json"],
    ["none.v2lora", "Is there a red ring?"],
    [".", "What happened?", "--video", "other.mp4"],
]


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_a_server_answers_as_this_process_does(words: list[str], server: Server, at_home: None) -> None:
    def untimed(text: str) -> str:
        return re.sub(r'"(ttft_s|total_s)": [0-9.e-]+', "", text)

    status = 1 if "none.v2lora" in words else 0
    if "other.mp4" in words:
        status = 1
    here = run("ask", *words, *HERE, status=status)
    there = run("ask", *words, "--server", server.url, status=status)
    assert untimed(there.stdout) == untimed(here.stdout)
    assert there.stderr == here.stderr


def test_questions_of_a_pipe_are_answered_as_they_come(server: Server, at_home: None) -> None:
    questions = "What happened?\nIs there a red ring?\n"
    here = run("ask", "one.v2lora", "-", *HERE, stdin=questions)
    assert run("ask", "one.v2lora", "-", "--server", server.url, stdin=questions).stdout == here.stdout


def test_neither_torch_nor_numpy_nor_the_server_is_imported(server: Server, folder: Path) -> None:
    done = process("ask", "one.v2lora", "What happened?", cwd=folder, V2L_SERVER=server.url,
                   PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0 and done.stdout.strip()
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in imported and not imported & {"torch", "numpy", "starlette", "uvicorn", "cv2", "av"}


def test_the_server_must_hold_the_very_file_whatever_it_is_called(server: Server, folder: Path, tmp_path: Path) -> None:
    same, other = tmp_path / "renamed.v2lora", tmp_path / "one.v2lora"
    same.write_bytes((folder / "one.v2lora").read_bytes())
    save(watched(Engine("tiny", offline=True, device="cpu", dtype="float32"), *next(iter(held_out_clips(1, seed=9))),
                 0.0, 12.0, "clip.mp4"), other)
    assert run("ask", same, "What happened?", "--server", server.url).stdout == run(
        "ask", folder / "one.v2lora", "What happened?", *HERE).stdout
    assert "has no adapter that holds what" in refused("ask", other, "What happened?", "--server", server.url)
    assert run("ask", other, "What happened?", *HERE).stdout


def test_an_adapter_that_comes_while_the_server_runs_is_asked(server: Server, folder: Path) -> None:
    new = folder / "new.v2lora"
    save(join([watched(Engine("tiny", offline=True, device="cpu", dtype="float32"),
                       *next(iter(held_out_clips(1, seed=10))), 0.0, 12.0, "new.mp4")])[0], new)
    try:
        assert run("ask", new, "What happened?", "--server", server.url).stdout
    finally:
        new.unlink()


def test_what_only_this_process_can_do_is_refused_or_done_here(server: Server, at_home: None,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["--device", "cpu"], ["--model", "tiny"], ["--offline"], ["--dtype", "float32"]):
        said = refused("ask", "one.v2lora", "What happened?", *words, "--server", server.url, status=2)
        assert said.startswith(words[0])
    monkeypatch.setenv("V2L_SERVER", "http://127.0.0.1:1")  # where nothing listens, so this process answers
    assert run("ask", "one.v2lora", "What happened?", *HERE).stdout


def test_a_server_that_is_not_there_is_a_sentence(at_home: None) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{free.getsockname()[1]}"
        said = refused("ask", "one.v2lora", "What happened?", "--server", url)
    assert said.startswith(f"There is no server at {url}") and "v2l serve FOLDER" in said
    for wrong in ("ftp://here", "http://", "http://here:port"):
        assert "no address of a server" in refused("ask", "one.v2lora", "What happened?", "--server", wrong, status=2)


class Said(Thread):
    """A server that says one thing, whatever it is asked."""

    def __init__(self, *said: bytes) -> None:
        super().__init__()
        self.asked = b""
        self._said, self._socket = said, socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.start()

    def run(self) -> None:
        """Says it, piece by piece."""
        with self._socket, self._socket.accept()[0] as caller:
            while not self.asked.endswith(b"{}"):
                self.asked += caller.recv(1000)
            for piece in self._said:
                caller.sendall(piece)


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("said", [
    [OK, b"Transfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n", b"6;x=y\r\n\n[2,3]\r\n", b"0\r\n\r\n"],
    [OK, b"content-length: 9\r\n\r\n", b"[1]\n[2,3]", b"more"], [OK, b"\r\n[1]\n", b"[2,3]\n"],
    [b"HTTP/1.1 100 Continue\r\n\r\n", OK, b"Content-Length: 10\r\n\r\n[1]\n[2,3]\n"],
], ids=["chunks", "length", "end", "continue"])
def test_lines_come_in_whatever_way_http_frames_them(said: list[bytes]) -> None:
    server = Said(*said)
    address = ServerAddress.of(f"127.0.0.1:{server.port}/behind/", "secret")
    assert list(address.lines("/api", {})) == [[1], [2, 3]]
    server.join()
    head = server.asked.split(b"\r\n")
    assert head[0] == b"POST /behind/api HTTP/1.1" and {b"Host: 127.0.0.1:%d" % server.port, b"Content-Length: 2",
                                                        b"Authorization: Bearer secret"} < set(head)


@pytest.mark.parametrize("said", [
    b"SSH-2.0-OpenSSH_9.2\r\n", b"", OK, OK + b"Content-Length: 9\r\n\r\n[1]\n", OK + b"Content-Length: x\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\n[1]\n", OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n",
    OK + b"\r\nno json\n",
], ids=["ssh", "nothing", "head", "length", "no length", "chunk", "end", "no json"])
def test_a_response_that_breaks_off_is_a_sentence(said: bytes) -> None:
    server = Said(said)
    with pytest.raises(V2LError, match="broke off its answer"):
        list(ServerAddress.of(f"127.0.0.1:{server.port}", None).lines("/api", {}))
    server.join()


def test_a_key_is_sent_and_its_lack_is_told(service: Service, at_home: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(service, Rules("secret")) as server:
        words = ("ask", "one.v2lora", "What happened?", "--server", server.url)
        assert "--api-key" in refused(*words)
        assert run(*words, "--api-key", "secret").stdout
        monkeypatch.setenv("V2L_API_KEY", "secret")
        assert run(*words).stdout
