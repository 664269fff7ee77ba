"""The synthetic world and the model that ships with v2l."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, SmolVLMForConditionalGeneration

from v2l.config import Sampling
from v2l.manifest import read_manifest
from v2l.model.base import Base
from v2l.model.prompt import context_prompt, cut_tiles, normalize, question_prompt
from v2l.tiny import BASE, WEIGHTS
from v2l.tiny.check import film_questions, mark_answers, percentage, questions
from v2l.tiny.clips import examples, write_video
from v2l.tiny.data import (
    PARTS,
    PREFIX,
    PromptEncoder,
    draw_segments,
    pack_turns,
    random_frame_cuts,
    render_clips,
    spread_positions,
)
from v2l.tiny.model import TILE, base_config, build_tokenizer, load_hypernetwork, network
from v2l.tiny.questions import KINDS, NOTHING, SHORT_KINDS, QAPair, ask_about, detailed_caption, region_caption
from v2l.tiny.render import render
from v2l.tiny.suite import BENCHMARK_KINDS, facts, write_long_suite, write_suite
from v2l.tiny.wordings import WAYS
from v2l.tiny.world import (
    COLOR_NAMES,
    DIRECTIONS,
    MOTIONS,
    NUMBERS,
    PAIR,
    SHAPES,
    SLIDE,
    SOLO,
    frame_states,
    held_out_clips,
    held_out_film,
    is_held_out,
    training_clip,
)
from v2l.train.network import Network
from v2l.video.clip import open_clip


def clips(count: int, seed: int = 0):
    rng = random.Random(seed)
    return [training_clip(rng, rng.choice((2, 4, 7, 12, [6, 4], [12, 4, 9, 8, 12]))) for _ in range(count)]


def test_same_seed_same_clips_and_pixels():
    one, two = list(held_out_clips(4, seed=3)), list(held_out_clips(4, seed=3))
    assert one == two
    assert one != list(held_out_clips(4, seed=4))
    clip, times = one[0]
    a, b = render(frame_states(clip, times), seed=1), render(frame_states(clip, times), seed=1)
    assert a.shape == (len(times), 3, 64, 64) and torch.equal(a, b)


def triples(clip):
    return [(e.things[0].color, e.things[0].shape, e.action) for e in clip.events if e.kind == SOLO]


def test_held_out_triples_never_train():
    every = list(product(COLOR_NAMES, SHAPES, MOTIONS))
    assert sum(is_held_out(*t) for t in every) == 64
    for motion in MOTIONS:  # every motion is seen, and every pair of a colour and a shape
        assert 8 <= sum(is_held_out(c, s, motion) for c, s in product(COLOR_NAMES, SHAPES)) <= 10
    assert not any(is_held_out(*t) for clip, _ in clips(2000) for t in triples(clip))
    for clip, times in held_out_clips(300):
        assert any(is_held_out(*t) for t in triples(clip))
        assert 4 <= len(times) <= 12


@pytest.mark.parametrize("sampled", [*clips(150, 1), *held_out_clips(150)])
def test_a_clip_shows_what_its_events_say(sampled):
    clip, times = sampled
    assert times[-1] <= clip.duration
    assert clip.things and len({t.name for t in clip.things}) == len(clip.things)
    for index, event in enumerate(clip.events):
        seen = [event.at(t) for t in times if clip.event_at(t) == index]
        assert len(seen) >= 2  # one look cannot show a motion
        for x, y, radius in [place for places in seen for place in places]:
            assert radius - 1e-6 <= x <= 1 - radius + 1e-6 and radius - 1e-6 <= y <= 1 - radius + 1e-6
        if event.kind == SOLO:
            change = np.subtract(seen[-1][0], seen[0][0])
            size = {"grows": 1, "shrinks": -1}.get(event.action, 0)
            assert tuple(np.sign(change) * (np.abs(change) > 1e-9)) == (*DIRECTIONS.get(event.action, (0, 0)), size)
        elif event.kind == PAIR:
            (x0, y0, r0), (x1, y1, r1) = seen[0]
            assert seen[0] == seen[-1]
            assert (x1 - x0 if event.action == "is left of" else y1 - y0) > r0 + r1


def test_a_film_shows_a_slide_a_scene_at_most():
    rng = random.Random(4)
    for scenes in (2, 5, 16):
        film = held_out_film(rng, scenes)
        assert film.duration == 12 * scenes
        assert {int(e.start // 12) for e in film.events} == set(range(scenes))
        slides = [int(e.start // 12) for e in film.events if e.kind == SLIDE]
        assert len(slides) == len(set(slides))


def test_pixels_have_the_objects_colours():
    for clip, times in held_out_clips(40, seed=9):
        at = next(i for i, event in enumerate(clip.events) if event.kind != SLIDE)
        event, time = clip.events[at], next(t for t in times if clip.event_at(t) == at)
        state = frame_states(clip, [time])[0]
        frame = render(state[None]).permute(0, 2, 3, 1)[0].float().numpy()
        far = np.ones((64, 64), bool)
        for slot, (x, y, radius) in enumerate(event.at(time)):
            centre = 64 * np.array([y, x])[:, None, None]
            far &= np.hypot(*(np.indices((64, 64)) + 0.5 - centre)) > 64 * radius * 1.25 + 3
            color = state[9 + 7 * slot : 12 + 7 * slot]
            assert (np.abs(frame - color).max(-1) < 9).sum() > 12
        assert np.abs(frame[far] - state[:3]).max() <= 8 + clip.look.contrast


def test_every_word_is_drawn_differently():
    clip, times = next((c, t) for c, t in clips(200) if any(e.kind == SLIDE for e in c.events))
    at = next(t for t in times if clip.events[clip.event_at(t)].kind == SLIDE)
    row = frame_states(clip, [at])[0]
    rows = np.repeat(row[None], 16, 0)
    rows[:, 8], rows[:, 7] = np.arange(len(SHAPES), len(SHAPES) + 16), 0
    pages = render(rows).flatten(1).float()
    assert (torch.cdist(pages, pages) + 1e9 * torch.eye(16)).min() > 500


def objects_named(text, things):
    return [t for t in things if f"{t.color} {t.shape}" in text or f"the {t.shape}" in text
            or f"{t.color} object" in text or f"{t.color} one" in text]


def test_answers_follow_from_the_events():
    rng = random.Random(0)
    for clip, _ in clips(400, 2):
        names = [t.name for t in clip.things]
        shows = [[t.name for t in e.things] or ["slide"] for e in clip.events]
        for kind in KINDS:
            turn = ask_about(rng, clip, kind)
            if turn is None:
                continue
            said = turn.question.rstrip("?.")
            meant = objects_named(said, clip.things)
            if turn.about >= 0 and kind not in ("after", "before", "first", "last", "slide", "mover", "absent") and (
                    "slide" not in said and "shape" not in kind and kind != "color" and turn.answer != "yes"):
                assert [t.name for t in meant] and {t.name for t in meant} <= set(shows[turn.about])
            if kind == "count":
                assert NUMBERS.index(turn.answer) == len(names)
            elif kind in ("first", "last"):
                assert all(name in turn.answer for name in shows[0 if kind == "first" else -1])
            elif kind == "exists" and "slide" not in said:
                color, shape = (next(w for w in words if f" {w}" in said) for words in (COLOR_NAMES, SHAPES))
                assert (turn.answer == "yes") == (f"{color} {shape}" in names)
            elif kind == "color":
                assert [t.color for t in clip.things if t.shape in said.split()] == [turn.answer]
            elif kind == "shape":
                assert [t.shape for t in clip.things if t.color in said.split()] == [turn.answer]
            elif kind == "motion":
                event = clip.events[turn.about]
                assert turn.answer == (event.action if event.kind == SOLO else "stays still")
            elif kind == "relation" and turn.answer.startswith("the "):
                event = clip.events[turn.about]
                first, second = (t.name for t in event.things)
                onward = any(f" {way} " in f" {said} " for way in WAYS[event.action][0])
                assert turn.answer == f"the {first if onward else second}"
            elif kind == "relation":
                event = clip.events[turn.about]
                first, second = (t.name for t in event.things)
                onward, back = (ways[0] for ways in WAYS[event.action])
                assert turn.answer in (f"{onward} the {second}", f"{back} the {first}")
            elif kind == "after":
                assert all(name in turn.answer for name in shows[turn.about])
            elif kind == "absent":
                assert turn.answer == NOTHING or turn.answer.startswith("there is no ")
                assert not any(f"the {name}" in said or turn.answer.endswith(name) for name in names if turn.about < 0)
            elif kind in ("events", "detailed", "dense"):
                assert all(name in turn.answer for name in names)
            elif kind == "objects":
                assert turn.answer.count(",") == len(names) - 1


def test_both_of_a_pair_are_described_from_their_own_side():
    clip = next(c for c, _ in clips(200) if c.events[0].kind == PAIR and c.events[0].action == "is left of")
    one, other = clip.events[0].things
    ground = clip.events[0].background
    article = lambda name: ("an " if name[0] == "o" else "a ") + name
    for mine, way, its in ((one, "left", other), (other, "right", one)):
        text = f"{article(mine.name)} that is {way} of {article(its.name)} on a {ground} background."
        assert region_caption(clip.events[0], mine) == text[0].upper() + text[1:]


def test_any_text_encodes_and_comes_back():
    tokenizer = build_tokenizer()
    for text in ("What happened?", "naïve 東京 🙂 …", "x\ty\n", "the red star"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids).lstrip() == text
    words = {w for clip, _ in clips(50) for w in detailed_caption(clip).replace(",", "").rstrip(".").split()}
    assert all(len(tokenizer.encode(f" {w}", add_special_tokens=False).ids) == 1 for w in words)


@pytest.mark.parametrize("grid", [1, 2])
def test_packed_turns_equal_the_prompts_through_transformers(grid):
    tokenizer = build_tokenizer()
    encoder = PromptEncoder(tokenizer)
    torch.manual_seed(0)
    base = SmolVLMForConditionalGeneration(base_config(tokenizer.get_vocab_size())).eval()
    ours = network(base)
    sampled = next(held_out_clips(1))
    clip, times = sampled
    turns = [QAPair("first", "What appears first?", "the red star"), QAPair("count", "how many objects", "two")]
    ids = encoder.videos([times], [clip.duration], False, grid)
    pixels = render_clips([sampled], 0, torch.float32, "cpu", grid)
    with torch.no_grad():
        for blind in (False, True):
            packed = pack_turns(encoder, ids, [turns], [blind], torch.float32, "cpu")
            x = ours.embed(packed.ids, ours.vision(pixels).flatten(0, 1))
            got = ours.text.logits(ours.text.hidden(x, packed.positions, packed.mask).flatten(0, 1)[packed.target])
            at = 0
            for turn in turns:
                prompt = (question_prompt(turn.question) if blind else context_prompt(
                    times, [(grid, grid)] * len(times), clip.duration, 4, turn.question, generate=True))
                whole = tokenizer.encode(f"{prompt} {turn.answer}<end_of_utterance>", add_special_tokens=False).ids
                size = len(encoder.turn(turn.question, turn.answer)[0]) - encoder.turn(turn.question, turn.answer)[1]
                images = None if blind else pixels[None]
                expected = base(input_ids=torch.tensor([whole]), pixel_values=images).logits[0, -size - 1 : -1]
                torch.testing.assert_close(got[at : at + size], expected, rtol=1e-4, atol=1e-4)
                at += size
    assert tokenizer.encode(question_prompt("x")).ids[:PREFIX] == ids[0][:PREFIX]


def test_tiles_are_those_of_the_product():
    clip, times = next(held_out_clips(1, seed=2))
    frame = render(frame_states(clip, times[:1]), 2 * TILE, seed=5)[0].permute(1, 2, 0).numpy()
    theirs = torch.from_numpy(normalize(cut_tiles(np.ascontiguousarray(frame), 2 * TILE, TILE)))
    ours = render_clips([(clip, times[:1])], 5, torch.float32, "cpu", 2)
    torch.testing.assert_close(ours[:4], theirs[:4], rtol=0, atol=1e-6)
    assert (ours[4] - theirs[4]).abs().mean() < 0.05  # a mean of four against LANCZOS


def test_spread_positions_ascend_and_frames_stay_whole():
    encoder = PromptEncoder(build_tokenizer())
    ids = encoder.videos([[0.0, 1.0, 2.0]], [3.0], True)
    for seed in range(20):
        places = spread_positions(random.Random(seed), ids, encoder.opens)[0]
        steps = np.diff(places)
        assert len(places) == len(ids[0]) and (steps >= 1).all() and 100 <= places[-1] <= 16_000 + len(places)
        assert {i for i in range(1, len(ids[0])) if steps[i - 1] > 1} <= {
            i for i, token in enumerate(ids[0]) if token in encoder.opens}


def test_segments_to_join_cover_their_clips():
    rng, seen = random.Random(0), set()
    for _ in range(300):
        whole, segments, parts, grid = draw_segments(rng, 1.0)
        seen.add(parts)
        assert len(segments) == parts * len(whole) and (grid == 1 or parts == 1)
        for i, clip in enumerate(whole):
            mine = segments[i * parts : (i + 1) * parts]
            assert all(segment[0] is clip for segment in mine)
            times = [time for _, times in mine for time in times]
            assert times == sorted(times) and times[-1] <= clip.duration
            assert parts == 1 or all(2 <= len(times) <= 12 for _, times in mine)
    assert seen == set(PARTS)
    assert all(len(random_frame_cuts(rng, 20, parts)) == parts - 1 for parts in (2, 3) for _ in range(50))


def test_questions_to_one_scene_and_to_the_film_are_the_same():
    films, parts = film_questions(4, 6)
    assert sum(len(turns) for _, turns in films) == sum(len(turns) for _, turns in parts)
    for (clip, times), turns in parts:
        assert len(times) == 12
        for turn in turns:
            if turn.about >= 0:
                event = clip.events[turn.about]
                assert times[0] - 1 <= event.start and event.end <= times[-1] + 1


def test_the_suite_is_files_and_questions(tmp_path: Path):
    manifest = read_manifest(write_suite(tmp_path, 3))
    assert sorted(kind for kinds in BENCHMARK_KINDS.values() for kind in kinds) == sorted(KINDS)
    assert {item.benchmark for item in manifest} <= set(BENCHMARK_KINDS)
    assert {item.video.name for item in manifest} == {f"clip-00{i}.mp4" for i in range(3)}
    for item in manifest:
        (turn,) = item.turns
        assert turn.kind in BENCHMARK_KINDS[item.benchmark] and facts(turn.targets[0], turn.targets[0]) == 1
        assert len(open_clip(item.video, Sampling()).indices) == 12


def test_the_long_suite_has_pictures_for_a_sweep(tmp_path: Path):
    item = read_manifest(write_long_suite(tmp_path, 1))[0]
    clip = open_clip(item.video, Sampling())
    assert clip.info.frames >= 1024 and item.id.startswith("long-000")


@pytest.mark.parametrize(("reference", "answer", "score"), [
    ("the red ring", "the red star", 0.5),
    ("yes", "no", 0), ("yes", "Yes.", 1), ("there is no star", "blue", 0),
    ("A red ring grows, then a slide says stop.", "A red ring moves up, then a slide says stop.", 0.8),
    ("A red ring grows, then a slide says stop.", "a slide says stop, then a red ring grows", 0),
    ("First, a red ring grows; second, a blue star grows.", "First, a red ring grows.", 0.5),
    ("A red ring.", "A red ring, a blue star.", 0.5),
    ("left of the green ring", "right of the green ring", 2 / 3),
    ("moves left", "moves right", 0), ("hello", "", 0), ("hello", "naïve 東京", 0),
])
def test_facts(reference, answer, score):
    assert facts(reference, answer) == pytest.approx(score)


def test_example_clips_are_new_and_become_real_files(tmp_path: Path):
    av = pytest.importorskip("av")
    for clip in examples().values():
        assert any(is_held_out(*t) for t in triples(clip))
    clip = next(iter(examples().values()))
    write_video(clip, tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == round(clip.duration * 10) and frames[0].shape == (192, 192, 3)


def test_shipped_weights_answer_held_out_clips():
    base = Base(BASE, torch.device("cpu"), torch.float32)
    hyper = load_hypernetwork(WEIGHTS)
    items = questions(32, seed=7)
    reached = {}
    for mode in ("floor", "direct", "adapter"):
        right = mark_answers(Network.of(base), hyper, PromptEncoder(base.tokenizer), items, mode)
        reached[mode] = percentage(ok for kind in SHORT_KINDS for ok in right[kind])
    assert reached["floor"] < 50 and reached["direct"] >= 90 and reached["adapter"] >= 87, reached
    assert sum(f.stat().st_size for f in WEIGHTS.rglob("*") if f.is_file()) <= 25e6
    ids = AutoTokenizer.from_pretrained(BASE)(question_prompt("What happened?"), add_special_tokens=False).input_ids
    assert ids == base.encode(question_prompt("What happened?"))
