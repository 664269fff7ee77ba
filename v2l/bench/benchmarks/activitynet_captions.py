"""ActivityNet Captions (Krishna et al. 2017): whole videos to be described.

`val_1.json` and `val_2.json`, two people's descriptions of the same videos, and `train.json`, from `captions.zip` of
https://cs.stanford.edu/people/ranjaykrishna/densevid/. An object with one entry a video, `"v_ID": {"duration": s,
"timestamps": [[start, end], ...], "sentences": [...]}`; as read by the official
https://github.com/ranjaykrishna/densevid_eval. Videos are `v_ID` or `ID`, any ending. A reference is a person's
sentences in their order as one paragraph, since the paper's instruction is about "this video"; whether the paper joins
them so, and whether it scores against one person or two, it does not say: here there are both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2l.bench.benchmarks.benchmark import Benchmark, Published
from v2l.bench.benchmarks.records import Entry, read_table
from v2l.manifest import Turn


def read_activitynet_captions(path: Path) -> Iterator[Entry]:
    """One entry a video of `path` or of its twin beside it; one reference a file that describes it."""
    twin = path.with_name(path.name.replace("val_1", "val_2"))
    tables = [read_table(each) for each in dict.fromkeys((path, twin)) if each.is_file()]
    for key in dict.fromkeys(key for table in tables for key in table):
        references = []
        for record in (table[key] for table in tables if key in table):
            sentences = record.texts("sentences")
            if not sentences:
                raise record.fault("there are no sentences")
            references.append(" ".join(sentences))
        name = key.removeprefix("v_")
        yield Entry(name, (f"v_{name}", name), (Turn("Describe what is happening in this video.", tuple(references)),))


ACTIVITYNET_CAPTIONS = Benchmark(
    "activitynet-captions", "ActivityNet Captions", "caption", ("{split}_1.json", "{split}.json"), ("val", "train"),
    "val_1.json and val_2.json of captions.zip (cs.stanford.edu/people/ranjaykrishna/densevid), and ActivityNet's "
    "videos", read_activitynet_captions,
    published={("500m", "judge"): Published(0.428, 0.356), ("2.2b", "judge"): Published(0.576, 0.492),
               ("500m", "token_f1"): Published(0.236, 0.243), ("2.2b", "token_f1"): Published(0.263, 0.256)})
