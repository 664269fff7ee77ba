"""Adapters and models as plain text that reads well on 40 columns too."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from v2l.adapter.record import Record, as_one_text, foreign_text, is_foreign, pieces, singles
from v2l.adapter.wall import at_text, stretch_text, wall_start
from v2l.cli.timeline import draw_timeline
from v2l.config import PRESETS, Preset
from v2l.system.strict_json import encode
from v2l.wording import count_of, size_text, time_text

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.store.default import DefaultModel
    from v2l.store.pins import Verified
    from v2l.store.resolve import Availability


_MOST_TEXT = 4000
"""Characters of a value that are shown; to wrap millions would take hours."""


def _room(width: int | None) -> int:
    """Columns for a value of `_lines`."""
    return max((width or 80) - 15, 16)


def _lines(title: str, fields: Iterable[Field], width: int | None) -> str:
    """One field per line; values are wrapped to `width` columns if it is given, lists of lines are kept as they are."""
    lines = [title.replace("\n", "\ufffd")]  # a name from a file draws no lines
    for name, value in fields:
        rows = value if isinstance(value, list) else [" ".join(value[:_MOST_TEXT].split())]
        if not isinstance(value, list) and len(value) > _MOST_TEXT:
            rows = [f"{rows[0]} ... ({len(value)} characters in all)"]
        if width and not isinstance(value, list):
            rows = textwrap.wrap(rows[0], _room(width), break_on_hyphens=False)
        lines += [f"  {name if i == 0 else '':<12} {row}" for i, row in enumerate(rows or [""])]
    return "\n".join(lines)


# --- adapters ---


_FULL_SOURCES, _FULL_SEGMENTS = 4, 6
"""Number of sources, and of segments, up to which each is shown in full."""
_LISTED_SOURCES, _LISTED_SEGMENTS = 10, 24
"""Number up to which each has a line of its own; `--json` shows all."""
_LISTED_GAPS = 3
"""Number of stretches without pictures of which each has a line, the last of them."""
_LISTED_FIELDS = 24
"""Number of unknown fields that are shown."""

Field = tuple[str, str | list[str]]
"""Name and value of a line; a list of lines is not wrapped."""


def adapter_text(adapter: Adapter, width: int | None = None) -> str:
    """What an adapter records, one field per line; many segments or sources are summed up."""
    record, r = adapter.record, adapter.rank
    base, hypernetwork, count = record["base"], record["hypernetwork"], len(adapter.segments)
    revision = f" at {base['revision']}" if base["revision"] else ""
    segments = f"{count} {'segment' if count == 1 else 'segments'}"
    ranks = f"{adapter.total_rank} for {segments}, {r} for" if adapter.compressed else f"{segments} and"
    fields: list[Field] = [
        ("base", f"{base['id']}{revision}"),
        ("", base["fingerprint"]),
        ("hypernetwork", hypernetwork["id"]),
        ("", hypernetwork["sha256"]),
        ("rank", f"{adapter.total_rank + r}: {ranks} the bias{'' if adapter.compressed else f', {r} each'}"),
        *_compressed_fields(record),
        ("scale", f"{adapter.scale:g}"),
        ("tensors", f"{', '.join(record['target_modules'])} {adapter.A.shape[2]} -> {adapter.B.shape[2]} "
                    f"of {adapter.num_layers} layers, {adapter.dtype}"),
        ("size", _size_text(adapter)),
        *_source_fields(adapter.sources),
        *([("foreign", foreign_text("The video"))] if is_foreign(record) else []),
    ]
    if count > 1:
        fields += _timelines(adapter, _room(width))
    views = singles(record)
    fields += _segments_fields(views, several_sources=len(adapter.sources) > 1)
    for name, _ in _settings(views[0]):
        values = list(dict.fromkeys(dict(_settings(view))[name] for view in views))
        fields += [(name if i == 0 else "", text) for i, text in enumerate(values)]
    unknown = record.keys() - _KNOWN
    fields += [(" ".join(name[:40].split()), encode(record[name])) for name in sorted(unknown)[:_LISTED_FIELDS]]
    if len(unknown) > _LISTED_FIELDS:
        fields += [("", f"and {len(unknown) - _LISTED_FIELDS} more fields; --json shows all")]
    return _lines(adapter.name, fields, width)


def _size_text(adapter: Adapter) -> str:
    """Bytes of an adapter's file, and of what in it."""
    tensors = {key: array.nbytes for key, array in adapter.tensors().items()}
    segments, bias = tensors["A"] + tensors["B"], tensors["bias_A"] + tensors["bias_B"]
    each = "" if adapter.compressed or len(adapter.segments) == 1 else " a segment"
    part = segments // len(adapter.segments) if each else segments
    return f"{size_text(adapter.file_size)}: {size_text(part)}{each}, bias {size_text(bias)}"


