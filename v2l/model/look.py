"""Equal tiles are looked at once: a recorded screen, slides or a camera at night show the same tile for seconds.

Exact, with no threshold: equal are tiles whose bytes have the same SHA-256, and that come in groups of one size. What
the vision tower makes of a tile depends in its last bits on how many go through it together (500M in bfloat16, `tiny`
in float32), and on nothing else of the others; so groups stay as large as if no two tiles were equal, and give the same
bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

KNOWN_BYTES = 32 << 20
"""Bytes of image tokens that are known from one call to the next: 273 tiles of 500M, 101 of 2.2B. Segments in a row
share what was on the screen last, not what was there an hour before."""

Key = tuple[int, bytes]
"""Tiles in the group that a tile came in, and the digest of its bytes."""


class Known:
    """Image tokens [image_seq_len, h] of the tiles looked at last, KNOWN_BYTES at most."""

    def __init__(self) -> None:
        self._tokens: dict[Key, Tensor] = {}
        self._bytes = 0

    def find(self, key: Key) -> Tensor | None:
        """The tokens of a tile, which was used just now; None where it is not known."""
        tokens = self._tokens.pop(key, None)
        if tokens is not None:
            self._tokens[key] = tokens
        return tokens

    def add(self, key: Key, tokens: Tensor) -> None:
        """Keeps the tokens of a tile that was not known, and drops those that were used longest ago."""
        self._tokens[key] = tokens.clone()  # else one tile would keep its whole group in memory
        self._bytes += tokens.nbytes
        while self._bytes > KNOWN_BYTES:
            self._bytes -= self._tokens.pop(next(iter(self._tokens))).nbytes


def look_at(tiles: Iterable[np.ndarray], at_once: int, vision: Callable[[np.ndarray], Tensor], known: Known | None
         ) -> Tensor:
    """Tiles [n, tile, tile, 3] uint8 of frame after frame -> image tokens [all tiles * image_seq_len, h].

    `vision` makes [n, image_seq_len, h] of at most `at_once` tiles, each looked at once. What is in `known` is not
    looked at, and what was looked at is added.
    """
    found: dict[Key, Tensor] = {}
    waiting: dict[Key, np.ndarray] = {}
    order: list[Key] = []

    def look_at_waiting(size: int) -> None:
        keys = list(waiting)[:size]
        group = [waiting.pop(key) for key in keys]
        # A group that equal tiles left too small is filled up with one of its own.
        tokens = vision(np.stack(group + group[:1] * (size - len(group))))
        for key, one in zip(keys, tokens, strict=False):
            found[key] = one
            if known:
                known.add(key, one)

    for group in _groups(tiles, at_once):
        if len(group) < at_once and waiting:  # the last of all, and the others are to be looked at as if it were not
            look_at_waiting(at_once)
        for tile in group:
            key = len(group), sha256(tile).digest()
            order.append(key)
            if key in found or key in waiting:
                continue
            tokens = known.find(key) if known else None
            if tokens is None:
                waiting[key] = tile
            else:
                found[key] = tokens
        if len(waiting) >= len(group):
            look_at_waiting(len(group))
    if waiting:
        look_at_waiting(order[-1][0])
    return torch.cat([found[key] for key in order])


def _groups(tiles: Iterable[np.ndarray], at_once: int) -> Iterator[np.ndarray]:
    """Tiles in their order, `at_once` at a time."""
    waiting: list[np.ndarray] = []
    for several in tiles:
        waiting.extend(several)
        while len(waiting) >= at_once:
            yield np.stack(waiting[:at_once])
            del waiting[:at_once]
    if waiting:
        yield np.stack(waiting)
