"""One measurement in a process of its own, so that its memory is its own.

`python -m v2l.bench.speed.worker RESULT` reads a job as JSON from stdin and writes its result, or why there is
none, to the file RESULT.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from v2l.adapter import Adapter, save
from v2l.bench.config import RESOLUTIONS, edge_for
from v2l.bench.speed.cells import AdapterTimes, CellPlan, PromptTimes, Throughput
from v2l.bench.speed.compare import cached_prefix
from v2l.bench.speed.drawn import ASPECT, length
from v2l.bench.speed.floors import ModelSizes
from v2l.bench.speed.machine import free_memory, measure_machine
from v2l.bench.speed.timing import Result, timed
from v2l.config import Decoding, Sampling
from v2l.engine import Engine, Seen
from v2l.errors import V2LError, is_memory
from v2l.model.prompt import cut_tiles, question_prompt, tile_count, tile_grid
from v2l.model.text import Cache, LayerAdapter
from v2l.video.clip import Clip, frame_indices, open_clip

FIRST = Decoding(max_new_tokens=1)
TOKEN_STEPS = 32
"""Tokens over which the time of one is measured."""
ENOUGH_S = 5.0
"""Seconds of work after which it is not repeated."""


class TimedEngine(Engine):
    """An engine that remembers how long parts of its work took, None where they were no steps of their own, and where
    it is to, what it saw last."""

    keeps: bool = False
    seen: Seen | None = None
    see_s: float | None = None
    decoder_s: float | None = None

    def features(self, context: torch.Tensor) -> Iterator[torch.Tensor]:
        steps = super().features(context)
        self.decoder_s = 0.0
        while True:
            features, elapsed = timed(self.device, lambda: next(steps, None))
            self.decoder_s += elapsed
            if features is None:
                return
            yield features

    def see(self, clip: Clip, sampling: Sampling) -> Seen:
        seen, self.see_s = timed(self.device, lambda: super(TimedEngine, self).see(clip, sampling))
        if self.keeps:  # else it is freed while the engine works, as it is outside of a bench
            self.seen = seen
        return seen


def perform_job(job: dict[str, Any]) -> dict[str, Any]:
    """The result of the job named `job["job"]`, ready for JSON. Errors: V2LError, and memory that does not suffice."""
    engine = TimedEngine(job["model"], job["checkpoint"], device=job["device"], dtype=job["dtype"],
                         offline=job["offline"])
    return _JOBS[job["job"]](engine, job)


# -- jobs ----------------------------------------------------------------------------------------------------------


def describe_model(engine: TimedEngine, job: dict[str, Any]) -> dict[str, Any]:
    """The model, the machine, and the plan of every cell."""
    base, files, hypernetwork = engine.base, engine.files, engine.hypernetwork_files
    shapes = ModelSizes(base.text_config, base.vision_config, hypernetwork.config, base.tile, base.image_seq_len,
                        engine.dtype.itemsize)
    edges = [files.resolution] if job["quick"] else [edge_for(base.tile, edge) for edge in RESOLUTIONS]
    edges = list(dict.fromkeys(job["resolutions"] or edges))
    return {
        "model": files.name,
        "fingerprint": base.fingerprint,
        "hypernetwork": hypernetwork.name,
        "hypernetwork_sha256": hypernetwork.sha256,
        "dtype": str(engine.dtype).removeprefix("torch."),
        "adapter_tokens": len(base.encode(question_prompt(job["question"]))),
        "shapes": asdict(shapes),
        "machine": asdict(measure_machine(engine.device, job["seconds"])),
        "plans": [asdict(_plan(engine, _sampling(engine, job, frames, edge), job["question"]))
                  for edge in edges for frames in job["frames"]],
    }


def _plan(engine: Engine, sampling: Sampling, question: str) -> CellPlan:
    base, (pictures, rate) = engine.base, length(sampling)
    stamps = [i / rate for i in frame_indices(pictures, rate, sampling)]
    grid = tile_grid(*ASPECT, sampling.resolution, base.tile)
    watching = base.prompt_tokens(stamps, grid, pictures / rate)
    asking = base.prompt_tokens(stamps, grid, pictures / rate, question, generate=True)
    return CellPlan(sampling.frames, sampling.resolution, len(stamps) * tile_count(grid), watching, asking)


def watch(engine: TimedEngine, job: dict[str, Any]) -> dict[str, Any]:
    """Watches a video and asks its adapter a question: `AdapterTimes`."""
    sampling, video = _sampling(engine, job, job["frames"], job["resolution"]), Path(job["video"])
    engine.ingest(video, replace(sampling, frames=1))  # loads and warms everything
    seeing: list[float | None] = []
    decoding: list[float | None] = []

    def once() -> Adapter:
        engine.see_s = engine.decoder_s = None
        adapter = engine.ingest(video, sampling)
        seeing.append(engine.see_s)
        decoding.append(engine.decoder_s)
        return adapter

    adapter, times = _repeat(engine, once, job["repeats"])
    peak, peak_device = _peaks(engine.device)
    _, read_s = timed(engine.device, lambda: _read(open_clip(video, sampling), sampling, engine.base.tile))
    bound, bind_s = timed(engine.device, lambda: engine.bind(adapter))
    file = Path(job["result"]).with_suffix(".v2lora")
    save(adapter, file)
    ask = lambda: engine.ask(bound, job["question"], FIRST).finish()
    ask()
    asked = [ask() for _ in range(max(5, job["repeats"]))]
    prompt = engine.base.encode(question_prompt(job["question"]))
    cache = Cache(engine.base.text_config, 1, len(prompt) + TOKEN_STEPS, engine.device, engine.dtype)
    with torch.inference_mode():
        engine.base.text(engine.base.embed(prompt), cache, bound)
    return asdict(AdapterTimes(
        frames=len(adapter.segments[0]["timestamps"]),
        watch_s=statistics.median(times),
        read_s=read_s,
        see_s=_median(seeing),
        decoder_s=_median(decoding),
        bind_s=bind_s,
        ttft_s=statistics.median(answer.ttft_s for answer in asked),
        token_s=_token_s(engine, cache, bound),
        prompt_tokens=asked[-1].prompt_tokens,
        peak=peak,
        peak_device=peak_device,
        file_size=file.stat().st_size,
        repeats=len(times),
    ))


def direct(engine: TimedEngine, job: dict[str, Any]) -> dict[str, Any]:
    """Asks the question with the video in the prompt, then with the video's part of the prompt kept: `PromptTimes`."""
    sampling, video, question = _sampling(engine, job, job["frames"], job["resolution"]), job["video"], job["question"]
    engine.keeps = True
    engine.direct(video, question, replace(sampling, frames=1), FIRST).finish()
    answer, times = _repeat(engine, lambda: engine.direct(video, question, sampling, FIRST).finish(), job["repeats"])
    peak, peak_device = _peaks(engine.device)
    if engine.seen is None or engine.see_s is None:
        raise AssertionError("a video in the prompt is seen in one step")
    seen, see_s = engine.seen, engine.see_s
    prefix, prefix_s = cached_prefix(engine, seen, question, TOKEN_STEPS)
    again = lambda: engine.direct_cached(seen, prefix, question, FIRST).finish()
    again()
    cached = [again() for _ in range(max(3, job["repeats"]))]
    return asdict(PromptTimes(
        frames=len(seen.timestamps),
        ttft_s=statistics.median(times),
        token_s=_token_s(engine, prefix[0], None),
        setup_s=see_s + prefix_s,
        cached_ttft_s=statistics.median(c.ttft_s for c in cached),
        prompt_tokens=answer.prompt_tokens,
        visual_tokens=answer.visual_tokens,
        peak=peak,
        peak_device=peak_device,
        repeats=len(times),
    ))


