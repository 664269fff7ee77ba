"""A live source -> its pictures on one time line that never goes back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from v2l.errors import VideoError
from v2l.live import code
from v2l.live.address import Address
from v2l.live.clock import now
from v2l.live.connection import Connection, Message
from v2l.live.windows import Plan
from v2l.wording import count_of


@dataclass(frozen=True)
class Picture:
    """A picture of a live source. All pictures of a watch have one size, that of the first."""

    rgb: np.ndarray
    """uint8 [height, width, 3], as it is shown."""
    at: float
    """Seconds since watching began, never going back."""
    rate: float = 0.0
    """Pictures a second that its source says it has; 0 where it does not."""


@dataclass(frozen=True)
class Gap:
    """A time without pictures."""

    start: float
    """Seconds since watching began."""
    end: float
    reason: str
    """Why: part of a sentence, such as `the connection was lost`."""


@dataclass(frozen=True)
class Waiting:
    """Nothing came, and time passes: told about once a second, so that what is open can be closed."""

    at: float
    """Seconds since watching began. No picture comes that is earlier: as long as one may, as where a network stalls, it
    is when the last one was; so it always is of a pipe and a file, whose time is that of their pictures."""
    reason: str = ""
    """Why nothing comes, where that is known: part of a sentence, such as `the connection was refused; trying again in
    4 s`."""


@dataclass(frozen=True)
class Reading:
    """How a live source is read."""

    plan: Plan | None = None
    """Which pictures are wanted, so that no others are converted and handed over; None for all of them."""
    timeout: float = 10.0
    """Seconds without anything after which a source counts as silent."""
    retries: int | None = None
    """How often to connect again without a picture in between; None for ever."""
    pause: float = 1.0
    """Seconds before connecting again; each time twice as many, up to LONGEST_PAUSE."""


LiveEvent: TypeAlias = Picture | Gap | Waiting

AGAIN = "; trying again in "
"""What stands between why nothing comes and how long the pause is."""
LONGEST_PAUSE = 60.0
_LASTING = 10.0
"""Seconds after which a connection has held, so that pauses begin anew."""
_TELL = 1.0
"""Seconds between two events at most."""
_NOTICED = 2.0
"""Seconds by which pictures that were left out make a gap."""
_REMEMBERED = 32
"""Segments of HLS, those read last, that tell the next connection where the stream was left."""
_TRIED = 5.0
"""Seconds for which a file is tried that says nothing yet."""
_START = 60.0
"""Seconds in which the reader's process must have started."""


def events(address: Address, reading: Reading) -> Iterator[LiveEvent]:
    """Yields what comes of a live source, in the order of time, until it ends; `at` is 0 with the first picture.

    Of a pipe and a file the pictures' own times count, however fast they come, and whoever takes them slowly holds them
    back. All others keep to this machine's clock: pictures that are not taken in time are left out. A source that is
    silent for `reading.timeout` seconds, or whose connection ends, is connected to again. A file ends when it has not
    grown for that long; a pipe that is silent is waited for.

    Errors: `VideoError`, without what is secret in the address, where nothing (more) can be read.
    """
    watch = _Watch(address, reading)
    try:
        yield from watch.run()
    finally:
        watch.close()


def refuse_unreadable(address: Address, reading: Reading) -> None:
    """Opens a file for a moment, so that one that cannot be watched is told before all else. VideoError."""
    path = Path(address.location)
    if address.kind != "file" or (path.exists() and not path.is_file() and not path.is_dir()):
        return  # what is read of others is gone
    connection, until = Connection(_Watch(address, reading).order()), time.monotonic() + _TRIED
    try:
        while (left := until - time.monotonic()) > 0 and (message := connection.take(left)):
            if message["kind"] == "opened":
                return
            if message["kind"] == "failed" and message["lasting"]:
                raise VideoError(f"{address.shown}: {message['reason']}.")
    finally:
        connection.kill()


