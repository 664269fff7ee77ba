"""Whether a model's adapters tell of their videos is found without reference answers: `tiny` passes, faults do not."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from support.broken import FAULTS
from support.cli import documents, refused, run
from support.hub import Hub

from v2l.adapter import Adapter
from v2l.bench.likelihood import Likelihood, ModelCheck, draw_checked, measure_likelihood, pooled, problems
from v2l.bench.likelihood_text import check_text
from v2l.engine import Engine, Seen
from v2l.model.generate import bind
from v2l.model.prompt import END, question_prompt
from v2l.tiny import BASE, WEIGHTS
from v2l.train.config import CAPTION_PROMPTS
from v2l.video.clip import open_clip

PROMPTS = CAPTION_PROMPTS[:3]


@dataclass(frozen=True)
class Watched:
    """Clips that an engine in float32 has watched."""

    engine: Engine
    seen: list[Seen]
    adapters: list[Adapter]

    def likelihood(self, clip: int, adapter: Adapter) -> Likelihood:
        """What is found of one of the first two clips with this adapter as its own, and the other's as the other."""
        return measure_likelihood(self.engine, self.seen[clip], adapter, self.adapters[1 - clip], f"{clip}", PROMPTS)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    engine = Engine("tiny", dtype="float32", device="cpu", offline=True)
    seen, adapters = [], []
    for video in draw_checked(tmp_path_factory.mktemp("clips"))[:3]:
        clip = open_clip(video, engine.sampling())
        seen.append(engine.see(clip, engine.sampling()))
        adapters.append(engine.ingest_seen(clip, seen[-1], engine.sampling()))
    return Watched(engine, seen, adapters)


@pytest.fixture(scope="module")
def healthy(watched: Watched) -> list[Likelihood]:
    return [watched.likelihood(clip, watched.adapters[clip]) for clip in (0, 1)]


def test_tiny_passes_on_its_own_clips(healthy: list[Likelihood]) -> None:
    for found in (*healthy, pooled(healthy)):
        assert problems(found) == []
        assert found.other < found.base < found.adapter <= found.direct <= 0
        assert found.bias < found.adapter and max(found.changed.values()) < found.adapter


@pytest.mark.parametrize(("fault", "told"), [
    ("segments of zeros", "the bias alone"), ("zeros, the bias too", "no adapter gives"),
    ("of another clip", "no adapter gives"), ("scale divided by the rank", "scale x 16"),
    ("rows of A one on from those of B", "no adapter gives"), ("rows of A in reverse", "than as it is"),
    ("bias doubled", "bias / 2"), ("bias as a segment too", "no bias"),
])
def test_a_fault_of_all_adapters_is_found_and_told(watched: Watched, fault: str, told: str) -> None:
    found = pooled([watched.likelihood(clip, FAULTS[fault](watched.adapters[clip], watched.adapters[2]))
                    for clip in (0, 1)])
    assert told in "; ".join(problems(found))


def test_what_is_scored_is_what_the_engine_computes(watched: Watched, healthy: list[Likelihood]) -> None:
    """The answers once more, token by token, through the pass that answers questions."""
    engine, found, bound = watched.engine, healthy[1], bind(watched.adapters[1], torch.device("cpu"))
    sums, tokens = {"adapter": 0.0, "base": 0.0, "direct": 0.0}, 0
    for question, text in found.texts.items():
        answer = engine.base.encode(f" {text}{END}")
        tokens += len(answer)
        alone = engine.base.embed(engine.base.encode(question_prompt(question)))
        prompt = watched.seen[1].prompt(engine.base.image_seq_len, question, generate=True)
        shown = engine.base.embed(engine.base.encode(prompt), watched.seen[1].image_tokens)
        for name, start, adapter in (("adapter", alone, bound), ("base", alone, None), ("direct", shown, None)):
            with torch.inference_mode():
                states = engine.base.text.hidden(torch.cat([start, engine.base.embed(answer)], 1), adapters=adapter)
                sure = engine.base.text.logits(states[0, start.shape[1] - 1 : -1]).log_softmax(-1)
            sums[name] += float(sure[range(len(answer)), answer].sum())
    assert found.tokens == tokens
    for name, total in sums.items():
        assert getattr(found, name) == pytest.approx(total / tokens, abs=1e-4)


