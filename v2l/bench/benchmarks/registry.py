"""The nine benchmarks in the order of the paper's rows: what each is called, what its files are, who reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from v2l.bench.benchmarks import captions, plm, questions
from v2l.bench.benchmarks.records import Entry
from v2l.errors import UsageError

Reader = Callable[[Path], Iterator[Entry]]


@dataclass(frozen=True)
class Benchmark:
    """One row of the paper's Table 1 (captions) or 4 (questions), and what its files are called."""

    name: str
    title: str
    """As the paper prints it."""
    kind: Literal["caption", "qa"]
    files: tuple[str, ...]
    """Names of its annotation file, the likeliest first, `{split}` standing for the split."""
    splits: tuple[str, ...]
    """That have public references, the one loaded first."""
    about: str
    """What to get, and from where."""
    read: Reader
    read_regions: Reader | None = None
    """As `read`, with the region that is meant in words; None where there are no regions."""


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (  # in the order of the paper's rows
        Benchmark("activitynet-captions", "ActivityNet Captions", "caption", ("{split}_1.json", "{split}.json"),
                  ("val", "train"), "val_1.json and val_2.json of captions.zip (cs.stanford.edu/people/ranjaykrishna/"
                  "densevid), and ActivityNet's videos", captions.activitynet_captions),
        Benchmark("plm-rdcap", "PLM-RDCap", "caption", ("plm_rdcap_{split}.jsonl", "plm_rdcap_{split}.json"),
                  ("test", "val"), "rdcap/plm_rdcap_test.jsonl of facebook/PLM-VideoBench, and SA-V's videos "
                  "(videos_fps_6.tar)", partial(plm.rdcap, regions=False), partial(plm.rdcap, regions=True)),
        Benchmark("plm-rcap", "PLM-RCap", "caption", ("plm_rcap_{split}.jsonl", "plm_rcap_{split}.json"),
                  ("test", "val"), "rcap/plm_rcap_test.jsonl of facebook/PLM-VideoBench, and SA-V's videos "
                  "(videos_fps_6.tar)", partial(plm.rcap, regions=False), partial(plm.rcap, regions=True)),
        Benchmark("vdc", "VDC", "caption", ("VDC_1k.jsonl", "VDC_1k_captions.jsonl", "VDC_1k.json"), ("test",),
                  "VDC_1k.jsonl and the videos of wchai/Video-Detailed-Caption", captions.vdc),
        Benchmark("carebench", "CaReBench", "caption", ("metadata.json",), ("test",),
                  "json/metadata.json and the unpacked videos/videos.zip of MCG-NJU/CaReBench", captions.carebench),
        Benchmark("next-qa", "NExT-QA", "qa", ("{split}.csv", "{split}.jsonl"), ("test", "val", "train"),
                  "test.csv and add_reference_answer_test.json of github.com/doc-doc/NExT-OE, and VidOR's videos",
                  questions.next_qa),
        Benchmark("activitynet-qa", "ActivityNet-QA", "qa", ("{split}_q.json",), ("test", "val", "train"),
                  "test_q.json and test_a.json of github.com/MILVLG/activitynet-qa, and ActivityNet's videos",
                  questions.activitynet_qa),
        Benchmark("plm-sgqa", "PLM-SGQA", "qa", ("plm_sgqa_{split}.jsonl", "plm_sgqa_{split}.json"), ("test",),
                  "sgqa/plm_sgqa_test.jsonl and videos/sgqa of facebook/PLM-VideoBench", plm.sgqa),
        Benchmark("vidcapbench", "VidCapBench", "qa", ("VidCapBench-AE_QA.jsonl", "VidCapBench-HE_QA.jsonl"),
                  ("test",), "VidCapBench-AE_QA.jsonl, VidCapBench-HE_QA.jsonl and the videos of VidCapBench",
                  questions.vidcapbench),
    )
}


def find_benchmark(name: str) -> Benchmark:
    """A benchmark by its name or title, however its letters and dashes are written. Raises UsageError."""
    plain = re.compile(r"[\W_]+")
    for benchmark in BENCHMARKS.values():
        if plain.sub("", name).lower() in (plain.sub("", each).lower() for each in (benchmark.name, benchmark.title)):
            return benchmark
    raise UsageError(f"There is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}.")