_KNOWN = {"base", "hypernetwork", "rank", "scale", "target_modules", "sources", "segments", "sampling", "prompt",
          "compute", "v2l", "compressed"}


def _compressed_fields(record: Record) -> list[Field]:
    fields: list[Field] = []
    number = 1
    for piece in pieces(record):
        last = number + len(piece.segments) - 1
        if piece.block:
            errors = piece.block["errors"]
            which = f"segments {number} to {last}" if last > number else f"segment {number}"
            fields += [("compressed", f"{which}, from rank {len(piece.segments) * record['rank']} to {piece.rank}"),
                       ("", f"relative error {piece.block['error']:.2g}, by layer {min(errors):.2g} to "
                            f"{max(errors):.2g}"),
                       *([("", as_one_text(len(piece.segments)))] if len(piece.segments) > 1 else []),
                       ("", piece.block["sha256"])]
        number = last + 1
    return fields


def _source_fields(sources: Sequence[Record]) -> list[Field]:
    fields: list[Field] = []
    for source in sources if len(sources) <= _FULL_SOURCES else []:
        fields += [("source", source["name"]),
                   ("", f"{time_text(source['duration'])}, {source['frames']} frames at {source['fps']:.4g} fps, "
                        f"{source['width']} x {source['height']}, {size_text(source['size'])}"),
                   ("", source["sha256"]), *_live_fields(source)]
    if not fields:
        shown = sources if len(sources) <= _LISTED_SOURCES else sources[:_LISTED_SOURCES - 1]
        lines = [f"{source['name']}, " + (f"live from {at_text(began, 0)}" if (began := wall_start(source)) else
                                          time_text(source["duration"])) for source in shown]
        if len(shown) < len(sources):
            lines += [f"and {len(sources) - len(shown)} more; --json names all"]
        fields = [("" if i else "sources", line) for i, line in enumerate(lines)]
    return fields


def _live_fields(source: Record) -> list[Field]:
    """What is told of a source that was watched live, and nothing of any other."""
    began, gaps, dropped = wall_start(source), source.get("gaps", []), source.get("dropped", {})
    fields: list[Field] = [("started", f"{at_text(began, 0)}, watched live")] if began else []
    if gaps:
        text = f"{count_of(len(gaps), 'gap')}, {time_text(round(sum(end - start for start, end, _ in gaps)))} in all"
        shown = gaps[-_LISTED_GAPS:]
        fields += [("no pictures", text + (f"; the last {len(shown)}:" if len(shown) < len(gaps) else ":")),
                   *(("", f"{stretch_text(began, round(start, 1), round(end, 1))}, {reason}")
                     for start, end, reason in shown)]
    if dropped:
        lost = ", ".join(f"{value:g} {key}" for key, value in dropped.items() if key != "rule")
        fields.append(("not seen", f"{dropped['rule']}{f' ({lost})' if lost else ''}"))
    return fields


def _timelines(adapter: Adapter, width: int) -> list[Field]:
    """Timelines of the videos, with their segments; of many videos, only those with several segments."""
    spans: dict[int, list[tuple[int, float, float]]] = {}
    for number, segment in enumerate(adapter.segments, 1):
        spans.setdefault(segment["source"], []).append((number, segment["start"], segment["end"]))
    fields: list[Field] = []
    if len(spans) > _FULL_SOURCES:
        spans = {source: ranges for source, ranges in spans.items() if len(ranges) > 1}
    for source, ranges in list(spans.items())[:_FULL_SOURCES]:
        rows = draw_timeline(ranges, adapter.sources[source]["duration"], width, wall_start(adapter.sources[source]))
        if len(adapter.sources) > 1:
            fields += [("timeline", adapter.sources[source]["name"]), ("", rows)]
        else:
            fields += [("timeline", rows)]
    return fields


