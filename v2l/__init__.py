"""v2l: watch a video once, keep a small file, ask it forever.

    from v2l import Engine, load, save

    with Engine("500m") as engine:
        adapter = engine.ingest("lecture.mp4", segment="60s")
        save(adapter, "lecture.v2lora")
        print(engine.ask(adapter, "What happens first?").text)
        print(engine.find(adapter, "a dog barks"))  # when: file, start, end, score

    for piece in Engine("500m").ask("lecture.v2lora", "What happens?"):
        print(piece, end="", flush=True)

`Engine` watches videos and answers, `load` and `save` read and write adapter files, `compose` joins adapters, and
everything that can go wrong is a `V2LError`. Each is imported when it is first used, so that `import v2l` costs
nothing. Many videos to a file each: `v2l.many`. Slicing and compressing adapters: `v2l.adapter`. The command line is
`v2l --help`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.4.0"
__all__ = ["Adapter", "Answer", "Engine", "FoundMoment", "Reply", "V2LError", "__version__", "compose", "load", "save"]

if TYPE_CHECKING:
    from v2l.adapter.file import Adapter, load, save
    from v2l.adapter.join import compose
    from v2l.door import Engine
    from v2l.errors import V2LError
    from v2l.model.answer import Answer
    from v2l.model.generate import Reply
    from v2l.strategies.search import FoundMoment
else:
    _MODULES = {"Adapter": "v2l.adapter.file", "Answer": "v2l.model.answer", "Engine": "v2l.door",
                "FoundMoment": "v2l.strategies.search",
                "Reply": "v2l.model.generate", "V2LError": "v2l.errors", "compose": "v2l.adapter.join",
                "load": "v2l.adapter.file", "save": "v2l.adapter.file"}

    def __getattr__(name):
        """Imports what is handed out here when it is first asked for (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        globals()[name] = value = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
