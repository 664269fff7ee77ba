"""The adapter: the value, the .v2lora file, joining and compressing. numpy only, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Adapter", "Label", "load", "load_label", "save"]

if TYPE_CHECKING:
    from v2l.adapter.file import Adapter, load, save
    from v2l.adapter.label import Label, load_label
else:

    def __getattr__(name: str) -> Any:
        """Imports what is handed out here when it is first asked for: what reads records needs no numpy."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"v2l.adapter.{'label' if name in ('Label', 'load_label') else 'file'}"), name)
