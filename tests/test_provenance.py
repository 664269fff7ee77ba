"""What an adapter was made with: the difference to what would be made today has a name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.adapters import make, source

from v2l.adapter import Adapter
from v2l.adapter.compress import compress
from v2l.adapter.join import join
from v2l.adapter.provenance import Provenance
from v2l.errors import OutputError

MADE_WITH = Provenance(
    base="f" * 64, hypernetwork="a" * 64, sampling={"frames": 12, "fps": 1.0, "skip": 1.0, "resolution": 384},
    prompt="Internalize this.", compute="float32", dtype="float32")
SPANS, VIDEO = [(0.0, 10.0)], source()


def test_what_was_made_alike_differs_in_nothing() -> None:
    assert MADE_WITH.differences(make(), SPANS, VIDEO) == []
    both, _ = join([make(), make(1, start=10.0, end=20.0)])
    assert MADE_WITH.differences(both, [*SPANS, (10.0, 20.0)], VIDEO) == []


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("base", {"base": {"id": "v2l/tiny", "revision": None, "fingerprint": "e" * 64}}),
        ("hypernetwork", {"hypernetwork": {"id": "v2l/tiny", "sha256": "b" * 64}}),
        ("sampling", {"sampling": {"frames": 24, "fps": 1.0, "skip": 1.0, "resolution": 384}}),
        ("prompt", {"prompt": "Look."}),
        ("compute", {"compute": {"dtype": "bfloat16", "device": "cpu"}}),
        ("dtype", {"dtype": "float16"}),
        ("segments", {"end": 9.0}),
        ("video", {"source": source("other.mp4")}),
    ],
)
def test_a_difference_is_named(name: str, made: dict[str, Any]) -> None:
    assert MADE_WITH.differences(make(**made), SPANS, VIDEO) == [name]


def test_all_differences_are_named_and_those_of_one_segment_count() -> None:
    other = replace(MADE_WITH, base="e" * 64, prompt="Look.")
    assert other.differences(make(end=9.0), SPANS) == ["base", "prompt", "segments"]
    mixed, _ = join([make(), make(1, start=10.0, end=20.0, prompt="Look.")])
    assert MADE_WITH.differences(mixed, [*SPANS, (10.0, 20.0)], VIDEO) == ["prompt"]


def test_a_compressed_adapter_is_not_what_watching_gives() -> None:
    small: Adapter = compress(make(), 2)
    assert MADE_WITH.differences(small, SPANS, VIDEO) == ["segments"]


def standing(adapter: Adapter, *asked: str, spans: Any = None, video: Any = None, segmented: bool = False
             ) -> str | None:
    """What `why_kept` says of an adapter where that was asked for."""
    return MADE_WITH.why_kept("a.v2lora", adapter, spans or SPANS, video or source(), asked, segmented)


def test_what_was_made_otherwise_stays_and_what_was_asked_for_otherwise_is_an_error() -> None:
    night = make(sampling={"frames": 24, "fps": 1.0, "skip": 1.0, "resolution": 384})
    assert standing(make()) == standing(make(), "base", "frames", "part") == ""
    assert standing(night) == standing(night, "base", "fps") == "was made with frames 24 instead of 12"
    with pytest.raises(OutputError, match=r"^a\.v2lora was made with frames 24 instead of 12; name another"):
        standing(night, "frames")
    with pytest.raises(OutputError):  # a program's call means all that it says
        MADE_WITH.why_kept("a.v2lora", night, SPANS, source())
    assert standing(make(dtype="float16")) == "is stored as float16 instead of float32"
    assert standing(make(compute={"dtype": "bfloat16", "device": "cpu"})) == (
        "was computed in bfloat16 instead of float32")


def test_a_video_in_segments_is_the_whole_video_and_a_part_is_not() -> None:
    both, _ = join([make(), make(1, start=10.0, end=20.0)])
    assert standing(both, spans=[(0.0, 20.0)]) == ""
    for asked, spans in (("segments", [(0.0, 20.0)]), ("part", [(0.0, 15.0)]), ("base", [(0.0, 30.0)])):
        with pytest.raises(OutputError, match=r"a\.v2lora holds 2 segments, 0:00 to 0:20; "):
            standing(both, asked, spans=spans)
    assert standing(compress(make(), 2)) == "was compressed"


def test_only_what_was_made_alike_is_replaced_when_the_video_changes() -> None:
    other = source("other.mp4")
    both, _ = join([make(), make(1, start=10.0, end=20.0)])
    assert standing(make(), video=other) is None
    assert standing(both, video=other, segmented=True) is None
    for adapter in (make(prompt="Look."), both, compress(make(), 2)):
        with pytest.raises(OutputError, match="and its video has changed since; "):
            standing(adapter, video=other)
