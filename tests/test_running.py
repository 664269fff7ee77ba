"""Rows that join and leave a running batch at any time: each is answered as if it were alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from support.watched import watched

from v2l.config import Decoding
from v2l.engine import Engine
from v2l.model.answer import Answer
from v2l.model.generate import choose_token
from v2l.model.pool import AdapterPool
from v2l.model.prompt import question_prompt
from v2l.model.running import Draft, RunningBatch
from v2l.model.text import LayerAdapter
from v2l.tiny.questions import KINDS, ask_about
from v2l.tiny.world import held_out_clips

Bound = list[LayerAdapter]
Row = tuple["Bound | None", str, Decoding]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", offline=True, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def adapters(engine: Engine) -> list[Bound | None]:
    """Of ranks 16, 32, 80 and 7, of several scales, and none."""
    clips = held_out_clips(3, seed=5)
    made = [engine.bind(watched(engine, clip, times, 0.0, clip.duration)) for clip, times in clips]
    wide = [LayerAdapter(torch.cat([a.A, b.A, a.A[:16]]), torch.cat([a.B, b.B * 0, b.B[:16] * 0]), a.scale)
            for a, b in zip(made[0], made[1], strict=True)]
    narrow = [LayerAdapter(layer.A[:7], layer.B[:7] * 2, layer.scale / 3) for layer in made[2]]
    alone = [LayerAdapter(layer.A[:16], layer.B[:16], layer.scale) for layer in made[1]]
    return [*made, wide, narrow, alone, None]


@pytest.fixture(scope="module")
def rows(adapters: list[Bound | None]) -> list[Row]:
    """Long and short questions, limits, draws and greedy ones, to every adapter."""
    rng = random.Random(2)
    clips = [clip for clip, _ in held_out_clips(4, seed=5)]
    asked = [turn.question for clip in clips for kind in KINDS if (turn := ask_about(rng, clip, kind))]
    asked += ["What happened? " * 6, "What happened? " * 12]
    decodings = [Decoding(40), Decoding(3), Decoding(12), Decoding(1), Decoding(12, 1.5, 7), Decoding(9, 1.0, 3, 0.7)]
    return [(rng.choice(adapters), rng.choice(asked), rng.choice(decodings)) for _ in range(48)]


@pytest.fixture(scope="module")
def alone(engine: Engine, rows: list[Row]) -> list[Answer]:
    return [engine.ask(adapter, question, decoding).finish() for adapter, question, decoding in rows]


class Asked:
    """Rows of a batch on their way to answers."""

    def __init__(self, engine: Engine, batch: RunningBatch) -> None:
        self.base, self.batch = engine.base, batch
        self.drafts: dict[int, tuple[int, Draft]] = {}
        self.answers: dict[int, Answer] = {}
        self.steps = 0

    def join(self, key: int, row: Row) -> int:
        adapter, question, decoding = row
        prompt = self.base.encode(question_prompt(question))
        number = self.batch.join(prompt, adapter, decoding)
        self.drafts[number] = key, Draft(self.base, len(prompt), 0, 0.0)
        return number

    def step(self) -> None:
        self.steps += 1
        for said in self.batch.step():
            key, draft = self.drafts[said.row]
            draft.add(said)
            if said.end:
                self.answers[key] = draft.answer(said)
                del self.drafts[said.row]


def same(answers: dict[int, Answer], alone: Sequence[Answer]) -> None:
    for key, answer in answers.items():
        assert (answer.ids, answer.finish) == (alone[key].ids, alone[key].finish), key


@pytest.mark.parametrize("bounds", [{}, {"rows_at_once": 5}, {"bytes_at_once": 3 << 20}, {"bytes_at_once": 1},
                                    {"read_at_once": 7}], ids=["free", "rows", "bytes", "singly", "read in parts"])
def test_rows_that_join_at_any_time_are_answered_as_alone(engine: Engine, rows: list[Row], alone: list[Answer],
                                                          bounds: dict[str, int]) -> None:
    rng = random.Random(3)
    asked = Asked(engine, RunningBatch(engine.base, **bounds))
    coming = iter(enumerate(rows))
    done = False
    while not done or len(asked.batch):
        for _ in range(rng.choice([0, 0, 1, 1, 2, 5])):
            done = (row := next(coming, None)) is None
            if row:
                asked.join(*row)
        asked.step()
    same(asked.answers, alone)
    assert len(asked.answers) == len(rows)
    if bounds.keys() <= {"rows_at_once"}:
        assert asked.steps < 0.6 * sum(len(answer.ids) + 1 for answer in alone)


def test_rows_leave_at_any_time(engine: Engine, rows: list[Row], alone: list[Answer]) -> None:
    """Those that wait, those whose prompt is being read, and those that answer; nobody else notices."""
    rng = random.Random(4)
    asked = Asked(engine, RunningBatch(engine.base, rows_at_once=12, read_at_once=20))
    left = set()
    for key, row in enumerate(rows):
        asked.join(key, row)
        asked.step()
        if key % 3 == 0 and asked.drafts:
            number = rng.choice(list(asked.drafts))
            asked.batch.leave(number)
            left.add(asked.drafts.pop(number)[0])
    while len(asked.batch):
        asked.step()
    asked.batch.leave(10_000)
    same(asked.answers, alone)
    assert len(left) > 10 and asked.answers.keys() == set(range(len(rows))) - left
    assert asked.batch.step() == []


def test_whoever_finds_no_memory_waits_and_goes_on_later(engine: Engine, adapters: list[Bound | None],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that grow beyond the bytes: the first to come goes on, the last one again when there is room."""
    decoding, base = Decoding(160), engine.base
    config = base.text_config
    place = 2 * config.num_layers * config.num_kv_heads * config.head_dim * base.dtype.itemsize
    monkeypatch.setattr(base, "ends", frozenset())
    row = adapters[0], "What happened?", decoding
    asked = Asked(engine, RunningBatch(base, bytes_at_once=3 * 145 * place))
    for key in range(3):
        asked.join(key, row)
    waited, order = 0, []
    while len(asked.batch):
        asked.step()
        waited = max(waited, asked.batch.waiting)
        order += [key for key in asked.answers if key not in order]
    expected = engine.ask(*row).finish()
    assert waited == 1 and order == [0, 1, 2] and len(expected.ids) == 160
    assert [asked.answers[key].ids for key in range(3)] == [expected.ids] * 3


