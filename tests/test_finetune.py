"""The fine-tuning baseline: a LoRA that learns one clip's texts, and nothing before its first step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from support.cli import REFERENCE

from v2l.config import Decoding
from v2l.engine import Engine
from v2l.errors import UsageError
from v2l.manifest import Turn
from v2l.train.finetune import FineTuneState, finetune

TURNS = (Turn("What color is the star?", ("purple",)), Turn("What shape is red?", ("ring",)),
         Turn("Describe the video.", ("On a white background, a purple star grows.",)))
SHORT = Decoding(max_new_tokens=24)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("tiny", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def tuned(engine: Engine) -> dict[int, FineTuneState]:
    """What the clip's texts make after 0, 1 and 30 steps."""
    return {each.steps: each for each in finetune(engine, TURNS, [30, 0, 1, 1])}


def answers(engine: Engine, tuned: FineTuneState | None) -> list[str]:
    adapter = tuned.adapter if tuned else None
    return [engine.ask(adapter, turn.prompt, SHORT).finish().text for turn in TURNS]


def test_it_learns_what_the_texts_say(engine: Engine, tuned: dict[int, FineTuneState]) -> None:
    assert list(tuned) == [0, 1, 30]
    assert tuned[0].loss > tuned[1].loss > tuned[30].loss and tuned[30].loss < 0.05
    assert answers(engine, tuned[30]) == [turn.targets[0] for turn in TURNS]
    assert 0 < tuned[0].seconds < tuned[1].seconds < tuned[30].seconds


def test_before_its_first_step_it_is_the_bare_base(engine: Engine, tuned: dict[int, FineTuneState]) -> None:
    assert answers(engine, tuned[0]) == answers(engine, None) != answers(engine, tuned[30])
    assert not any(layer.B.any() for layer in tuned[0].adapter) and all(layer.A.any() for layer in tuned[0].adapter)


def test_its_loss_is_that_of_the_adapter_it_gives(engine: Engine, tuned: dict[int, FineTuneState]) -> None:
    """The forward pass it trains through and the one that answers tell the same."""
    base, lost, count = engine.base, 0.0, 0
    for turn in TURNS:
        prompt = base.encode(f"<|im_start|>User: {turn.prompt}<end_of_utterance>\nAssistant:")
        whole = base.encode(f"<|im_start|>User: {turn.prompt}<end_of_utterance>\nAssistant: {turn.targets[0]}"
                            "<end_of_utterance>")
        assert whole[: len(prompt)] == prompt
        for place in range(len(prompt), len(whole)):
            found = next_logits(engine, tuned[1], whole[:place])
            lost -= float(found.log_softmax(-1)[whole[place]])
            count += 1
    assert lost / count == pytest.approx(tuned[1].loss, rel=1e-4)


def next_logits(engine: Engine, tuned: FineTuneState, ids: list[int]) -> torch.Tensor:
    from v2l.model.generate import next_logits

    return next_logits(engine.base, tuned.adapter, ids).float()


def test_it_has_the_place_and_rank_of_the_hypernetworks(engine: Engine, tuned: dict[int, FineTuneState]) -> None:
    config = engine.hypernetwork_files.config
    shapes = {(tuple(layer.A.shape), tuple(layer.B.shape)) for layer in tuned[30].adapter}
    assert len(tuned[30].adapter) == config.num_layers
    assert shapes == {((config.rank, config.d_in), (config.rank, config.d_out))}
    (low,) = finetune(engine, TURNS, [0], rank=3)
    assert len(low.adapter[0].A) == 3


def test_the_same_call_gives_the_same_and_earlier_ones_stay(engine: Engine, tuned: dict[int, FineTuneState]) -> None:
    steps: Iterator[FineTuneState] = finetune(engine, TURNS, [1, 3])
    one = next(steps)
    before = [layer.B.clone() for layer in one.adapter]
    three = next(steps)
    for layer, kept, first, later in zip(one.adapter, before, tuned[1].adapter, three.adapter, strict=True):
        assert torch.equal(layer.B, kept) and torch.equal(layer.A, first.A) and torch.equal(layer.B, first.B)
        assert not torch.equal(later.B, kept)


def test_every_target_is_learnt_and_one_is_needed(engine: Engine) -> None:
    with pytest.raises(UsageError, match="nothing to fine-tune on"):
        next(finetune(engine, [Turn("Why?", ())], [1]))
    both = [Turn("What color is it?", ("red", "blue"))]
    (tuned,) = finetune(engine, both, [30])
    assert tuned.loss == pytest.approx(0.5 * torch.log(torch.tensor(2.0)).item(), abs=0.05)  # one of two, then the end


def test_other_bases(engine: Engine) -> None:
    """Query heads that share keys; a hypernetwork of its own; bfloat16."""
    model = Engine(str(REFERENCE / "tiny-vlm"), str(REFERENCE / "hypernetwork.pt"), dtype="bfloat16", device="cpu")
    first, last = finetune(model, TURNS, [0, 20])
    assert last.loss < first.loss - 1
    assert last.adapter[0].A.dtype == torch.float32 and model.ask(last.adapter, "Why?", SHORT).finish().prompt_tokens
