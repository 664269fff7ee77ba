"""What adapters are made with, apart from the video: where all of it is the same, `ingest` gives the same adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from v2l.adapter.record import Record, singles

if TYPE_CHECKING:
    from v2l.adapter.file import Adapter, Label


@dataclass(frozen=True)
class Provenance:
    """What an adapter is made with. Names of fields are those that `differences` gives."""

    base: str
    """Fingerprint of the base's text stack."""
    hypernetwork: str
    """sha256 of its weights."""
    sampling: Record
    """How frames are chosen, as recorded: without start and end, which stand with each segment."""
    prompt: str
    """Text that the video is internalized with."""
    compute: str
    """dtype that was computed in."""
    dtype: str
    """dtype that the adapter is stored in."""

    @classmethod
    def of(cls, record: Record, dtype: str) -> Provenance:
        """What the record of one segment says, of an adapter that is stored in `dtype`."""
        return cls(record["base"]["fingerprint"], record["hypernetwork"]["sha256"], record["sampling"],
                   record["prompt"], record["compute"]["dtype"], dtype)

    def differences(
        self, adapter: Adapter | Label, spans: Sequence[tuple[float, float]], video: Record | None = None
    ) -> list[str]:
        """Names of what `adapter` was made with and what is otherwise here; empty where `ingest` would make it again.

        Besides the fields: `segments` where its segments were compressed, or their (start, end) in seconds are not
        `spans`; `video`, if that is given, where one is of another file than it records, or of one read otherwise now.
        """
        segments = singles(adapter.record)
        recorded = [Provenance.of(segment, adapter.dtype) for segment in segments]
        names = [field.name for field in fields(self)
                 if any(getattr(each, field.name) != getattr(self, field.name) for each in recorded)]
        of_segments = [(segment["segments"][0]["start"], segment["segments"][0]["end"]) for segment in segments]
        if "compressed" in adapter.record or of_segments != list(spans):
            names.append("segments")
        if video is not None and any(_nameless(source) != _nameless(video) for source in adapter.record["sources"]):
            names.append("video")
        return names


def _nameless(source: Record) -> Record:
    """The record of a video without its name, which may change while the file stays the same."""
    return {key: value for key, value in source.items() if key != "name"}
