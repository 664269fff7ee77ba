"""Equal tiles are looked at once, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.screens import film, grain, one_by_one, slides
from v2l.adapter import load
from v2l.engine import Engine
from v2l.model import look
from v2l.model.base import Base
from v2l.segments import ingest_segments
from v2l.video.clip import open_clip
from v2l.video.cuts import parse_segments


@pytest.fixture(scope="module")
def engines() -> dict[str, Engine]:
    return {dtype: Engine("tiny", dtype=dtype, offline=True) for dtype in ("float32", "bfloat16")}


@pytest.fixture(scope="module")
def engine(engines: dict[str, Engine]) -> Engine:
    return engines["float32"]


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("still") / "still.mp4", slides, 24, rate=1)


@contextmanager
def groups(base: Base) -> Iterator[list[int]]:
    """The sizes of the groups that go through the vision tower."""
    sizes: list[int] = []
    hook = base.vision.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    try:
        yield sizes
    finally:
        hook.remove()


CASES = {"aaaaaaaaaaaa": [4], "abcdefgh": [4, 4], "abcdefghij": [4, 4, 2], "aabbccddeeff": [4, 4], "abab": [4],
         "aaaab": [4, 1], "aaaaa": [4, 1], "aaaaaa": [4, 2], "abcdeabcdeabcde": [4, 4, 3], "a": [1], "aab": [3]}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("names", CASES)
def test_equal_tiles_are_looked_at_once_and_give_the_same_bytes(names: str, dtype: str, engines: dict[str, Engine]
                                                                   ) -> None:
    base = engines[dtype].base
    tiles = {name: np.random.default_rng(ord(name)).integers(0, 256, (1, base.tile, base.tile, 3), np.uint8)
             for name in names}
    frames = [tiles[name] for name in names]
    right = one_by_one(base, frames)
    with groups(base) as sizes:
        assert torch.equal(base.see(frames), right)
    assert sizes == CASES[names]


def test_tiles_that_differ_in_one_bit_are_both_looked_at(engine: Engine) -> None:
    tile = np.full((1, engine.base.tile, engine.base.tile, 3), 128, np.uint8)
    other = tile.copy()
    other[0, -1, -1, -1] ^= 1
    with groups(engine.base) as sizes:
        tokens = engine.base.see([tile, other, tile])
    assert sizes == [3] and torch.equal(tokens, one_by_one(engine.base, [tile, other, tile]))
    each = tokens.unflatten(0, (3, -1))
    assert torch.equal(each[0], each[2]) and not torch.equal(each[0], each[1])


def test_a_still_film_is_watched_as_before_and_looked_at_less(engine: Engine, still: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    with groups(engine.base) as sizes:
        found = engine.ingest(still)
    assert len(found.segments[0]["timestamps"]) == 12 and sizes == [4]
    monkeypatch.setattr(engine.base, "see", partial(one_by_one, engine.base))
    right = engine.ingest(still)
    assert found.A.tobytes() == right.A.tobytes() and found.B.tobytes() == right.B.tobytes()


def test_nothing_is_lost_where_no_two_pictures_are_equal(engine: Engine, tmp_path: Path) -> None:
    with groups(engine.base) as sizes:
        engine.ingest(film(tmp_path / "grain.mp4", grain, 12, rate=1))
    assert sizes == [4, 4, 4]


def test_segments_share_what_they_show_and_are_what_each_alone_is(engine: Engine, still: Path, tmp_path: Path) -> None:
    sampling = engine.sampling()
    with groups(engine.base) as sizes:
        made = ingest_segments(engine, still, sampling, parse_segments("8s"), tmp_path / "still.v2lora", keep=True)
    assert sizes == [4]
    for path in made.kept:
        part = load(path)
        span = {"start": part.segments[0]["start"], "end": part.segments[0]["end"]}
        alone = engine.ingest(still, engine.sampling(**span))
        assert part.A.tobytes() == alone.A.tobytes()
    with groups(engine.base) as sizes:  # what one video left is not known to the next
        engine.see(open_clip(still, sampling), sampling)
    assert sizes == [4]


def test_what_was_used_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "KNOWN_BYTES", 3 * 40)
    known, keys = look.Known(), [(4, bytes([i])) for i in range(5)]
    for key in keys[:3]:
        known.add(key, torch.full((10,), float(key[1][0])))
    assert known.find(keys[0]) is not None
    known.add(keys[3], torch.zeros(10))
    assert [known.find(key) is not None for key in keys] == [True, False, True, True, False]
