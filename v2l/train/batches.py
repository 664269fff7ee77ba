"""The clips that make up each step, and their frames, decoded ahead in threads.

What a step sees is a function of the seed and the step alone: the order of the clips, where each is cut, which of
several targets is taken. So a run that goes on sees what an unbroken one would.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import TypeVar

import numpy as np

from v2l.config import INTERNALIZE, SHORTEST_SEGMENT, Sampling
from v2l.errors import VideoError
from v2l.manifest import Item
from v2l.model.prompt import context_prompt, cut_tiles, tile_grid
from v2l.train.config import Recipe
from v2l.train.processes import Processes
from v2l.video.clip import Clip, open_clip
from v2l.video.cuts import windows
from v2l.video.decode import Decoder

D = TypeVar("D")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class SegmentTiles:
    """The frames of a clip or a segment as the base is to see them."""

    tiles: np.ndarray
    """[n, tile, tile, 3] uint8, frame after frame."""
    timestamps: list[float]
    """Time of each frame in seconds from the start of the file, as the prompt prints it."""
    grid: tuple[int, int]
    """Rows and columns of tiles of every frame."""
    duration: float
    """Duration of the file in seconds."""

    def prompt(self, image_seq_len: int, text: str = INTERNALIZE, generate: bool = False) -> str:
        grids = [self.grid] * len(self.timestamps)
        return context_prompt(self.timestamps, grids, self.duration, image_seq_len, text, generate)


@dataclass(frozen=True, eq=False)
class Example:
    """A clip as its segments' tiles, with the texts to learn."""

    item: Item
    segments: Sequence[SegmentTiles]
    """Segments in time order; a single one where the clip is not cut."""
    targets: Sequence[str]
    """A target for each turn; empty where the base answers itself."""
    whole: SegmentTiles | None
    """The clip in one piece, for the base that has it in its prompt."""


@dataclass(frozen=True)
class Draw:
    """A clip of a step, and the seed of its cuts and targets."""

    item: Item
    seed: str


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    order = list(range(count))
    random.Random(f"order {seed} {epoch}").shuffle(order)
    return order


def step_draws(items: Sequence[Item], recipe: Recipe, processes: Processes, step: int) -> list[Draw]:
    """The clips of a step for this process, `accumulate` batches one after the other. Each clip comes once an epoch;
    together, the processes see what one with their batches side by side would."""
    draws, batch = [], recipe.batch_size
    for i in range(recipe.accumulate):
        first = ((step * recipe.accumulate + i) * processes.count + processes.rank) * batch
        for number in range(first, first + batch):
            epoch, place = divmod(number, len(items))
            item = items[_order(recipe.seed, epoch, len(items))[place]]
            draws.append(Draw(item, f"clip {recipe.seed} {number}"))
    return draws


def validation_draws(items: Sequence[Item], recipe: Recipe, processes: Processes) -> list[Draw]:
    """Clips for this process to validate on, its share of all, cut the same way every time."""
    return [Draw(item, f"validation {recipe.seed} {i}") for i, item in enumerate(items)
            if i % processes.count == processes.rank]


class Watcher:
    """Draws -> examples. `tile` is the base's tile edge in pixels; only numpy happens here, in whatever thread."""

    def __init__(self, sampling: Sampling, tile: int, recipe: Recipe) -> None:
        self.sampling, self.tile, self.recipe = sampling, tile, recipe

    def __call__(self, draw: Draw) -> Example:
        """Raises VideoError."""
        item, rng = draw.item, random.Random(draw.seed)
        sampling = replace(self.sampling, start=item.start, end=item.end)
        clip = open_clip(item.video, sampling)
        cuts = random_cuts(rng, *clip.span(sampling), self.recipe.parts)
        segments = self._watch([clip.window(window) for window in windows(clip, sampling, cuts)])
        targets = () if self.recipe.self_distill else tuple(rng.choice(turn.targets) for turn in item.turns)
        whole = None
        if self.recipe.taught:
            whole = segments[0] if len(segments) == 1 else self._watch([clip])[0]
        return Example(item, segments, targets, whole)

    def _watch(self, clips: Sequence[Clip]) -> list[SegmentTiles]:
        """Clips of one file, in time order, in one pass over it."""
        info, resolution = clips[0].info, self.sampling.resolution
        grid = tile_grid(info.width, info.height, resolution, self.tile)
        segments = []
        with closing(Decoder(clips[0].track)) as decoder:
            for clip in clips:
                frames = list(replace(clip, decoder=decoder).frames())
                tiles = np.concatenate([cut_tiles(frame.image, resolution, self.tile) for frame in frames])
                segments.append(SegmentTiles(tiles, [frame.timestamp for frame in frames], grid, info.end))
        return segments


