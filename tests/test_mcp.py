"""`v2l serve --mcp` as the protocol's own client meets it, over stdin and stdout."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Event
from typing import Any

import anyio
import anyio.to_thread
import mcp
import pytest
from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from support.cli import command, environment, process, refused, run
from support.serving import Row, Scripted
from support.videos import write
from support.watched import watched

from v2l.adapter import save
from v2l.adapter.join import join
from v2l.engine import Engine
from v2l.serve.library import Library
from v2l.serve.service import Service
from v2l.serve.tools import LibraryTools, tool_server
from v2l.tiny.world import held_out_clips

HERE = ("--device", "cpu", "--dtype", "float32", "--offline")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    engine = Engine("tiny", offline=True, device="cpu", dtype="float32")
    (clip, times), *_ = held_out_clips(1, seed=5)
    made = [watched(engine, clip, times, 12.0 * i, 12.0 * i + 12, "clip.mp4", seed=i) for i in range(3)]
    (folder / "talks").mkdir()
    save(made[0], folder / "one.v2lora")
    save(join(made)[0], folder / "talks/many.v2lora")
    (folder / "cut.v2lora").write_bytes((folder / "one.v2lora").read_bytes()[:-100])
    write(folder / "new.mp4")
    return folder


class Client:
    """A session with a server, and the progress that it tells of."""

    def __init__(self, session: ClientSession) -> None:
        self.session, self.told = session, list[tuple[float, str | None]]()

    async def call(self, name: str, **arguments: Any) -> tuple[bool, Any]:
        """Whether a tool failed; what it gives, or its sentence."""
        self.told.clear()

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            self.told.append((progress, message))

        result = await self.session.call_tool(name, arguments, progress_callback=tell)
        text = result.content[0].text  # type: ignore[union-attr]
        return bool(result.is_error), text if result.is_error else result.structured_content


def talk(folder: Path, talked: Callable[[Client], Awaitable[None]], *options: str) -> None:
    """Starts a server, and has a session with it."""
    program, *words = command("serve", ".", "--mcp", *HERE, *options)

    async def main() -> None:
        server = StdioServerParameters(command=program, args=words, env=environment(), cwd=folder)
        async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            await talked(Client(session))

    anyio.run(main)


def test_an_assistant_lists_asks_searches_and_has_videos_watched(folder: Path) -> None:
    async def talked(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.session.list_tools()).tools}
        assert set(tools) == {"list_videos", "video_info", "ask_video", "find_moment", "ingest_video"}
        assert all(tool.description for tool in tools.values())
        _, listed = await client.call("list_videos")
        by_name = {one["video"]: one for one in listed["result"]}
        assert set(by_name) == {"cut", "one", "talks/many"}
        assert by_name["talks/many"]["segments"] == 3 and "cut short" in by_name["cut"]["error"]
        _, info = await client.call("video_info", video="talks/many")
        assert [segment["start"] for segment in info["segments"]] == [0.0, 12.0, 24.0]

        failed, said = await client.call("ask_video", video="one", question="What happened?")
        expected = json.loads(run("ask", folder / "one.v2lora", "What happened?", "--json", *HERE[:4]).stdout)
        assert not failed and said["answer"] == expected["answer"]
        assert said["answered_by"] == expected["answered_by"]
        assert client.told[0][1] == "Loading the model" and client.told[-1][1] == "Answering"
        assert [done for done, _ in client.told] == sorted({done for done, _ in client.told})
        _, part = await client.call("ask_video", video="talks/many", question="What happened?", start="0:12", end="24")
        assert [one["start"] for one in part["answered_by"]] == [12.0]

        _, found = await client.call("find_moment", query="Is there a red ring?", threshold=-100.0)
        lines = run("find", folder / "one.v2lora", folder / "talks/many.v2lora", "Is there a red ring?", "--threshold",
                    "-100", "--json", *HERE[:4]).stdout.splitlines()
        expected_hits = [(json.loads(line)["start"], json.loads(line)["end"]) for line in lines]
        assert [(hit["start"], hit["end"]) for hit in found["hits"]] == expected_hits
        assert found["skipped"][0]["id"] == "cut"

        for name, arguments, sentence in (
                ("ask_video", {"video": "talks/mny", "question": "What?"}, "did you mean talks/many"),
                ("ask_video", {"video": "cut", "question": "What?"}, "cut short"),
                ("ask_video", {"video": "one", "question": " "}, "The question is empty"),
                ("ask_video", {"video": "one", "question": "What?", "start": "soon"}, "start should be a time"),
                ("ask_video", {"video": "one", "question": "What?", "strategy": "best"}, "no strategy"),
                ("find_moment", {"query": "a ring", "video": "two"}, "does not exist"),
                ("ingest_video", {"path": "nw.mp4"}, "did you mean new.mp4")):
            failed, said = await client.call(name, **arguments)
            assert failed and sentence in said, said

        failed, done = await client.call("ingest_video", path="new.mp4")
        assert not failed and done["video"] == "new" and done["segments"] == 1
        assert any("new.mp4" in str(message) for _, message in client.told)
        assert (folder / "new.v2lora").exists()
        failed, said = await client.call("ask_video", video="new", question="What happened?")
        assert not failed and said["answer"]

    talk(folder, talked, "--ingest")


def test_a_call_that_is_cancelled_frees_its_row(folder: Path) -> None:
    engine, row = Engine("tiny", offline=True, device="cpu", dtype="float32"), Row(["A", Event(), "ring"])
    library = Library([folder])
    tools = LibraryTools(library, lambda tell: Service(engine, library, Scripted(row)))  # type: ignore[arg-type]

    async def main() -> None:
        async with mcp.Client(tool_server(tools, False)) as client:
            async with anyio.create_task_group() as calls:
                calls.start_soon(client.call_tool, "ask_video", {"video": "one", "question": "What happened?"})
                assert await anyio.to_thread.run_sync(row.begun.wait, 60)
                calls.cancel_scope.cancel()
            assert await anyio.to_thread.run_sync(row.cancelled.wait, 10)
            assert not (await client.call_tool("list_videos", {})).is_error

    anyio.run(main)


def test_nothing_but_the_protocol_is_on_stdout_and_no_torch_before_a_question(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(  # a library that chatters, in Python and below it
        "import atexit, os, v2l.serve.library as library\n"
        "listing = library.Library.entries\n"
        "def chatter(self):\n"
        "    print('chatter'); os.write(1, b'low chatter\\n'); return listing(self)\n"
        "library.Library.entries = chatter\n")
    messages = [
        {"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {},
                                                     "clientInfo": {"name": "test", "version": "1"}}},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "list_videos", "arguments": {}}},
        {"id": 3, "method": "tools/list"}]
    env = environment(PYTHONPROFILEIMPORTTIME="1")
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    server = subprocess.Popen(command("serve", ".", "--mcp", *HERE), cwd=folder, env=env, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdin and server.stdout
    for message in messages:
        server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    server.stdin.flush()
    lines = [server.stdout.readline() for _ in messages[1:]]
    rest, noise = server.communicate(timeout=60)  # stdin ends, and so does the server
    results = {said["id"]: said["result"] for said in map(json.loads, lines)}
    assert set(results) == {1, 2, 3} and rest == ""
    assert results[1]["serverInfo"]["name"] == "v2l"
    assert "ingest_video" not in {tool["name"] for tool in results[3]["tools"]}  # without --ingest
    assert server.returncode == 0 and "chatter" in noise and "low chatter" in noise
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in noise.splitlines()}
    assert "mcp" in imported and not imported & {"torch", "numpy", "cv2", "av", "transformers"}


def test_options_of_http_are_refused_with_mcp(folder: Path) -> None:
    for words in (["--port", "1"], ["--host", "::1"], ["--api-key", "x"], ["--last-turn-only"]):
        said = refused("serve", folder, "--mcp", *words, status=2)
        assert said.startswith(words[0])


def test_a_missing_package_is_named_with_the_way_to_install_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\nfound = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'mcp' else found(name, *rest)\n")
    done = process("serve", ".", "--mcp", cwd=folder, PYTHONPATH=f"{tmp_path}:{environment()['PYTHONPATH']}")
    assert done.returncode == 2 and "pip install 'v2l[mcp]'" in done.stderr
