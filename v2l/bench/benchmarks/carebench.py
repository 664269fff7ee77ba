"""CaReBench (Xu et al. 2025): whole videos to be described, as a whole and in four respects.

`json/metadata.json` of the Hub's `MCG-NJU/CaReBench`, a list of `{"video": "FILE.mp4", "caption": ...,
"spatial_caption": ..., "temporal_caption": ..., "events": ..., "objects": ...}`: fields from public programs that read
it (the file itself was not seen), `events` and `objects` from a fork of the official evaluation
(https://github.com/bpiyush/CaReBench), which says that they may be missing. What type those two have was not seen: a
text and a list of texts are taken, a list joined with "; " as in the paper's example of an events reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2l.bench.benchmarks.benchmark import Benchmark, Published
from v2l.bench.benchmarks.records import Entry, read_records

CAREBENCH_PARTS = {
    "caption": "Describe the video in as much useful visual detail as possible. Include the main activity, visible "
               "people or objects, scene context, appearance, and any important visual details that help explain what "
               "is happening.",
    "events": "Describe the key visible events in chronological order. Include all important actions and changes you "
              "can observe, with enough detail to distinguish each event clearly.",
    "objects": "Describe the important visible objects and entities in the video in as much useful detail as "
               "possible. Include their appearance, location, and role in the scene when visible.",
    "spatial_caption": "Describe the spatial layout in as much useful detail as possible: where the people, objects, "
                       "and scene elements are located, how they are positioned relative to each other, and what "
                       "parts of the scene are in the foreground, background, left, right, center, above, or below.",
    "temporal_caption": "Describe the temporal progression in as much useful detail as possible. Explain what happens "
                        "over time, the order of visible actions, and how the scene or subjects change from the "
                        "beginning to the end.",
}
"""Prompts in the order of the paper's Table 3."""


def read_carebench(path: Path) -> Iterator[Entry]:
    """One entry a video, a turn for each part that it has."""
    for record in read_records(path):
        video = record.text("video")
        yield Entry(video, (video,), record.turns({part: (part, prompt) for part, prompt in CAREBENCH_PARTS.items()}))


CAREBENCH = Benchmark(
    "carebench", "CaReBench", "caption", ("metadata.json",), ("test",),
    "json/metadata.json and the unpacked videos/videos.zip of MCG-NJU/CaReBench", read_carebench,
    published={("500m", "judge"): Published(0.334, 0.278), ("2.2b", "judge"): Published(0.437, 0.369),
               ("500m", "token_f1"): Published(0.295, 0.275), ("2.2b", "token_f1"): Published(0.292, 0.279)})
