"""PLM-RDCap, a part of PLM-VideoBench (Cho et al. 2025): whole videos to be described, event by event.

`rdcap/plm_rdcap_test.jsonl` (also as `_val`) of the Hub's `facebook/PLM-VideoBench`. Fields from its data card: `uid`,
`video` ("sav_NUMBER.mp4"), `masklet_id`, `total_frames`, and `dense_captions`, a list of `start_frame`, `end_frame` and
`caption`. Seen on the Hub as JSON Lines was val; the other's name follows the same scheme. The card's own files are
parquet, the same records: converted as the error message says, they are read.

Every record describes what one subject does, given by boxes in `metadata/metadata_test.jsonl`, which lmms-eval draws on
the frames. The paper's instruction names no region (appendix B.1) and nothing in it speaks of drawn boxes, so none is
given here either, and a description of the whole scene is scored against one subject's. The same holds for PLM-RCap.

The whole video is shown, and the reference is the captions in the order of their frames as one text. How the paper
makes one reference of them it does not say.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2l.bench.benchmarks.benchmark import Benchmark, Published
from v2l.bench.benchmarks.records import Entry, read_records
from v2l.manifest import Turn


def read_plm_rdcap(path: Path) -> Iterator[Entry]:
    """One entry a subject, about the whole video."""
    for record in read_records(path):
        events = sorted(record.records("dense_captions"), key=lambda event: event.whole("start_frame"))
        if not events:
            raise record.fault("dense_captions is empty")
        turn = Turn("Describe what happens in this video.", (" ".join(event.text("caption") for event in events),))
        yield Entry(record.text("uid"), (record.text("video"),), (turn,))


PLM_RDCAP = Benchmark(
    "plm-rdcap", "PLM-RDCap", "caption", ("plm_rdcap_{split}.jsonl", "plm_rdcap_{split}.json"), ("test", "val"),
    "rdcap/plm_rdcap_test.jsonl of facebook/PLM-VideoBench, and SA-V's videos (videos_fps_6.tar)", read_plm_rdcap,
    published={("500m", "judge"): Published(0.308, 0.263), ("2.2b", "judge"): Published(0.326, 0.316),
               ("500m", "token_f1"): Published(0.189, 0.198), ("2.2b", "token_f1"): Published(0.198, 0.207)})
