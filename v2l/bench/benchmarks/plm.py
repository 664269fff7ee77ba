"""PLM-RDCap, PLM-RCap and PLM-SGQA: three parts of PLM-VideoBench (Cho et al. 2025).

`rdcap/plm_rdcap_test.jsonl`, `rcap/plm_rcap_test.jsonl` and `sgqa/plm_sgqa_test.jsonl` of the Hub's
`facebook/PLM-VideoBench` (the first two also as `_val`). Fields from its data card:

- rcap: `uid`, `video` ("sav_NUMBER.mp4"), `masklet_id`, `total_frames`, `caption`, `start_frame`, `end_frame`;
- rdcap: `uid`, `video`, `masklet_id`, `total_frames`, and `dense_captions`, a list of `start_frame`, `end_frame` and
  `caption`;
- sgqa: `uid`, `video`, `question`, `answer`, `domain`; no regions, the question is about the whole video.

Seen on the Hub as JSON Lines were rdcap's val, rtloc's and fgqa's test; the others' names follow the same scheme. The
card's own files are parquet, the same records: converted as the error message says, they are read.

Frames are counted at 6 a second whatever the rate of the video file, which comes at 6 or 24 (lmms-eval,
`tasks/plm_videobench/eval_utils.py`); so a frame's time is its number / 6. `end_frame` is taken as the last one that
belongs (a card's segments read [0, 12], [13, 16]; no source says so in words).

Regions: rcap and rdcap describe what one subject does, given by boxes in `metadata/metadata_test.jsonl`: `{"video":
..., "masklet_id": ..., "bbox": {FRAME: [x1, y1, x2, y2], ...}}`, pixels. lmms-eval draws them on the frames. The
paper's instructions name no region (appendix B.1) and nothing in it speaks of drawn boxes, so none is given here
either, and a description of the whole scene is scored against one subject's; `regions` puts the first box in words.

For rcap the clip is cut to its frames, as the paper's "in this video clip" says; for rdcap the whole video is shown,
and the reference is the captions in the order of their frames as one text. How the paper makes one reference of them
it does not say.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2l.bench.benchmarks.records import Entry, Record, read_records
from v2l.errors import UsageError
from v2l.manifest import Turn

FRAMES_PER_SECOND = 6
"""Of the annotations."""

Boxes = dict[tuple[str, str], Record]


def rdcap(path: Path, regions: bool) -> Iterator[Entry]:
    """One entry a subject, about the whole video."""
    boxes = _boxes(path) if regions else {}
    for record in read_records(path):
        told = sorted(record.records("dense_captions"), key=lambda each: each.whole("start_frame"))
        if not told:
            raise record.fault("dense_captions is empty")
        region = _region(record, boxes, range(record.whole("total_frames"))) if regions else ""
        reference = " ".join(each.text("caption") for each in told)
        yield Entry(record.text("uid"), (record.text("video"),),
                    (Turn(f"Describe what happens in this video.{region}", (reference,)),))


def rcap(path: Path, regions: bool) -> Iterator[Entry]:
    """One entry an event, its clip cut to it."""
    boxes = _boxes(path) if regions else {}
    for record in read_records(path):
        first, last = record.whole("start_frame"), record.whole("end_frame")
        if last < first:
            raise record.fault(f"end_frame ({last}) comes before start_frame ({first})")
        region = _region(record, boxes, range(first, last + 1)) if regions else ""
        yield Entry(record.text("uid"), (record.text("video"),),
                    (Turn(f"Describe what happens in this video clip.{region}", (record.text("caption"),)),),
                    first / FRAMES_PER_SECOND, (last + 1) / FRAMES_PER_SECOND)


def sgqa(path: Path) -> Iterator[Entry]:
    """One entry a question."""
    for record in read_records(path):
        yield Entry(record.text("uid"), (record.text("video"),),
                    (Turn(record.text("question"), (record.text("answer"),), record.optional("domain")),))


def _boxes(path: Path) -> Boxes:
    """What the metadata beside an annotation file says, by video and masklet."""
    name = f"metadata_{path.stem.rsplit('_', 1)[-1]}.jsonl"
    places = (path.parent / name, path.parent / "metadata" / name, path.parent.parent / "metadata" / name)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UsageError(f"{path} has no {name} in its folder, nor in a folder metadata beside it, and the regions "
                         "stand in that; get it, or leave the regions out.")
    return {(record.text("video"), record.text("masklet_id")): record for record in read_records(found)}


def _region(record: Record, boxes: Boxes, shown: range) -> str:
    """The first box of a record's subject in the frames shown, as a sentence; nothing where it is in none."""
    key = record.text("video"), record.text("masklet_id")
    if key not in boxes:
        raise record.fault(f"the metadata has no boxes of masklet {key[1]} of {key[0]}")
    of_frames = boxes[key].values.get("bbox")
    if not isinstance(of_frames, dict):
        raise boxes[key].fault("bbox is no object of frames")
    frames = sorted((int(frame), box) for frame, box in of_frames.items() if frame.isdecimal() and box)
    box = next((box for frame, box in frames if frame in shown), None)
    if box is None:
        return ""
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(edge, (int, float)) for edge in box)):
        raise boxes[key].fault("a box in bbox is not four numbers")
    left, top, right, bottom = (f"{edge:.0f}" for edge in box)
    return f" Only the subject in the box from ({left}, {top}) to ({right}, {bottom}), in pixels, is meant."
