"""Adapters of clips of the embedded model's world, drawn and watched without a video file between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import v2l
from v2l.adapter import Adapter
from v2l.adapter.file import single
from v2l.config import INTERNALIZE
from v2l.engine import Engine, Seen
from v2l.tiny.render import render
from v2l.tiny.world import FPS, WorldClip, frame_states


def watched(
    engine: Engine, clip: WorldClip, times: Sequence[float], start: float, end: float, name: str = "clip.mp4",
    seed: int = 0,
) -> Adapter:
    """What `engine.ingest` would make of the seconds `start` to `end` of a clip, looked at `times`."""
    tiles = render(frame_states(clip, times), engine.base.tile, seed).permute(0, 2, 3, 1).numpy()
    image_tokens = engine.base.see([np.ascontiguousarray(tiles)])
    seen = Seen(image_tokens, list(times), list(times), (1, 1), clip.duration)
    A, B = engine.internalize(
        engine.base.context(engine.base.encode(seen.prompt(engine.base.image_seq_len)), image_tokens))
    hypernetwork, files = engine.hypernetwork, engine.hypernetwork_files
    target = files.config.target_module
    arrays = [x.float().cpu().numpy() for x in (A, B, hypernetwork.bias_A[target], hypernetwork.bias_B[target])]
    frames = round(clip.duration * FPS)
    return single(
        *arrays, "float32",
        base={"id": engine.files.name, "revision": None, "fingerprint": engine.base.fingerprint},
        hypernetwork={"id": files.name, "sha256": files.sha256}, scale=files.config.adapter_scale,
        source={"name": Path(name).name, "duration": clip.duration, "fps": float(FPS), "frames": frames, "width": 64,
                "height": 64, "size": frames, "sha256": f"{sum(map(ord, name)):064x}"},
        start=start, end=end, timestamps=list(times),
        sampling={"frames": 12, "fps": 1.0, "skip": 1.0, "resolution": 64}, prompt=INTERNALIZE,
        compute={"dtype": "float32", "device": "cpu"}, version=v2l.__version__)