def throughput(engine: TimedEngine, job: dict[str, Any]) -> dict[str, Any]:
    """Asks several adapters one question, one by one and as a batch: `Throughput`. Saves one as `job["keep"]`."""
    sampling, question = _sampling(engine, job, job["frames"], job["resolution"]), job["question"]
    adapter = engine.ingest(Path(job["video"]), sampling)
    save(adapter, job["keep"])
    decoding = Decoding(max_new_tokens=job["new_tokens"])
    bound = [engine.bind(adapter) for _ in range(job["adapters"])]  # each with its own tensors, as different files have
    singly = lambda: [engine.ask(adapter, question, decoding).finish() for adapter in bound]
    batched = lambda: list(engine.ask_batch(((adapter, question) for adapter in bound), decoding))
    singly(), batched()
    answers, one_by_one_s = timed(engine.device, singly)
    _, batched_s = timed(engine.device, batched)
    return asdict(Throughput(len(bound), sum(len(answer.ids) for answer in answers), one_by_one_s, batched_s))


_JOBS: dict[str, Callable[[TimedEngine, dict[str, Any]], dict[str, Any]]] = {
    "describe": describe_model, "watch": watch, "direct": direct, "throughput": throughput,
}


# -- measuring -----------------------------------------------------------------------------------------------------


