"""ActivityNet-QA (Yu et al. 2019): questions about whole videos.

`test_q.json`, a list of `{"video_name", "question", "question_id"}`, and `test_a.json`, a list of `{"answer", "type",
"question_id"}`, also for val and train, of https://github.com/MILVLG/activitynet-qa, `dataset`. Both were seen. Videos
are `v_NAME` or `NAME`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2l.bench.benchmarks.benchmark import ONE_SENTENCE, Benchmark, Published
from v2l.bench.benchmarks.records import Entry, read_records
from v2l.errors import UsageError
from v2l.manifest import Turn

_KINDS = ("motion", "spatial relationship", "temporal relationship", "yes/no", "color", "object", "location", "number",
         "other")
"""Kinds of questions by their number; dataset/README.md of the official repository."""


def read_activitynet_qa(path: Path) -> Iterator[Entry]:
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
        if kind >= len(_KINDS):
            raise answers[key].fault(f"type is {kind}, and the last one is {len(_KINDS) - 1}")
        turn = Turn(record.text("question"), (answers[key].text("answer"),), _KINDS[kind])
        yield Entry(key, (f"v_{video}", video), (turn,))


ACTIVITYNET_QA = Benchmark(
    "activitynet-qa", "ActivityNet-QA", "qa", ("{split}_q.json",), ("test", "val", "train"),
    "test_q.json and test_a.json of github.com/MILVLG/activitynet-qa, and ActivityNet's videos", read_activitynet_qa,
    ONE_SENTENCE,
    published={("500m", "judge"): Published(0.524, 0.541), ("2.2b", "judge"): Published(0.627, 0.531),
               ("500m", "token_f1"): Published(0.197, 0.023), ("2.2b", "token_f1"): Published(0.149, 0.013)})
