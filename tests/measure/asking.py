"""The cost of an answer: `python tests/measure/asking.py MODEL [--before FOLDER] [--only WAY]... [--rank R]`.

MODEL is a folder in the format of a base (`tests/measure/make_model.py` writes random ones of true size), FOLDER a
checkout of an earlier v2l to put beside this one. Random adapters of rank R (32) are asked; where the package
`xllamacpp` is there, llama.cpp answers as well, with the model as it is stored and in Q8_0. Prints a Markdown table:
the first token and each one after in ms, warm, the best of some answers (other work only adds); the peak of resident
memory of such a process; and seconds of a whole `v2l ask` of one token, with the model in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

ROOT = Path(__file__).parents[2]
QUESTION = "What happens in the video, and what comes last?"
ANSWERS, TOKENS = 5, 24


def ask_v2l(model: str, adapter: str) -> dict[str, float]:
    """What v2l takes: whichever version PYTHONPATH names."""
    from v2l.adapter import load
    from v2l.config import Decoding
    from v2l.engine import Engine

    engine = Engine(model, offline=True)
    bound = engine.bind(load(Path(adapter)))
    answers = [engine.ask(bound, QUESTION, Decoding(TOKENS)).finish() for _ in range(ANSWERS + 1)][1:]
    return {"first": min(answer.ttft_s for answer in answers),
            "after": min((answer.total_s - answer.ttft_s) / (len(answer.ids) - 1) for answer in answers)}


def ask_llama(model: str, adapter: str, prompt: list[int]) -> dict[str, float]:
    """What llama.cpp takes."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.n_parallel, settings.verbosity, settings.port = model, 2048, 1, 0, 0
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = int(
        os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
    lora = xllamacpp.CommonAdapterLoraInfo()
    lora.path, lora.scale = adapter, 1.0
    settings.lora_adapters = [lora]
    server = xllamacpp.Server(settings)
    asked = json.dumps({"prompt": prompt, "n_predict": TOKENS, "temperature": 0, "cache_prompt": False,
                        "ignore_eos": True}).encode()
    request = Request(f"{server.listening_address}/completion", asked, {"Content-Type": "application/json"})
    first, after = [], []
    for _ in range(ANSWERS + 1):
        with build_opener(ProxyHandler({})).open(request, timeout=60) as reply:
            took = json.load(reply)["timings"]
        first.append(took["prompt_ms"] / 1000)
        after.append(took["predicted_ms"] / 1000 / (took["predicted_n"] - 1))  # its clock starts with the first token
    return {"first": min(first[1:]), "after": min(after[1:])}


def random_adapter(model: str, rank: int, file: Path) -> list[int]:
    """Writes an adapter of this rank, bias included, for the model; returns the question's prompt in tokens."""
    import numpy as np

    from v2l.adapter import save
    from v2l.adapter.file import single
    from v2l.engine import Engine
    from v2l.model.prompt import question_prompt

    engine, rng = Engine(model, offline=True), np.random.default_rng(0)
    config = engine.base.text_config
    factor = lambda size: (rng.standard_normal((config.num_layers, rank // 2, size)) / size).astype(np.float32)
    pairs = [factor(size) for size in (config.intermediate_size, config.hidden_size) * 2]
    save(single(*pairs, "float16", base={"id": model, "revision": None, "fingerprint": engine.base.fingerprint},
                hypernetwork={"id": "random", "sha256": "0" * 64}, scale=2 * (rank // 2) ** 1.5,
                source={"name": "random.mp4", "duration": 1.0, "fps": 10.0, "frames": 10, "width": 64, "height": 64,
                        "size": 1, "sha256": "0" * 64}, start=0.0, end=1.0, timestamps=[0.5],
                sampling=engine.sampling().recorded(), compute={"dtype": "float32", "device": "cpu", "tokens": 1},
                prompt="random", version="0"), file)
    return engine.base.encode(question_prompt(QUESTION))


def timed(root: Path, *command: str) -> tuple[float, str]:
    """Seconds of a Python process with this checkout of v2l, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *command], env=os.environ | {"PYTHONPATH": str(root)}, check=True, text=True,
                          stdout=subprocess.PIPE)
    return time.perf_counter() - started, done.stdout


def row(name: str, root: Path, *arguments: str, cold: list[str] | None = None) -> str:
    """A line of the table."""
    found: dict[str, Any] = json.loads(timed(root, __file__, "--way", *arguments)[1].splitlines()[-1])
    start = f"{min(timed(root, *cold)[0] for _ in range(3)):.2f} s" if cold else ""
    return (f"| {name} | {1000 * found['first']:.1f} ms | {1000 * found['after']:.1f} ms | {found['peak']:.2f} GB | "
            f"{start} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--only", action="append", choices=["v2l", "before", "llama.cpp", "Q8_0"])
    parser.add_argument("--rank", type=int, default=32)
    options = parser.parse_args()
    wanted = lambda way: way in (options.only or ("v2l", "before", "llama.cpp", "Q8_0"))
    with tempfile.TemporaryDirectory() as folder:
        adapter, gguf = Path(folder) / "random.v2lora", Path(folder) / "adapter.gguf"
        prompt = random_adapter(options.model, options.rank, adapter)
        print(f"{len(prompt)} tokens of a prompt, an adapter of rank {options.rank}\n")
        print("| | first token | each after | peak memory | cold `v2l ask` |\n|---|---|---|---|---|", flush=True)
        cold = ["-m", "v2l", "ask", str(adapter), QUESTION, "--model", options.model, "--max-new-tokens", "1", "-q"]
        if options.before and wanted("before"):
            print(row("v2l before", options.before, "v2l", options.model, str(adapter), cold=cold), flush=True)
        if wanted("v2l"):
            print(row("v2l", ROOT, "v2l", options.model, str(adapter), cold=cold), flush=True)
        try:
            import xllamacpp  # noqa: F401
        except ImportError:
            return
        export = ["-m", "v2l", "-q"]
        for name, kind in (("llama.cpp", "bf16"), ("Q8_0", "q8_0")):
            if wanted(name):
                if not gguf.exists():
                    timed(ROOT, *export[:2], "export", str(adapter), "--to", "gguf", str(gguf), "--model",
                          options.model, "-q")
                file = str(Path(folder) / f"{kind}.gguf")
                timed(ROOT, *export[:2], "models", "export", options.model, "--to", "gguf", file, "--type", kind, "-q")
                print(row(f"llama.cpp, {kind}", ROOT, "llama", file, str(gguf), json.dumps(prompt)), flush=True)
                Path(file).unlink()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        way, model, adapter, *prompt = sys.argv[2:]
        found = ask_v2l(model, adapter) if way == "v2l" else ask_llama(model, adapter, json.loads(prompt[0]))
        import resource

        found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps(found))
    else:
        main()
