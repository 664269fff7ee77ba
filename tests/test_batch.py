"""Many questions at once: what is answered together is what would be answered one by one, to the token."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from support.watched import watched

from v2l import engine as engine_module
from v2l.adapter import Adapter
from v2l.adapter.join import join
from v2l.config import Decoding
from v2l.engine import Engine, Seen
from v2l.errors import AdapterError, ModelError
from v2l.model import batch
from v2l.model.answer import Answer
from v2l.model.batch import ask_batch
from v2l.model.text import LayerAdapter
from v2l.tiny.questions import KINDS, ask_about
from v2l.tiny.world import held_out_clips
from v2l.video.clip import open_clip

Bound = list[LayerAdapter]
CLIPS = list(held_out_clips(6, seed=5))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", offline=True, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def adapters(engine: Engine) -> list[Adapter]:
    """Of six clips, and one of the first three joined: rank 16 and 48."""
    made = [watched(engine, clip, times, 0.0, clip.duration, f"{i}.mp4") for i, (clip, times) in enumerate(CLIPS)]
    return [*made, join(made[:3])[0]]


@pytest.fixture(scope="module")
def bound(engine: Engine, adapters: list[Adapter]) -> list[Bound]:
    return [engine.bind(adapter) for adapter in adapters]


@pytest.fixture(scope="module")
def rows(bound: list[Bound]) -> list[tuple[Bound | None, str]]:
    """Questions of every kind, to every adapter and to none, in no order."""
    rng = random.Random(1)
    turns = [turn for clip, _ in CLIPS for kind in KINDS if (turn := ask_about(rng, clip, kind))]
    rows = [(rng.choice([*bound, None]), turn.question) for turn in turns]
    rng.shuffle(rows)
    return rows


def one_by_one(engine: Engine, rows: list[tuple[Bound | None, str]], decoding: Decoding) -> list[Answer]:
    return [engine.ask(adapter, question, decoding).finish() for adapter, question in rows]


def same(one: list[Answer], other: list[Answer]) -> None:
    def facts(answers: list[Answer]) -> list[object]:
        return [(a.text, a.ids, a.prompt_tokens, a.visual_tokens, a.finish) for a in answers]

    assert facts(one) == facts(other)


@pytest.mark.parametrize("decoding", [Decoding(40), Decoding(1), Decoding(5), Decoding(12, temperature=1.5, seed=3)],
                         ids=["whole", "one token", "cut", "drawn"])
def test_together_is_as_one_by_one(engine: Engine, rows: list[tuple[Bound | None, str]], decoding: Decoding) -> None:
    rows = rows if decoding.max_new_tokens == 40 else rows[::2]
    expected = one_by_one(engine, rows, decoding)
    together = list(engine.ask_batch(rows, decoding))
    same(together, expected)
    if decoding.max_new_tokens == 40:
        assert {1, 2, 3, 18} <= {len(answer.ids) for answer in expected}  # some are over long before others
        assert len({answer.prompt_tokens for answer in expected}) > 3
    assert all(0 < answer.ttft_s <= answer.total_s for answer in together)


def test_answers_that_end_at_once(
    engine: Engine, rows: list[tuple[Bound | None, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were `yes` the end, every answer that is yes would be empty."""
    rows = rows[::2]
    yes = next(i for i, answer in enumerate(one_by_one(engine, rows, Decoding(4))) if answer.text == "yes")
    monkeypatch.setattr(engine.base, "ends", {engine.base.encode("Assistant: yes")[-1]})
    answers = list(engine.ask_batch(rows, Decoding(4)))
    same(answers, one_by_one(engine, rows, Decoding(4)))
    assert answers[yes].ids == [] and answers[yes].text == "" and answers[yes].ttft_s == answers[yes].total_s > 0
    assert any(len(answer.ids) == 4 for answer in answers)


