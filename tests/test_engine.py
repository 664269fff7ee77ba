"""The engine: what it reads and does not read, that it repeats itself to the byte, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from v2l.adapter import Adapter, save
from v2l.config import Decoding
from v2l.engine import Engine
from v2l.errors import AdapterError, ModelError, UsageError, V2LError
from v2l.model.prompt import resized_size
from v2l.video.clip import open_clip


def make(folder: Path, reference: Path, **options: str) -> Engine:
    return Engine(str(folder), str(reference / "hypernetwork.pt"), device="cpu", **{"dtype": "float32", **options})


def poisoned(reference: Path, folder: Path, *unused: str) -> Path:
    """The reference's base with NaN in the tensors that are not supposed to matter."""
    shutil.copytree(reference / "tiny-vlm", folder)
    weights = load_file(folder / "model.safetensors")
    assert all(any(name.startswith(prefix) for name in weights) for prefix in unused)
    changed = {name: torch.full_like(t, torch.nan) if name.startswith(unused) else t for name, t in weights.items()}
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def clip(reference: Path) -> Path:
    return reference / "videos" / "clip.mp4"


@pytest.fixture
def adapter(reference: Path, clip: Path) -> Adapter:
    engine = make(reference / "tiny-vlm", reference)
    return engine.ingest(clip, engine.sampling(resolution=64))


def test_asking_uses_no_vision_tower(reference: Path, adapter: Adapter, tmp_path: Path) -> None:
    blind = make(poisoned(reference, tmp_path / "blind", "model.vision_model.", "model.connector."), reference)
    whole = make(reference / "tiny-vlm", reference)
    decoding = Decoding(max_new_tokens=12)
    assert blind.ask(adapter, "What?", decoding).finish().ids == whole.ask(adapter, "What?", decoding).finish().ids
    assert "vision" not in vars(whole.base) and "body" not in vars(whole.base)


def test_watching_needs_neither_the_last_layer_nor_the_head(
    reference: Path, adapter: Adapter, clip: Path, tmp_path: Path
) -> None:
    folder = poisoned(reference, tmp_path / "short", "model.text_model.layers.4.", "model.text_model.norm.", "lm_head.")
    engine = make(folder, reference)
    seen = engine.ingest(clip, engine.sampling(resolution=64))
    for name, array in adapter.tensors().items():
        np.testing.assert_array_equal(getattr(seen, name), array)