SOUND = Likelihood("a.mp4", 10, -1.0, -1.2, -1.1, -0.4, -0.3, {"scale x 2": -0.6, "no bias": -0.9}, {"What?": "It."})


@pytest.mark.parametrize(("found", "told"), [
    (SOUND, None), (replace(SOUND, other=-0.5), "the adapter of another video gives"),
    (replace(SOUND, bias=-0.5), "the bias alone gives"), (replace(SOUND, adapter=-0.9), "no adapter gives"),
    (replace(SOUND, direct=-0.7), "likelier to the adapter than to that prompt"),
    (replace(SOUND, base=-0.35), "nothing can be told of adapters"),
    (replace(SOUND, other=math.nan), "not finite"),
    (replace(SOUND, changed={"scale x 2": -0.3}), "changed on purpose (scale x 2), it is better (-0.30) than"),
])
def test_each_rank_has_its_words(found: Likelihood, told: str | None) -> None:
    check = ModelCheck("m", "cpu", "float32", [found, found])
    document = json.loads(json.dumps(check.to_json(), allow_nan=False))
    assert check.works == document["works"] == (told is None)
    assert (told or "m works here: its adapters give 86%") in document["verdict"]
    assert max(map(len, check_text(check, 40).splitlines())) <= 40


def test_models_check_says_what_it_does_and_that_tiny_works() -> None:
    result = run("models", "check", "tiny", "--dtype", "float32", "--offline", "--json")
    [found] = documents(result)
    assert found["works"] and found["problems"] == [] and "v2l/tiny works here" in found["verdict"]
    assert [clip["video"] for clip in found["clips"]] == ["three-shapes.mp4", "two-shapes.mp4", "one-shape.mp4",
                                                          "slides.mp4"]
    assert result.stderr.startswith("tiny watches 4 drawn clips once") and "\nAbout " in result.stderr


def test_models_check_fails_with_its_verdict_where_a_fault_is_in_all_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v2l.config.HypernetConfig.adapter_scale", 8.0)
    monkeypatch.setattr("v2l.bench.likelihood.CHECKED_CLIPS", ("two-shapes", "one-shape"))
    result = run("models", "check", "tiny", "--quiet", status=1)
    assert "v2l/tiny does not work here: " in result.stdout and "scale x 16" in result.stdout and result.stderr == ""


def test_bench_checks_a_video_and_another(reference: Path) -> None:
    """`tiny` knows nothing of these videos, and says so."""
    clips = reference / "videos"
    result = run("bench", clips / "short.mp4", "--other", clips / "clip.mp4", "--frames", 2, "--repeat", 1, "--json")
    [found] = documents(result)
    check = found["likelihood"]
    assert [clip["video"] for clip in check["clips"]] == check["foreign"] == ["short.mp4", "clip.mp4"]
    assert found["video"] == "short.mp4" and check["works"] == (not check["problems"])
    assert "Note: 2 of 2 show nothing that tiny knows" in result.stderr
    assert "no such file" in refused("bench", clips / "short.mp4", "--other", "nope.mp4")


def test_models_check_of_a_model_from_the_hub_works_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("v2l.bench.likelihood.CHECKED_CLIPS", ("two-shapes", "one-shape"))
    base = {file.name: file.read_bytes() for file in BASE.iterdir()}
    with Hub({"someone/base": base}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        run("models", "pull", "someone/base")
    words = ("models", "check", "someone/base", "--offline", "--json", "--quiet", "--checkpoint")
    [found] = documents(run(*words, WEIGHTS / "hypernetwork.safetensors"))
    assert found["works"] and found["model"] == "someone/base" and len(found["clips"]) == 2


def test_models_check_of_no_model_says_so() -> None:
    assert "There is no model" in refused("models", "check", "nowhere", status=2)
    assert "is not in the Hugging Face cache" in refused("models", "check", "500m", "--offline")
