"""Senders of live video on the loopback: an RTSP server, HLS that grows, and servers that say nothing."""

from __future__ import annotations

import base64
import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import av

from tests.support.videos import numbered

RATE = 25
LARGEST_PACKET = 600
"""Bytes of an RTP packet; larger units are sent in fragments, as of a real camera's key frames."""


def h264(frames: int = 50, size: tuple[int, int] = (96, 64), rate: int = RATE) -> list[bytes]:
    """Numbered frames in H.264, a key frame every 10: the access units, with start codes."""
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = *size, "yuv420p", Fraction(1, rate)
    encoder.framerate, encoder.options = rate, {"tune": "zerolatency", "preset": "ultrafast", "g": "10"}
    packets = []
    for i in range(frames):
        frame = av.VideoFrame.from_ndarray(numbered(i, *size), format="rgb24").reformat(format="yuv420p")
        frame.pts = i
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in [*packets, *encoder.encode(None)]]


def units(access_unit: bytes) -> list[bytes]:
    """The NAL units of an access unit."""
    return [unit.rstrip(b"\0") for unit in re.split(rb"\x00\x00\x00?\x01", access_unit) if unit]


def rtp_payloads(unit: bytes) -> list[bytes]:
    """A NAL unit as RFC 6184 sends it: by itself, or in fragments (FU-A)."""
    if len(unit) <= LARGEST_PACKET:
        return [unit]
    head, body = unit[0], unit[1:]
    parts = [body[i : i + LARGEST_PACKET] for i in range(0, len(body), LARGEST_PACKET)]
    return [bytes([head & 0xE0 | 28, (i == 0) << 7 | (i == len(parts) - 1) << 6 | head & 0x1F]) + part
            for i, part in enumerate(parts)]