class _Watch:
    """A source over all its connections."""

    def __init__(self, address: Address, reading: Reading) -> None:
        self.address, self.reading = address, reading
        self.origin: float | None = None
        """When (`now`) the time line began."""
        self.last = 0.0
        """Where the time line is."""
        self.pictured = 0.0
        """When the last picture was that was wanted."""
        self.size: tuple[int, int] | None = None
        """Width and height of all pictures."""
        self.rate = 0.0
        self.patience = reading.timeout
        """Seconds of silence that are nothing unusual for the source, as far as is known."""
        self.seen: deque[Message] = deque(maxlen=_REMEMBERED)
        """What the next connection is not to read again."""
        self.connection: Connection | None = None
        self.lost: tuple[float, str] | None = None
        """Where the time line was when the last connection ended, and why it did."""
        self.tried = 0
        """Times in a row that connecting gave no picture."""
        self.pauses = 0

    def close(self) -> None:
        if self.connection:
            self.connection.kill()
            self.connection = None

    def run(self) -> Iterator[LiveEvent]:
        while True:
            began = time.monotonic()
            self.connection = Connection(self.order())
            reason = yield from self._follow(self.connection)
            self.close()
            if reason is None:
                return
            if self.lost is None:
                self.lost = self.last, reason
            if not self.address.paced or self.tried == self.reading.retries:
                yield from self._give_up(reason)
            self.tried += 1
            self.pauses = 0 if self.tried == 1 and time.monotonic() - began >= _LASTING else self.pauses
            yield from self._pause(reason)
            self.pauses += 1

    def order(self) -> Message:
        """What the next connection is to read."""
        plan = self.reading.plan and asdict(self.reading.plan)
        return {"kind": self.address.kind, "location": self.address.location, "timeout": self.reading.timeout,
                "plan": plan, "origin": self.origin, "last": self.last, "size": self.size, "seen": list(self.seen)}

    def _follow(self, connection: Connection) -> Generator[LiveEvent, None, str | None]:
        """Yields what one connection gives, and returns why it ended; None where the source did."""
        quiet, patience, read = 0.0, _START, list[Message]()
        while True:
            began, at = time.monotonic(), connection.at  # pictures before that are in the queue, or were taken
            message = connection.take(min(_TELL, patience - quiet if quiet < patience else _TELL))
            if message is None:
                ended = time.monotonic()  # what was told while pictures were not asked for counts, the time does not
                quiet = min(quiet + ended - began, ended - connection.heard)
                silent = quiet >= patience
                reason = f"nothing has come for {patience:g} s" if silent else ""
                if silent and self.address.paced:
                    return reason
                self.last = max(self.last, at or 0.0)
                yield Waiting(self.last, reason)
                continue
            quiet, kind = 0.0, message["kind"]
            if kind == "ready":
                if message.get("code") != code.CODE:
                    raise VideoError(f"{self.address.shown}: v2l was upgraded while it watched; begin again.")
                patience = self.patience
            elif kind == "opened":
                patience, self.rate = max(patience, message["patience"]), message["rate"]
                self.patience = patience
            elif kind == "seen":
                read.append({name: value for name, value in message.items() if name != "kind"})
            elif kind == "ended":
                yield Waiting(max(self.last, message["at"]))
                return None
            elif kind == "failed":
                if message["lasting"] and self.origin is None:
                    raise VideoError(f"{self.address.shown}: {message['reason']}.")
                return str(message["reason"])
            else:
                yield from self._told(message)
            if self.tried == 0 and self.origin is not None:  # what was read became pictures
                self.seen.extend(read)
                read.clear()

    def _told(self, message: Message) -> Iterator[LiveEvent]:
        """What a message tells of the time line."""
        if message["kind"] == "begun":
            self.tried = 0
            self.origin = message["origin"]
            if self.lost:
                yield Gap(self.lost[0], message["at"], self.lost[1])
                self.lost = None
        elif message["kind"] == "gap":
            yield Gap(message["start"], message["end"], message["reason"])
        else:
            rgb = message["rgb"]
            self.size = self.size or (rgb.shape[1], rgb.shape[0])
            usual = self.reading.plan.spare if self.reading.plan else 0.0
            if message["lost"] and message["at"] - self.pictured > usual + _NOTICED:
                yield Gap(self.pictured, message["at"], f"{count_of(message['lost'], 'picture')} came faster than this "
                                                        "machine takes them")
            self.last = self.pictured = message["at"]
            yield Picture(rgb, self.last, self.rate)

    def _elapse(self) -> None:
        """Brings the time line to where this machine's clock is: nothing earlier can come any more."""
        if self.origin is not None and self.address.paced:
            self.last = max(self.last, now() - self.origin)

    def _pause(self, reason: str) -> Iterator[LiveEvent]:
        pause = min(LONGEST_PAUSE, self.reading.pause * 2 ** min(self.pauses, 10))
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0:
            self._elapse()
            yield Waiting(self.last, f"{reason}{AGAIN}{pause:g} s")
            time.sleep(min(left, _TELL))

    def _give_up(self, reason: str) -> Iterator[LiveEvent]:
        if self.lost and self.origin is not None:
            self._elapse()
            yield Gap(self.lost[0], self.last, reason)
        tries = f"; tried again {count_of(self.tried, 'time')}" if self.tried else ""
        raise VideoError(f"{self.address.shown}: {reason}{tries}.")
