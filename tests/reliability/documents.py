"""Fuzzed JSON that is no model: manifests, the journals of a bench, the annotations of benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from reliability import mutations
from v2l.bench.benchmarks.load import load_benchmark
from v2l.bench.benchmarks.registry import PUBLIC_BENCHMARKS
from v2l.bench.quality.answers import AnswerStore
from v2l.bench.record import open_record
from v2l.bench.speed.earlier import EarlierSweep
from v2l.manifest import TURN_KEYS, read_manifest, write_manifest


class Manifests:
    """Lines of clips and questions."""

    name = "manifest"

    def __init__(self, folder: Path) -> None:
        self.file, self.other = folder / "clips.jsonl", folder / "again.jsonl"
        self.lines = [
            {"id": "a", "video_path": "a.mp4", "prompt": "What happens?", "target_text": "A dog."},
            {
                "id": "b",
                "video_path": "sub/b.mp4",
                "prompt": "Where?",
                "target_text": ["Here.", "There."],
                "kind": "x",
                "question": "Who?",
                "answer": "She.",
                "question_kind": "y",
                "start": 1.5,
                "end": 3,
                "split": "val",
            },
            {
                "id": "c",
                "video_path": "c.mp4",
                "prompt": "?",
                "benchmark": "vdc",
                "task": "caption",
                "choices": ["1", "2"],
            },
        ]

    def write(self, random: Random) -> bool:
        lines = json.loads(json.dumps(self.lines))
        if random.random() < 0.1:
            data = "\n".join(map(json.dumps, lines)).encode()
            self.file.write_bytes(mutations.of_bytes(random, data))
            return False
        number, keys = random.randrange(len(lines)), tuple({key for line in lines for key in line})
        lines[number] = mutations.of_json(random, lines[number], keys)
        self.file.write_bytes(
            random.choice([b"\n", b"\r\n", b"\n\n"]).join(mutations.dumped(random, one) for one in lines)
        )
        return False

    def read(self) -> None:
        items = read_manifest(self.file)
        theirs = [json.loads(line) for line in self.file.read_text("utf-8-sig").split("\n") if line.strip()]
        assert len(items) == len(theirs)
        for item, line in zip(items, theirs, strict=True):
            assert (item.id, item.video) == (line["id"], self.file.parent / line["video_path"])
            for turn, (asked, told, _) in zip(item.turns, TURN_KEYS, strict=False):
                targets = line.get(told) or []
                assert turn.prompt == line[asked] and list(turn.targets) == (
                    [targets] if isinstance(targets, str) else targets
                )
        write_manifest(self.other, items)
        assert [item.turns for item in read_manifest(self.other)] == [item.turns for item in items]


class Journals:
    """What an interrupted bench goes on from."""

    name = "journal"

    def __init__(self, folder: Path) -> None:
        self.file = folder / "bench.jsonl"
        self.identity = {"model": "tiny"}
        watched = {
            "frames": 8,
            "watch_s": 1.0,
            "read_s": 0.5,
            "see_s": None,
            "decoder_s": 0.1,
            "bind_s": 0.1,
            "ttft_s": 0.1,
            "token_s": 0.01,
            "prompt_tokens": 20,
            "peak": 1,
            "peak_device": None,
            "file_size": 100,
            "repeats": 3,
        }
        made = {
            "model": "m",
            "fingerprint": "f",
            "hypernetwork": "h",
            "sha256": "s",
            "dtype": "float32",
            "device": "cpu",
            "sampling": {"frames": 8},
            "tile": 64,
            "budget_tokens": 10,
        }
        self.documents: list[dict[str, Any]] = [
            {"kind": "sweep", "identity": self.identity},
            {
                "kind": "cell",
                "frames": 8,
                "resolution": 64,
                "watched": watched,
                "prompt": {"status": "did not fit", "reason": "x"},
            },
            {"kind": "quality", "asked": {"a": 1}, "made": made},
            {
                "kind": "answers",
                "watch": "w",
                "arm": "adapter",
                "conditions": {},
                "source": {"name": "a", "size": 1},
                "frames": 8,
                "setup_s": 1.0,
                "answers": [{"question": "q", "prompt": "p", "text": "t"}],
            },
            {"kind": "unreadable", "watch": "w", "arm": "none", "conditions": {}, "source": {}, "reason": "r"},
            {"kind": "judged", "what": {"a": 1}, "score": 0.5},
        ]

    def write(self, random: Random) -> bool:
        documents = json.loads(json.dumps(self.documents))
        data = b"".join(json.dumps(one).encode() + b"\n" for one in documents)
        if random.random() < 0.2:
            self.file.write_bytes(mutations.of_bytes(random, data))
            return False
        number = random.randrange(len(documents))
        documents[number] = mutations.of_json(random, documents[number], ("kind", "identity", "asked", "made"))
        self.file.write_bytes(
            b"\n".join(mutations.dumped(random, one).replace(b'":', b'": ') for one in documents) + b"\n"
        )
        return False

    def read(self) -> None:
        with open_record(self.file) as record:
            EarlierSweep(record, self.identity)
            AnswerStore(record, _Setting())  # type: ignore[arg-type]


class _Setting:
    """A setting, as far as a store of answers looks at it."""

    def key(self) -> dict[str, Any]:
        return {"a": 1}


class Annotations:
    """The files of the nine benchmarks."""

    name = "annotations"

    def __init__(self, folder: Path) -> None:
        self.folder, self.read_name = folder, ""
        (folder / "v_one.mp4").touch()
        (folder / "one.mp4").touch()
        question = {
            "video": "one.mp4",
            "video_id": "one",
            "video_name": "one.mp4",
            "question": "Who?",
            "answer": "She.",
            "question_id": "v_one_1",
            "type": 3,
            "caption": "A dog.",
            "detailed_caption": "A dog runs.",
            "uid": "1",
            "start_frame": 1,
            "end_frame": 20,
            "total_frames": 30,
            "dense_captions": [],
            "QA_pairs": [{"question": "Who?", "answer": "She."}],
            "video_dir": "one.mp4",
            "qid": "1",
            "masklet_id": 1,
            "spatial_caption": "x",
            "temporal_caption": "y",
        }
        self.seeds: dict[str, Any] = {
            "activitynet-captions": {"v_one": {"duration": 9.0, "timestamps": [[0, 1]], "sentences": ["A dog."]}},
            **{name: [question] for name in PUBLIC_BENCHMARKS if name != "activitynet-captions"},
        }

    def write(self, random: Random) -> bool:
        for old in self.folder.glob("*.json*"):
            old.unlink()
        self.read_name = random.choice(list(self.seeds))
        names = [
            name.format(split=split)
            for split in PUBLIC_BENCHMARKS[self.read_name].splits
            for name in PUBLIC_BENCHMARKS[self.read_name].files
        ]
        for name in names + (["test_a.json"] if self.read_name == "activitynet-qa" else []):
            value = mutations.of_json(random, json.loads(json.dumps(self.seeds[self.read_name])))
            if name.endswith(".jsonl") and isinstance(value, list):
                data = b"\n".join(mutations.dumped(random, one) for one in value)
            else:
                data = mutations.dumped(random, value)
            (self.folder / name).write_bytes(data if random.random() < 0.9 else mutations.of_bytes(random, data))
        return False

    def read(self) -> None:
        for item in load_benchmark(self.read_name, self.folder):
            assert item.video.parent == self.folder and "/" not in item.id and ".." not in item.id
