"""The synthetic world and the model that ships with v2l."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, SmolVLMForConditionalGeneration

from v2l.prompt import context_prompt, question_prompt
from v2l.tiny import BASE, WEIGHTS
from v2l.tiny.clips import examples, write_video
from v2l.tiny.data import PREFIX, Encoder, drawn, pack
from v2l.tiny.evaluate import mean, questions, score
from v2l.tiny.model import base_config, build_tokenizer, embed, load_base, load_hypernetwork, logits, see, think
from v2l.tiny.questions import KINDS, SHORT_KINDS, Turn, ask, caption
from v2l.tiny.render import render
from v2l.tiny.world import (
    COLOR_NAMES,
    MOTIONS,
    NUMBERS,
    SHAPES,
    STEPS,
    frame_states,
    held_out_clips,
    is_held_out,
    training_clip,
)


def clips(count: int, seed: int = 0):
    rng = random.Random(seed)
    return [training_clip(rng, (2, 12)) for _ in range(count)]


def test_same_seed_same_clips_and_pixels():
    one, two = list(held_out_clips(4, seed=3)), list(held_out_clips(4, seed=3))
    assert one == two
    assert one != list(held_out_clips(4, seed=4))
    clip, times = one[0]
    a, b = render(frame_states(clip, times), seed=1), render(frame_states(clip, times), seed=1)
    assert a.shape == (len(times), 3, 64, 64) and torch.equal(a, b)


def test_held_out_triples_never_train():
    triples = list(product(COLOR_NAMES, SHAPES, MOTIONS))
    assert sum(is_held_out(*t) for t in triples) == 36
    for motion in MOTIONS:  # every motion is seen, and every pair of a colour and a shape
        assert 4 <= sum(is_held_out(c, s, motion) for c, s in product(COLOR_NAMES, SHAPES)) <= 7
    assert not any(is_held_out(e.color, e.shape, e.motion) for clip, _ in clips(2000) for e in clip.events)
    for clip, times in held_out_clips(300):
        assert any(is_held_out(e.color, e.shape, e.motion) for e in clip.events)
        assert 4 <= len(times) <= 12


@pytest.mark.parametrize("sampled", [*clips(150, 1), *held_out_clips(150)])
def test_a_clip_shows_what_its_events_say(sampled):
    clip, times = sampled
    assert times[-1] <= clip.duration
    assert len({e.color for e in clip.events}) == len({e.shape for e in clip.events}) == len(clip.events)
    for index, event in enumerate(clip.events):
        seen = [event.at(t) for t in times if clip.event_at(t) == index]
        assert len(seen) >= 2  # one look cannot show a motion
        for x, y, radius in seen:
            assert radius - 1e-6 <= x <= 1 - radius + 1e-6 and radius - 1e-6 <= y <= 1 - radius + 1e-6
        (x0, y0, r0), (x1, y1, r1) = seen[0], seen[-1]
        moved = np.round(np.sign([x1 - x0, y1 - y0, r1 - r0]) * (np.abs([x1 - x0, y1 - y0, r1 - r0]) > 1e-9))
        step = STEPS.get(event.motion, (0, 0))
        size = {"grows": 1, "shrinks": -1}.get(event.motion, 0)
        assert tuple(moved) == (*step, size)


def test_pixels_have_the_objects_colours():
    for clip, times in held_out_clips(20, seed=9):
        event = clip.events[0]
        frame = render(frame_states(clip, times[:1])).permute(0, 2, 3, 1)[0].float().numpy()
        x, y, radius = event.at(times[0])
        far = np.hypot(*(np.indices((64, 64)) + 0.5 - 64 * np.array([y, x])[:, None, None])) > 64 * radius * 1.25 + 2
        state = frame_states(clip, times[:1])[0]
        assert np.abs(frame[far] - state[4:7]).max() <= 8
        assert (np.abs(frame - state[1:4]).max(-1) < 8).sum() > 30


def test_answers_follow_from_the_events():
    rng = random.Random(0)
    for clip, _ in clips(300, 2):
        names = [e.name for e in clip.events]
        for kind in KINDS:
            turn = ask(rng, clip, kind)
            if turn is None:
                assert kind in ("after", "before", "mover")
                continue
            asked = turn.question
            said = asked.rstrip("?").split()
            meant = [e for e in clip.events if e.color in said or e.shape in said]
            if kind == "count":
                assert NUMBERS.index(turn.answer) == len(names)
            elif kind == "first":
                assert turn.answer == f"the {names[0]}"
            elif kind == "exists":
                color, shape = (next(w for w in words if f" {w}" in asked) for words in (COLOR_NAMES, SHAPES))
                assert (turn.answer == "yes") == (f"{color} {shape}" in names)
            elif kind in ("motion", "color", "shape"):
                assert len(meant) == 1 and turn.answer == getattr(meant[0], kind)
            elif kind == "after":
                assert len(meant) == 1 and turn.answer == f"the {names[clip.events.index(meant[0]) + 1]}"
            elif kind == "caption":
                assert all(name in turn.answer for name in names) and clip.background in turn.answer


def test_any_text_encodes_and_comes_back():
    tokenizer = build_tokenizer()
    for text in ("What happened?", "naïve 東京 🙂 …", "x\ty\n", "the red star"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids).lstrip() == text
    words = {w for clip, _ in clips(50) for w in caption(clip).replace(",", "").rstrip(".").split()}
    assert all(len(tokenizer.encode(f" {w}", add_special_tokens=False).ids) == 1 for w in words)


def test_packed_turns_equal_the_prompts_through_transformers():
    tokenizer = build_tokenizer()
    encoder = Encoder(tokenizer)
    torch.manual_seed(0)
    base = SmolVLMForConditionalGeneration(base_config(tokenizer.get_vocab_size())).eval()
    sampled = next(held_out_clips(1))
    clip, times = sampled
    turns = [Turn("first", "What appears first?", "the red star"), Turn("count", "how many objects", "two")]
    ids = encoder.videos([times], [clip.duration])
    pixels = drawn([sampled], 0, torch.float32, "cpu")
    with torch.no_grad():
        for blind in (False, True):
            packed = pack(encoder, ids, [turns], [blind], torch.float32, "cpu")
            x = embed(base, packed.ids, see(base, pixels)[1].flatten(0, 1))
            got = logits(base, think(base, x, packed.positions, packed.mask).flatten(0, 1)[packed.target])
            at = 0
            for turn in turns:
                prompt = (question_prompt(turn.question) if blind else
                          context_prompt(times, [(1, 1)] * len(times), clip.duration, 4, turn.question, generate=True))
                whole = tokenizer.encode(f"{prompt} {turn.answer}<end_of_utterance>", add_special_tokens=False).ids
                size = len(encoder.turn(turn.question, turn.answer)[0]) - encoder.turn(turn.question, turn.answer)[1]
                images = None if blind else pixels[None]
                expected = base(input_ids=torch.tensor([whole]), pixel_values=images).logits[0, -size - 1 : -1]
                torch.testing.assert_close(got[at : at + size], expected, rtol=1e-4, atol=1e-4)
                at += size
    assert tokenizer.encode(question_prompt("x")).ids[:PREFIX] == ids[0][:PREFIX]


def test_example_clips_are_new_and_become_real_files(tmp_path: Path):
    av = pytest.importorskip("av")
    for clip in examples().values():
        assert any(is_held_out(e.color, e.shape, e.motion) for e in clip.events)
    clip = next(iter(examples().values()))
    write_video(clip, tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == round(clip.duration * 10) and frames[0].shape == (192, 192, 3)


def test_shipped_weights_answer_held_out_clips():
    base, tokenizer = load_base(BASE, torch.float32)
    hyper = load_hypernetwork(WEIGHTS)
    items = questions(32, seed=7)
    reached = {}
    for mode in ("floor", "direct", "adapter"):
        right = score(base, hyper, Encoder(tokenizer), items, mode)
        reached[mode] = mean(ok for kind in SHORT_KINDS for ok in right[kind])
    assert reached["floor"] < 50 and reached["direct"] >= 90 and reached["adapter"] >= 87, reached
    assert sum(f.stat().st_size for f in WEIGHTS.rglob("*") if f.is_file()) <= 15e6
    ids = AutoTokenizer.from_pretrained(BASE)(question_prompt("What happened?"), add_special_tokens=False).input_ids
    assert ids == tokenizer.encode(question_prompt("What happened?"), add_special_tokens=False).ids
