"""Results in words: the same in text and on pages."""

from __future__ import annotations

from v2l.bench.quality.finetuned import TunedArm
from v2l.bench.quality.results import ComparisonTable, Margins, Quality
from v2l.bench.quality.sweep import QualityCell
from v2l.score.stats import CONFIDENCE, RESAMPLES, Paired
from v2l.wording import count_of, duration_text

ARM_NAMES = {"adapter": "adapter", "direct": "direct", "budget": "fewer frames", "none": "no video"}
METRIC_NAMES = {"judge": "judge", "token_f1": "token F1", "exact": "exact", "rouge_l": "ROUGE-L",
                "degenerate": "degenerate"}
INTERVAL = f"{CONFIDENCE:.0%} CI"
"""Heading of confidence intervals."""


LEGEND = (
    ("arm", "a way of answering the same questions: adapter (from the adapter alone), direct (with the video in the "
            "prompt), fewer frames (with as many as fit into a short prompt), no video (from the question alone)"),
    ("base", "the model as it is, with the video in its prompt: what the adapter is compared with"),
    ("judge", "a language model that grades every answer against its references, from 0 to 1"),
    ("degenerate", "the share of answers that repeat themselves without end or say nothing; less is better"),
)
"""Words of the tables, and what they mean."""


def arm_text(arm: str) -> str:
    """Name of an arm as tables show it."""
    return ARM_NAMES.get(arm, arm)


def score_text(value: float | None) -> str:
    """0.984; a dash for none."""
    return "-" if value is None else f"{value:.3f}"


def signed_text(value: float) -> str:
    """+0.012 or -0.001; 0 has no sign."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text


def interval_text(paired: Paired) -> str:
    """[-0.012, +0.034]."""
    return f"[{signed_text(paired.low)}, {signed_text(paired.high)}]"


def cell_missing_text(cell: QualityCell) -> str:
    """Why a cell of a sweep has no figures."""
    about = f" (about {duration_text(cell.about_s)})" if cell.about_s else ""
    because = f": {cell.reason}" if cell.status == "failed" else ""
    return f"{cell.status}{about}{because}"


def tuned_arm_text(arm: TunedArm) -> str:
    """fine-tuned, 40 steps."""
    return arm_text(arm.name) if arm.steps is None else f"{arm.name}, {count_of(arm.steps, 'step')}"


def title_text(quality: Quality, table: ComparisonTable) -> str:
    """Title of a table, with the number that the paper gives such a one."""
    names = {"judge": f"judge's score, 0 to 1 ({quality.judge})", "token_f1": "token F1, 0 to 1",
             "exact": "exact match, 0 or 1, by kind of question"}
    what = f"{names[table.metric]}, margin {table.margin:g}"
    paper = {"caption": "Table 1, captions: ", "qa": "Table 4, questions: "}.get(table.task, "")
    return paper + what if paper else what[0].upper() + what[1:]


def summary_text(table: ComparisonTable) -> str:
    """Counts of the verdicts: 8 equivalent, 1 inconclusive."""
    counts: dict[str, int] = {}
    for row in table.rows:
        counts[row.verdict] = counts.get(row.verdict, 0) + 1
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items(), key=lambda item: -item[1]))


def about_texts(quality: Quality) -> list[str]:
    """Lines on the model, the clips and questions, and what was left out."""
    respondent, sampling = quality.respondent, quality.respondent.sampling
    lines = [f"{respondent.model} with {respondent.hypernetwork}, {respondent.dtype} on {respondent.device}",
             f"{count_of(quality.clips, 'clip')}, {count_of(quality.questions, 'question')}; up to "
             f"{sampling['frames']} frames at {sampling['fps']:g} a second and {sampling['resolution']} pixels; "
             f"greedy, {quality.setting.max_new_tokens} new tokens at most"]
    if unreadable := quality.answers.unreadable:
        reasons = [clip.reason for clip in unreadable[:3]] + (["and others"] if unreadable[3:] else [])
        lines.append(f"{count_of(len(unreadable), 'clip')} could not be decoded and "
                     f"{'is' if len(unreadable) == 1 else 'are'} left out: {'; '.join(reasons)}")
    if quality.eval_set.unanswerable:
        lines.append(f"{count_of(quality.eval_set.unanswerable, 'question')} had no reference and "
                     f"{'was' if quality.eval_set.unanswerable == 1 else 'were'} left out")
    if "budget" in quality.setting.arms:
        over = f"; {count_of(quality.over_budget, 'prompt')} longer, with one frame" if quality.over_budget else ""
        lines.append(f"Fewer frames: as many as fit into a prompt of {respondent.budget_tokens:,} tokens{over}")
    if quality.ungraded:
        lines.append(f"The judge came to no grade about {quality.ungraded:,} of "
                     f"{count_of(len(quality.scored), 'answer')}; they, and what they would be compared with, are left "
                     "out of its scores")
    return lines


def rules_texts(margins: Margins, judged: bool) -> list[str]:
    """Lines on how verdicts come about."""
    marked = f"{margins.judge:g} for the judge, {margins.token_f1:g} for token F1 and exact answers"
    return [
        "Difference (diff.): adapter minus video in the prompt, over the same questions, with its "
        f"{CONFIDENCE:.0%} interval from {RESAMPLES:,} resamples of whole videos, since questions about one video are "
        "not independent; two imagined videos that disagree are among those drawn from, since a few that agree prove "
        "little.",
        "equivalent: the difference is shown to lie within ± the margin "
        f"({marked if judged else format(margins.token_f1, 'g')}); better or worse: to lie above or below 0; "
        "non-inferior: above minus the margin; inferior: below it; inconclusive: more clips would tell.",
        "Every verdict is a test, Holm-corrected over the rows of its table, so it can be more careful than its row's "
        "interval looks.",
    ]
