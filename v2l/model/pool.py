"""Adapters of many rows side by side, as the text stack takes them: each is written once, when its row joins."""

from __future__ import annotations

from collections.abc import Sequence

from v2l.model.text import LayerAdapter

_STALE: list[LayerAdapter] = []
"""What a place is said to hold when it holds what no row has any more."""


def are_one(adapters: Sequence[list[LayerAdapter] | None]) -> bool:
    """Whether all rows have the same adapter, which they then share."""
    return all(adapter is adapters[0] for adapter in adapters)


def adapter_bytes(adapter: list[LayerAdapter] | None) -> int:
    """Bytes of an adapter's factors in memory."""
    return sum(layer.A.nbytes + layer.B.nbytes for layer in adapter or ())


class AdapterPool:
    """Places for adapters: per layer A [places, R, d_in] and B [places, R, d_out] with its scale in it, so that any
    scales go together; R is the largest rank there was room for, and ranks that an adapter has not are zeros."""

    def __init__(self, size: int) -> None:
        """`size`: bytes up to which places are made before they are needed."""
        self._size = size
        self._layers: list[LayerAdapter] = []
        self._held: list[list[LayerAdapter] | None] = []
        """What each place holds; zeros are None's."""

    def beside(self, adapters: Sequence[list[LayerAdapter] | None], first: int = 0) -> list[LayerAdapter] | None:
        """The adapters of the rows in the places from `first` on: the one that all share, or with a leading row
        dimension one for each. Only what is not in its place yet is written."""
        if are_one(adapters):
            return adapters[0]
        like = next(adapter for adapter in adapters if adapter)
        rank = max(len(adapter[0].A) for adapter in adapters if adapter)
        end = first + len(adapters)
        self._make_room(end, rank, like)
        for place, adapter in enumerate(adapters, first):
            if self._held[place] is not adapter:
                self._write(place, adapter)
        return [LayerAdapter(layer.A[first:end, :rank], layer.B[first:end, :rank], 1.0) for layer in self._layers]

    def forget(self, count: int) -> None:
        """Lets go of the adapters beyond the first `count` places."""
        self._held[count:] = [held if held is None else _STALE for held in self._held[count:]]

    def _make_room(self, places: int, rank: int, like: list[LayerAdapter]) -> None:
        had, ranks = self._layers[0].A.shape[:2] if self._layers else (0, 0)
        if places <= had and rank <= ranks:
            return
        per_place = adapter_bytes(like) // len(like[0].A) * rank
        places = max(places, min(had if places <= had else 2 * had, self._size // (2 * per_place)))
        self._layers = []  # what there was goes first: both may not fit
        self._layers = [LayerAdapter(layer.A.new_zeros(places, rank, layer.A.shape[1]),
                                     layer.B.new_zeros(places, rank, layer.B.shape[1]), 1.0) for layer in like]
        self._held = [None] * places

    def _write(self, place: int, adapter: list[LayerAdapter] | None) -> None:
        self._held[place] = _STALE
        for i, into in enumerate(self._layers):
            A, B = into.A[place], into.B[place]
            rank = len(adapter[i].A) if adapter else 0
            A[rank:], B[rank:] = 0, 0
            if adapter:
                A[:rank], B[:rank] = adapter[i].A, adapter[i].B * adapter[i].scale
        self._held[place] = adapter
