"""Questions that are answered together, each by an adapter of its own, and that join and leave between two tokens.

The rows of a batch end at one place of the cache and begin with padding where they are shorter. A newcomer's prompt is
read by itself, with those of others that wait, and its keys and values are copied so that they end where the batch
stands; all rows are moved where its prompt is the longest, or where they all begin with padding.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from v2l.config import Decoding
from v2l.model.answer import Answer
from v2l.model.base import Base
from v2l.model.generate import Pieces, answer_limit, draw_token, is_drawn
from v2l.model.pool import AdapterPool, adapter_bytes, are_one
from v2l.model.prompt import END
from v2l.model.text import Cache, LayerAdapter

ROWS_AT_ONCE = 64
"""Questions answered together: more hardly raises the speed, and the first answers come later."""
BYTES_AT_ONCE = 512 << 20
"""Bytes of adapters and cache that a batch may hold; what rows were given stays with them, beside its copy here."""
READ_AT_ONCE = 256
"""Tokens of newcomers' prompts that are read at once, of one or of several; about 0.2 s of the 500M base."""
GROWTH = 128
"""Tokens for which room is made at a time, at least: an answer of the usual limit."""
DEAD = 64
"""Places of the cache that nobody needs, from which on they are dropped."""


class NextToken(NamedTuple):
    """One token of one row."""

    row: int
    token: int
    """Id of it; one that ends the answer is no part of the answer."""
    end: str
    """Why the row ended with it: stop (the model ended it), length (it was cut at the most tokens), or not: empty."""
    finite: bool
    """False where the model's numbers were not: the row has ended then, without an answer, and this is no token."""
    logprob: float
    at: float
    """When it was there, by time.perf_counter."""


class Draft:
    """An answer of which there is a part."""

    def __init__(self, base: Base, prompt_tokens: int, visual_tokens: int, started: float) -> None:
        self.pieces = Pieces(base)
        self._counts, self._started, self._first, self._logprob = (prompt_tokens, visual_tokens), started, 0.0, 0.0

    def add(self, said: NextToken) -> str:
        """One token more -> the text that is certain now and was not before."""
        self._logprob += said.logprob
        if not said.finite or said.end == "stop":
            return ""
        self._first = self._first or said.at - self._started
        return self.pieces.add(said.token)

    def answer(self, last: NextToken) -> Answer:
        """The answer, whose last token was added."""
        total = last.at - self._started
        if not last.finite:
            return Answer("", [], *self._counts, total, total, -math.inf, finite=False)
        ids = self.pieces.ids
        logprob = self._logprob / (len(ids) + (last.end == "stop"))
        return Answer(self.pieces.text, ids, *self._counts, self._first or total, total, logprob, finish=last.end)


@dataclass
class _Row:
    number: int
    tokens: list[int]
    """Tokens of the prompt, and those that were made."""
    adapter: list[LayerAdapter] | None
    decoding: Decoding
    left: int
    """Tokens that may still come."""
    draws: torch.Generator
    padding: int = 0
    """Places of the cache before its first token."""
    gone: bool = False


@dataclass
class _Reading:
    """Newcomers whose prompts are being read: they end together, and the shorter ones begin with padding."""

    rows: list[_Row]
    cache: Cache
    rest: Tensor
    """Embeddings [b, t, h] still to be read."""


