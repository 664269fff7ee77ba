"""PLM-SGQA, a part of PLM-VideoBench (Cho et al. 2025): questions about whole videos, without regions.

`sgqa/plm_sgqa_test.jsonl` of the Hub's `facebook/PLM-VideoBench`. Fields from its data card: `uid`, `video`,
`question`, `answer`, `domain`. Its name as JSON Lines follows rdcap's; parquet is the same records (see `plm_rdcap`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2l.bench.benchmarks.benchmark import ONE_SENTENCE, Benchmark, Published
from v2l.bench.benchmarks.records import Entry, read_records
from v2l.manifest import Turn


def read_plm_sgqa(path: Path) -> Iterator[Entry]:
    """One entry a question."""
    for record in read_records(path):
        yield Entry(record.text("uid"), (record.text("video"),),
                    (Turn(record.text("question"), (record.text("answer"),), record.optional("domain")),))


PLM_SGQA = Benchmark(
    "plm-sgqa", "PLM-SGQA", "qa", ("plm_sgqa_{split}.jsonl", "plm_sgqa_{split}.json"), ("test",),
    "sgqa/plm_sgqa_test.jsonl and videos/sgqa of facebook/PLM-VideoBench", read_plm_sgqa, ONE_SENTENCE,
    published={("500m", "judge"): Published(0.390, 0.317), ("2.2b", "judge"): Published(0.493, 0.295),
               ("500m", "token_f1"): Published(0.081, 0.225), ("2.2b", "token_f1"): Published(0.092, 0.203)})
