"""What v2l does from Python, as a script: python examples/script.py, from the folder above. mypy --strict passes it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from v2l import Adapter, Engine, V2LError, compose, load, save


def watched(engine: Engine, video: Path, folder: Path) -> Adapter:
    """The adapter of a video, kept in a file beside others."""
    adapter = engine.ingest(video, segment="12s", progress=lambda what, done, total: None)
    file = folder / f"{video.stem}.v2lora"
    save(adapter, file)
    return load(file)


def main() -> None:
    with Engine("tiny", offline=True) as engine, TemporaryDirectory() as folder:
        films = [Path("examples", name) for name in ("long.mp4", "three-shapes.mp4")]
        adapters = [watched(engine, film, Path(folder)) for film in films]
        for piece in engine.ask(adapters[1], "What happened?"):
            print(piece, end="", flush=True)
        print()
        print(engine.ask(Path(folder, "long.v2lora"), "How does the red ring move?", strategy="route").text)
        for film, answer in zip(films, engine.ask(adapters, "Is there a red ring?"), strict=True):
            print(film.name, answer.text, len(answer.ids))
        print(engine.ask(compose(adapters), "What does the blue triangle do?", max_new_tokens=16).text)
        frames = np.zeros((6, 64, 64, 3), np.uint8)
        print(engine.ingest(frames, times=np.arange(6.0), name="dark").span)
        try:
            engine.ingest(frames)
        except V2LError as error:
            print(error)


if __name__ == "__main__":
    main()
