"""What was written for another engine, loaded by it and compared with ours: greedy answers and first tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import ProxyHandler, Request, build_opener

import torch
from torch import Tensor

from v2l.config import Decoding
from v2l.errors import ModelError
from v2l.model.folder import plain_loading, read_json
from v2l.model.generate import ask, next_logits
from v2l.model.prompt import question_prompt
from v2l.store.foreign.tensors import Weights

if TYPE_CHECKING:
    from v2l.model.base import Base
    from v2l.model.text import LayerAdapter

QUESTIONS = ("What happens?", "What appears first?", "Who or what moves, and where?", "Is there a red ring?")
NEW_TOKENS = 24
TOP = 5
"""Likeliest first tokens whose log-probabilities are compared."""
TOLERANCE = 0.02
"""Difference of a log-probability that weights in float16 or float32 may make; with llama.cpp 0.001 was measured."""


@dataclass(frozen=True)
class Heard:
    """What an engine says after one prompt, greedily."""

    ids: list[int]
    """Without the token that ends the answer."""
    first: dict[int, float]
    """Log-probabilities of the likeliest first tokens."""


@dataclass(frozen=True)
class Agreement:
    """How near another engine is to v2l."""

    engine: str
    """Name and version."""
    questions: int
    equal: int
    """Greedy answers that are the same token for token."""
    difference: float
    """Largest difference of a first token's log-probability."""
    limit: float
    """Above that the engine does not compute what v2l does."""

    @property
    def good(self) -> bool:
        return self.difference <= self.limit


Hearing = Callable[[list[list[int]], frozenset[int]], list[Heard]]
"""Prompts as token ids, and the tokens that end an answer -> what an engine says to each."""


def agreement(base: Base, adapter: list[LayerAdapter] | None, engine: str, hear: Hearing, limit: float = TOLERANCE,
            questions: Sequence[str] = QUESTIONS) -> Agreement:
    """Puts questions to another engine and to ours, which computes in the dtype of `base`.

    Where there is an adapter, half of what it changes in the first tokens is the limit, if that is more than `limit`:
    an engine that lost the adapter is off by all of it. ModelError where the engine cannot be run.
    """
    prompts = [base.encode(question_prompt(question)) for question in questions]
    equal, difference, effect = 0, 0.0, 0.0
    for question, prompt, heard in zip(questions, prompts, hear(prompts, base.ends), strict=True):
        ours = ask(base, adapter, question, Decoding(NEW_TOKENS)).finish().ids
        equal += heard.ids == ours
        scores, bare = (_log_probabilities(next_logits(base, one, prompt)) for one in (adapter, None))
        for token, value in heard.first.items():
            difference = max(difference, abs(value - float(scores[token])))
            effect = max(effect, abs(float(bare[token] - scores[token])))
    return Agreement(engine, len(prompts), equal, difference if math.isfinite(difference) else math.inf,
                      max(limit, effect / 2))


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(-1)


# transformers and PEFT.


def peft(base: Path, adapter: Path, text_only: bool) -> tuple[str, Hearing]:
    """PEFT with an adapter's folder on the base, or on its text stack as a Llama. ModelError where it is missing."""
    try:
        import peft
    except ImportError:
        raise _missing("peft") from None

    def hear(prompts: list[list[int]], ends: frozenset[int]) -> list[Heard]:
        model = _llama(base) if text_only else _smolvlm(base)
        return _generate(peft.PeftModel.from_pretrained(model, adapter, local_files_only=True), prompts, ends)

    return f"PEFT {peft.__version__}", hear


def transformers(folder: Path) -> tuple[str, Hearing]:
    """transformers with a model folder."""
    import transformers

    return f"transformers {transformers.__version__}", lambda prompts, ends: _generate(_smolvlm(folder), prompts, ends)


def _smolvlm(folder: Path) -> Any:
    from transformers import SmolVLMForConditionalGeneration

    return SmolVLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, **plain_loading(folder))


