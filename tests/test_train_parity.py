"""What is trained is what the product does: the same adapters, the same logits, the same answers."""

from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import SmolVLMForConditionalGeneration

from v2l.adapter.join import join
from v2l.config import Decoding
from v2l.engine import Engine
from v2l.errors import VideoError
from v2l.manifest import Item, Turn
from v2l.model.base import Base
from v2l.model.generate import next_logits
from v2l.model.prompt import END, question_prompt
from v2l.train.batches import Draw, Example, Watcher, random_cuts
from v2l.train.config import Recipe
from v2l.train.joined import context_features, joined_adapters
from v2l.train.network import Network
from v2l.train.objective import Objective, divergence, rows, target_ids
from v2l.video.clip import open_clip
from v2l.video.cuts import windows

REFERENCE = Path(__file__).parent / "reference"
VIDEO = REFERENCE / "videos" / "clip.mp4"
TURNS = Turn("Describe the video.", ("A red ball.", "It rolls away.")), Turn("How many?", ("two",))
ITEM = Item("clip", VIDEO, TURNS)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("V2L_CACHE", str(tmp_path_factory.mktemp("cache")))
        engine = Engine(str(REFERENCE / "tiny-vlm"), str(REFERENCE / "hypernetwork.pt"), dtype="float32", device="cpu")
        engine.load()
    return engine


def network(dtype: torch.dtype) -> Network:
    return Network.of(Base(REFERENCE / "tiny-vlm", torch.device("cpu"), dtype, packed=False))


def objective(engine: Engine, **changes: object) -> Objective:
    hyper = deepcopy(engine.hypernetwork).requires_grad_(True)
    return Objective(engine.base, hyper, replace(Recipe(), **changes))


def example(engine: Engine, item: Item = ITEM, resolution: int = 64, frames: int = 4, **changes: object) -> Example:
    sampling = engine.sampling(resolution=resolution, frames=frames)
    return Watcher(sampling, engine.base.tile, replace(Recipe(), **changes))(Draw(item, "seed"))


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).norm() / expected.norm()) < 1e-5


def test_adapters_and_logits_are_those_of_ingest_and_ask(engine: Engine) -> None:
    """Tiles cut and not, several clips of different lengths at once, each row with the adapter of its own clip."""
    trained, question = objective(engine), "What happens?"
    short = replace(ITEM, end=2.0)
    seen = [example(engine, resolution=128), example(engine, short, resolution=128)]
    segments = [made.segments[0] for made in seen]
    with torch.no_grad():
        pairs = trained.pairs(segments, [trained.see(segment) for segment in segments], [1, 1])
    ids = engine.base.encode(question_prompt(question))
    found = trained.logits(rows([ids, ids, ids], [[1], [1], [1]], engine.device), pairs, [1, 0, 1])
    for clip, item in enumerate((ITEM, short)):
        adapter = engine.ingest(VIDEO, replace(engine.sampling(resolution=128, frames=4), end=item.end))
        bound = engine.bind(adapter)
        for pair, layer in zip(pairs, bound, strict=True):
            assert pair.scale == layer.scale
            close(pair.A[clip], layer.A)
            close(pair.B[clip], layer.B)
        expected = next_logits(engine.base, bound, ids)
        for row in range(3):
            if [1, 0, 1][row] == clip:
                close(found[row], expected)