def test_why_an_answer_ended(engine: Engine, bound: list[Bound]) -> None:
    """By its own end, or cut at the most tokens allowed; an answer of just as many tokens may go on, who knows."""
    whole = engine.ask(bound[0], "What happened?", Decoding(40)).finish()
    assert whole.finish == "stop" and len(whole.ids) > 8
    for most, finish in ((len(whole.ids) + 1, "stop"), (len(whole.ids), "length"), (3, "length")):
        assert engine.ask(bound[0], "What happened?", Decoding(most)).finish().finish == finish
        (answer,) = engine.ask_batch([(bound[0], "What happened?")], Decoding(most))
        assert answer.finish == finish


def test_answers_end_at_every_token_that_the_folder_names(
    engine: Engine, bound: list[Bound], tmp_path: Path
) -> None:
    """generation_config.json names one token or several; SmolVLM2's own end always counts."""
    for file in engine.files.folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    config, yes = tmp_path / "generation_config.json", engine.base.encode("Assistant: yes")[-1]
    config.unlink()

    def answers(content: str) -> list[tuple[str, str]]:
        config.write_text(content)
        other = Engine(str(tmp_path), offline=True, device="cpu", dtype="float32")
        question = f"Is there a {CLIPS[0][0].things[0].name}?"
        one = other.ask(bound[0], question).finish()
        (row,) = other.ask_batch([(bound[0], question)])
        return [(each.text, each.finish) for each in (one, row)]

    assert answers("{}") == answers('{"eos_token_id": null}') == answers('{"eos_token_id": 6}') == [("yes", "stop")] * 2
    assert answers(f'{{"eos_token_id": [6, {yes}]}}') == answers(f'{{"eos_token_id": {yes}}}') == [("", "stop")] * 2
    for wrong in ('"6"', "true", "[6, 99999]"):
        with pytest.raises(ModelError, match="as a token that ends answers, and the model has tokens 0 to 706"):
            answers(f'{{"eos_token_id": {wrong}}}')


def test_batches_are_bounded(engine: Engine, bound: list[Bound], rows: list[tuple[Bound | None, str]],
                             monkeypatch: pytest.MonkeyPatch) -> None:
    """By rows and by bytes; the wide adapter makes every row of its batch as wide."""
    rows, decoding = rows[::2], Decoding(4)
    expected = one_by_one(engine, rows, decoding)
    seen: list[tuple[int, int]] = []  # rows, rank
    forward = engine.base.text.forward

    def spying(embeddings: torch.Tensor, cache: object, adapters: Bound | None = None,
               padding: torch.Tensor | None = None) -> torch.Tensor:
        if embeddings.shape[1] > 1:
            rank = adapters[0].A.shape[-2] * (1 if adapters[0].A.ndim == 2 else len(embeddings)) if adapters else 0
            seen.append((len(embeddings), rank))
        return forward(embeddings, cache, adapters, padding)

    monkeypatch.setattr(engine.base.text, "forward", spying)
    same(list(ask_batch(engine.base, rows, decoding, rows_at_once=7)), expected)
    assert max(n for n, _ in seen) == 7 and sum(n for n, _ in seen) == len(rows)
    seen.clear()
    layers, per_rank = len(bound[0]), 4 * (bound[0][0].A.shape[1] + bound[0][0].B.shape[1])
    budget = 8 * 32 * layers * per_rank
    same(list(ask_batch(engine.base, rows, decoding, bytes_at_once=budget)), expected)
    assert 3 < max(n for n, _ in seen) <= 8 and max(rank for _, rank in seen) <= 8 * 32
    seen.clear()
    same(list(ask_batch(engine.base, rows, decoding, bytes_at_once=1)), expected)  # one must always go
    assert {n for n, _ in seen} == {1}


def test_questions_to_one_adapter_share_it(engine: Engine, bound: list[Bound], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(bound[0], question) for question in ("What happened?", "What appears first?", "How many things appear?")]
    expected = one_by_one(engine, rows, Decoding(40))
    given: list[Bound | None] = []
    forward = engine.base.text.forward
    monkeypatch.setattr(engine.base.text, "forward", lambda *parts: (given.append(parts[2]), forward(*parts))[1])
    same(list(engine.ask_batch(rows, Decoding(40))), expected)
    assert all(adapter is bound[0] for adapter in given)


