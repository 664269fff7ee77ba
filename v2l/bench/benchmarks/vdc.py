"""VDC, Video Detailed Captions (AuroraCap, Chai et al. 2025): whole videos to be described in five styles.

`VDC_1k.jsonl` of the Hub's `wchai/Video-Detailed-Caption`, `{"video_id": ..., "video_name": "FILE.mp4",
"short_caption": ..., "detailed_caption": ..., "camera_caption": ..., "background_caption": ..., "main_object_caption":
...}`: file name and place from the Hub's file lists, fields from public programs that read it (the file itself was not
seen). The official evaluation (https://github.com/rese1f/aurora, `post_eval/process_vdc_result.py`) reads
`VDC_1k_captions.jsonl` with the captions in an object `captions` under the same names; both are taken. `VDCScore_qa`
(questions to a caption) is not used, as the paper scores captions as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2l.bench.benchmarks.benchmark import Benchmark, Published
from v2l.bench.benchmarks.records import Annotation, Entry, read_records

VDC_STYLES = {
    "short": "Summarize this video in one detailed sentence.",
    "detailed": "Describe this video in detail.",
    "camera": "Describe the camera work, framing, and viewpoint in this video.",
    "background": "Describe the background, setting, and environment in this video.",
    "main_object": "Describe the main subject and its actions in this video.",
}
"""Prompts in the order of the paper's Table 2."""


def read_vdc(path: Path) -> Iterator[Entry]:
    """One entry a video, a turn for each style that it has."""
    for record in read_records(path):
        nested = record.values.get("captions")
        captions = Annotation(nested, f"{record.where}, captions") if isinstance(nested, dict) else record
        key = record.text("video_id")
        yield Entry(key, tuple(filter(None, (record.optional("video_name"), key))),
                    captions.turns({style: (f"{style}_caption", prompt) for style, prompt in VDC_STYLES.items()}))


VDC = Benchmark(
    "vdc", "VDC", "caption", ("VDC_1k.jsonl", "VDC_1k_captions.jsonl", "VDC_1k.json"), ("test",),
    "VDC_1k.jsonl and the videos of wchai/Video-Detailed-Caption", read_vdc,
    published={("500m", "judge"): Published(0.515, 0.406), ("2.2b", "judge"): Published(0.539, 0.511),
               ("500m", "token_f1"): Published(0.315, 0.288), ("2.2b", "token_f1"): Published(0.297, 0.304)})
