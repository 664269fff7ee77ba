"""Clips to look at: a few frames, what was asked, what the references say and what each arm answered."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from v2l.bench.quality.plan import Question, Watch
from v2l.bench.quality.results import Quality
from v2l.bench.quality.score import Scored
from v2l.bench.quality.sweep import spread
from v2l.bench.quality.words import arm_text
from v2l.errors import VideoError
from v2l.report import page
from v2l.report.plots import Html, escape
from v2l.video.clip import open_clip

CLIPS, FRAMES, SHOWN = 6, 4, 3
"""Clips, frames of each, and questions about each that are not folded away."""
_EDGE, _QUALITY = 180, 72
"""Longest edge of a frame on the page in pixels, and of its JPEG."""
_PARTLY = 0.5
"""Token F1 from which on an answer that is not exact counts as partly right."""


def gallery(found: Quality) -> Html:
    """Half of the clips are those about which the arms that saw them disagree most, the others lie evenly spread."""
    said: dict[str, dict[str, Scored]] = {}
    for scored in found.scored:
        said.setdefault(scored.question.id, {})[scored.arm] = scored
    return page.figures(*(_clip(found, watch, said) for watch in _chosen(found, said)))


def _chosen(found: Quality, said: dict[str, dict[str, Scored]]) -> list[Watch]:
    watches = [watch for watch in found.asked.watches if watch.questions[0].id in said]
    apart = {watch.id: sum(_apart(said[question.id]) for question in watch.questions) for watch in watches}
    split = sorted((watch for watch in watches if apart[watch.id] > 0), key=lambda watch: -apart[watch.id])
    chosen = split[: CLIPS // 2]
    rest = [watch for watch in watches if watch not in chosen]
    return chosen + spread(rest, CLIPS - len(chosen))


def _apart(said: dict[str, Scored]) -> float:
    """How differently the adapter and the video in the prompt answered."""
    return abs(said["adapter"].token_f1 - said["direct"].token_f1) if {"adapter", "direct"} <= said.keys() else 0.0


def _clip(found: Quality, watch: Watch, said: dict[str, dict[str, Scored]]) -> Html:
    questions = sorted(watch.questions, key=lambda question: -_apart(said[question.id]))
    blocks = [_question(question, [said[question.id][arm.name] for arm in found.arms]) for question in questions]
    parts = [_frames(found, watch), *blocks[:SHOWN]]
    if blocks[SHOWN:]:
        more = len(blocks) - SHOWN
        parts.append(page.details(f"{more} more question{'s' * (more != 1)}", page.blocks(*blocks[SHOWN:])))
    return page.figure(watch.name, page.blocks(*parts))


def _question(question: Question, answers: Sequence[Scored]) -> Html:
    kind = f' <span class="soft">{escape(question.kind or question.benchmark)}</span>'
    references = escape(" / ".join(question.references))
    rows = [f"<dt>reference</dt><dd>{references}</dd>"]
    for answer in answers:
        color, mark = _mark(answer)
        rows.append(f'<dt>{escape(arm_text(answer.arm))}</dt><dd class="c{color}"><b>{mark}</b> '
                    f'{escape(answer.given.text) or "(nothing)"}</dd>')
    return Html(f'<div class="asked"><p><strong>{escape(question.prompt)}</strong>{kind}</p>'
                f'<dl>{"".join(rows)}</dl></div>')


def _mark(answer: Scored) -> tuple[int, Html]:
    """A colour, and what says the same without it."""
    if answer.exact == 1:
        return 2, escape("✓")
    partly = answer.token_f1 >= _PARTLY
    return (4, escape(f"≈ F1 {answer.token_f1:.2f}")) if partly else (1, escape(f"✗ F1 {answer.token_f1:.2f}"))


def _frames(found: Quality, watch: Watch) -> Html:
    """Some of the frames that were looked at; a sentence where the video is no longer there."""
    try:
        clip = open_clip(watch.video, found.made.sampling_of(watch))
        total = len(clip.indices)
        count = min(FRAMES, total)
        clip = replace(clip, indices=[clip.indices[(2 * i + 1) * total // (2 * count)] for i in range(count)])
        shown = [(frame.timestamp, _jpeg(Image.fromarray(frame.image))) for frame in clip.frames()]
    except VideoError as error:
        return page.paragraph(f"No frames: {error}", soft=True)
    images = "".join(f'<img alt="{escape(watch.name)} at {time:.1f} s" src="{source}"/>' for time, source in shown)
    return Html(f'<div class="strip">{images}</div>')


def _jpeg(image: Image.Image) -> str:
    """As a data URI."""
    image.thumbnail((_EDGE, _EDGE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
