"""What watching costs, told before it is paid: its memory from shapes, its time from the rate of the first tiles."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from v2l.cli.pace import Work
from v2l.wording import count_of, duration_text, size_text

if TYPE_CHECKING:
    from v2l.cli.console import Console
    from v2l.config import Sampling
    from v2l.engine import Engine
    from v2l.video.clip import Clip

LONG = 180.0
"""Seconds from which on it is said how long work takes."""
_PROCESS = 400_000_000
"""Bytes of a process that has imported torch and decodes a video."""


class Cost:
    """Seconds and bytes of watching one clip in one piece, or the pieces of videos that are cut."""

    def __init__(self, engine: Engine, clip: Clip, sampling: Sampling, segmented: bool = False) -> None:
        from v2l.bench.speed.floors import ModelSizes
        from v2l.model.prompt import tile_count, tile_grid

        base = engine.base
        self.engine, self.clip, self.sampling, self.segmented = engine, clip, sampling, segmented
        self._sizes = ModelSizes(base.text_config, base.vision_config, engine.hypernetwork_files.config, base.tile,
                                 base.image_seq_len, engine.dtype.itemsize)
        self._grid = tile_grid(clip.info.width, clip.info.height, sampling.resolution, base.tile)
        self.tiles = len(clip.indices) * tile_count(self._grid)

    @cached_property
    def tokens(self) -> int:
        """Tokens of the prompt; a tokenizer is read for it."""
        stamps = [self.clip.timestamp(index) for index in self.clip.indices]
        return self.engine.base.prompt_tokens(stamps, self._grid, self.clip.info.end)

    @cached_property
    def parts(self) -> dict[str, float]:
        """Arithmetic by part (FLOP)."""
        return self._sizes.watching(self.tiles, self.tokens)

    @property
    def flop(self) -> float:
        """All arithmetic."""
        return sum(self.parts.values())

    @property
    def seeing(self) -> float:
        """The share of the arithmetic that is done when all frames were seen. What follows takes longer than that says
        (2.8 times, of 3,003 tokens to `tiny`), so that times are the least to expect until layers are counted."""
        return 1.0 if self.segmented else self.parts["vision"] / self.flop

    @property
    def memory(self) -> int:
        """Bytes: the weights, and of every token four hidden states, a key and a value. That gives 1.7 GB for the 661
        tokens of 8 frames and 4.8 GB for the 351,282 of 1,024 at 1024 px (500M); 1.8 and 4.5 were measured."""
        text, size = self._sizes.text, self._sizes.itemsize
        each = size * (4 * text.hidden_size + 2 * text.num_kv_heads * text.head_dim)
        return _PROCESS + self._sizes.watching_bytes + self.tokens * each

    def cheaper(self) -> str:
        """What would cost less, and which part of this it would cost."""
        if self.segmented:
            return "fewer --frames of each segment or a smaller --resolution take less"
        ways, sampling, usual = [], self.sampling, self.engine.files.resolution
        if self.tiles > len(self.clip.indices) and sampling.resolution > usual:
            ways.append((f"--resolution {usual}", replace(sampling, resolution=usual)))
        if fewer := next((n for n in (128, 12) if n < len(self.clip.indices)), None):
            ways.append((f"--frames {fewer}", replace(sampling, frames=fewer)))
        said = []
        for option, chosen in ways:
            part = Cost(self.engine, self.clip.window(chosen), chosen).flop / self.flop
            said.append(f"{option} takes {max(1, round(100 * part))} % of it")
        if self.parts["attention"] > 0.25 * self.flop and self.clip.info.duration > 120:
            said.append("--segment 60s looks at a minute at a time, in the memory of one")
        return ", ".join(said) or "a shorter part (--start, --end) takes less"


class Teller:
    """Tells once, in a line on the console, of work that takes long; `progress` goes on to the console's."""

    def __init__(self, console: Console, cost: Cost, videos: int,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._cost, self._videos, self._clock = console, cost, videos, clock
        self._work: Work | None = None
        self._began = self._told = False

    def _tell_memory(self) -> None:
        """Says where watching needs more memory than there is."""
        from v2l.bench.speed.machine import free_memory

        free = free_memory() if self._cost.engine.device.type == "cpu" else None
        if free is None or self._cost.memory <= free or self._cost.segmented:
            return
        self._console.warn(f"{self._subject()} need about {size_text(self._cost.memory)} of memory, and "
                           f"{size_text(free)} are free; {self._cost.cheaper()}.")

    def progress(self, title: str, done: int, total: int | None) -> None:
        """`Console.progress`. Time is counted from the first tiles on, which come after the model was loaded."""
        if not self._began:
            self._began = True
            self._tell_memory()
        self._console.progress(title, done, total)
        if self._told:
            return
        tiles = self._cost.tiles // len(self._cost.clip.indices)
        if self._work is None:
            if not total or done * tiles < min(4, total * tiles):
                return
            self._work = Work(title, self._videos, self._clock, lambda: self._cost.seeing)
        self._work.update(title, done, total)
        if self._work.pace.left is not None and self._work.pace.left > LONG:
            self._told = True
            memory = "" if self._cost.segmented else f", and about {size_text(self._cost.memory)} of memory"
            self._console.warn(f"{self._subject()} take {duration_text(self._work.pace.left)} or more{memory}; "
                               f"{self._cost.cheaper()}.")

    def finished(self, worked: bool) -> None:
        """A video is finished; `worked` unless it was up to date."""
        if self._work:
            self._work.pace.finish(worked)
        else:
            self._videos -= 1

    def _subject(self) -> str:
        if self._videos > 1:
            return f"{count_of(self._videos, 'video')} like {self._cost.clip.info.path}"
        if self._cost.segmented:
            return f"The segments of {self._cost.clip.info.path}"
        frames = len(self._cost.clip.indices)
        return (f"{count_of(frames, 'frame')} of {self._cost.clip.info.path} "
                f"({count_of(self._cost.tiles // frames, 'tile')} each)")
