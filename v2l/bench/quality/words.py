"""What is found, in words: the same in tables and on pages."""

from __future__ import annotations

from v2l.bench.quality.results import Margins, Quality, Row, Table
from v2l.bench.words import lasting_text
from v2l.config import Comparing
from v2l.times import time_text

ARM_NAMES = {"adapter": "adapter", "direct": "direct", "budget": "fewer frames", "none": "no video"}
METRIC_NAMES = {"judge": "judge", "token_f1": "token F1", "exact": "exact", "rouge_l": "ROUGE-L",
                "degenerate": "degenerate"}


def arm_text(arm: str) -> str:
    return ARM_NAMES.get(arm, arm)


def score_text(value: float | None) -> str:
    """0.984; a dash for none."""
    return "-" if value is None else f"{value:.3f}"


def signed_text(value: float) -> str:
    """+0.012 or -0.001; 0 has no sign."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text


def interval_text(row: Row) -> str:
    return f"[{signed_text(row.found.low)}, {signed_text(row.found.high)}]"


def title_text(found: Quality, table: Table) -> str:
    """What a table is, as the paper counts them."""
    names = {"judge": f"Table 1: judge's score, 0 to 1 ({found.judge})", "token_f1": "Table 4: token F1, 0 to 1",
             "exact": "Right to the last character, by kind of question"}
    return f"{names[table.metric]}, margin {table.margin:g}"


def summary_text(table: Table) -> str:
    """How many rows came to which verdict: 8 equivalent, 1 inconclusive."""
    counts: dict[str, int] = {}
    for row in table.rows:
        counts[row.verdict] = counts.get(row.verdict, 0) + 1
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items(), key=lambda item: -item[1]))


def about_texts(found: Quality) -> list[str]:
    """Who answered what."""
    made, sampling = found.made, found.made.sampling
    lines = [f"{made.model} with {made.hypernetwork}, {made.dtype} on {made.device}",
             f"{_count(found.clips, 'clip')}, {_count(found.questions, 'question')}; up to {sampling['frames']} frames "
             f"at {sampling['fps']:g} a second and {sampling['resolution']} pixels; greedy, "
             f"{found.setting.max_new_tokens} new tokens at most"]
    if found.answers.unreadable:
        lines.append(f"{_count(len(found.answers.unreadable), 'clip')} could not be decoded and "
                     f"{'is' if len(found.answers.unreadable) == 1 else 'are'} left out: "
                     + "; ".join(clip.reason for clip in found.answers.unreadable[:3])
                     + ("; and others" if len(found.answers.unreadable) > 3 else ""))
    if found.asked.unanswerable:
        lines.append(f"{_count(found.asked.unanswerable, 'question')} had no reference and "
                     f"{'was' if found.asked.unanswerable == 1 else 'were'} left out")
    if "budget" in found.setting.arms:
        over = f"; {_count(found.over_budget, 'prompt')} longer, with one frame" if found.over_budget else ""
        lines.append(f"fewer frames: as many as fit into a prompt of {made.budget_tokens:,} tokens{over}")
    for table in found.tables.values():
        for row in table.rows:
            if row.left_out:
                lines.append(f"{row.title}: of {_count(row.left_out, 'question')} the judge's reply could not be read")
    return lines


def rules_texts(margins: Margins, judged: bool) -> list[str]:
    """How verdicts come about."""
    share = f"{Comparing.confidence:.0%}"
    marked = f"{margins.judge:g} for the judge, {margins.token_f1:g} for token F1 and exact answers"
    return [
        f"Difference: adapter minus video in the prompt, over the same questions, with its {share} interval from "
        f"{Comparing.resamples:,} resamples of whole clips, since questions about one clip are not independent.",
        "equivalent: the difference is shown to lie within ± the margin "
        f"({marked if judged else format(margins.token_f1, 'g')}); better or worse: to lie above or below 0; "
        "non-inferior: above minus the margin; inferior: below it; inconclusive: more clips would tell.",
        "Every verdict is a test, Holm-corrected over the rows of its table, so it can be more careful than its row's "
        "interval looks.",
    ]


def cost_text(setup_s: float, answer_s: float) -> str:
    return f"{lasting_text(setup_s)} + {lasting_text(answer_s)}"


def when_text(start: float | None, end: float | None) -> str:
    """A clip's window in its video; nothing where it is the whole."""
    if start is None and end is None:
        return ""
    return f"{time_text(start or 0)}–{'' if end is None else time_text(end)}"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