def test_a_row_whose_numbers_are_not_finite_ends_alone(engine: Engine, adapters: list[Bound | None]) -> None:
    """Nor do its numbers stay where the next row lies."""
    first = adapters[0]
    assert first
    broken = [LayerAdapter(layer.A, layer.B * torch.inf, layer.scale) for layer in first]
    asked = Asked(engine, RunningBatch(engine.base))
    rows = [(adapter, "What happened?", Decoding(20)) for adapter in (first, broken, adapters[1], broken)]
    expected = {key: engine.ask(*rows[key]).finish() for key in (0, 2)}
    for key, row in enumerate(rows):
        asked.join(key, row)
        asked.step()
    asked.join(4, (adapters[1], "What happened? " * 3, Decoding(20)))
    while len(asked.batch):
        asked.step()
    assert [asked.answers[key].finite for key in range(5)] == [True, False, True, False, True]
    assert [asked.answers[key].ids for key in (0, 2)] == [expected[key].ids for key in (0, 2)]
    assert asked.answers[4].ids == engine.ask(adapters[1], "What happened? " * 3, Decoding(20)).finish().ids


def test_a_long_question_is_read_in_parts_between_which_others_answer(engine: Engine, adapters: list[Bound | None]
                                                                      ) -> None:
    batch = RunningBatch(engine.base, read_at_once=50)
    encode = lambda question: engine.base.encode(question_prompt(question))
    short = batch.join(encode("What happened?"), adapters[0], Decoding(40))
    batch.step()
    long = batch.join(encode("What happened? " * 100), adapters[1], Decoding(2))
    came = []
    while long not in came and len(came) < 100:
        said = [token.row for token in batch.step()]
        assert said in ([], [short], [long])
        came += said
    assert 5 < came.count(short) < 12


def test_the_cache_and_the_pool_stay_as_large_after_a_thousand_rows(engine: Engine, rows: list[Row],
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """They join one by one, thirty at a time."""
    made: list[int] = []
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty",
                        lambda self, *size, **rest: (made.append(torch.Size(size).numel()),
                                                     empty(self, *size, **rest))[1])
    asked = Asked(engine, RunningBatch(engine.base))
    short = [(adapter, "Is there a red square?", Decoding(3)) for adapter, _, _ in rows]
    largest = []
    for key in range(1000):
        asked.join(key, short[key % len(short)])
        while len(asked.batch) > (0 if key % 30 == 29 else 29):
            asked.step()
        if key in (100, 999):
            largest.append(max(made, default=0))
    assert largest[0] == largest[1] and len(asked.answers) == 990


def test_adapters_lie_in_the_pool_as_they_are(adapters: list[Bound | None]) -> None:
    """Whatever lay there before: each with its own ranks and scale, and zeros beyond."""
    pool, rng = AdapterPool(1 << 30), random.Random(0)
    for size in (2, 5, 3, 9, 4):
        chosen = [adapters[0], adapters[-1], *(rng.choice(adapters) for _ in range(size))]
        together = pool.beside(chosen)
        assert together
        for layer, both in enumerate(together):
            for place, adapter in enumerate(chosen):
                ours = both.A[place].mT @ both.B[place]
                its = adapter[layer].A.mT @ (adapter[layer].B * adapter[layer].scale) if adapter else 0 * ours
                torch.testing.assert_close(ours, its)
        pool.forget(rng.randrange(size))
    assert pool.beside([adapters[1]] * 3) is adapters[1] and pool.beside([None] * 2) is None


def test_top_p_leaves_out_what_is_unlikely() -> None:
    logits = torch.tensor([0.1, 0.5, 0.25, 0.15]).log()

    def drawn(top_p: float) -> set[int]:
        draws = torch.Generator().manual_seed(1)
        return {choose_token(logits, Decoding(temperature=1.0, top_p=top_p), draws)[0] for _ in range(200)}

    assert [drawn(p) for p in (0.0, 0.5, 0.51, 0.76, 0.95, 1.0)] == [{1}, {1}, {1, 2}, {1, 2, 3}, {0, 1, 2, 3},
                                                                     {0, 1, 2, 3}]
