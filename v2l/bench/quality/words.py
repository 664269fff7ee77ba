"""What is found, in words: the same in tables and on pages."""

from __future__ import annotations

from v2l.bench.quality.finetuned import Learned, Tuned
from v2l.bench.quality.results import Margins, Quality, Table
from v2l.bench.quality.sweep import Cell
from v2l.score.stats import CONFIDENCE, RESAMPLES, Paired
from v2l.wording import duration_text

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


def interval_text(found: Paired) -> str:
    return f"[{signed_text(found.low)}, {signed_text(found.high)}]"


def cell_missing_text(cell: Cell) -> str:
    """Why a cell of a sweep has no figures."""
    about = f" (about {duration_text(cell.about_s)})" if cell.about_s else ""
    because = f": {cell.reason}" if cell.status == "failed" else ""
    return f"{cell.status}{about}{because}"


def arm_lines(found: Quality) -> list[list[str]]:
    """A table with a column for each arm, its heading first."""
    arms, metrics = found.arms, [name for name in METRIC_NAMES if name != "judge" or found.judge]
    return [
        ["", *(arm_text(arm.name) for arm in arms)],
        *([METRIC_NAMES[name], *(score_text(arm.scores[name]) for arm in arms)] for name in metrics),
        ["prompt tokens", *(f"{arm.prompt_tokens:,.0f}" for arm in arms)],
        ["frames", *(f"{arm.frames:.3g}" for arm in arms)],
        ["watching a clip", *(duration_text(arm.setup_s) if arm.setup_s else "-" for arm in arms)],
        ["a question", *(duration_text(arm.answer_s) for arm in arms)],
    ]


def learned_lines(tuned: Tuned) -> list[list[str]]:
    """A table with a line for each adapter that was compared, its heading first."""
    return [["", "to the adapter", "F1 taught", "F1 others", "exact taught", "exact others"]] + [
        [learned_text(arm), duration_text(arm.seconds), *map(score_text, (
            arm.taught_f1, arm.others_f1, arm.taught_exact, arm.others_exact))] for arm in tuned.arms]


def learned_text(arm: Learned) -> str:
    return arm_text(arm.name) if arm.steps is None else f"{arm.name}, {count_of(arm.steps, 'step')}"


def title_text(found: Quality, table: Table) -> str:
    """What a table is, as the paper counts them."""
    names = {"judge": f"judge's score, 0 to 1 ({found.judge})", "token_f1": "token F1, 0 to 1",
             "exact": "exact match, 0 or 1, by kind of question"}
    what = f"{names[table.metric]}, margin {table.margin:g}"
    paper = {"caption": "Table 1, captions: ", "qa": "Table 4, questions: "}.get(table.task, "")
    return paper + what if paper else what[0].upper() + what[1:]


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
             f"{count_of(found.clips, 'clip')}, {count_of(found.questions, 'question')}; up to {sampling['frames']} "
             f"frames at {sampling['fps']:g} a second and {sampling['resolution']} pixels; greedy, "
             f"{found.setting.max_new_tokens} new tokens at most"]
    if found.answers.unreadable:
        lines.append(f"{count_of(len(found.answers.unreadable), 'clip')} could not be decoded and "
                     f"{'is' if len(found.answers.unreadable) == 1 else 'are'} left out: "
                     + "; ".join(clip.reason for clip in found.answers.unreadable[:3])
                     + ("; and others" if len(found.answers.unreadable) > 3 else ""))
    if found.asked.unanswerable:
        lines.append(f"{count_of(found.asked.unanswerable, 'question')} had no reference and "
                     f"{'was' if found.asked.unanswerable == 1 else 'were'} left out")
    if "budget" in found.setting.arms:
        over = f"; {count_of(found.over_budget, 'prompt')} longer, with one frame" if found.over_budget else ""
        lines.append(f"Fewer frames: as many as fit into a prompt of {made.budget_tokens:,} tokens{over}")
    if found.ungraded:
        lines.append(f"The judge came to no grade about {found.ungraded:,} of {count_of(len(found.scored), 'answer')}; "
                     "they, and what they would be compared with, are left out of its scores")
    return lines


def rules_texts(margins: Margins, judged: bool) -> list[str]:
    """How verdicts come about."""
    share = f"{CONFIDENCE:.0%}"
    marked = f"{margins.judge:g} for the judge, {margins.token_f1:g} for token F1 and exact answers"
    return [
        f"Difference: adapter minus video in the prompt, over the same questions, with its {share} interval from "
        f"{RESAMPLES:,} resamples of whole videos, since questions about one video are not independent; two "
        "imagined videos that disagree are among those drawn from, since a few that agree prove little.",
        "equivalent: the difference is shown to lie within ± the margin "
        f"({marked if judged else format(margins.token_f1, 'g')}); better or worse: to lie above or below 0; "
        "non-inferior: above minus the margin; inferior: below it; inconclusive: more clips would tell.",
        "Every verdict is a test, Holm-corrected over the rows of its table, so it can be more careful than its row's "
        "interval looks.",
    ]


def count_of(count: int, what: str) -> str:
    """1 clip, 2 clips."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
