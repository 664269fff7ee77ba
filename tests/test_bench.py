"""The bench measures what it says: its counts are checked against the prompts, its arithmetic against a simulation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from v2l.bench.speed.compare import Comparison, Way, compare
from v2l.config import Decoding
from v2l.engine import Engine


@pytest.fixture
def engine(reference: Path) -> Engine:
    return Engine(str(reference / "tiny-vlm"), str(reference / "hypernetwork.pt"), dtype="float32", device="cpu")


def test_compare_counts_tokens_and_answers_the_same_question(engine: Engine, reference: Path) -> None:
    video, question = reference / "videos" / "clip.mp4", "What happens?"
    found = compare(
        engine,
        video,
        question=question,
        sampling=engine.sampling(resolution=64),
        repeats=1,
        decoding=Decoding(max_new_tokens=8),
    )
    assert (found.adapter.visual_tokens, found.direct.visual_tokens, found.cached.visual_tokens) == (0, 32, 32)
    assert found.frames == 8
    assert found.adapter.prompt_tokens == len(
        engine.base.encode(f"<|im_start|>User: {question}<end_of_utterance>\nAssistant:")
    )
    assert found.direct.prompt_tokens == found.cached.prompt_tokens > found.adapter.prompt_tokens + 32
    assert found.direct.answer == found.cached.answer != found.adapter.answer
    assert all(0 < way.ttft_s <= way.total_s for way in found.ways)
    document = json.loads(json.dumps(found.to_json()))
    assert document["token_reduction"] == pytest.approx(found.direct.prompt_tokens / found.adapter.prompt_tokens)
    assert set(document["pays_after"]) == {"direct", "direct, cached"}


@pytest.mark.parametrize("setup", [0.0, 0.4, 1.0, 7.33])
@pytest.mark.parametrize("mine", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("theirs", [(0.0, 0.5), (0.0, 0.1), (3.0, 0.2), (0.6, 1.0)])
def test_pays_after_is_the_first_question_that_is_cheaper(
    setup: float, mine: float, theirs: tuple[float, float]
) -> None:
    way = Way("adapter", setup, 10, 0, mine, mine, 1, "")
    baseline = replace(way, name="direct", setup_s=theirs[0], ttft_s=theirs[1])
    comparison = Comparison("m", "v", "cpu", "float32", 1, 1, 64, "q", 1, way, baseline, baseline)
    cheaper = [n for n in range(1, 1000) if setup + n * mine < theirs[0] + n * theirs[1]]
    assert comparison.pays_after(baseline) == (cheaper[0] if cheaper else None)