class Camera:
    """An RTSP server that sends H.264 over its own connection (interleaved), in a loop, as many times as it is asked.
    `with Camera() as camera: ... camera.url`; a stopped one can be started again on the same port."""

    def __init__(self, rate: int = RATE, password: str = "", port: int = 0, frames: list[bytes] | None = None) -> None:
        self.rate, self.password, self.port = rate, password, port
        self.frames = frames or h264()
        self.frozen, self.mute = Event(), Event()
        """Whether it sends nothing while connected; whether it does not even answer."""
        self.ticks = 90000 * 3
        """What its clock shows, 90,000 a second; a test may set it."""
        self.connections = 0
        self.status = 200
        """What DESCRIBE is answered with."""

    @property
    def url(self) -> str:
        secret = f"user:{self.password}@" if self.password else ""
        return f"rtsp://{secret}127.0.0.1:{self.port}/live"

    @property
    def running(self) -> bool:
        return not self._over.is_set()

    def __enter__(self) -> Camera:
        self.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.stop()

    def start(self) -> None:
        self._over = Event()
        self._clients: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._threads = [Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        """Ends as a process does that is killed: all connections break off."""
        self._over.set()
        for each in [self._listener, *self._clients]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._clients.append(client)
            self._threads.append(Thread(target=self._serve, args=(client,), daemon=True))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client.makefile("rb") as file:
            while line := file.readline():
                if line.startswith(b"$"):  # a report of the receiver's: its rest follows
                    rest = line + file.read(max(0, 4 - len(line)))
                    file.read(max(0, struct.unpack(">H", rest[2:4])[0] + 4 - len(rest)))
                    continue
                headers = [line, *iter(file.readline, b"\r\n")]
                while self.mute.is_set() and not self._over.wait(0.02):
                    pass
                method = line.split()[0].decode()
                client.sendall(self._answer(method, b"".join(headers).decode()))
                if method == "PLAY":
                    self._threads.append(Thread(target=self._send, args=(client,), daemon=True))
                    self._threads[-1].start()

    def _answer(self, method: str, request: str) -> bytes:
        number = re.search(r"(?i)^CSeq: *(\d+)", request, re.MULTILINE)
        head, body, status = f"CSeq: {number[1] if number else 0}\r\n", "", 200
        wanted = base64.b64encode(f"user:{self.password}".encode()).decode()
        if self.password and method != "OPTIONS" and f"Basic {wanted}" not in request:
            status, head = 401, head + 'WWW-Authenticate: Basic realm="camera"\r\n'
        elif method == "OPTIONS":
            head += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE" and self.status == 200:
            sets = [base64.b64encode(unit).decode() for unit in units(self.frames[0]) if unit[0] & 31 in (7, 8)]
            body = ("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                    "a=rtpmap:96 H264/90000\r\na=control:track\r\n"
                    f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={','.join(sets)}\r\n")
            head += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "DESCRIBE":
            status = self.status
        elif method == "SETUP":
            head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        else:
            head += "Session: 1\r\n"
        return f"RTSP/1.0 {status} {'OK' if status == 200 else 'No'}\r\n{head}\r\n{body}".encode()

    def _send(self, client: socket.socket) -> None:
        number, due = 0, time.monotonic()
        with suppress(OSError):
            for i in range(1 << 20):
                while self.frozen.is_set() and not self._over.wait(0.02):
                    due = time.monotonic()
                parts = [part for unit in units(self.frames[i % len(self.frames)]) for part in rtp_payloads(unit)]
                for k, part in enumerate(parts):
                    head = struct.pack(">BBHII", 0x80, 96 | (k == len(parts) - 1) << 7, number & 0xFFFF,
                                       self.ticks & 0xFFFFFFFF, 7)
                    client.sendall(struct.pack(">BBH", 0x24, 0, len(head) + len(part)) + head + part)
                    number += 1
                self.ticks += 90000 // self.rate
                due += 1 / self.rate
                if self._over.wait(max(0.0, due - time.monotonic())):
                    return


@contextmanager
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def dripping(content: bytes) -> Iterator[int]:
    """The port of a server that answers with a byte each tenth of a second."""
    def answer(client: socket.socket) -> None:
        with suppress(OSError), client:
            client.recv(1 << 16)
            client.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            for byte in content:
                client.sendall(bytes([byte]))
                time.sleep(0.1)

    def accept() -> None:
        with suppress(OSError):
            while True:
                Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def segments(folder: Path, count: int, rate: int = 10, length: float = 0.5) -> list[bytes]:
    """So many segments of HLS, MPEG-TS of `length` seconds each."""
    path = folder / "all.m3u8"
    options = {"hls_time": f"{length}", "hls_list_size": "0", "hls_segment_filename": str(folder / "%d.ts")}
    with av.open(str(path), "w", format="hls", options=options) as output:
        stream: Any = output.add_stream("libx264", rate=rate, options={"g": f"{int(rate * length)}", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(int(count * rate * length)):
            frame = av.VideoFrame.from_ndarray(numbered(i % 256, 96, 64), format="rgb24").reformat(format="yuv420p")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return [(folder / f"{i}.ts").read_bytes() for i in range(count)]


class Channel:
    """HLS over HTTP that grows by a segment each `length` seconds; of the last five the list tells.
    `with Channel(segments(...)) as channel: ... channel.url`."""

    def __init__(self, parts: list[bytes], list: bytes | None = None, length: float = 0.5) -> None:
        """`list` is sent in place of the list."""
        self.parts, self.list, self.length = parts, list, length
        self.ended = False
        """Whether its list says that no more comes; a test may say so."""
        self.began = 0.0
        self.lists: dict[str, bytes] = {}
        """Lists besides, by name."""
        self.asked: list[str] = []
        """The paths that were asked for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/live.m3u8?token=hidden"

    def playlist(self) -> str:
        passed = int((time.monotonic() - self.began) / self.length)
        last = len(self.parts) if self.ended else min(len(self.parts), 5 + passed)
        first = 0 if self.ended else max(0, last - 5)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        for i in range(first, last):
            lines += [f"#EXTINF:{self.length},", f"{i}.ts"]
        return "\n".join([*lines, *["#EXT-X-ENDLIST"] * self.ended, ""])

    def __enter__(self) -> Channel:
        channel = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                channel.asked.append(self.path)
                name = self.path.partition("?")[0].lstrip("/")
                body = channel.body(name)
                self.send_response(200 if body else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.began = time.monotonic()
        self.thread = Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def body(self, name: str) -> bytes:
        if name in self.lists:
            return self.lists[name]
        if name == "live.m3u8":
            return self.playlist().encode() if self.list is None else self.list
        number = name.removesuffix(".ts")
        return self.parts[int(number)] if number.isdecimal() and int(number) < len(self.parts) else b""

    def __exit__(self, *args: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)
