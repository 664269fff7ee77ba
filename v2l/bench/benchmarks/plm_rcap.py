"""PLM-RCap, a part of PLM-VideoBench (Cho et al. 2025): short clips to be described.

`rcap/plm_rcap_test.jsonl` (also as `_val`) of the Hub's `facebook/PLM-VideoBench`. Fields from its data card: `uid`,
`video` ("sav_NUMBER.mp4"), `masklet_id`, `total_frames`, `caption`, `start_frame`, `end_frame`. Its name as JSON Lines
follows rdcap's; parquet is the same records (see `plm_rdcap`, also about regions).

Frames are counted at 6 a second whatever the rate of the video file, which comes at 6 or 24 (lmms-eval,
`tasks/plm_videobench/eval_utils.py`); so a frame's time is its number / 6. `end_frame` is taken as the last one that
belongs (a card's segments read [0, 12], [13, 16]; no source says so in words). The clip is cut to its frames, as the
paper's "in this video clip" says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2l.bench.benchmarks.benchmark import Benchmark, Published
from v2l.bench.benchmarks.records import Entry, read_records
from v2l.manifest import Turn

FRAMES_PER_SECOND = 6
"""Frames a second by which the annotations count."""


def read_plm_rcap(path: Path) -> Iterator[Entry]:
    """One entry an event, its clip cut to it."""
    for record in read_records(path):
        first, last = record.whole("start_frame"), record.whole("end_frame")
        if last < first:
            raise record.fault(f"end_frame ({last}) comes before start_frame ({first})")
        turn = Turn("Describe what happens in this video clip.", (record.text("caption"),))
        yield Entry(record.text("uid"), (record.text("video"),), (turn,),
                    first / FRAMES_PER_SECOND, (last + 1) / FRAMES_PER_SECOND)


PLM_RCAP = Benchmark(
    "plm-rcap", "PLM-RCap", "caption", ("plm_rcap_{split}.jsonl", "plm_rcap_{split}.json"), ("test", "val"),
    "rcap/plm_rcap_test.jsonl of facebook/PLM-VideoBench, and SA-V's videos (videos_fps_6.tar)", read_plm_rcap,
    published={("500m", "judge"): Published(0.252, 0.242), ("2.2b", "judge"): Published(0.270, 0.287),
               ("500m", "token_f1"): Published(0.177, 0.203), ("2.2b", "token_f1"): Published(0.199, 0.204)})
