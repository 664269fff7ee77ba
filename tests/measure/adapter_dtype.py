"""What storing an adapter in fewer bits changes: `python tests/measure/adapter_dtype.py [CLIPS]`.

Held-out clips of the embedded model's world are ingested in float32, stored in each dtype, and asked one question of
every kind: how many answers differ from the float32 file's, and how far A and B are from it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from v2l.adapter import Adapter
from v2l.adapter.dtypes import from_float32
from v2l.config import Decoding
from v2l.engine import Engine
from v2l.tiny.check import questions
from v2l.tiny.clips import write_video


def stored_as(adapter: Adapter, dtype: str) -> Adapter:
    arrays = {name: from_float32(array, dtype) for name, array in adapter.float32().items()}
    return Adapter(**arrays, dtype=dtype, record=adapter.record)


def main(clips: int) -> None:
    engine, dtypes = Engine("tiny", dtype="float32", offline=True), ("float32", "float16", "bfloat16")
    differ, error, asked, size = dict.fromkeys(dtypes, 0), dict.fromkeys(dtypes, 0.0), 0, dict.fromkeys(dtypes, 0)
    with tempfile.TemporaryDirectory() as folder:
        for i, ((clip, _), turns) in enumerate(questions(clips)):
            video = Path(folder) / f"{i}.mp4"
            write_video(clip, video)
            exact = engine.ingest(video)
            asked += len(turns)
            expected: list[str] = []
            for dtype in dtypes:
                adapter = stored_as(exact, dtype)
                bound = engine.bind(adapter)
                answers = [engine.ask(bound, t.question, Decoding(max_new_tokens=64)).finish().text for t in turns]
                expected = expected or answers
                differ[dtype] += sum(a != b for a, b in zip(answers, expected, strict=True))
                one, other = adapter.float32(), exact.float32()
                far = [np.linalg.norm(one[n] - other[n]) / np.linalg.norm(other[n]) for n in ("A", "B")]
                error[dtype], size[dtype] = max(error[dtype], *far), adapter.file_size
    for dtype in dtypes:
        told = f"{differ[dtype]} of {asked} answers differ, A and B within {error[dtype]:.1e}"
        print(f"{dtype:9} {size[dtype]:8,} bytes, {told}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
