"""What a lent GPU is asked, in one call of some eight minutes: `python tests/measure/on_gpu.py FOLDER [--device cuda]`.

Each step is a process of its own with a time limit, so that one that fails or hangs leaves the others; the most telling
come first. FOLDER/NAME.txt has what a step printed, FOLDER/steps.jsonl its status and seconds, and the sweeps leave
JSON Lines. It needs v2l's dependencies, of which a lent machine may lack av and platformdirs. `--small` takes the
embedded model in place of those of true size: to try this program on a CPU.

- parity: tests/test_parity.py there, so what the released code computed, in float32 within 1e-4.
- alike: the embedded model's adapters and answers, in every number format, against float32 on the CPU.
- 500m, 2.2b: models of true size with random weights, in folders beside this one.
- decoding: milliseconds a token and to the first, kernels started a token, memory.
- sweep: `v2l bench speed`, frames by resolution, adapter and video in the prompt.
- training: some steps of the published recipe on 500M shapes, and the memory they hold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
CLIPS = sorted((ROOT / "examples").glob("*.mp4"))
QUESTIONS = ("What happens?", "What is there?", "What comes first?", "Is there a red ring?",
             "How many events are there?")
DTYPES = ("float32", "bfloat16", "float16")
TOKENS = 32


@dataclass(frozen=True)
class Step:
    name: str
    seconds: int
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)


def steps(out: Path, device: str, small: bool) -> Iterator[Step]:
    def this(name: str, *words: str) -> list[str]:
        return [sys.executable, __file__, str(out), "--device", device, "--only", name, *words]

    v2l = [sys.executable, "-m", "v2l"]
    sizes = {"tiny": "tiny"} if small else {name: str(out.parent / name) for name in ("500m", "2.2b")}
    yield Step("parity", 60, [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider",
                                "tests/test_parity.py"], {"V2L_TEST_DEVICE": device})
    yield Step("alike", 60, this("alike"))
    for name, model in sizes.items():
        if not small:
            yield Step(f"make-{name}", 90, [sys.executable, "tests/measure/make_model.py", name, model])
        yield Step(f"decoding-{name}", 60, this("decoding", "--model", model))
        frames, resolutions = ("8,12", "384") if small else ("8,12,48,128,512,1024", "384,1024")
        yield Step(f"sweep-{name}", 110, [
            *v2l, "bench", "speed", "--model", model, "--device", device, "--frames", frames,
            "--resolutions", resolutions, "--repeat", "1", "--budget", "1.5", "--json",
            "--resume", str(out / f"sweep-{name}.jsonl")])
    yield Step("training", 60, this("training", "--model", next(iter(sizes.values()))))


def run(out: Path, device: str, small: bool, minutes: float) -> None:
    end = time.monotonic() + 60 * minutes
    for step in steps(out, device, small):
        left, started = end - time.monotonic(), time.monotonic()
        if left < 10:
            return
        with (out / f"{step.name}.txt").open("w") as log:
            try:
                status: int | str = subprocess.run(
                    step.command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=min(step.seconds, left),
                    env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | step.env).returncode
            except subprocess.TimeoutExpired:
                status = "out of time"
        line = json.dumps({"step": step.name, "status": status, "seconds": round(time.monotonic() - started, 1)})
        with (out / "steps.jsonl").open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


def alike(device: str) -> None:
    """Adapters and answers of the embedded model, number format by number format, against float32 on the CPU."""
    from v2l.config import Decoding
    from v2l.engine import Engine

    def answers(engine: Engine, adapter: Any) -> list[str]:
        bound = engine.bind(adapter)
        return [engine.ask(bound, question, Decoding(TOKENS)).finish().text for question in QUESTIONS]

    exact = Engine("tiny", device="cpu", dtype="float32", offline=True)
    adapters = [exact.ingest(clip, exact.sampling()) for clip in CLIPS]
    expected = [answers(exact, adapter) for adapter in adapters]
    for dtype in DTYPES:
        there = Engine("tiny", device=device, dtype=dtype, offline=True)
        same = total = 0
        errors = []
        for clip, adapter, words in zip(CLIPS, adapters, expected, strict=True):
            made = there.ingest(clip, there.sampling())
            errors += [_distance(getattr(made, name), getattr(adapter, name)) for name in ("A", "B")]
            same += sum(a == b for a, b in zip(answers(there, made), words, strict=True))
            total += len(words)
        print(json.dumps({"dtype": dtype, "largest_error_of_A_and_B": max(errors), "same_answers": same, "of": total}))


def _distance(found: Any, expected: Any) -> float:
    found, expected = torch.as_tensor(found).float(), torch.as_tensor(expected).float()
    return float((found - expected).norm() / expected.norm())


def decoding(device: str, model: str) -> None:
    """A token's milliseconds and kernels, in every number format, with a random adapter of rank 32."""
    from v2l.config import Decoding
    from v2l.engine import Engine
    from v2l.model.text import LayerAdapter

    for dtype in DTYPES:
        engine = Engine(model, device=device, dtype=dtype, offline=True)
        engine.load_text()
        sizes = engine.base.text_config
        bound = [LayerAdapter(torch.randn(32, sizes.intermediate_size, device=device) * 0.004,
                              torch.randn(32, sizes.hidden_size, device=device) * 0.004, 128.0)
                 for _ in range(sizes.num_layers)]
        ask = lambda bound=bound, engine=engine: engine.ask(bound, QUESTIONS[0], Decoding(TOKENS)).finish()
        timed = [ask() for _ in range(6)][1:]
        cuda = device.startswith("cuda")
        activity = torch.profiler.ProfilerActivity
        with torch.profiler.profile(activities=[activity.CPU, *([activity.CUDA] if cuda else [])]) as profile:
            answer = ask()
        started = sum(event.count for event in profile.key_averages()
                      if event.key in ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchKernelExC"))
        waits = sum(event.count for event in profile.key_averages() if event.key.startswith("cudaStreamSync"))
        tokens = len(answer.ids)
        print(json.dumps({
            "dtype": dtype, "tokens": tokens, "first_ms": 1000 * min(answer.ttft_s for answer in timed),
            "token_ms": 1000 * min((a.total_s - a.ttft_s) / max(1, len(a.ids) - 1) for a in timed),
            "kernels_a_token": started / tokens, "waits_a_token": waits / tokens,
            "gigabytes": torch.cuda.max_memory_allocated() / 1e9 if cuda else None}), flush=True)
        del engine, bound


def training(out: Path, device: str, model: str) -> None:
    """Steps of the published recipe: 8 clips of 12 frames each."""
    manifest = out.parent / "training.jsonl"
    lines = [{"id": str(i), "video_path": str(CLIPS[i % len(CLIPS)]), "prompt": "Describe the video.",
              "target_text": "A red ring moves down, and then a blue square moves to the left."} for i in range(16)]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for dtype in ("bfloat16", "float32"):
        code = ("import sys, time, torch\nfrom v2l.cli.app import main\nstarted = time.perf_counter()\n"
                "try:\n    main()\nfinally:\n    print('seconds', time.perf_counter() - started, 'gigabytes',"
                " torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None)")
        subprocess.run([sys.executable, "-c", code, "train", "run", str(manifest), "--model", model, "--device", device,
                        "-o", str(out.parent / f"trained-{dtype}"), "--dtype", dtype, "--steps", "4", "--every", "4",
                        "--force"], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", choices=("alike", "decoding", "training"))
    parser.add_argument("--model", default="tiny")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only == "alike":
        alike(options.device)
    elif options.only == "decoding":
        decoding(options.device, options.model)
    elif options.only == "training":
        training(options.out, options.device, options.model)
    else:
        run(options.out, options.device, options.small, options.minutes)


if __name__ == "__main__":
    main()