class RunningBatch:
    """Rows that are answered together, a token each at every step, and that may join and leave between steps.

    Rows and bytes are bounded: whoever does not fit waits, in the order of coming, and where answers grow beyond the
    bytes, the last to come wait again and go on later where they stopped. One row always goes. Not for several threads.
    """

    def __init__(self, base: Base, *, rows_at_once: int = ROWS_AT_ONCE, bytes_at_once: int = BYTES_AT_ONCE,
                 read_at_once: int = READ_AT_ONCE) -> None:
        self._base, self._most, self._size, self._read_at_once = base, rows_at_once, bytes_at_once, read_at_once
        config = base.text_config
        self._token_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim * base.dtype.itemsize
        self._numbers = count()
        self._waiting: deque[_Row] = deque()
        self._reading: _Reading | None = None
        self._rows: list[_Row] = []
        self._pool = AdapterPool(bytes_at_once)
        self._cache = Cache(config, 0, 0, base.device, base.dtype)
        self._whole = self._cache.store
        """All places for rows; the cache has those that rows are in."""
        self._may_read = read_at_once
        """Tokens of prompts that may be read before the next ones of the rows; reading counts as half of them at least,
        because of a few it takes as long as the rows' next tokens do."""

    def __len__(self) -> int:
        """Rows that are not answered, those included that wait."""
        return len(self._rows) + len(self._newcomers())

    @property
    def waiting(self) -> int:
        """Rows that have not begun."""
        return len(self._waiting)

    def join(self, prompt: Sequence[int], adapter: list[LayerAdapter] | None, decoding: Decoding) -> int:
        """Takes in the tokens of a prompt, for an adapter from `bind` (None: the bare base); returns the row's number,
        under which its tokens come from the next steps on. Draws are those of `ask`."""
        row = self._row(prompt, adapter, decoding)
        self._waiting.append(row)
        return row.number

    def fits(self, prompt: Sequence[int], adapter: list[LayerAdapter] | None, decoding: Decoding) -> bool:
        """Whether a row that joins now need not wait for others to leave."""
        return self._fit([*self._newcomers(), self._row(prompt, adapter, decoding)])

    @torch.inference_mode()
    def join_after(self, head: Tensor, held: Cache, tails: Sequence[Sequence[int]], decoding: Decoding) -> list[int]:
        """Rows that all begin with `head` [1, n, h], whose keys and values are in `held`, and go on with a tail of
        tokens each; for the bare base, and where no others are. What of the head the shorter tails' padding pushes
        beyond the first n places is read again, so tails may differ by n tokens. Room is made for whole answers."""
        base, n, longest = self._base, head.shape[1], max(map(len, tails))
        rows = [self._row(tail, None, decoding) for tail in tails]
        cache = Cache(base.text_config, len(rows), n + longest + rows[0].left, base.device, base.dtype)
        for place, row in enumerate(rows):
            row.padding = longest - len(tails[place])
            cache.store[:, :, place, :, : row.padding] = 0  # never seen, and yet it must be a number
            cache.store[:, :, place, :, row.padding : n] = held.store[:, :, 0, :, : n - row.padding]
        cache.length = n
        rest = [torch.cat([head[:, n - row.padding :], base.embed(row.tokens)], 1) for row in rows]
        self._reading = _Reading(rows, cache, torch.cat(rest))
        return [row.number for row in rows]

    @torch.inference_mode()
    def leave(self, number: int) -> None:
        """Drops a row, of which no more is wanted; one that is not there is none."""
        for row in (*self._rows, *self._newcomers()):
            row.gone = row.gone or row.number == number
        self._waiting = deque(row for row in self._waiting if not row.gone)
        if self._reading and all(row.gone for row in self._reading.rows):
            self._reading = None
        self._drop_gone()

    @torch.inference_mode()
    def step(self) -> list[NextToken]:
        """The next token of every row; or where some have just come, once or twice before that, the first ones of
        those, if all of their prompts is read by now. Nothing where there are no rows."""
        if not self._rows or self._may_read > 0:
            self._reading = self._reading or self._begin_reading()
            if self._reading:
                return self._read(self._reading)
        self._may_read = self._read_at_once
        return self._decode() if self._rows else []

    # -- newcomers -------------------------------------------------------------------------------------------------

    def _row(self, tokens: Sequence[int], adapter: list[LayerAdapter] | None, decoding: Decoding) -> _Row:
        draws = torch.Generator(device="cpu").manual_seed(decoding.seed)
        return _Row(next(self._numbers), list(tokens), adapter, decoding, answer_limit(self._base, decoding), draws)

    def _newcomers(self) -> list[_Row]:
        return [*(self._reading.rows if self._reading else ()), *self._waiting]

    def _fit(self, more: Sequence[_Row]) -> bool:
        """Whether there is room for the rows and these newcomers."""
        rows = [*self._rows, *more]
        return len(rows) == 1 or (len(rows) <= self._most and self._bytes(rows) <= self._size)

    def _bytes(self, rows: Sequence[_Row]) -> int:
        """What rows need until they have grown once more."""
        adapters = [row.adapter for row in rows]
        longest = max(len(row.tokens) for row in rows)
        each = 0 if are_one(adapters) else max(map(adapter_bytes, adapters))
        return len(rows) * (self._room(rows, longest) * self._token_bytes + each)

    @staticmethod
    def _room(rows: Iterable[_Row], length: int) -> int:
        """Places of the cache for rows that are `length` long."""
        return length + min(max(GROWTH, length // 4), max(row.left for row in rows))

    def _begin_reading(self) -> _Reading | None:
        """Takes as many of those that wait as fit and may be read at once."""
        rows: list[_Row] = []
        longest = 0
        while self._waiting and self._fit([*rows, self._waiting[0]]):
            longest = max(longest, len(self._waiting[0].tokens))
            if rows and (len(rows) + 1) * longest > self._read_at_once:
                break
            rows.append(self._waiting.popleft())
        if not rows:
            return None
        base = self._base
        longest = max(len(row.tokens) for row in rows)
        for row in rows:
            row.padding = longest - len(row.tokens)
        tokens = torch.tensor([[base.token(END)] * row.padding + row.tokens for row in rows], device=base.device)
        room = longest if self._rows else self._room(rows, longest)
        cache = Cache(base.text_config, len(rows), room, base.device, base.dtype)
        return _Reading(rows, cache, base.text.embed_tokens(tokens))

    def _read(self, reading: _Reading) -> list[NextToken]:
        """Reads all of several newcomers' prompts, or what may be read at once of one's."""
        alone = len(reading.rows) == 1
        now = reading.rest[:, : self._read_at_once] if alone else reading.rest
        reading.rest = reading.rest[:, now.shape[1] :]
        self._may_read -= max(len(reading.rows) * now.shape[1], (self._read_at_once + 1) // 2)
        adapters = self._pool.beside([row.adapter for row in reading.rows], len(self._rows))
        logits = self._base.text(now, reading.cache, adapters, self._padding(reading.rows))
        if reading.rest.shape[1]:
            return []
        self._reading = None
        self._take_in(reading)
        return self._choose(reading.rows, logits)

    def _take_in(self, reading: _Reading) -> None:
        """Makes rows of newcomers whose prompts are read."""
        if not self._rows:
            self._cache, self._whole, self._rows = reading.cache, reading.cache.store, list(reading.rows)
            return
        width = reading.cache.length
        self._make_room([*self._rows, *reading.rows], width)
        end, first = self._cache.length, len(self._rows)
        for i, row in enumerate(reading.rows):
            start = end - (width - row.padding)
            self._whole[:, :, first + i, :, :start] = 0  # never seen, and yet it must be a number
            self._whole[:, :, first + i, :, start:end] = reading.cache.store[:, :, i, :, row.padding : width]
            row.padding = start
        self._rows += reading.rows
        self._cache.store = self._whole[:, :, : len(self._rows)]

    # -- rows --------------------------------------------------------------------------------------------------------

    def _decode(self) -> list[NextToken]:
        self._make_room_for_next()
        rows, base = list(self._rows), self._base
        sent = torch.tensor([[row.tokens[-1], row.padding] for row in rows], device=base.device)
        padding = sent[:, 1] if any(row.padding for row in rows) else None
        adapters = self._pool.beside([row.adapter for row in rows])
        return self._choose(rows, base.text(base.text.embed_tokens(sent[:, :1]), self._cache, adapters, padding))

    def _padding(self, rows: Sequence[_Row]) -> Tensor | None:
        if not any(row.padding for row in rows):
            return None
        return torch.tensor([row.padding for row in rows], device=self._base.device)

    def _choose(self, rows: Sequence[_Row], logits: Tensor) -> list[NextToken]:
        """Chooses the next tokens of rows from their logits [b, vocabulary], and drops those that end with them."""
        if any(is_drawn(row.decoding) for row in rows):
            logits = logits.float().cpu()
        tokens = logits.argmax(-1, keepdim=True)  # what is no number counts as the largest
        finite = logits.gather(1, tokens).isfinite()
        logits = logits.where(finite, 0)
        for i, row in enumerate(rows):
            if is_drawn(row.decoding):
                tokens[i] = draw_token(logits[i], row.decoding, row.draws)
        sure = logits.float().log_softmax(-1).gather(1, tokens)
        # The device is waited for once; float32 holds the numbers of 16 million tokens exactly.
        fetched = torch.cat([tokens.float(), sure, finite.float()], 1).tolist()
        now = time.perf_counter()
        said = []
        for row, (chosen, logprob, good) in zip(rows, fetched, strict=True):
            token = int(chosen)
            if row.gone:
                continue
            end = "stop" if token in self._base.ends or not good else "length" if row.left == 1 else ""
            row.tokens.append(token)
            row.left -= 1
            row.gone = bool(end)
            said.append(NextToken(row.number, token, end, bool(good), logprob, now))
        self._drop_gone()
        return said

    def _drop_gone(self) -> None:
        """The last rows move into the gaps of those that are gone, which copies no more than has to be."""
        rows, end = self._rows, self._cache.length
        kept = sum(not row.gone for row in rows)
        if kept == len(rows):
            return
        gaps = [place for place in range(kept) if rows[place].gone]
        moved = [place for place in range(kept, len(rows)) if not rows[place].gone]
        for gap, place in zip(gaps, moved, strict=True):
            self._whole[:, :, gap, :, :end] = self._whole[:, :, place, :, :end]
            rows[gap] = rows[place]
        del rows[kept:]
        self._pool.forget(kept)
        self._cache.store = self._whole[:, :, :kept]

    # -- the cache ---------------------------------------------------------------------------------------------------

    def _make_room_for_next(self) -> None:
        """Has the cache end before its last place; rows for which there is no memory wait again."""
        dead = min(row.padding for row in self._rows)
        if dead >= DEAD:
            self._move(-dead)
        if self._cache.length < self._whole.shape[4]:
            return
        again = []
        while len(self._rows) > 1 and self._bytes(self._rows) > self._size:
            again.append(max(self._rows, key=lambda row: row.number))
            again[-1].gone = True
            self._drop_gone()
        for row in again:
            row.gone = False
            self._waiting.appendleft(row)
        self._grow(len(self._rows), self._cache.length)

    def _make_room(self, rows: Sequence[_Row], width: int) -> None:
        """Has the cache end where a newcomer of this width can, with a place after it, and with places for all rows."""
        dead = min(row.padding for row in self._rows)
        end = max(self._cache.length - dead, width)
        if len(rows) > self._whole.shape[2] or end >= self._whole.shape[4]:
            self._grow(len(rows), width, rows)
        elif width > self._cache.length or self._cache.length >= self._whole.shape[4]:
            self._move(end - self._cache.length)

    def _grow(self, places: int, width: int, rows: Sequence[_Row] | None = None) -> None:
        """A larger cache, in which the rows end at `width` or where the longest does."""
        dead, before, had = min(row.padding for row in self._rows), self._cache.length, self._whole
        end = max(before - dead, width) if rows else before - dead
        room = self._room(rows or self._rows, end)
        wanted = had.shape[2] if places <= had.shape[2] else 2 * had.shape[2]
        places = max(places, min(wanted, self._most, self._size // (2 * room * self._token_bytes)))
        new = had.new_empty(*had.shape[:2], places, had.shape[3], room, had.shape[5])
        number, start = len(self._rows), end - (before - dead)
        new[:, :, :number, :, :start] = 0
        new[:, :, :number, :, start:end] = had[:, :, :number, :, dead:before]
        self._whole = new
        self._moved(end - before)

    def _move(self, by: int) -> None:
        """Moves the rows within the cache, by so many places to the right."""
        number, dead, end = len(self._rows), min(row.padding for row in self._rows), self._cache.length
        for layer in self._whole:
            layer[:, :number, :, dead + by : end + by] = layer[:, :number, :, dead:end].clone()
        self._moved(by)

    def _moved(self, by: int) -> None:
        for row in self._rows:
            row.padding += by
        self._cache.length += by
        self._cache.store = self._whole[:, :, : len(self._rows)]
