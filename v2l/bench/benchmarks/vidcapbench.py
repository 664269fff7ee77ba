"""VidCapBench (Chen et al. 2025): questions about whole videos.

`VidCapBench-AE_QA.jsonl` and `VidCapBench-HE_QA.jsonl` (questions that a machine can judge, and that a person should),
`{"video_dir": "/SOMEBODY'S/PATH/FILE.mp4", "QA_pairs": [{"question", "answer", "sub_category", "primary_category"},
...]}`: from the official `eval.py` of https://github.com/VidCapBench/VidCapBench and the two files as another public
repository holds them; QA_pairs may be empty. The official README also writes `video` for `video_dir`. Both files are
read, a video's questions as one entry. The paper's 15.2 questions a video is near the 16.6 that its authors count in
both together, and it says no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2l.bench.benchmarks.benchmark import ONE_SENTENCE, Benchmark, Published
from v2l.bench.benchmarks.records import Annotation, Entry, read_records
from v2l.manifest import Turn


def read_vidcapbench(path: Path) -> Iterator[Entry]:
    """One entry a video of `path` or of its twin beside it, a turn for each question about it."""
    twin = path.with_name(path.name.replace("-AE_", "-HE_"))
    asked: dict[str, list[Turn]] = {}
    for each in dict.fromkeys((path, twin)):
        for record in read_records(each) if each.is_file() else ():
            video = record.text("video_dir" if "video_dir" in record.values else "video")
            asked.setdefault(video, []).extend(map(_turn, record.records("QA_pairs")))
    for video, turns in asked.items():
        yield Entry(video.replace("\\", "/").rsplit("/", 1)[-1], (video,), tuple(turns))


def _turn(record: Annotation) -> Turn:
    kind = record.optional("primary_category") or record.optional("sub_category")
    return Turn(record.text("question"), (record.text("answer"),), kind)


VIDCAPBENCH = Benchmark(
    "vidcapbench", "VidCapBench", "qa", ("VidCapBench-AE_QA.jsonl", "VidCapBench-HE_QA.jsonl"), ("test",),
    "VidCapBench-AE_QA.jsonl, VidCapBench-HE_QA.jsonl and the videos of VidCapBench", read_vidcapbench, ONE_SENTENCE,
    published={("500m", "judge"): Published(0.502, 0.451), ("2.2b", "judge"): Published(0.551, 0.475),
               ("500m", "token_f1"): Published(0.216, 0.209), ("2.2b", "token_f1"): Published(0.196, 0.218)})
