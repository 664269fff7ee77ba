"""The thread that answers the questions of all clients: who gets what, who leaves, and what an error ends."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.watched import watched

from v2l.config import Decoding
from v2l.engine import Engine
from v2l.model import running
from v2l.model.text import LayerAdapter
from v2l.serve.batcher import Batcher
from v2l.serve.refusal import TooBusy
from v2l.tiny.world import held_out_clips

Bound = list[LayerAdapter]
QUESTIONS = "What happened?", "What appears first?", "How many things appear?", "Is there a red square?"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", offline=True, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def adapters(engine: Engine) -> list[Bound]:
    return [engine.bind(watched(engine, clip, times, 0.0, clip.duration)) for clip, times in held_out_clips(3, seed=5)]


@pytest.fixture
def batcher(engine: Engine) -> Iterator[Batcher]:
    with Batcher(engine) as batcher:
        yield batcher


@pytest.fixture
def endless(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Decoding:
    """A decoding with which an answer lasts until the test ends it."""
    monkeypatch.setattr(engine.base, "ends", frozenset())
    return Decoding(8000)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.005)


def computing(engine: Engine) -> Callable[[], bool]:
    """Whether the model has computed since it was asked the last time."""
    steps = [0, 0]

    def counted(*_: object) -> None:
        steps[0] += 1

    engine.base.text.register_forward_pre_hook(counted)

    def went_on() -> bool:
        time.sleep(0.05)
        before, steps[1] = steps[1], steps[0]
        return steps[0] > before

    return went_on


def test_clients_of_many_adapters_never_get_each_others_answers(engine: Engine, adapters: list[Bound], batcher: Batcher
                                                                ) -> None:
    rng = random.Random(0)
    rows = [(rng.choice([*adapters, None]), rng.choice(QUESTIONS), Decoding(rng.choice([4, 30]))) for _ in range(36)]
    expected = [engine.ask(*row).finish() for row in rows]
    assert len({answer.text for answer in expected}) > 8

    def client(row: tuple[Bound | None, str, Decoding]) -> tuple[str, list[int], str]:
        time.sleep(rng.random() / 20)
        ticket = batcher.submit(*row)
        pieces = list(ticket)
        assert ticket.answer and "".join(pieces) == ticket.answer.text and ticket.answer.ttft_s > 0
        return ticket.answer.text, ticket.answer.ids, ticket.answer.finish

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(client, rows))
    assert found == [(answer.text, answer.ids, answer.finish) for answer in expected]


def test_pieces_come_as_they_are_made(engine: Engine, adapters: list[Bound], batcher: Batcher) -> None:
    reply = engine.ask(adapters[0], "What happened?")
    assert list(batcher.submit(adapters[0], "What happened?", Decoding())) == list(reply)
    assert reply.answer and len(reply.answer.ids) > 5


@pytest.mark.parametrize("how", ["cancelled", "closed", "dropped", "never begun"])
def test_a_row_that_nobody_wants_leaves(engine: Engine, adapters: list[Bound], batcher: Batcher, endless: Decoding,
                                        how: str) -> None:
    goes_on = computing(engine)
    ticket = batcher.submit(adapters[0], "What happened?", endless)
    pieces = iter(ticket)
    if how != "never begun":
        next(pieces)
    assert goes_on() and goes_on()
    if how == "cancelled":
        ticket.cancel()
        ticket.cancel()
        assert list(pieces) is not None and ticket.answer is None
    elif how == "closed":
        pieces.close()  # type: ignore[attr-defined]
    del ticket, pieces
    gc.collect()
    until(lambda: not goes_on())
    short = batcher.submit(adapters[1], "What appears first?", Decoding(3)).finish()
    assert len(short.ids) == 3


def test_too_many_that_wait_are_refused(engine: Engine, adapters: list[Bound], endless: Decoding) -> None:
    with Batcher(engine, rows=2, waiting=3) as batcher:
        going = [batcher.submit(adapters[i], "What happened?", endless) for i in range(2)]
        until(lambda: batcher.waiting == 0)
        waiting = [batcher.submit(adapters[0], "What?", Decoding(2)) for _ in range(3)]
        with pytest.raises(TooBusy, match="too many questions wait; ask again"):
            batcher.submit(adapters[0], "What?", Decoding(2))
        waiting.pop().cancel()
        waiting.append(batcher.submit(adapters[2], "Who?", Decoding(2)))
        going[0].cancel()
        assert [len(ticket.finish().ids) for ticket in waiting] == [2, 2, 2]


def test_an_error_reaches_all_and_the_next_question_is_answered(engine: Engine, adapters: list[Bound],
                                                                batcher: Batcher, monkeypatch: pytest.MonkeyPatch
                                                                ) -> None:
    expected = engine.ask(adapters[1], "What happened?").finish()
    failing = threading.Event()

    def fails(*_: object) -> None:
        if failing.is_set():
            failing.clear()
            raise RuntimeError("can't allocate memory")

    hook = engine.base.text.register_forward_pre_hook(fails)
    with monkeypatch.context() as patch:
        patch.setattr(engine.base, "ends", frozenset())
        tickets = [batcher.submit(adapter, "What happened?", Decoding(8000)) for adapter in adapters]
        until(lambda: batcher.waiting == 0)
        failing.set()
        for ticket in tickets:
            with pytest.raises(RuntimeError, match="can't allocate memory"):
                ticket.finish()
    assert batcher.submit(adapters[1], "What happened?", Decoding()).finish().ids == expected.ids
    hook.remove()


def test_what_one_row_brings_about_ends_that_row_alone(engine: Engine, adapters: list[Bound], batcher: Batcher) -> None:
    """Numbers that are not finite, and a seed that torch does not take."""
    broken = [LayerAdapter(layer.A, layer.B * torch.inf, layer.scale) for layer in adapters[0]]
    expected = [engine.ask(adapter, "What happened?").finish().ids for adapter in adapters]
    good = [batcher.submit(adapter, "What happened?", Decoding()) for adapter in adapters]
    bad = batcher.submit(broken, "What happened?", Decoding())
    odd = batcher.submit(adapters[0], "What happened?", Decoding(temperature=1.0, seed=1 << 70))
    with pytest.raises((RuntimeError, OverflowError, ValueError)):
        odd.finish()
    assert bad.finish().finite is False and bad.answer and bad.answer.text == ""
    assert [ticket.finish().ids for ticket in good] == expected


def test_closing_lets_answers_end_for_a_while(engine: Engine, adapters: list[Bound], endless: Decoding) -> None:
    batcher = Batcher(engine, rows=2)
    short = batcher.submit(adapters[0], "What happened?", Decoding(30))
    batcher.close(drain=20)
    assert len(short.finish().ids) == 30
    with pytest.raises(TooBusy, match="ending"):
        batcher.submit(adapters[0], "What happened?", endless)
    other = Batcher(engine, rows=1)
    tickets = [other.submit(adapter, "What happened?", endless) for adapter in adapters]
    until(lambda: other.waiting == 2)
    other.close(drain=0.05)
    for ticket in tickets:
        with pytest.raises(TooBusy, match="ended before the answer"):
            ticket.finish()


def test_memory_stays_as_it_is_after_many_rows(engine: Engine, adapters: list[Bound], batcher: Batcher) -> None:
    """Nothing of a row is left when its ticket is: neither prompts, nor adapters, nor drafts."""
    def kinds() -> int:
        gc.collect()
        return sum(type(each) in (running.Draft, LayerAdapter) for each in gc.get_objects())

    before = 0
    for _ in range(4):
        for ticket in [batcher.submit(adapter, "What?", Decoding(1)) for adapter in adapters * 8]:
            ticket.finish()
        del ticket
        before = before or kinds()
    assert kinds() <= before