def test_the_same_input_gives_the_same_bytes(reference: Path, adapter: Adapter, clip: Path, tmp_path: Path) -> None:
    again = make(reference / "tiny-vlm", reference)
    for name, made in (("a", adapter), ("b", again.ingest(clip, again.sampling(resolution=64)))):
        save(made, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_bfloat16_stays_close(reference: Path, adapter: Adapter, clip: Path) -> None:
    engine = make(reference / "tiny-vlm", reference, dtype="bfloat16")
    rough = engine.ingest(clip, engine.sampling(resolution=64))
    assert rough.dtype == "float16" and rough.record["compute"]["dtype"] == "bfloat16"
    for name in ("A", "B"):
        a, b = rough.float32()[name].ravel(), adapter.float32()[name].ravel()
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99


def test_a_reply_streams_what_it_returns(reference: Path, adapter: Adapter) -> None:
    engine = make(reference / "tiny-vlm", reference)
    reply = engine.ask(adapter, "What happens?", Decoding(max_new_tokens=40))
    pieces = list(reply)
    assert reply.answer is not None and "".join(pieces) == reply.answer.text and len(pieces) > 5
    assert 0 < reply.answer.ttft_s <= reply.answer.total_s


def test_temperature_draws_and_repeats_by_seed(reference: Path, adapter: Adapter) -> None:
    engine = make(reference / "tiny-vlm", reference)
    ids = [engine.ask(adapter, "What?", Decoding(16, temperature=2.0, seed=seed)).finish().ids for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def test_an_adapter_of_another_base_is_refused(reference: Path, adapter: Adapter, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(reference / "tiny-vlm", folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(AdapterError, match=r"made for the base tiny-vlm .* other .* is another"):
        make(folder, reference).ask(adapter, "What?")
    earlier = {**adapter.record["base"], "id": "other"}
    with pytest.raises(AdapterError, match="ingest its video again"):
        make(folder, reference).ask(replace(adapter, record={**adapter.record, "base": earlier}), "What?")


def test_a_hypernetwork_that_does_not_fit_is_refused_before_any_work(
    reference: Path, clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "wide"
    shutil.copytree(reference / "tiny-vlm", folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 256
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(V2LError, match=r"(?s)128.*256|256.*128"):
        make(folder, reference).ingest(clip)


def test_a_video_window_keeps_its_place_in_time(reference: Path) -> None:
    engine = make(reference / "tiny-vlm", reference)
    sampling = replace(engine.sampling(resolution=64), start=30.0, end=60.0)
    adapter = engine.ingest(reference / "videos" / "long.mp4", sampling)
    times = adapter.segments[0]["timestamps"]
    assert adapter.span == (30.0, 60.0) and 30 <= times[0] < times[-1] < 60


def test_sampling_defaults_are_the_models_own(reference: Path) -> None:
    engine = make(reference / "tiny-vlm", reference)
    assert engine.sampling().resolution == 384 and engine.sampling(frames=3, fps=None).frames == 3


def test_a_reply_is_made_once(reference: Path, adapter: Adapter) -> None:
    engine = make(reference / "tiny-vlm", reference)
    reply = engine.ask(adapter, "What?", Decoding(max_new_tokens=12))
    begun = next(iter(reply))
    answer = reply.finish()
    assert answer.text.startswith(begun) and list(reply) == [] and reply.finish() is answer


@pytest.mark.parametrize("decoding", [Decoding(4, temperature=1e-40), Decoding(10**12)])
def test_extreme_decoding(reference: Path, adapter: Adapter, decoding: Decoding) -> None:
    engine = make(reference / "tiny-vlm", reference)
    assert len([piece for piece, _ in zip(engine.ask(adapter, "What?", decoding), range(3), strict=False)]) > 0


def test_a_tokenizers_own_settings_and_damage(reference: Path, adapter: Adapter, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(reference / "tiny-vlm", folder)
    file = folder / "tokenizer.json"
    settings = {"direction": "Right", "max_length": 20, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"truncation": settings}))
    engine = make(folder, reference)
    np.testing.assert_array_equal(engine.ingest(str(clip), engine.sampling(resolution=64)).A, adapter.A)
    file.write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        make(folder, reference).ask(adapter, "What?")


def test_watching_and_asking_share_the_text_stack(reference: Path, clip: Path) -> None:
    engine = make(reference / "tiny-vlm", reference)
    adapter = engine.ingest(clip, engine.sampling(resolution=64))
    engine.ask(adapter, "What?", Decoding(1)).finish()
    engine.ingest(clip, engine.sampling(resolution=64))
    assert engine.base.body is engine.base.text


def test_frames_are_never_larger_than_the_released_processor_makes_them() -> None:
    assert resized_size(1920, 1080, 384) == (384, 216)
    assert resized_size(1080, 1920, 1024) == (576, 1024)
    assert resized_size(1920, 1080, 5000) == (4096, 2303)
    assert resized_size(1080, 1920, 5000) == (2303, 4096)


def test_a_clip_that_was_seen_gives_the_same_adapter(reference: Path, adapter: Adapter, clip: Path) -> None:
    engine = make(reference / "tiny-vlm", reference)
    sampling = engine.sampling(resolution=64)
    opened = open_clip(clip, sampling)
    again = engine.ingest_seen(opened, engine.see(opened, sampling), sampling)
    assert again.record == adapter.record
    for name, array in adapter.float32().items():
        np.testing.assert_array_equal(again.float32()[name], array)


def test_a_question_with_the_video_in_the_prompt_cannot_bring_an_image(reference: Path, clip: Path) -> None:
    """Its `<image>` would be counted as one of the video's, or read as nothing at all."""
    engine, question = make(reference / "tiny-vlm", reference), "What is <image>?"
    seen = engine.see(open_clip(clip, sampling := engine.sampling(resolution=64, frames=2)), sampling)
    prefix = engine.prefix(seen, 200)
    for ask in (
        lambda: engine.direct(seen, question),
        lambda: engine.direct_cached(seen, prefix, question),
        lambda: list(engine.direct_batch(seen, prefix, ["What?", question], Decoding(1))),
    ):
        with pytest.raises(UsageError, match="cannot contain <image>; leave it out"):
            ask()
