"""Clips to look at: a few frames, what was asked, what the references say and what each arm answered."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from v2l.bench.quality.plan import EvalClip, Question, evenly
from v2l.bench.quality.results import Quality
from v2l.bench.quality.score import Scored
from v2l.bench.quality.words import arm_text
from v2l.errors import VideoError
from v2l.report import page
from v2l.report.plots import Html, escape
from v2l.video.clip import open_clip
from v2l.wording import count_of

MOST_APART = 3
"""Clips about which the adapter and the video in the prompt disagree most."""
_CLIPS, _FRAMES, _SHOWN = 6, 4, 3
"""Clips, frames of each, and questions about each that are not folded away."""
_EDGE, _QUALITY = 180, 72
"""Longest edge of a frame on the page in pixels, and of its JPEG."""
PARTLY = 0.5
"""Token F1 from which on an answer that is not exact counts as partly right."""


def gallery(quality: Quality) -> Html:
    """Clips about which the arms that saw them disagree most, then others, evenly from first to last."""
    by_question: dict[str, dict[str, Scored]] = {}
    for scored in quality.scored:
        by_question.setdefault(scored.question.id, {})[scored.arm] = scored
    return page.figures(*(_clip(quality, clip, by_question) for clip in _chosen(quality, by_question)))


def _chosen(quality: Quality, by_question: dict[str, dict[str, Scored]]) -> list[EvalClip]:
    clips = [clip for clip in quality.eval_set.clips if clip.questions[0].id in by_question]
    apart = {clip.id: sum(_apart(by_question[question.id]) for question in clip.questions) for clip in clips}
    split = sorted((clip for clip in clips if apart[clip.id] > 0), key=lambda clip: -apart[clip.id])
    chosen = split[:MOST_APART]
    rest = [clip for clip in clips if clip not in chosen]
    return chosen + evenly(rest, _CLIPS - len(chosen))


def _apart(by_arm: dict[str, Scored]) -> float:
    """Difference in token F1 of the adapter and the video in the prompt."""
    both = {"adapter", "direct"} <= by_arm.keys()
    return abs(by_arm["adapter"].token_f1 - by_arm["direct"].token_f1) if both else 0.0


def _clip(quality: Quality, clip: EvalClip, by_question: dict[str, dict[str, Scored]]) -> Html:
    questions = sorted(clip.questions, key=lambda question: -_apart(by_question[question.id]))
    arms = [arm.name for arm in quality.arms]
    blocks = [_question(question, [by_question[question.id][arm] for arm in arms]) for question in questions]
    parts = [_frames(quality, clip), *blocks[:_SHOWN]]
    if blocks[_SHOWN:]:
        more = count_of(len(blocks) - _SHOWN, "more question")
        parts.append(page.details(more, page.blocks(*blocks[_SHOWN:])))
    return page.figure(clip.name, page.blocks(*parts))


def _question(question: Question, answers: Sequence[Scored]) -> Html:
    kind = f' <span class="soft">{escape(question.kind or question.benchmark)}</span>'
    references = escape(" / ".join(question.references))
    rows = [f"<dt>reference</dt><dd>{references}</dd>"]
    for answer in answers:
        color, mark = _mark(answer)
        rows.append(f'<dt>{escape(arm_text(answer.arm))}</dt><dd class="c{color}"><b>{mark}</b> '
                    f'{escape(answer.answer.text) or "(nothing)"}</dd>')
    return Html(f'<div class="asked"><p><strong>{escape(question.prompt)}</strong>{kind}</p>'
                f'<dl>{"".join(rows)}</dl></div>')


def _mark(answer: Scored) -> tuple[int, Html]:
    """Colour of an answer, and a mark that says the same without it."""
    if answer.exact == 1:
        return 2, escape("✓")
    partly = answer.token_f1 >= PARTLY
    return (4, escape(f"≈ F1 {answer.token_f1:.2f}")) if partly else (1, escape(f"✗ F1 {answer.token_f1:.2f}"))


def _frames(quality: Quality, clip: EvalClip) -> Html:
    """A few of the frames that were looked at; a sentence where the video is no longer there."""
    try:
        opened = open_clip(clip.video, quality.respondent.sampling_of(clip))
        few = replace(opened, indices=evenly(opened.indices, _FRAMES))
        shown = [(frame.timestamp, _jpeg(Image.fromarray(frame.image))) for frame in few.frames()]
    except VideoError as error:
        return page.paragraph(f"No frames: {error}", soft=True)
    images = "".join(f'<img alt="{escape(clip.name)} at {time:.1f} s" src="{source}"/>' for time, source in shown)
    return Html(f'<div class="strip">{images}</div>')


def _jpeg(image: Image.Image) -> str:
    """A picture as a data URI."""
    image.thumbnail((_EDGE, _EDGE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
