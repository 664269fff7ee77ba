"""Choice and check of the lines of manifests to train on. Nothing heavy is imported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from v2l.errors import UsageError
from v2l.manifest import Item
from v2l.train.config import Recipe


def sort_out(items: Sequence[Item], recipe: Recipe) -> tuple[list[Item], list[Item]]:
    """(items to train on, items to validate on), those of split train and val. Raises UsageError."""
    wanted = [item for item in items if item.split != "test"]
    train = [item for item in wanted if item.split == "train"]
    if not train:
        raise UsageError("The manifests have no line of split train, so there is nothing to train on.")
    if not recipe.self_distill:
        without = [item for item in wanted if not all(turn.targets for turn in item.turns)]
        if without:
            raise UsageError(f"{len(without)} of {len(wanted)} lines lack a target, such as {without[0].id}; have "
                             "`v2l train targets` write them, or train with --self-distill.")
    if recipe.taught:
        for item in wanted:
            if any("<image>" in turn.prompt for turn in item.turns):
                raise UsageError(f"The prompt of {item.id} contains <image>, which cannot be asked with the video in "
                                 "the prompt; leave it out.")
    return train, [item for item in wanted if item.split == "val"]


def digest(items: Sequence[Item]) -> str:
    """Hash of what is asked and answered about which clips, wherever their files lie."""
    content = [[item.id, item.video.name, item.start, item.end, [[turn.prompt, turn.targets] for turn in item.turns]]
               for item in items]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
