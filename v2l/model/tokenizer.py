"""Tokenizers that anybody may have written: they must do no more than those that are known to be harmless."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from v2l.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SMOLVLM_STEPS = frozenset((b"Sequence", b"Digits", b"ByteLevel", b"NFC"))
"""What the tokenizers of SmolVLM2 do to text besides BPE. Others can make gigabytes of a word, or take forever over a
pattern."""
CHAT_STEPS = SMOLVLM_STEPS | {b"Split", b"NFKC", b"Prepend", b"Replace", b"ByteFallback", b"Fuse", b"Strip",
                              b"Metaspace"}
"""What those of other language models do, with patterns and texts that `check_tokenizer` bounds."""
_WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{0}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
_PATTERNS = frozenset(_WORDS.format(digits) for digits in ("", "{1,3}"))
"""Regular expressions that take no longer than a text is long: those of Qwen 2 and 3, and of Llama 3."""
_LONGEST = 8
"""Bytes that a step may put where there was a character."""
_TYPE, _REGEX, _TEXT = (re.compile(rb'"%b":\s*"((?:[^"\\]|\\.)*)"' % key) for key in (
    b"type", b"Regex", b"(?:content|prepend|replacement)"))


def check_tokenizer(tokenizer: Tokenizer, source: str | Path, steps: Collection[bytes] = SMOLVLM_STEPS) -> None:
    """Raises ModelError for a tokenizer that does more than BPE and the steps allowed; takes its settings of truncation
    and padding away, which a file may bring."""
    from tokenizers.models import BPE

    states = b"\n".join(step.__getstate__() for step in (tokenizer.normalizer, tokenizer.pre_tokenizer,
                                                          tokenizer.decoder) if step)
    strange = [kind.decode() for kind in sorted({*_TYPE.findall(states)} - {*steps})]
    strange += [pattern for pattern in map(_text, _REGEX.findall(states)) if pattern not in _PATTERNS]
    strange += [f"texts of {len(text)} bytes" for text in _TEXT.findall(states) if len(text) > _LONGEST]
    if not isinstance(tokenizer.model, BPE):
        strange.append(type(tokenizer.model).__name__)
    if strange:
        known = "no SmolVLM2's does" if steps is SMOLVLM_STEPS else "none of the known ones does"
        raise ModelError(f"The tokenizer in {source} works by {strange[0][:80]}, which {known}; get it from its "
                         "publisher.")
    tokenizer.no_truncation()
    tokenizer.no_padding()


def _text(quoted: bytes) -> str:
    return str(json.loads(b'"' + quoted + b'"'))
