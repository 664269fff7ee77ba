"""Many clients at once, each asking an adapter of its own: `python tests/measure/serving.py MODEL [options]`.

MODEL is a folder with true-size shapes and random weights, from `make_model.py`; its answers never end, so their length
is drawn, 16 to 48 tokens. The running batch of `v2l serve` answers, or with `--engine llama.cpp` that server (package
`xllamacpp`, with the same weights and adapters as GGUF files, made in the folder `--files` when they are not there).
One after another, one client asks six questions; together, every client asks its own, one after the other. Seconds are
from the question to the first token. Each engine needs less than 100 s at 500M; nothing else should run.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np
import torch

from v2l.adapter.factors import Factors
from v2l.config import Decoding
from v2l.engine import Engine
from v2l.model.prompt import question_prompt
from v2l.model.text import LayerAdapter
from v2l.serve.batcher import Batcher
from v2l.store.foreign.gguf import write_adapter
from v2l.store.foreign.text_model import export_text_model

RANK = 32
SCALE = 128.0
QUESTION = "What does the person do after opening the door?"
Asking = Callable[[int, int], Iterator[object]]
"""Number of an adapter, and of tokens -> the tokens as they come."""


def factors_of(engine: Engine, seed: int) -> Factors:
    """An adapter that changes the answers and has the size of one of a single segment."""
    config, rng = engine.base.text_config, np.random.default_rng(seed)
    A = rng.normal(0, 0.004, (config.num_layers, RANK, config.intermediate_size)).astype(np.float16)
    B = rng.normal(0, 0.004, (config.num_layers, config.hidden_size, RANK)).astype(np.float16)
    return Factors(A, B, SCALE * RANK, "float16")


def ours(engine: Engine, made: Sequence[Factors], batcher: Batcher) -> Asking:
    bound = [[LayerAdapter(torch.from_numpy(a.astype(np.float32)),
                           torch.from_numpy(np.ascontiguousarray(b.astype(np.float32).T)), one.scale)
              for a, b in zip(one.A, one.B, strict=True)] for one in made]
    engine.base.ends = frozenset()  # type: ignore[misc]  # random weights may come upon an end

    def ask(number: int, tokens: int) -> Iterator[object]:
        return iter(batcher.submit(bound[number], QUESTION, Decoding(tokens)))

    return ask


def llama(engine: Engine, made: Sequence[Factors], files: Path, type_: str) -> Asking:
    import xllamacpp

    files.mkdir(parents=True, exist_ok=True)
    model, adapters = files / f"base-{type_}.gguf", [files / f"{i}.gguf" for i in range(len(made))]
    if not model.exists():
        export_text_model(engine.files.folder, model, type_, "base", {})
    for path, one in zip(adapters, made, strict=True):
        if not path.exists():
            write_adapter(path, one, {})
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.n_parallel = str(model), 256 * len(made), len(made)
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = torch.get_num_threads()
    settings.verbosity, settings.port, settings.lora_init_without_apply = 0, 0, True
    loras = []
    for path in adapters:
        loras.append(xllamacpp.CommonAdapterLoraInfo())
        loras[-1].path, loras[-1].scale = str(path), 1.0
    settings.lora_adapters = loras
    server = xllamacpp.Server(settings)
    prompt = engine.base.encode(question_prompt(QUESTION))

    def ask(number: int, tokens: int) -> Iterator[object]:
        wanted: dict[str, Any] = {
            "prompt": prompt, "n_predict": tokens, "temperature": 0, "cache_prompt": False, "ignore_eos": True,
            "stream": True, "lora": [{"id": i, "scale": float(i == number)} for i in range(len(made))]}
        request = Request(f"{server.listening_address}/completion", json.dumps(wanted).encode(),
                          {"Content-Type": "application/json"})
        with build_opener(ProxyHandler({})).open(request, timeout=100) as reply:
            yield from (line for line in reply if line.startswith(b"data: {"))

    return ask


@dataclass
class Load:
    """What some clients saw."""

    tokens: int
    seconds: float
    first: list[float]
    """Seconds to each question's first token."""


def measured(ask: Asking, questions: Sequence[Sequence[tuple[int, int]]]) -> Load:
    """Each client's questions, (adapter, tokens), one after the other, all clients at once."""
    barrier = Barrier(len(questions) + 1)

    def client(own: Sequence[tuple[int, int]]) -> list[float]:
        barrier.wait()
        first = []
        for number, tokens in own:
            started = time.perf_counter()
            for i, _ in enumerate(ask(number, tokens)):
                if i == 0:
                    first.append(time.perf_counter() - started)
        return first

    with ThreadPoolExecutor(len(questions)) as pool:
        going = [pool.submit(client, own) for own in questions]
        barrier.wait()
        started = time.perf_counter()
        first = [seconds for each in going for seconds in each.result()]
    return Load(sum(tokens for own in questions for _, tokens in own), time.perf_counter() - started, first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--questions", type=int, default=3, help="of each client")
    parser.add_argument("--engine", choices=["v2l", "llama.cpp"], default="v2l")
    parser.add_argument("--type", default="bf16", help="of llama.cpp's weights")
    parser.add_argument("--files", type=Path, default=Path("serving-files"))
    options = parser.parse_args()
    engine, rng = Engine(options.model, offline=True), random.Random(0)
    made = [factors_of(engine, i) for i in range(options.clients)]
    batcher = Batcher(engine)
    ask = (ours(engine, made, batcher) if options.engine == "v2l" else
           llama(engine, made, options.files, options.type))
    together = [[(i, rng.randint(16, 48)) for _ in range(options.questions)] for i in range(options.clients)]
    for number in range(2):
        list(ask(number, 4))  # what the first time alone costs
    one = measured(ask, [[own[0] for own in together[:6]]])
    all_ = measured(ask, together)
    idle = statistics.median(one.first)
    rates = one.tokens / one.seconds, all_.tokens / all_.seconds
    print(f"{options.engine} {options.type if options.engine != 'v2l' else engine.dtype}, {options.clients} clients: "
          f"one after another {rates[0]:.1f} tokens/s, together {rates[1]:.1f} ({rates[1] / rates[0]:.1f} times); "
          f"first token idle {idle:.3f} s, together median {statistics.median(all_.first):.3f} s "
          f"({statistics.median(all_.first) / idle:.1f} times), longest {max(all_.first):.3f} s")
    batcher.close(0)


if __name__ == "__main__":
    main()
