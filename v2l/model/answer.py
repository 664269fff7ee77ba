"""An answer, and what it cost; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from v2l.wording import count_of, shortened


@dataclass(frozen=True, repr=False)
class Answer:
    """One finished answer and what it cost; times in seconds from the moment the question was put to the model."""

    text: str
    ids: list[int]
    """The new tokens, without the one that ends the answer."""
    prompt_tokens: int
    visual_tokens: int
    ttft_s: float
    """Time to the first token."""
    total_s: float
    logprob: float = 0.0
    """Mean log-probability of the tokens, the end included; only `batch.ask_batch` works it out."""
    finite: bool = True
    """False where the model's numbers were not, which an adapter made for that can bring about: there is no answer
    then, and the text is empty. Other rows of a batch are answered; a `Reply` raises ModelError."""
    finish: str = "stop"
    """Why it ended: "stop" where the model ended it, "length" where it was cut at the most tokens allowed."""
    strategy: str | None = None
    """How an adapter's segments made it: join, route, each, timeline or when; None where nothing chose among them."""
    answered_by: Sequence[dict[str, Any]] = ()
    """What of the adapter answered: of each segment `file`, `start` and `end` in seconds, and its own `answer` where
    the answer is made of such."""

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Answer {shortened(self.text, 60)!r}, {count_of(len(self.ids), 'token')}, {self.total_s:.3g} s>"
