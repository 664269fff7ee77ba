"""How well cuts are found in films whose cuts are known: `python tests/measure/scene_cuts.py [FILMS] [FIRST SEED]`.

Prints precision and recall for each kind of film of tests/shots.py: hard cuts to one frame, fades to one second. Where
PySceneDetect is installed (`pip install scenedetect-headless`), its detectors with their defaults are measured too.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import av

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.shots import FPS, KINDS, Film, film

from v2l.config import Scenes
from v2l.video.scenes import find_cuts
from v2l.video.track import read_track

Finder = Callable[[Path], list[int]]


def ours(path: Path) -> list[int]:
    track = read_track(path)
    return [cut.frame for cut in find_cuts(track, 0, track.frames, Scenes())]


def theirs(name: str) -> Finder:
    import scenedetect
    from scenedetect import detectors

    def find(path: Path) -> list[int]:
        detector = getattr(detectors, name)()
        cuts, count = [], 0
        with av.open(str(path)) as container:
            for count, frame in enumerate(container.decode(video=0)):
                at = scenedetect.FrameTimecode(count, float(FPS))
                cuts += detector.process_frame(at, frame.to_ndarray(format="bgr24"))
        return [cut.frame_num for cut in [*cuts, *detector.post_process(scenedetect.FrameTimecode(count, float(FPS)))]]

    return find


def finders() -> Iterator[tuple[str, Finder]]:
    yield "v2l", ours
    try:
        import scenedetect  # noqa: F401
    except ImportError:
        return
    for name in ("AdaptiveDetector", "ContentDetector", "HistogramDetector", "HashDetector"):
        yield name, theirs(name)


def count(found: list[int], made: Film) -> Counter[str]:
    """Cuts found, missed, and false ones."""
    near = FPS if made.fades else 1
    left = list(found)
    counts: Counter[str] = Counter()
    for cut in made.cuts:
        closest = min(left, key=lambda at: abs(at - cut), default=None)
        if closest is not None and abs(closest - cut) <= near:
            left.remove(closest)
            counts["found"] += 1
        else:
            counts["missed"] += 1
    counts["false"] = len(left)
    return counts


def share(right: int, wrong: int) -> str:
    return f"{right / (right + wrong):.2f}" if right + wrong else "   -"


def main(films: int = 10, first: int = 100) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = {(kind, seed): film(kind, seed) for kind in KINDS for seed in range(first, first + films)}
        paths = {key: one.write(Path(folder, f"{key[0]}{key[1]}.mp4"), crf="28") for key, one in made.items()}
        print(f"{'precision / recall':18}", *(f"{kind:>11}" for kind in KINDS))
        for name, find in finders():
            totals = {kind: Counter[str]() for kind in KINDS}
            for key, path in paths.items():
                totals[key[0]] += count(find(path), made[key])
            cells = [share(c["found"], c["false"]) + " / " + share(c["found"], c["missed"]) for c in totals.values()]
            print(f"{name:18}", *(f"{cell:>11}" for cell in cells), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