def test_segments_are_those_of_ingest_joined(engine: Engine) -> None:
    trained, sampling = objective(engine), engine.sampling(resolution=64, frames=3)
    item = replace(ITEM, start=0.5)
    seeds = [Draw(item, str(seed)) for seed in range(4)]
    watch = Watcher(sampling, engine.base.tile, Recipe(parts=4))
    made = [watch(seed) for seed in seeds]
    parts = [len(each.segments) for each in made]
    assert max(parts) > min(parts)  # clips with fewer segments than others are filled up
    segments = [segment for each in made for segment in each.segments]
    with torch.no_grad():
        pairs = trained.pairs(segments, [trained.see(segment) for segment in segments], parts)
    rank = engine.hypernetwork.config.rank
    for number, seed in enumerate(seeds):
        window = replace(sampling, start=item.start)
        clip = open_clip(VIDEO, window)
        cut = windows(clip, window, random_cuts(random.Random(seed.seed), 0.5, clip.end, 4))
        assert [segment.timestamps for segment in made[number].segments] == [
            [i / clip.info.fps for i in clip.window(one).indices] for one in cut]
        joined, _ = join([engine.ingest(clip.window(one), one) for one in cut])
        for pair, layer in zip(pairs, engine.bind(joined), strict=True):
            A, B = pair.A, pair.B
            nothing = A[number, parts[number] * rank : -rank]
            assert len(nothing) == (max(parts) - parts[number]) * rank and not nothing.any()
            keep = [*range(parts[number] * rank), *range(A.shape[1] - rank, A.shape[1])]
            close(A[number, keep], layer.A)
            close(B[number, keep] * pair.scale, layer.B * layer.scale)


def test_the_forward_is_that_of_transformers(engine: Engine) -> None:
    """Whole, and in a packed sequence under a mask.

    In float64, for what differs is then the mathematics: this random decoder stretches what float32 rounds off the
    image tokens (6e-7 of them) tenfold, and of 12 draws of pixels transformers' own float32 was 4e-6 to 2e-5 away from
    its float64. Here both are within 1e-6: norms and rotations stay float32 in either.
    """
    base = SmolVLMForConditionalGeneration.from_pretrained(REFERENCE / "tiny-vlm", dtype=torch.float64).eval()
    ours = network(torch.float64)
    draws = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, engine.base.tile, engine.base.tile, generator=draws, dtype=torch.float64) * 2 - 1
    image = [engine.base.token("<image>")] * engine.base.image_seq_len
    ids = torch.tensor([[1, *image, 7, *image, 9, 10, 11]])
    with torch.no_grad():
        expected = base(input_ids=ids, pixel_values=pixels[None]).logits[0]
        x = ours.embed(ids, ours.vision(pixels))
        close(ours.text.logits(ours.text.hidden(x))[0], expected)
        # The last two tokens again, as a second continuation of what comes before the last three.
        packed, end = torch.cat([x, x[:, -2:]], 1), ids.shape[1]
        positions = torch.tensor([[*range(end), end - 2, end - 1]])
        mask = torch.full((end + 2, end + 2), -1e9, dtype=x.dtype).triu(1)
        mask[end:, end - 2 : end] = -1e9
        hidden = ours.text.hidden(packed, positions, mask[None, None])
        close(ours.text.logits(hidden)[0, -2:], expected[-2:])


def test_gradients_reach_all_of_the_hypernetwork_and_nothing_else(engine: Engine) -> None:
    """With checkpointing the same up to the order of sums; and they point where the loss falls."""
    seen = [example(engine)]
    gradients = []
    for checkpointing in (False, True):
        trained = objective(engine, checkpointing=checkpointing)
        loss, tokens = trained(seen)
        loss.backward()
        assert tokens == sum(len(target_ids(engine.base, text)) for text in seen[0].targets)
        assert all(p.grad is None for part in (engine.base.text, engine.base.vision) for p in part.parameters())
        gradients.append({name: p.grad.clone() for name, p in trained.hyper.named_parameters()})
    plain, again = gradients
    assert all(g.any() for g in plain.values())
    for name in plain:
        assert float((plain[name] - again[name]).norm()) < 1e-5 * float(plain[name].norm())
    slope = sum(float(g.square().sum()) for g in plain.values())
    values, size = [], 1e-2 / slope  # so that the loss should fall by 0.01
    with torch.no_grad():
        for move in (1, -2):
            for name, p in trained.hyper.named_parameters():
                p.add_(move * size * plain[name])
            values.append(float(trained(seen)[0]))
    assert values[0] - values[1] == pytest.approx(2e-2, rel=0.2)