def _segments_fields(views: Sequence[Record], several_sources: bool) -> list[Field]:
    if len(views) <= _LISTED_SEGMENTS:
        shown = [_segment_fields(number, view, several_sources) for number, view in enumerate(views, 1)]
        return [field for fields in shown for field in (fields if len(views) <= _FULL_SEGMENTS else fields[:1])]
    segments = [view["segments"][0] for view in views]
    lengths = [time_text(round(segment["end"] - segment["start"], 1)) for segment in
               sorted(segments, key=lambda segment: segment["end"] - segment["start"])]
    frames = [len(segment["timestamps"]) for segment in segments]
    each = f"{lengths[0]}" if lengths[0] == lengths[-1] else f"{lengths[0]} to {lengths[-1]}"
    seen = f"{frames[0]}" if min(frames) == max(frames) else f"{min(frames)} to {max(frames)}"
    return [("segments", f"{len(views)} of {each}, {seen} frames each, {sum(frames)} in all; --json lists them")]


def _segment_fields(number: int, view: Record, several_sources: bool) -> list[Field]:
    segment = view["segments"][0]
    count, tokens = len(segment["timestamps"]), view["compute"].get("tokens")
    began = wall_start(view["sources"][0])
    text = stretch_text(began, segment["start"], segment["end"])
    text += f", {count} {'frame' if count == 1 else 'frames'}"
    text += f", {tokens} tokens" if tokens else ""
    text += f", {view['sources'][0]['name']}" if several_sources else ""
    shown = [time_text(round(time, 1)) for time in segment["timestamps"]]
    if len(shown) > 12:
        shown = [*shown[:6], "..", *shown[-5:]]
    return [(f"segment {number}", text), ("", "at " + " ".join(shown))]


def _settings(view: Record) -> list[tuple[str, str]]:
    """Names and values of the settings a segment was made with."""
    sampling, compute = view["sampling"], view["compute"]
    return [
        ("sampling", f"at most {sampling['frames']} frames, {sampling['fps']:g} fps, {sampling['resolution']} pixels; "
                     f"of longer videos {sampling['skip']:g} s skipped at either end"),
        ("prompt", view["prompt"]),
        ("computed", f"in {compute['dtype']} on {compute['device']} by v2l {view['v2l']}"),
    ]


# --- models ---


def models_text(models: Sequence[Availability], default: DefaultModel, width: int | None = None) -> str:
    """The presets, which of them are on this disk, and which model is used without --model."""
    why = f"as {default.origin} says" if default.origin else "choose another with: v2l models use NAME"
    parts = [_lines(f"Without --model: {default.name} ({why})", [], width)]
    for model in models:
        state = f"ready, {size_text(model.size)}"
        if not model.ready:
            state = f"{'in part' if model.size else 'no'}; fetch it with: v2l models pull {model.name}"
        parts.append(_lines(model.name, [("", model.about), ("base", model.base), ("hypernetwork", model.hypernetwork),
                                         ("on disk", state), ("adapter", _adapter_size(PRESETS[model.name]))], width))
    return "\n".join(parts)


def _adapter_size(preset: Preset) -> str:
    """What the file of an adapter weighs."""
    size = preset.segment_size
    return (f"{size_text(2 * size)} for one segment, {size_text(size)} for each further one, so {size_text(61 * size)} "
            "an hour with --segment 60s; twice that in float32")


def model_record(model: Availability, default: DefaultModel) -> dict[str, Any]:
    """A preset's part of `models_text` for JSON."""
    return {"name": model.name, "about": model.about, "base": model.base, "hypernetwork": model.hypernetwork,
            "ready": model.ready, "size": model.size, "segment_size": PRESETS[model.name].segment_size,
            "base_folder": str(model.base_folder) if model.base_folder else None,
            "hypernetwork_file": str(model.hypernetwork_file) if model.hypernetwork_file else None,
            "default": model.name == default.name, "default_model": default.name,
            "default_from": default.origin or None}


def verified_text(model: Verified) -> str:
    """Whether the files of a model are still those that were downloaded or converted, in one line."""
    state = f"{len(model.changed)} changed since" if model.changed else "as it was"
    return f"{model.name}: {model.files} file{'s' * (model.files > 1)}, {size_text(model.size)}, {state}"


def verified_record(model: Verified) -> dict[str, Any]:
    """`verified_text` for JSON."""
    return {"name": model.name, "files": model.files, "size": model.size, "changed": list(map(str, model.changed))}