def _llama(folder: Path) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = read_json(folder / "config.json")
    model = LlamaForCausalLM(LlamaConfig(**config["text_config"]))
    with Weights(folder) as weights:
        model.load_state_dict({name.replace("model.text_model.", "model."): torch.from_numpy(weights.read(name))
                               for name in weights.shapes if name.startswith(("model.text_model.", "lm_head."))},
                              strict=False)
    model.tie_weights()
    return model


@torch.inference_mode()
def _generate(model: Any, prompts: list[list[int]], ends: frozenset[int]) -> list[Heard]:
    model.eval()
    heard = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                              max_new_tokens=NEW_TOKENS, eos_token_id=sorted(ends), pad_token_id=min(ends),
                              output_logits=True, return_dict_in_generate=True)
        answer = made.sequences[0, len(prompt):].tolist()
        top = _log_probabilities(made.logits[0][0]).topk(TOP)
        heard.append(Heard([token for token in answer if token not in ends],
                           dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))))
    return heard


# llama.cpp.


def llama(model: Path, adapter: Path | None = None) -> tuple[str, Hearing]:
    """llama.cpp, as the package `xllamacpp` brings it, with a GGUF model. ModelError where it is missing."""
    server = _LlamaServer(model, adapter)
    return server.name, server.hear


def tokenizes_alike(model: Path, base: Base, questions: Sequence[str] = QUESTIONS) -> bool:
    """Whether llama.cpp makes of questions put to its chat exactly the prompts and the tokens that v2l makes."""
    server = _LlamaServer(model, None)
    return all(server.chat_tokens(question) == base.encode(question_prompt(question)) for question in questions)


class _LlamaServer:
    """llama.cpp's server in this process; it listens on this machine alone."""

    def __init__(self, model: Path, adapter: Path | None) -> None:
        try:
            import xllamacpp
        except ImportError:
            raise _missing("xllamacpp") from None
        from importlib.metadata import version

        self.name = f"llama.cpp (xllamacpp {version('xllamacpp')})"
        settings = xllamacpp.CommonParams()
        settings.model.path, settings.n_ctx, settings.n_parallel = str(model), 2048, 1
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = torch.get_num_threads()
        settings.warmup, settings.verbosity, settings.port = False, 0, 0
        # By default keys and values are kept in float16, which changes log-probabilities by up to 0.03; with these,
        # what remains of float32 weights is below 1e-4.
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if adapter is not None:
            lora = xllamacpp.CommonAdapterLoraInfo()
            lora.path, lora.scale = str(adapter), 1.0
            settings.lora_adapters = [lora]
        try:
            self._server = xllamacpp.Server(settings)
        except Exception as error:  # whatever it raises, it is about these files
            raise ModelError(f"llama.cpp cannot load {adapter or model} ({str(error)[:200]}).") from None

    def hear(self, prompts: list[list[int]], ends: frozenset[int]) -> list[Heard]:
        heard = []
        for prompt in prompts:
            reply = self._post("completion", {
                "prompt": prompt, "n_predict": NEW_TOKENS, "temperature": 0, "cache_prompt": False, "n_probs": TOP,
                "return_tokens": True})
            tokens, scored = reply["tokens"], reply["completion_probabilities"][0]
            # A token that is part of a character has no entry of its own there.
            top = scored["top_logprobs"] if tokens[:1] == [scored["id"]] else []
            heard.append(Heard([token for token in tokens if token not in ends],
                               {token["id"]: token["logprob"] for token in top}))
        return heard

    def chat_tokens(self, question: str) -> list[int]:
        prompt = self._post("apply-template", {"messages": [{"role": "user", "content": question}]})["prompt"]
        tokens: list[int] = self._post("tokenize", {"content": prompt, "add_special": True,
                                                    "parse_special": True})["tokens"]
        return tokens

    def _post(self, path: str, content: dict[str, Any]) -> Any:
        request = Request(f"{self._server.listening_address}/{path}", json.dumps(content).encode(),
                          {"Content-Type": "application/json"})
        with build_opener(ProxyHandler({})).open(request, timeout=60) as reply:  # never by way of a proxy
            return json.load(reply)


def _missing(package: str) -> ModelError:
    return ModelError(f"--check needs the package {package}, which is not installed; "
                      f"install it with: pip install {package}.")
