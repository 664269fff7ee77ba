"""The public benchmarks by name, in the order of the paper's rows."""

from __future__ import annotations

import re

from v2l.bench.benchmarks.activitynet_captions import ACTIVITYNET_CAPTIONS
from v2l.bench.benchmarks.activitynet_qa import ACTIVITYNET_QA
from v2l.bench.benchmarks.benchmark import Benchmark
from v2l.bench.benchmarks.carebench import CAREBENCH
from v2l.bench.benchmarks.next_qa import NEXT_QA
from v2l.bench.benchmarks.plm_rcap import PLM_RCAP
from v2l.bench.benchmarks.plm_rdcap import PLM_RDCAP
from v2l.bench.benchmarks.plm_sgqa import PLM_SGQA
from v2l.bench.benchmarks.vdc import VDC
from v2l.bench.benchmarks.vidcapbench import VIDCAPBENCH
from v2l.errors import UsageError
from v2l.wording import nearest

PUBLIC_BENCHMARKS = {benchmark.name: benchmark for benchmark in (
    ACTIVITYNET_CAPTIONS, PLM_RDCAP, PLM_RCAP, VDC, CAREBENCH, NEXT_QA, ACTIVITYNET_QA, PLM_SGQA, VIDCAPBENCH)}


def find_benchmark(name: str) -> Benchmark:
    """A benchmark by its name or title, however its letters and dashes are written. Raises UsageError."""
    plain = re.compile(r"[\W_]+")
    for benchmark in PUBLIC_BENCHMARKS.values():
        if plain.sub("", name).lower() in (plain.sub("", each).lower() for each in (benchmark.name, benchmark.title)):
            return benchmark
    raise UsageError(f"There is no benchmark {name!r}{nearest(name, PUBLIC_BENCHMARKS)}; there are "
                     f"{', '.join(PUBLIC_BENCHMARKS)}.")
