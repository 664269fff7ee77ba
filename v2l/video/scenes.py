"""Where the picture of a video changes: cuts, fades and dissolves, found in one pass over small pictures.

Two pictures differ by the mean difference of their pixels, and of how their colours are distributed, which motion
leaves alone. A cut is a step between two frames that stands out of the steps around it and that holds: what comes
within a quarter of a second after differs from all that came as shortly before, which is not so of a flash. A dissolve
is the same between pictures a second and a half apart. A black picture parts what it stands between.

Why not PySceneDetect, which is well kept and whose streaming detectors would fit (scenedetect-headless 0.7, BSD, brings
no other OpenCV): on the same films each of them finds at most 60 % of changes between slides, none finds dissolves, and
most take flashes or repeated pictures for cuts. `python tests/measure/scene_cuts.py` has the figures of both.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import numpy as np
import numpy.typing as npt

from v2l.config import MOST_SEGMENTS, Scenes
from v2l.errors import VideoError
from v2l.video.decode import thumbnails
from v2l.video.track import Track

_SIZE = (32, 18)
"""Width and height of the pictures compared: noise is averaged away, what a picture shows is not."""

_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Cut:
    frame: int
    """The first of what is new; of a gradual change its middle, to about half a second."""
    strength: float
    """How far apart the pictures before and after are; 0 to 2 or so."""


def scene_edges(
    track: Track, first: int, stop: int, scenes: Scenes, progress: Callable[[int], None] | None = None
) -> list[float]:
    """Where to cut frames [first, stop) of a track: seconds, ascending, the ends left out. Deterministic.

    `progress` gets the number of frames seen. Errors: `VideoError` where the file cannot be decoded.
    """
    end = track.times[stop] if stop < track.frames else max(track.start + track.frames / track.fps, track.times[-1])
    found = find_cuts(track, first, stop, scenes, progress)
    return chosen_cuts([(track.times[cut.frame], cut.strength) for cut in found], track.times[first], end, scenes)


def chosen_cuts(found: Iterable[tuple[float, float]], start: float, end: float, scenes: Scenes) -> list[float]:
    """(seconds, strength) of what was found in [start, end) -> the cuts taken, in seconds, ascending.

    Where cuts lie closer together than the shortest scene, the clearest is taken; what is longer than the longest is
    cut into equal parts. VideoError where that would be more than MOST_SEGMENTS.
    """
    if end - start > MOST_SEGMENTS * scenes.longest:
        raise VideoError(f"{end - start:.0f} seconds are too many to cut by scenes; take a part of them.")
    chosen = [start, end]
    for at, _ in sorted(found, key=lambda cut: (-cut[1], cut[0])):
        if all(abs(at - other) >= scenes.shortest for other in chosen):
            chosen.append(at)
    edges: list[float] = []
    for a, b in pairwise(sorted(chosen)):
        parts = max(1, ceil((b - a) / scenes.longest - 1e-6))
        edges += [round(a + (b - a) * i / parts, 3) for i in range(parts)]
    return edges[1:]


def find_cuts(
    track: Track, first: int, stop: int, scenes: Scenes, progress: Callable[[int], None] | None = None
) -> list[Cut]:
    """All changes of the picture in frames [first, stop) of a track, in time order."""
    pictures = _Pictures(track.fps)
    for seen, (index, picture) in enumerate(thumbnails(track, first, stop, _SIZE), 1):
        pictures.add(index, picture)
        if progress and seen % 32 == 0:
            progress(seen)
    return pictures.cuts(scenes.threshold)


class _Pictures:
    """What is kept of the pictures as they pass: a few numbers of each, and the last seconds' features."""

    FLOOR = 0.04
    """A step smaller than this is none, however still everything else stands."""
    REPEAT = 0.006
    """A step smaller than this is the same picture again; films of few pictures a second repeat each."""
    HELD = 0.5
    """Part of a step that must be left of it when it is gone over by a quarter of a second."""
    DARK, BLANK = 0.15, 0.03
    """Mean and deviation of the pixels of a picture that shows nothing; a bright one may be a flash."""
    GRADUAL = 0.25, 2.2
    """The least gradual change, and how many times larger than usual: pictures that lie apart differ by motion too."""
    PER_SECOND = 5
    """Pictures for gradual changes, each the median of a fifth of a second, in which a flash is lost."""
    REACH = 4
    """Pictures of that kind on either side of a gradual change, so that it may take a second and a half."""

    def __init__(self, fps: float) -> None:
        self.index = array("q")
        self.steps, self.held = array("f"), array("f")
        """Distance of each picture from the one before; what of this holds, where it may be a cut."""
        self.blank = array("b")
        self.group = max(1, round(fps / self.PER_SECOND))
        self.changes, self.changes_held = array("f"), array("f")
        """The same for gradual changes, of each group of pictures."""
        self.around = max(6, round(fps))
        """Steps on either side that a cut is compared with."""
        self.hold = min(8, max(2, round(0.24 * fps)))
        self.recent: deque[_Floats] = deque(maxlen=2 * self.hold)
        self.groups: deque[_Floats] = deque(maxlen=4 * self.REACH + 1)
        self.forming: list[_Floats] = []

    def add(self, index: int, picture: npt.NDArray[np.uint8]) -> None:
        features = _features(picture)
        self.steps.append(_apart(features, self.recent[-1]) if self.recent else 0.0)
        self.index.append(index)
        self.held.append(0.0)
        self.blank.append(bool(picture.std(axis=(0, 1)).max() < self.BLANK * 255 and picture.mean() < self.DARK * 255))
        self.recent.append(features)
        self._judge_step(len(self.index) - self.hold, self.hold)
        self.forming.append(features)
        if len(self.forming) == self.group:
            self.groups.append(np.median(self.forming, axis=0))
            self.forming.clear()
            self._judge_change()

    def _judge_step(self, place: int, after: int) -> None:
        """Measures what holds of the step at `place`, of which the last `after` pictures are what came then."""
        if place > 0 and self.steps[place] > self.FLOOR:
            recent = np.stack(self.recent)
            self.held[place] = _least(recent[:-after][-self.hold :], recent[-after:])

    def _judge_change(self) -> None:
        reach = self.REACH
        self.changes.append(0.0)
        self.changes_held.append(0.0)
        if len(self.groups) == 4 * reach + 1:  # the group in their middle is the one judged
            groups = np.stack(self.groups)
            self.changes[-1 - 2 * reach] = _apart(groups[reach], groups[3 * reach])
            self.changes_held[-1 - 2 * reach] = _least(groups[: reach + 1], groups[3 * reach :])

    def cuts(self, threshold: float) -> list[Cut]:
        for after in range(self.hold - 1, 0, -1):  # the last pictures, with less after them
            self._judge_step(len(self.index) - after, after)
        found = self._steps(threshold) + self._blanks()
        found += self._gradual(found)
        return [Cut(self.index[place], strength) for place, strength in sorted(found)]

    def _steps(self, threshold: float) -> list[tuple[int, float]]:
        """(place, strength) of the cuts."""
        steps, held = np.array(self.steps), np.array(self.held)
        found = []
        for place in np.flatnonzero(held > np.maximum(self.FLOOR, self.HELD * steps)):
            near = np.concatenate([steps[max(1, place - self.around) : place], steps[place + 1 :][: self.around]])
            usual = _usual(near[near > self.REPEAT], 85)
            best = held[max(0, place - self.hold) : place + self.hold + 1].max()
            if steps[place] > threshold * usual and held[place] == best:
                found.append((int(place), float(held[place])))
        return found

    def _blanks(self) -> list[tuple[int, float]]:
        """The middle of each run of pictures that show nothing; it parts scenes most clearly."""
        edges = np.flatnonzero(np.diff(np.array([0, *self.blank, 0])))
        runs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        return [((begin + end) // 2, 2.0) for begin, end in runs if begin > 0 and end < len(self.blank)]

    def _gradual(self, cuts: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
        least, threshold = self.GRADUAL
        changes, held = np.array(self.changes), np.array(self.changes_held)
        taken = [place / self.group for place, _ in cuts]  # in groups; a cut looks like a dissolve all around it
        found = []
        for group in np.argsort(-changes, kind="stable"):
            if changes[group] < least:
                break
            if any(abs(group - other) <= 2.5 * self.REACH for other in taken):
                continue
            span = range(max(0, group - 5 * self.REACH), min(len(changes), group + 5 * self.REACH + 1))
            apart = [other for other in (*taken, group) if abs(other - group) <= 7 * self.REACH]
            near = [changes[i] for i in span if changes[i] and all(abs(i - o) > self.REACH + 1 for o in apart)]
            usual = _usual(near, 60)  # 0 where nothing is far enough from other cuts to tell
            if usual and changes[group] > threshold * usual and held[group] > self.HELD * changes[group]:
                taken.append(float(group))
                found.append((int(group) * self.group + self.group // 2, float(held[group])))
        return found


def _features(picture: npt.NDArray[np.uint8]) -> _Floats:
    """What of a picture is compared: its pixels, and the cumulative histogram of each colour (8 levels), weighed so
    that the sum of absolute differences is the mean difference of the one plus four times that of the other."""
    pixels = picture.reshape(-1, 3)
    below = [(pixels < level).mean(axis=0) for level in range(32, 256, 32)]
    return np.concatenate([pixels.ravel() / (255 * pixels.size), np.ravel(below) * 4 / 21]).astype(np.float32)


def _apart(a: _Floats, b: _Floats) -> float:
    return float(np.abs(a - b).sum())


def _least(before: _Floats, after: _Floats) -> float:
    """How far apart the most alike are, of pictures before and after."""
    return float(np.abs(before[:, None] - after[None]).sum(-1).min())


def _usual(values: Iterable[float], percent: float) -> float:
    """What is usual among values, the rare great ones left aside; 0 where they are too few to tell."""
    some = np.fromiter(values, np.float32)
    return float(np.percentile(some, percent)) if some.size >= 4 else 0.0