def _sampling(engine: Engine, job: dict[str, Any], frames: int, resolution: int) -> Sampling:
    return engine.sampling(frames=frames, fps=job["fps"], resolution=resolution)


def _repeat(engine: Engine, work: Callable[[], Result], repeats: int) -> tuple[Result, Sequence[float]]:
    """The last result of `work`, and the seconds of each of at most `repeats` calls: fewer of what takes long."""
    result, elapsed = timed(engine.device, work)
    times = [elapsed]
    while len(times) < repeats and sum(times) < ENOUGH_S:
        result, elapsed = timed(engine.device, work)
        times.append(elapsed)
    return result, times


def _median(times: Sequence[float | None]) -> float | None:
    known = [elapsed for elapsed in times if elapsed is not None]
    return statistics.median(known) if len(known) == len(times) else None


def _read(clip: Clip, sampling: Sampling, tile: int) -> None:
    for frame in clip.frames():
        cut_tiles(frame.image, sampling.resolution, tile)


@torch.inference_mode()
def _token_s(engine: Engine, cache: Cache, adapter: list[LayerAdapter] | None) -> float:
    """Seconds of each token after the first, with what `cache` holds before it."""
    base, times = engine.base, []
    token = base.token("<end_of_utterance>")  # any would do
    for _ in range(TOKEN_STEPS):
        token, elapsed = timed(engine.device, lambda: int(base.text(base.embed([token]), cache, adapter)[0].argmax()))  # noqa: B023
        times.append(elapsed)
    return statistics.median(times)


def _peaks(device: torch.device) -> tuple[int | None, int | None]:
    """Bytes of memory that this process took at most so far, and of the GPU's."""
    return _peak(), torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def _peak() -> int | None:
    # Linux counts into ru_maxrss what the parent held when it started this process; VmHWM is this process alone.
    if os.path.exists("/proc/self/status"):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _bound_memory() -> None:
    """What does not fit into memory fails in this process, rather than that the system ends some other."""
    try:
        import resource
    except ImportError:
        return
    free, (_, hard) = free_memory(), resource.getrlimit(resource.RLIMIT_DATA)
    if free is not None and (hard == resource.RLIM_INFINITY or free < hard):
        resource.setrlimit(resource.RLIMIT_DATA, (free, hard))


def main() -> None:
    job = json.load(sys.stdin)
    if job["device"] in (None, "cpu") and not torch.cuda.is_available():  # a GPU's driver reserves more than there is
        _bound_memory()
    try:
        result = perform_job(job)
    except V2LError as error:
        result = {"failed": str(error), "exit_status": error.exit_status}
    except (RuntimeError, MemoryError) as error:
        if not is_memory(error):
            raise
        result = {"did not fit": "the memory did not suffice"}
    Path(sys.argv[1]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
