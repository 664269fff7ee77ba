"""What the README promises a newcomer: the example clips, the embedded model, no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from v2l.adapter import Adapter, load, save
from v2l.adapter.join import join, slice_segments
from v2l.config import Decoding
from v2l.engine import Engine
from v2l.tiny.clips import examples
from v2l.tiny.questions import events_caption, region_caption, shown
from v2l.tiny.world import SLIDE, SOLO

EXAMPLES = Path(__file__).parents[1] / "examples"
CLIPS = examples()


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", offline=True, device="cpu")


def answer(engine: Engine, adapter: Adapter, question: str) -> str:
    return engine.ask(adapter, question, Decoding(max_new_tokens=64)).finish().text


@pytest.mark.parametrize("name", CLIPS)
def test_every_example_is_answered_rightly(engine: Engine, name: str) -> None:
    adapter, clip = engine.ingest(EXAMPLES / f"{name}.mp4"), CLIPS[name]
    assert answer(engine, adapter, "What happened?") == events_caption(clip)
    assert answer(engine, adapter, "What appears first?") == shown(clip.events[0])
    assert answer(engine, adapter, "How does the orange cross move?") == "there is no orange cross"
    for event in clip.events:
        for thing in event.things:
            assert answer(engine, adapter, f"What color is the {thing.shape}?") == thing.color
            assert answer(engine, adapter, f"Describe the {thing.name}.") == region_caption(event, thing)
        if event.kind == SLIDE:
            assert answer(engine, adapter, "What does the slide say?") == event.action
        elif event.kind == SOLO:
            assert answer(engine, adapter, f"How does the {event.things[0].name} move?") == event.action


def test_the_long_example_in_parts(engine: Engine, tmp_path: Path) -> None:
    clip = CLIPS["long"]
    parts = [engine.ingest(EXAMPLES / "long.mp4", engine.sampling(start=s, end=s + 12.0)) for s in (0.0, 12.0, 24.0)]
    whole, notes = join(parts[::-1])
    assert notes == [] and whole.span == (0.0, 36.0)
    save(whole, tmp_path / "whole.v2lora")
    whole = load(tmp_path / "whole.v2lora")
    for thing in clip.things:
        assert answer(engine, whole, f"What color is the {thing.shape}?") == thing.color
    for i, part in enumerate(parts):
        save(slice_segments(whole, [i]), tmp_path / "slice.v2lora")
        save(part, tmp_path / "part.v2lora")
        assert (tmp_path / "slice.v2lora").read_bytes() == (tmp_path / "part.v2lora").read_bytes()


def test_direct_agrees_on_what_it_sees(engine: Engine) -> None:
    for name, clip in CLIPS.items():
        reply = engine.direct(EXAMPLES / f"{name}.mp4", "What appears first?", decoding=Decoding(max_new_tokens=16))
        assert reply.finish().text == shown(clip.events[0])


def test_the_model_ships_within_its_size() -> None:
    weights = Path(__file__).parents[1] / "v2l" / "tiny" / "weights"
    assert sum(f.stat().st_size for f in weights.rglob("*") if f.is_file()) <= 25 << 20
