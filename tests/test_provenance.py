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