def random_cuts(rng: random.Random, start: float, end: float, parts: int) -> list[float]:
    """Random places to cut [start, end) seconds into 1 to `parts` segments, as many as have room; none is
    shorter than SHORTEST_SEGMENT."""
    most = max(1, int((end - start) / SHORTEST_SEGMENT))
    segments = rng.randint(1, min(parts, most))
    spare = end - start - segments * SHORTEST_SEGMENT
    places = sorted(rng.uniform(0, spare) for _ in range(segments - 1))
    return [start + place + i * SHORTEST_SEGMENT for i, place in enumerate(places, 1)]


def in_threads(make: Callable[[D], R], draws: Iterable[D], workers: int, bound: int) -> Generator[R, None, None]:
    """Results of `make` for each draw, in order, up to `bound` of them ahead. Close it to end the threads early."""
    pool, waiting = ThreadPoolExecutor(workers, "v2l-decode"), deque[Future[R]]()
    try:
        for draw in draws:
            waiting.append(pool.submit(make, draw))
            if len(waiting) > bound:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Clips:
    """The examples of step after step. A video that cannot be decoded is reported once, to `skipped`, and then left out
    of every batch it is drawn for."""

    def __init__(self, items: Sequence[Item], held: Sequence[Item], watch: Watcher, processes: Processes,
                 skipped: Callable[[Item, VideoError], None]) -> None:
        self.items, self.held, self.watch, self.processes, self.skipped = items, held, watch, processes, skipped
        self.recipe = watch.recipe
        self.bad: dict[Item, VideoError] = {}
        self._coming: Generator[Example | None, None, None] | None = None
        self._step = -1

    def batches(self, step: int) -> Iterator[list[Example]]:
        """The batches of a step; fastest for one step after the other. A batch may be empty."""
        if self._coming is None or step != self._step:
            self.close()
            self._coming = self._examples(draw for ahead in count(step) for draw in step_draws(
                self.items, self.recipe, self.processes, ahead))
        self._step = step + 1
        for _ in range(self.recipe.accumulate):
            yield [example for _ in range(self.recipe.batch_size) if (example := next(self._coming)) is not None]

    def validation(self) -> Iterator[list[Example]]:
        """All clips held out, in batches."""
        draws = validation_draws(self.held, self.recipe, self.processes)
        with closing(self._examples(draws)) as coming:
            for first in range(0, len(draws), self.recipe.batch_size):
                rest = min(self.recipe.batch_size, len(draws) - first)
                yield [example for _ in range(rest) if (example := next(coming)) is not None]

    def close(self) -> None:
        if self._coming is not None:
            self._coming.close()
            self._coming = None

    def _examples(self, draws: Iterable[Draw]) -> Generator[Example | None, None, None]:
        bound = self.recipe.batch_size + self.recipe.workers
        with closing(in_threads(self._make, draws, self.recipe.workers, bound)) as coming:
            for result in coming:
                if not isinstance(result, Example):
                    self._skip(*result)
                yield result if isinstance(result, Example) else None

    def _skip(self, item: Item, error: VideoError) -> None:
        if item not in self.bad:
            self.bad[item] = error
            self.skipped(item, error)

    def _make(self, draw: Draw) -> Example | tuple[Item, VideoError]:
        """Decodes a draw, in a thread of its own."""
        if (known := self.bad.get(draw.item)) is not None:
            return draw.item, known
        try:
            return self.watch(draw)
        except VideoError as error:
            return draw.item, error

