"""The model that ships with v2l: a small base and its hypernetwork, trained on a synthetic world (see CARD.md)."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the shipped weights."""
BASE = WEIGHTS / "base"
"""The base model, a Hugging Face folder."""
