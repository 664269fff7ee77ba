"""What the routes of a server share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from v2l.engine import Engine
from v2l.errors import UsageError
from v2l.model.prompt import question_prompt
from v2l.serve.batcher import Batcher
from v2l.serve.library import Library
from v2l.wording import shortened

LONGEST_QUESTION = 2048
"""Tokens of a question. The base may read more (`tiny` 65,536, minutes of work), while all others wait for it; the
hypernetworks were trained on questions of a sentence or two."""


@dataclass
class Service:
    """An engine, the adapters that may be asked, and the rows that questions become."""

    engine: Engine
    library: Library
    batcher: Batcher
    last_turn_only: bool = False
    """Whether what a conversation holds before its last question is left out, instead of refused."""
    may_ingest: bool = False
    """Whether clients may have videos watched."""
    note: Callable[[str], None] = lambda text: None
    """Takes a line for the server's log."""
    loading: Lock = field(default_factory=Lock)
    watching: Lock = field(default_factory=Lock)
    """Held while a video is watched for a client."""

    def load(self) -> None:
        """Reads the text stack into memory, once, at the first question. ModelError."""
        with self.loading:
            self.engine.load_text()

    def check_question(self, text: str) -> None:
        """UsageError for a question that is longer than others would wait for."""
        if len(text) > LONGEST_QUESTION:  # no token is so long that this could be less
            count = len(self.engine.base.encode(question_prompt(text)))
            if count > LONGEST_QUESTION:
                raise UsageError(f"The question {shortened(text, 40)!r} is {count:,} tokens long, and this server "
                                 f"reads no more than {LONGEST_QUESTION:,}; ask a shorter one.")
        self.engine.check_question(text)
