"""A Hub on the loopback, as the real huggingface_hub client expects one: model information, files by revision with
HEAD, GET and Range, large files behind a redirect to another host, renamed repositories; and what can go wrong."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from v2l.config import PRESETS

LARGE = (".safetensors", ".pt")


@dataclass
class Request:
    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Hub:
    """Repositories as {name: {file: bytes}}. The rest are faults, to be changed at any time."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    """File -> the next GET of it ends after so many bytes."""
    down_after_cut: bool = False
    """From then on it answers 503 for that file."""
    stall: dict[str, int] = field(default_factory=dict)
    """File -> the next GET of it stops after so many bytes, and the connection stays open."""
    status: dict[str, int] = field(default_factory=dict)
    """File -> every GET of it is answered with this status."""
    body: dict[str, bytes] = field(default_factory=dict)
    """File -> what a GET delivers in place of the real content."""
    ranges: bool = True
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Hub:
        hub = self
        self.released = threading.Event()
        handler = type("Handler", (_Handler,), {"hub": hub})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def commit(self, repo: str) -> str:
        """Changes with the repository's content."""
        digest = hashlib.sha1(repo.encode())
        for name, content in sorted(self.repos[repo].items()):
            digest.update(name.encode() + hashlib.sha1(content).digest())
        return digest.hexdigest()

    def fetched(self, method: str = "GET") -> list[str]:
        """Names of the files asked for, in order."""
        paths = [r.path for r in self.requests if r.method == method and not r.path.startswith("/api/")]
        return [path.rsplit("/", 1)[1] for path in paths]

    def ranges_asked(self, name: str) -> list[str | None]:
        """The Range header of every time the content of a large file was asked for."""
        asked = [r for r in self.requests if r.method == "GET" and r.path.startswith("/cdn/")]
        return [r.range for r in asked if r.path.endswith(name)]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = self.headers
        self.hub.requests.append(Request(self.command, path, headers.get("Range"), headers.get("Authorization")))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/(revision|tree)/([^/]+))?", path):
            self.about(found[1], found[2] or "revision", found[3] or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.file(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            self.content(found[1], found[2], {})
        else:
            self.reply(404)

    def known(self, repo: str, revision: str, rest: str) -> bool:
        """Whether to go on; else the answer was given."""
        if repo in self.hub.renamed:
            self.reply(307, {"Location": rest.replace("REPO", self.hub.renamed[repo], 1)})
        elif repo not in self.hub.repos:
            self.reply(404, {"X-Error-Code": "RepoNotFound"})
        elif repo in self.hub.gated and "/resolve/" in rest:
            self.reply(403, {"X-Error-Code": "GatedRepo"})
        elif revision not in ("main", self.hub.commit(repo)):
            self.reply(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return True
        return False

    def about(self, repo: str, kind: str, revision: str) -> None:
        if self.known(repo, revision, f"/api/models/REPO/{kind}/{revision}"):
            files = self.hub.repos[repo]
            tree = [{"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()]
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            info = {"id": repo, "modelId": repo, "sha": self.hub.commit(repo), "siblings": siblings}
            body = json.dumps(tree if kind == "tree" else info).encode()
            self.reply(200, {"Content-Type": "application/json"}, body)

    def file(self, repo: str, revision: str, name: str) -> None:
        if not self.known(repo, revision, f"/REPO/resolve/{revision}/{name}"):
            return
        headers = {"X-Repo-Commit": self.hub.commit(repo)}
        content = self.hub.repos[repo].get(name)
        if content is None:
            self.reply(404, headers | {"X-Error-Code": "EntryNotFound"})
        elif name.endswith(LARGE):
            linked = {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
            elsewhere = f"http://localhost:{self.server.server_port}/cdn/{repo}/{name}"  # type: ignore[attr-defined]
            self.reply(302, headers | linked | {"Location": elsewhere})
        else:
            self.content(repo, name, headers | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    def content(self, repo: str, name: str, headers: dict[str, str]) -> None:
        hub = self.hub
        if self.command == "GET" and name in hub.status:
            self.reply(hub.status[name])
            return
        content = hub.body.get(name, hub.repos[repo][name]) if self.command == "GET" else hub.repos[repo][name]
        status, asked = 200, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and hub.ranges:
            start, size = int(asked[1]), len(content)
            if start >= size:
                self.reply(416)
                return
            headers = headers | {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
            status, content = 206, content[start:]
        end = len(content)
        if self.command == "GET" and name in hub.cut:
            end = hub.cut.pop(name)
            if hub.down_after_cut:
                hub.status[name] = 503
        stalls = self.command == "GET" and name in hub.stall
        if stalls:
            end = hub.stall.pop(name)
        self.reply(status, headers | {"Content-Length": str(len(content))}, content[:end])
        if stalls:
            hub.released.wait(60)
        if end < len(content):
            self.close_connection = True

    def reply(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
            self.wfile.flush()


def preset_hub() -> Hub:
    """A Hub of the loopback that holds small stand-ins for what the preset `500m` needs."""
    preset, reference = PRESETS["500m"], Path(__file__).parents[1] / "reference"
    base = {file.name: file.read_bytes() for file in (reference / "tiny-vlm").iterdir()}
    return Hub({preset.base: base,
                preset.checkpoints[0]: {preset.checkpoint_file: (reference / "hypernetwork.pt").read_bytes()}})
