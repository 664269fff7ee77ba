"""What is wrong with a call is told before anything heavy is imported, by every command."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from support.adapters import make
from support.cli import ROOT, environment

from v2l.adapter import save

CALLS = """
ingest there.mp4 --model nope
ingest there.mp4 --checkpoint nope.pt
ingest there.mp4 -o a.txt
ingest there.mp4 -o a.v2lora --output-dir b
ingest there.mp4 --keep-segments
ingest nope.mp4
ingest there.mp4 --dtype x
ingest there.mp4 --start x
ask a.v2lora Why? --model nope
ask a.v2lora Why? --each --join
ask a.v2lora Why? --timeline --strategy join
ask a.v2lora Why? --segment-scale 0
ask a.v2lora Why? --video nope
ask --direct nope.mp4 Why?
ask --direct there.mp4 Why? --model nope
ask --adapters nope.txt Why?
ls nope
info nope.v2lora
compose a.v2lora -o a.txt
slice a.v2lora --each -o b.v2lora
slice a.v2lora --segment 9 -o b.v2lora
export a.v2lora --to peft out --model nope
export a.v2lora --to peft out --pad-rank 1
export a.v2lora --to gguf out.bin
export nope.v2lora --to peft out
models use nope
models pull nope
models pull tiny --checkpoint nope.pt
models export nope --to gguf a.gguf
models export tiny --to gguf a.bin
bench nope.mp4
bench compare there.mp4 --checkpoint nope.pt
bench speed --report nope/a.html
bench quality nope.jsonl
bench quality --suite tiny --judge nope
train run nope.jsonl -o out
train run m.jsonl -o notes.txt
train run m.jsonl -o out --dtype float16
train run m.jsonl -o out --init nope.pt
train targets nope.jsonl -o t.jsonl
train targets nope.mp4 -o t.jsonl
train targets m.jsonl -o m.jsonl
train export nope.pt -o a.pt
train export notes.txt -o a.txt
"""
SERVED = """
serve nope
serve notes.txt
serve . --port 65536
serve . --host nope.invalid
serve . --model nope
"""
HEAVY = ("torch", "transformers", "tokenizers")
ALL = f"""
import sys
from v2l.cli.app import main
for call in sys.stdin.read().splitlines():
    sys.argv[1:], status = call.split(), 0
    try:
        main()
    except SystemExit as end:
        status = end.code
    print(status, *(name for name in {HEAVY} if name in sys.modules), call, sep="|")
"""


def test_usage_errors_are_told_before_torch_is_imported(tmp_path: Path) -> None:
    """By one process, so a call that imports it says so for all after it; the first is the culprit."""
    save(make(0), tmp_path / "a.v2lora")
    shutil.copy(ROOT / "examples/one-shape.mp4", tmp_path / "there.mp4")
    (tmp_path / "notes.txt").write_text("Buy milk.\n")
    (tmp_path / "m.jsonl").write_text(
        '{"id": "a", "video_path": "there.mp4", "prompt": "What?", "target_text": "A star."}\n')
    calls = CALLS.split("\n")[1:-1]
    try:
        import uvicorn  # noqa: F401
        calls += SERVED.split("\n")[1:-1]
    except ModuleNotFoundError:
        pass
    done = subprocess.run([sys.executable, "-c", ALL], input="\n".join(calls), cwd=tmp_path, env=environment(),
                          capture_output=True, text=True, timeout=240)
    told = [line.split("|") for line in done.stdout.splitlines()]
    assert [words[-1] for words in told] == calls
    assert [words for words in told if words[0] not in "12" or len(words) > 2] == []
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == len(calls) and all(line.startswith("Error: ") for line in errors)
