"""The reader's process, as its parent sees it: started, listened to, and killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import IO, Any

import numpy as np

from v2l.config import LARGEST_PICTURE

_START = "import sys, os; sys.path[:] = sys.argv.pop(1).split(os.pathsep); from v2l.live.reader import main; main()"
"""What the process runs: it finds modules where its parent does, and nowhere else."""
_LONGEST_LINE = 1 << 12

Message = dict[str, Any]


class Connection:
    """One process that reads a source. Its messages wait one at a time: it is held back, or leaves pictures out."""

    def __init__(self, order: Message) -> None:
        piped = order["kind"] == "pipe"
        text = json.dumps({**order, "parent": os.getpid()})
        self._process = subprocess.Popen(
            # An address may hold a password, and arguments can be seen by all.
            [sys.executable, "-c", _START, os.pathsep.join(sys.path), text if piped else ""],
            stdin=sys.stdin if piped else subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True)  # Ctrl-C is for the parent
        if self._process.stdin:
            with suppress(OSError):  # it ended already, which its messages tell
                self._process.stdin.write(text.encode() + b"\n")
                self._process.stdin.flush()
        self._queue: Queue[Message] = Queue(1)
        self._over = Event()
        self.heard = time.monotonic()
        """When it told last that something came, by `time.monotonic`."""
        self.at: float | None = None
        """When the last picture was, on the time line, wanted or not."""
        self._thread = Thread(target=self._listen, name="v2l-live", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def take(self, seconds: float) -> Message | None:
        """The next message, a picture's with its `rgb`; None where none came within so many seconds."""
        try:
            return self._queue.get(timeout=seconds)
        except Empty:
            return None

    def _listen(self) -> None:
        file, ready = self._process.stdout, False
        assert file is not None
        try:
            while not self._over.is_set() and (message := _received(file)):
                if message["kind"] == "alive":
                    self.at = message["at"] if message["at"] is not None else self.at
                    self.heard = time.monotonic()
                else:
                    ready = True
                    self._put(message)
        except (OSError, ValueError, LookupError, TypeError):
            pass  # what it tells is broken: it ends below as if it had told nothing
        reason = f"the process that reads it {'ended' if ready else 'could not start'}"
        self._put({"kind": "failed", "reason": reason, "lasting": not ready})

    def _put(self, message: Message) -> None:
        while not self._over.is_set():
            with suppress(Full):
                self._queue.put(message, timeout=0.2)
                return

    def kill(self) -> None:
        """Ends the process, whatever it is doing."""
        self._over.set()
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for file in (self._process.stdin, self._process.stdout):
            if file:
                with suppress(OSError):
                    file.close()


def _received(file: IO[bytes]) -> Message | None:
    """The next message; None at the end. ValueError, LookupError, TypeError for what is none: what decodes a stream may
    be no longer its own master."""
    line = file.readline(_LONGEST_LINE)
    if not line:
        return None
    message: Message = json.loads(line)
    if message["kind"] == "picture":
        height, width = int(message["height"]), int(message["width"])
        if not (height > 0 and width > 0 and height * width <= LARGEST_PICTURE):
            raise ValueError("no size of a picture")
        message["rgb"] = rgb = np.empty((height, width, 3), np.uint8)
        if file.readinto(rgb.data.cast("B")) != rgb.nbytes:  # type: ignore[attr-defined]
            return None
    return message
