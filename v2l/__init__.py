"""v2l: watch a video once, keep a small file, ask it forever.

    import v2l

    engine = v2l.Engine("500m")
    adapter = engine.ingest("lecture.mp4")
    v2l.save(adapter, "lecture.v2lora")

    adapter = v2l.load("lecture.v2lora")
    print(engine.ask(adapter, "What happens first?").finish().text)

`Engine` watches videos and answers, `load` and `save` read and write adapter files; each is imported when it is first
used, so that `import v2l` costs nothing. Many videos: `v2l.many`. A long one in segments: `v2l.segments`. Joining,
slicing and compressing adapters: `v2l.adapter`. Everything that can go wrong is a `v2l.errors.V2LError`. The command
line is `v2l --help`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.4.0"
__all__ = ["Engine", "__version__", "load", "save"]

if TYPE_CHECKING:
    from v2l.adapter import load, save
    from v2l.engine import Engine
else:
    _MODULES = {"Engine": "v2l.engine", "load": "v2l.adapter.file", "save": "v2l.adapter.file"}

    def __getattr__(name):
        """Imports what is handed out here when it is first asked for (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        globals()[name] = value = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
