"""Cuts in films whose cuts are known, and which of them part a video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from support.shots import FPS, Film, Shot, film
from support.videos import number, numbered, write

from v2l.config import Scenes
from v2l.video.decode import thumbnails
from v2l.video.scenes import chosen_cuts, find_cuts, scene_edges
from v2l.video.track import read_track


def found(path: Path, first: int = 0, stop: int | None = None) -> list[int]:
    track = read_track(path)
    return [cut.frame for cut in find_cuts(track, first, track.frames if stop is None else stop, Scenes())]


@pytest.mark.parametrize("kind", ["still", "moving", "wild", "flashes", "drift", "slides", "jerky"])
def test_hard_cuts_are_found_to_the_frame(tmp_path: Path, kind: str) -> None:
    made = film(kind, seed=3, shots=3)
    assert found(made.write(tmp_path / "film.mp4")) == made.cuts


@pytest.mark.parametrize("kind", ["dissolves", "black"])
def test_gradual_changes_are_found_to_a_second(tmp_path: Path, kind: str) -> None:
    shots = [Shot(150, seed, pan=0.2, things=1) for seed in (1, 2)]
    made = Film(shots, fades=30, black=kind == "black")
    (cut,) = found(made.write(tmp_path / "film.mp4"))
    assert abs(cut - 150) <= FPS


@pytest.mark.parametrize("shot", [
    Shot(120, 5, noise=0), Shot(120, 5, noise=6), Shot(120, 5, drift=0.4), Shot(120, 5, pan=6, things=6),
    Shot(120, 5, flashes=(20, 50, 90)), Shot(120, 5, pan=1.5, things=3, repeat=5),
], ids=["still", "noise", "drift", "wild", "flashes", "jerky"])
def test_one_shot_has_no_cut(tmp_path: Path, shot: Shot) -> None:
    path = Film([shot]).write(tmp_path / "film.mp4")
    assert found(path) == []
    track = read_track(path)
    assert scene_edges(track, 0, track.frames, Scenes()) == []


def test_a_part_of_a_film_has_the_cuts_of_that_part(tmp_path: Path) -> None:
    made = Film([Shot(70, seed, pan=0.5, things=2) for seed in range(4)])
    path = made.write(tmp_path / "film.mp4", g="10")
    assert made.cuts == [70, 140, 210] and found(path, 100, 250) == [140, 210]
    assert found(path, 100, 200) == [140]
    assert found(path, 280 - 2, 280) == []


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.ts", "libx264"), ("a.avi", "mpeg4")])
def test_thumbnails_are_the_frames_they_say(tmp_path: Path, name: str, codec: str) -> None:
    path = write(tmp_path / name, codec, frames=120, options={"g": "12"})
    small = list(thumbnails(read_track(path), 75, 110, (48, 32)))
    assert [index for index, _ in small] == list(range(75, 110))
    assert all(picture.shape == (32, 48, 3) and number(picture) == index for index, picture in small)


def test_thumbnails_of_av1(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", "libsvtav1", frames=30, options={"preset": "12", "crf": "10"})
    assert [number(picture) for _, picture in thumbnails(read_track(path), 0, 30, (48, 32))] == list(range(30))


def test_the_first_and_the_last_frames_may_be_cuts(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for picture in [numbered(0, 96, 64)] * 2 + [numbered(85, 96, 64)] * 20 + [numbered(255, 96, 64)] * 2:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    assert found(path) == [2, 22]


def test_the_clearest_cuts_are_taken_and_long_scenes_parted() -> None:
    scenes = Scenes(shortest=10, longest=60)
    assert chosen_cuts([], 0, 60, scenes) == []
    assert chosen_cuts([(20, 0.5), (25, 0.9), (27, 0.5), (40, 0.1)], 0, 60, scenes) == [25, 40]
    assert chosen_cuts([(9.9, 1), (50.1, 1)], 0, 60, scenes) == []  # too near the ends
    assert chosen_cuts([(10, 1), (50, 1)], 0, 60, scenes) == [10, 50]
    assert chosen_cuts([(30, 1)], 0, 180, scenes) == [30, 80, 130]
    assert chosen_cuts([(120, 1)], 100, 161, scenes) == [120]
    assert chosen_cuts([(20, 0.5), (25, 0.5)], 0, 60, scenes) == [20]  # the earlier of equals
    rng = np.random.default_rng(0)
    cuts = [*zip(rng.uniform(0, 3600, 900), rng.uniform(0, 1, 900), strict=True)]
    edges = np.array([0, *chosen_cuts(cuts, 0, 3600, scenes), 3600])
    assert np.diff(edges).min() >= scenes.shortest - 0.001 and np.diff(edges).max() <= scenes.longest + 0.001


def test_edges_are_the_times_of_the_frames(tmp_path: Path) -> None:
    made = Film([Shot(70, seed) for seed in range(3)])
    track = read_track(made.write(tmp_path / "film.mp4"))
    scenes = Scenes(shortest=1)
    assert scene_edges(track, 0, track.frames, scenes) == [2.8, 5.6]
    assert scene_edges(track, 0, track.frames, replace(scenes, longest=2)) == [1.4, 2.8, 4.2, 5.6, 7.0]
    seen: list[int] = []
    scene_edges(track, 0, track.frames, scenes, seen.append)
    assert seen == sorted(seen) and seen[-1] <= track.frames
