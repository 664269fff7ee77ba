"""NExT-QA, ActivityNet-QA and VidCapBench: questions about whole videos.

**NExT-QA** (Xiao et al. 2021), open-ended: `test.csv`, `val.csv` or `train.csv` of
https://github.com/doc-doc/NExT-OE, `dataset/nextqa`, with the columns `video,frame_count,width,height,question,answer,
qid,type`, and beside it `add_reference_answer_test.json`, a second answer, `{VIDEO: {QID: ...}}`. The multiple-choice
files of https://github.com/doc-doc/NExT-QA have the same names, `a0` to `a4` besides, and in `answer` the number of the
right one: they are taken too, asked without the choices, which the items keep. All of these files were seen. The
paper's row is "NExT-QA (open)"; of which split it does not say. Videos are VidOR's, `FOLDER/ID.mp4`, found by their id,
so that `map_vid_vidorID.json` is not needed. `type` is the kind: CW, CH (causal), TN, TP, TC (temporal), DC, DB, DL,
DO (descriptive).

**ActivityNet-QA** (Yu et al. 2019): `test_q.json`, a list of `{"video_name", "question", "question_id"}`, and
`test_a.json`, a list of `{"answer", "type", "question_id"}`, also for val and train, of
https://github.com/MILVLG/activitynet-qa, `dataset`. Both were seen. Videos are `v_NAME` or `NAME`.

**VidCapBench** (Chen et al. 2025): `VidCapBench-AE_QA.jsonl` and `VidCapBench-HE_QA.jsonl` (questions that a machine
can judge, and that a person should), `{"video_dir": "/SOMEBODY'S/PATH/FILE.mp4", "QA_pairs": [{"question", "answer",
"sub_category", "primary_category"}, ...]}`: from the official `eval.py` of
https://github.com/VidCapBench/VidCapBench and the two files as another public repository holds them; QA_pairs may be
empty. The official README also writes `video` for `video_dir`. Both files are read, a video's questions as one entry.
The paper's 15.2 questions a video is near the 16.6 that its authors count in both together, and it says no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2l.bench.benchmarks.records import Entry, Record, read_records, read_table
from v2l.errors import UsageError
from v2l.manifest import Turn

ACTIVITYNET_TYPES = ("motion", "spatial relationship", "temporal relationship", "yes/no", "color", "object",
                     "location", "number", "other")
"""By their number; dataset/README.md of the official repository."""


def next_qa(path: Path) -> Iterator[Entry]:
    """One entry a question."""
    more = path.with_name(f"add_reference_answer_{path.stem}.json")
    second = read_table(more) if more.is_file() else {}
    for record in read_records(path):
        video, number = record.text("video"), record.text("qid")
        choices = tuple(record.text(f"a{i}") for i in range(5)) if "a0" in record.values else ()
        if choices:  # the second answers are to the open-ended questions, which are numbered otherwise
            answers = [_chosen(record, choices)]
        else:
            answers = [record.text("answer"), record.optional("additional_ref_answer")]
            answers += [second[video].optional(number)] if video in second else []
        turn = Turn(record.text("question"), tuple(dict.fromkeys(filter(None, answers))), record.text("type"))
        yield Entry(f"{video}_{number}", (video,), (turn,), choices=choices)


def _chosen(record: Record, choices: tuple[str, ...]) -> str:
    answer = record.whole("answer")
    if answer >= len(choices):
        raise record.fault(f"answer is {answer}, and there are {len(choices)} choices")
    return choices[answer]


def activitynet_qa(path: Path) -> Iterator[Entry]:
    """One entry a question of `*_q.json`, whose answers are in `*_a.json` beside it."""
    answered = path.with_name(path.name.replace("_q", "_a"))
    if answered == path or not answered.is_file():
        raise UsageError(f"{path} needs the answers beside it, in {answered.name if answered != path else '*_a.json'}.")
    answers = {record.text("question_id"): record for record in read_records(answered)}
    for record in read_records(path):
        key, video = record.text("question_id"), record.text("video_name")
        if key not in answers:
            raise record.fault(f"{answered.name} has no answer to {key}")
        kind = answers[key].whole("type")
        if kind >= len(ACTIVITYNET_TYPES):
            raise answers[key].fault(f"type is {kind}, and the last one is {len(ACTIVITYNET_TYPES) - 1}")
        turn = Turn(record.text("question"), (answers[key].text("answer"),), ACTIVITYNET_TYPES[kind])
        yield Entry(key, (f"v_{video}", video), (turn,))


def vidcapbench(path: Path) -> Iterator[Entry]:
    """One entry a video of `path` or of its twin beside it, a turn for each question about it."""
    twin = path.with_name(path.name.replace("-AE_", "-HE_"))
    asked: dict[str, list[Turn]] = {}
    for each in dict.fromkeys((path, twin)):
        for record in read_records(each) if each.is_file() else ():
            video = record.text("video_dir" if "video_dir" in record.values else "video")
            asked.setdefault(video, []).extend(map(_pair, record.records("QA_pairs")))
    for video, turns in asked.items():
        yield Entry(video.replace("\\", "/").rsplit("/", 1)[-1], (video,), tuple(turns))


def _pair(record: Record) -> Turn:
    kind = record.optional("primary_category") or record.optional("sub_category")
    return Turn(record.text("question"), (record.text("answer"),), kind)