def test_adapters_of_another_scale_are_answered_too(engine: Engine, bound: list[Bound]) -> None:
    other = [LayerAdapter(layer.A, layer.B, layer.scale / 3) for layer in bound[1]]
    rows = [(adapter, "What happened?") for adapter in (bound[0], other, None, other, bound[2])]
    same(list(engine.ask_batch(rows, Decoding(40))), one_by_one(engine, rows, Decoding(40)))


def test_rows_come_in_as_they_are_needed(engine: Engine, adapters: list[Adapter], monkeypatch: pytest.MonkeyPatch
                                         ) -> None:
    """Adapters are bound batch by batch, and the first answers are there before the last row was looked at."""
    taken = 0

    def rows() -> Iterator[tuple[Adapter, str]]:
        nonlocal taken
        for _ in range(50):
            for adapter in adapters[:2]:
                taken += 1
                yield adapter, "What appears first?"

    monkeypatch.setattr(engine_module, "ask_batch", partial(ask_batch, rows_at_once=10))
    answers = engine.ask_batch(rows(), Decoding(8))
    first = next(answers)
    assert taken == 11
    assert first.text == engine.ask(adapters[0], "What appears first?", Decoding(8)).finish().text
    assert len(list(answers)) == 99


def test_an_adapter_of_another_base_is_refused(engine: Engine, adapters: list[Adapter]) -> None:
    base = {**adapters[0].record["base"], "fingerprint": "sha256:" + "0" * 64}
    other = replace(adapters[0], record={**adapters[0].record, "base": base}, name="other.v2lora")
    with pytest.raises(AdapterError, match=r"^other.v2lora was made for the base"):
        list(engine.ask_batch([(other, "What?")]))
    assert list(engine.ask_batch([])) == []


def test_in_bfloat16_nearly_all_are_equal(rows: list[tuple[Bound | None, str]]) -> None:
    rough, rows = Engine("tiny", offline=True, device="cpu", dtype="bfloat16"), rows[::3]
    alone = one_by_one(rough, rows, Decoding(24))
    together = list(rough.ask_batch(rows, Decoding(24)))
    assert sum(a.ids == b.ids for a, b in zip(alone, together, strict=True)) >= 0.95 * len(rows)


# -- with the video in the prompt ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen(engine: Engine) -> Seen:
    sampling = engine.sampling()
    return engine.see(open_clip(Path(__file__).parents[1] / "examples" / "three-shapes.mp4", sampling), sampling)


@pytest.mark.parametrize("limits", [{}, {"rows_at_once": 2}, {"bytes_at_once": 1}], ids=["one", "pairs", "singly"])
def test_the_video_in_the_prompt_answers_together_as_one_by_one(
    engine: Engine, seen: Seen, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = ["What happens?", "What color is the background?", "What?", "What comes after the yellow star?"]
    prefix, steps = engine.prefix(seen, 0), 0
    expected = [engine.direct(seen, question, decoding=Decoding(40)).finish() for question in questions]
    monkeypatch.setattr(engine_module, "ask_after", partial(batch.ask_after, **limits))

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    hook = engine.base.text.register_forward_pre_hook(count)
    same(list(engine.direct_batch(seen, prefix, questions, Decoding(40))), expected)
    hook.remove()
    ran = [len(a.ids) + 1 for a in expected]
    lots = {"rows_at_once": [ran[:2], ran[2:]], "bytes_at_once": [[n] for n in ran]}.get(next(iter(limits), ""), [ran])
    assert steps == sum(map(max, lots)) and len(set(ran)) > 2
    assert list(engine.direct_batch(seen, prefix, [])) == []


def test_tails_that_differ_by_more_than_the_head_do_not_answer_together(engine: Engine, seen: Seen) -> None:
    one = replace(seen, image_tokens=seen.image_tokens[: engine.base.image_seq_len], timestamps=[0.0], times=[0.0])
    prefix = engine.prefix(one, 0)
    questions = ["What happens?", "What happens " + "and what moves " * prefix[1] + "?", "What happens?"]
    expected = [engine.direct(one, question, decoding=Decoding(20)).finish() for question in questions]
    same(list(engine.direct_batch(one, prefix, questions, Decoding(20))), expected)
