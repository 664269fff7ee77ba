"""NExT-QA (Xiao et al. 2021), open-ended: questions about whole videos.

`test.csv`, `val.csv` or `train.csv` of https://github.com/doc-doc/NExT-OE, `dataset/nextqa`, with the columns
`video,frame_count,width,height,question,answer,qid,type`, and beside it `add_reference_answer_test.json`, a second
answer, `{VIDEO: {QID: ...}}`. The multiple-choice files of https://github.com/doc-doc/NExT-QA have the same names, `a0`
to `a4` besides, and in `answer` the number of the right one: they are taken too, asked without the choices, which the
items keep. All of these files were seen. The paper's row is "NExT-QA (open)"; of which split it does not say. Videos
are VidOR's, `FOLDER/ID.mp4`, found by their id, so that `map_vid_vidorID.json` is not needed. `type` is the kind: CW,
CH (causal), TN, TP, TC (temporal), DC, DB, DL, DO (descriptive).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2l.bench.benchmarks.benchmark import ONE_SENTENCE, Benchmark, Published
from v2l.bench.benchmarks.records import Annotation, Entry, read_records, read_table
from v2l.manifest import Turn


def read_next_qa(path: Path) -> Iterator[Entry]:
    """One entry a question."""
    more = path.with_name(f"add_reference_answer_{path.stem}.json")
    second = read_table(more) if more.is_file() else {}
    for record in read_records(path):
        video, number = record.text("video"), record.text("qid")
        choices = tuple(record.text(f"a{i}") for i in range(5)) if "a0" in record.values else ()
        if choices:  # the second answers are to the open-ended questions, which are numbered otherwise
            answers = [_right_choice(record, choices)]
        else:
            answers = [record.text("answer"), record.optional("additional_ref_answer")]
            answers += [second[video].optional(number)] if video in second else []
        turn = Turn(record.text("question"), tuple(dict.fromkeys(filter(None, answers))), record.text("type"))
        yield Entry(f"{video}_{number}", (video,), (turn,), choices=choices)


def _right_choice(record: Annotation, choices: tuple[str, ...]) -> str:
    answer = record.whole("answer")
    if answer >= len(choices):
        raise record.fault(f"answer is {answer}, and there are {len(choices)} choices")
    return choices[answer]


NEXT_QA = Benchmark(
    "next-qa", "NExT-QA", "qa", ("{split}.csv", "{split}.jsonl"), ("test", "val", "train"),
    "test.csv and add_reference_answer_test.json of github.com/doc-doc/NExT-OE, and VidOR's videos", read_next_qa,
    ONE_SENTENCE,
    published={("500m", "judge"): Published(0.501, 0.547), ("2.2b", "judge"): Published(0.597, 0.610),
               ("500m", "token_f1"): Published(0.129, 0.068), ("2.2b", "token_f1"): Published(0.140, 0.076)})
