"""The adapter: the value, the .v2lora file, joining and compressing. numpy only, no torch."""

from v2l.adapter.file import Adapter, Label, load, load_label, save

__all__ = ["Adapter", "Label", "load", "load_label", "save"]
