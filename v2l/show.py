"""Adapters and models as plain text that reads well on 40 columns too."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from v2l.record import Record, singles

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.checkpoints import Availability


def size_text(size: float) -> str:
    """Bytes for people: 8.1 MB."""
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.3g} {unit}"
    return f"{size / 1000:.3g} GB"


def time_text(seconds: float) -> str:
    """Seconds as `--start` takes them: 0:05, 12:30.5, 1:02:03."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"
    return (text + f".{thousandths:03d}").rstrip("0") if thousandths else text


def _lines(title: str, fields: Iterable[tuple[str, str]], width: int | None) -> str:
    """A field a line; values are wrapped to `width` columns if it is given."""
    lines = [title]
    for name, value in fields:
        value = " ".join(value.split())  # a name from a file draws no lines of its own
        rows = textwrap.wrap(value, max(width - 15, 16), break_on_hyphens=False) if width else [value]
        lines += [f"  {name if i == 0 else '':<12} {row}" for i, row in enumerate(rows or [""])]
    return "\n".join(lines)


# --- adapters ---


def adapter_text(adapter: Adapter, width: int | None = None) -> str:
    """All that an adapter records, a field a line."""
    record, r = adapter.record, adapter.rank
    base, hypernetwork, count = record["base"], record["hypernetwork"], len(adapter.segments)
    revision = f" at {base['revision']}" if base["revision"] else ""
    fields = [
        ("base", f"{base['id']}{revision}"),
        ("", base["fingerprint"]),
        ("hypernetwork", hypernetwork["id"]),
        ("", hypernetwork["sha256"]),
        ("rank", f"{adapter.total_rank + r}: {count} {'segment' if count == 1 else 'segments'} and the bias, {r} each"),
        ("scale", f"{adapter.scale:g}"),
        ("tensors", f"{', '.join(record['target_modules'])} {adapter.A.shape[2]} -> {adapter.B.shape[2]} "
                    f"of {adapter.num_layers} layers, {adapter.dtype}, {size_text(adapter.file_size)}"),
    ]
    for source in adapter.sources:
        fields += [("source", source["name"]),
                   ("", f"{time_text(source['duration'])}, {source['frames']} frames at {source['fps']:.4g} fps, "
                        f"{source['width']} x {source['height']}, {size_text(source['size'])}"),
                   ("", source["sha256"])]
    views = singles(record)
    for number, view in enumerate(views, 1):
        fields += _segment_fields(number, view, several_sources=len(adapter.sources) > 1)
    for name, _ in _settings(views[0]):
        values = list(dict.fromkeys(dict(_settings(view))[name] for view in views))
        fields += [(name if i == 0 else "", text) for i, text in enumerate(values)]
    unknown = record.keys() - _KNOWN
    fields += [(name, str(record[name])) for name in sorted(unknown)]
    return _lines(adapter.name, fields, width)


_KNOWN = {"base", "hypernetwork", "rank", "scale", "target_modules", "sources", "segments", "sampling", "prompt",
          "compute", "v2l"}


def _segment_fields(number: int, view: Record, several_sources: bool) -> list[tuple[str, str]]:
    segment = view["segments"][0]
    count, tokens = len(segment["timestamps"]), view["compute"].get("tokens")
    text = f"{time_text(segment['start'])} to {time_text(segment['end'])}"
    text += f", {count} {'frame' if count == 1 else 'frames'}"
    text += f", {tokens} tokens" if tokens else ""
    text += f", {view['sources'][0]['name']}" if several_sources else ""
    shown = [time_text(round(time, 1)) for time in segment["timestamps"]]
    if len(shown) > 12:
        shown = [*shown[:6], "..", *shown[-5:]]
    return [(f"segment {number}", text), ("", "at " + " ".join(shown))]


def _settings(view: Record) -> list[tuple[str, str]]:
    """What a segment was made with, in words."""
    sampling, compute = view["sampling"], view["compute"]
    return [
        ("sampling", f"at most {sampling['frames']} frames, {sampling['fps']:g} fps, {sampling['skip']:g} s skipped at "
                     f"either end, {sampling['resolution']} pixels"),
        ("prompt", view["prompt"]),
        ("computed", f"in {compute['dtype']} on {compute['device']} by v2l {view['v2l']}"),
    ]


# --- models ---


def models_text(models: Sequence[Availability], width: int | None = None) -> str:
    """The presets and what of them is on this disk."""
    parts = []
    for model in models:
        there = f"ready, {size_text(model.size)}"
        if not model.ready:
            there = f"{'in part' if model.size else 'no'}; fetch it with: v2l models pull {model.name}"
        parts.append(_lines(model.name, [("", model.about), ("base", model.base), ("hypernetwork", model.hypernetwork),
                                         ("on disk", there)], width))
    return "\n".join(parts)


def model_record(model: Availability) -> dict[str, Any]:
    """The same, for JSON."""
    return {"name": model.name, "about": model.about, "base": model.base, "hypernetwork": model.hypernetwork,
            "ready": model.ready, "size": model.size,
            "base_folder": str(model.base_folder) if model.base_folder else None,
            "hypernetwork_file": str(model.hypernetwork_file) if model.hypernetwork_file else None}