def test_bfloat16_is_near(engine: Engine) -> None:
    """The perceiver in bfloat16, the rest in float32 (v2l/README.md section 5)."""
    segments = example(engine).segments
    exact = objective(engine)
    prompts = [engine.base.encode(segment.prompt(engine.base.image_seq_len)) for segment in segments]
    with torch.no_grad():
        tokens = exact.see(segments[0])
        expected = joined_adapters(engine.hypernetwork, *context_features(exact.network, prompts, tokens), [1])
        half = context_features(network(torch.bfloat16), prompts, tokens.bfloat16())
        found = joined_adapters(engine.hypernetwork, *half, [1])
    for pair, other in zip(found, expected, strict=True):
        for x, y in ((pair.A, other.A), (pair.B, other.B)):
            assert x.dtype == torch.float32 and 0 < float((x - y).norm() / y.norm()) < 0.1


def test_only_the_answer_counts_and_the_prompt_is_that_of_ask(engine: Engine) -> None:
    for base in (engine.base, Engine("tiny").base):
        prompts = [base.encode(question_prompt(turn.prompt)) for turn in ITEM.turns]
        answers = [target_ids(base, " A red ball.\n"), target_ids(base, "two")]
        packed = rows(prompts, answers, torch.device("cpu"))
        flat = packed.ids.flatten()
        assert packed.labels.tolist() == [*answers[0], *answers[1]]
        assert flat[packed.target + 1].tolist() == packed.labels.tolist()
        assert packed.ids[1, : len(prompts[1])].tolist() == prompts[1]
        assert base.encode(f"{question_prompt(ITEM.turns[0].prompt)} A red ball.{END}") == [*prompts[0], *answers[0]]
        assert answers[1][-1] == base.token(END)


@pytest.mark.parametrize("parts", [1, 8])
def test_the_teacher_is_the_base_with_the_video_in_its_prompt(engine: Engine, parts: int) -> None:
    """It sees the clip in one piece, however that is cut for the adapter; by itself it says what `direct` says."""
    made = example(engine, self_distill=True, parts=parts)
    assert (len(made.segments) > 1) == (parts > 1) and not made.targets
    trained = objective(engine, self_distill=True)
    loss, tokens = trained([made])
    said_itself = [trained.own_answers[ITEM, number] for number in range(2)]
    assert tokens == sum(map(len, said_itself)) and loss > 0
    sampling = engine.sampling(resolution=64, frames=4)
    seen = engine.see(open_clip(VIDEO, sampling), sampling)
    for turn, ids in zip(ITEM.turns, said_itself, strict=True):
        said = engine.direct(seen, turn.prompt).finish().ids
        ended = len(said) < Decoding().max_new_tokens
        assert ids == [*said, *([engine.base.token(END)] if ended else [])]
    videos = trained.in_context([made], [trained.see(segment) for segment in made.segments])
    first = trained.teacher_logits(videos, said_itself)[0]
    prompt = engine.base.encode(seen.prompt(engine.base.image_seq_len, ITEM.turns[0].prompt, generate=True))
    with torch.no_grad():
        x, text = trained.network.embed(torch.tensor([prompt]), seen.image_tokens), trained.network.text
        close(first, text.logits(text.hidden(x))[0, -1])
    assert float(first.argmax()) == said_itself[0][0]


def test_divergence_adds_to_the_cross_entropy(engine: Engine) -> None:
    teacher, other = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    assert float(divergence(teacher, teacher)) == pytest.approx(0, abs=1e-6)
    p = teacher.softmax(-1)
    expected = float((p * (p.log() - other.log_softmax(-1))).sum())
    assert float(divergence(other, teacher)) == pytest.approx(expected, rel=1e-5)
    made = example(engine, kl=0.5)
    with torch.no_grad():
        plain, once, twice = (float(objective(engine, kl=kl)([made])[0]) for kl in (0.0, 0.5, 1.0))
    assert once > plain and twice - plain == pytest.approx(2 * (once - plain), rel=1e-3)


def test_a_video_that_is_none_is_told(engine: Engine, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(VIDEO.read_bytes()[:5000])
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        example(engine, replace(ITEM, video=bad))
