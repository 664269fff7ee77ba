"""ActivityNet Captions, VDC and CaReBench: whole videos to be described.

The instructions are the paper's, word for word (Frames2LoRA, arXiv 2606.04351, appendix B.1).

**ActivityNet Captions** (Krishna et al. 2017): `val_1.json` and `val_2.json`, two people's descriptions of the same
videos, and `train.json`, from `captions.zip` of https://cs.stanford.edu/people/ranjaykrishna/densevid/. An object with
one entry a video, `"v_ID": {"duration": s, "timestamps": [[start, end], ...], "sentences": [...]}`; as read by the
official https://github.com/ranjaykrishna/densevid_eval. Videos are `v_ID` or `ID`, any ending. A reference is a
person's sentences in their order as one paragraph, since the paper's instruction is about "this video"; whether the
paper joins them so, and whether it scores against one person or two, it does not say: here there are both.

**VDC**, Video Detailed Captions (AuroraCap, Chai et al. 2025): `VDC_1k.jsonl` of the Hub's
`wchai/Video-Detailed-Caption`, `{"video_id": ..., "video_name": "FILE.mp4", "short_caption": ..., "detailed_caption":
..., "camera_caption": ..., "background_caption": ..., "main_object_caption": ...}`: file name and place from the Hub's
file lists, fields from public programs that read it (the file itself was not seen). The official evaluation
(https://github.com/rese1f/aurora, `post_eval/process_vdc_result.py`) reads `VDC_1k_captions.jsonl` with the captions in
an object `captions` under the same names; both are taken. `VDCScore_qa` (questions to a caption) is not used, as the
paper scores captions as they are.

**CaReBench** (Xu et al. 2025): `json/metadata.json` of the Hub's `MCG-NJU/CaReBench`, a list of `{"video": "FILE.mp4",
"caption": ..., "spatial_caption": ..., "temporal_caption": ..., "events": ..., "objects": ...}`: fields from public
programs that read it (the file itself was not seen), `events` and `objects` from a fork of the official evaluation
(https://github.com/bpiyush/CaReBench), which says that they may be missing. What type those two have was not seen: a
text and a list of texts are taken, a list joined with "; " as in the paper's example of an events reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from v2l.bench.benchmarks.records import Entry, Record, read_records, read_table
from v2l.manifest import Turn

VDC_STYLES = {
    "short": "Summarize this video in one detailed sentence.",
    "detailed": "Describe this video in detail.",
    "camera": "Describe the camera work, framing, and viewpoint in this video.",
    "background": "Describe the background, setting, and environment in this video.",
    "main_object": "Describe the main subject and its actions in this video.",
}
"""In the order of the paper's Table 2."""

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
"""In the order of the paper's Table 3."""


def activitynet_captions(path: Path) -> Iterator[Entry]:
    """One entry a video of `path` or of its twin beside it; one reference a file that describes it."""
    twin = path.with_name(path.name.replace("val_1", "val_2"))
    tables = [read_table(each) for each in dict.fromkeys((path, twin)) if each.is_file()]
    for key in dict.fromkeys(key for table in tables for key in table):
        told = [table[key] for table in tables if key in table]
        references = tuple(" ".join(_needed(record, "sentences")) for record in told)
        name = key.removeprefix("v_")
        yield Entry(name, (f"v_{name}", name), (Turn("Describe what is happening in this video.", references),))


def vdc(path: Path) -> Iterator[Entry]:
    """One entry a video, a turn for each style that it has."""
    for record in read_records(path):
        nested = record.values.get("captions")
        captions = Record(nested, f"{record.where}, captions") if isinstance(nested, dict) else record
        key = record.text("video_id")
        yield Entry(key, tuple(filter(None, (record.optional("video_name"), key))),
                    _turns(captions, {style: (f"{style}_caption", prompt) for style, prompt in VDC_STYLES.items()}))


def carebench(path: Path) -> Iterator[Entry]:
    """One entry a video, a turn for each part that it has."""
    for record in read_records(path):
        video = record.text("video")
        yield Entry(video, (video,), _turns(record, {part: (part, prompt) for part, prompt in CAREBENCH_PARTS.items()}))


def _turns(record: Record, asked: dict[str, tuple[str, str]]) -> tuple[Turn, ...]:
    """kind -> (where its reference stands, prompt), as turns."""
    turns = tuple(Turn(prompt, ("; ".join(told),), kind) for kind, (key, prompt) in asked.items()
                  if (told := record.texts(key)))
    if not turns:
        raise record.fault(f"there is none of {', '.join(key for key, _ in asked.values())}")
    return turns


def _needed(record: Record, key: str) -> tuple[str, ...]:
    told = record.texts(key)
    if not told:
        raise record.fault(f"there are no {key}")
    return told
