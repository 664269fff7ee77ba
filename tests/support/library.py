"""A library for the server and its page to show: every kind of adapter that people have lying around."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.videos import write
from v2l import save
from v2l.door import Engine

EXAMPLES = Path(__file__).parents[2] / "examples"


def fill_library(engine: Engine, folder: Path) -> None:
    """Puts into a folder, each with its adapter, a lecture in segments, a clip with an odd name, a film no browser
    plays, one that is lost, and a damaged file."""
    (folder / "talks").mkdir()
    lecture = Path(shutil.copy(EXAMPLES / "long.mp4", folder / "talks/lecture.mp4"))
    save(engine.ingest(lecture, segment="12s"), folder / "talks/lecture.v2lora")
    clip = Path(shutil.copy(EXAMPLES / "two-shapes.mp4", folder / "50% off #1?.mp4"))
    save(engine.ingest(clip), clip.with_suffix(".v2lora"))
    old = write(folder / "old.avi", "mpeg4", frames=60)
    save(engine.ingest(old), folder / "old.v2lora")
    lost = Path(shutil.copy(EXAMPLES / "one-shape.mp4", folder / "lost.mp4"))
    save(engine.ingest(lost), folder / "lost.v2lora")
    lost.unlink()
    (folder / "broken.v2lora").write_bytes((folder / "lost.v2lora").read_bytes()[:-50])
