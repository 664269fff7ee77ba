"""The frozen SmolVLM2: only what is needed of it is loaded; context features come out layer by layer (v2l/README.md
section 4)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from v2l.config import CHUNK, INTERNALIZE
from v2l.errors import DeviceWarning, ModelError
from v2l.model.config import TextConfig, VisionConfig
from v2l.model.folder import read_json, tiling
from v2l.model.look import Known, look_at
from v2l.model.packed import cpu_has
from v2l.model.prompt import END, context_prompt, normalize, tile_count
from v2l.model.text import Cache, TextStack
from v2l.model.tokenizer import check_tokenizer
from v2l.model.vision import Vision
from v2l.model.weights import fingerprint, load_into, text_name, vision_name
from v2l.system.threads import yield_to_others

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TILES_AT_ONCE = 4
"""Tiles that go through the vision tower together: bounds memory; more is not faster on a CPU."""


def choose_device(name: str | None) -> torch.device:
    """The device asked for, or the best that works: cuda, mps, cpu. ModelError if the one asked for does not; a GPU
    that does not and was not asked for is a DeviceWarning."""
    if name is not None:
        try:
            return _working(name)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"The device {name!r} cannot be used here ({_reason(error)}); leave --device out to take "
                             "the best there is, or name --device cpu.") from None
    for kind, there in (("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available)):
        if not there():
            continue
        try:
            return _working(kind)
        except (RuntimeError, AssertionError) as error:
            warnings.warn(f"The GPU cannot be used ({_reason(error)}), so the CPU computes.{_other_wheel(error)}",
                          DeviceWarning, stacklevel=2)
    return torch.device("cpu")


def _working(name: str) -> torch.device:
    """The device of this name. Raises what torch raises where it does not compute."""
    device = torch.device(name)
    float(torch.ones(2, device=device).sum())  # only a kernel that has run shows that torch has kernels for this GPU
    return device


def _reason(error: Exception) -> str:
    return (str(error) or "it failed").splitlines()[0].rstrip(".")


def _other_wheel(error: Exception) -> str:
    """What to install where torch's wheel was built for other GPUs, as a sentence with a space before it."""
    if "kernel image" not in str(error):
        return ""
    return (" torch's usual wheel has nothing for GPUs older than compute capability 7.5 (GTX 10xx, V100); what is "
            "built with CUDA 12.6 has: pip install torch --index-url https://download.pytorch.org/whl/cu126")


TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_dtype(name: str, device: torch.device, float16: bool = False) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it fast, else float32; on GPUs that multiply only float16 fast,
    it is that if `float16` says that its smaller range will do."""
    if name != "auto":
        if name not in TORCH_DTYPES:
            raise ModelError(f"There is no dtype {name!r}; choose auto, {', '.join(TORCH_DTYPES)}.")
        return TORCH_DTYPES[name]
    if device.type == "cuda":
        major = torch.cuda.get_device_capability(device)[0]
        if major == 7 and float16:
            return torch.float16
        fast = major >= 8  # older ones emulate it
    elif device.type == "cpu":
        # Of ARM's instructions torch makes use through oneDNN, which its builds for macOS and Windows on ARM have not:
        # there bfloat16 is computed number by number (pytorch #143913).
        arm = cpu_has("bf16") and torch.backends.mkldnn.is_available()
        fast = cpu_has("avx512_bf16") or cpu_has("amx_bf16") or arm
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


class Base:
    """A SmolVLM2 folder. Nothing heavy is read before it is used.

    `tile` is the edge of a tile in pixels, `image_seq_len` the tokens a tile costs. Weights that gradients are to pass
    through must not be packed.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype, packed: bool = True) -> None:
        self.folder, self.device, self.dtype, self.packed = folder, device, dtype, packed
        self.config = read_json(folder / "config.json")
        self.text_config = TextConfig.from_json(self.config)
        self.vision_config = VisionConfig.from_json(self.config)
        self.tile, self.image_seq_len = tiling(folder, self.vision_config)
        self._known: Known | None = None

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.folder)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        except Exception as error:  # what the library raises, whatever is wrong with the file
            reason = str(error)[:300]
            raise ModelError(f"{self.folder / 'tokenizer.json'} cannot be read ({reason}); get it again.") from None
        check_tokenizer(tokenizer, self.folder)
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt; nothing is added."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        if max(ids, default=0) >= self.text_config.vocab_size:
            raise self._wrong_tokenizer()
        return ids

    def prompt_tokens(
        self,
        timestamps: Sequence[float],
        grid: tuple[int, int],
        duration: float,
        text: str = INTERNALIZE,
        generate: bool = False,
    ) -> int:
        """Tokens of `context_prompt` for frames that are all cut into this grid of tiles, without making all."""
        tiles = len(timestamps) * tile_count(grid)
        # <image> is one token wherever it stands, so one for each tile is enough to count with, and ten times faster.
        counted = context_prompt(timestamps, [grid] * len(timestamps), duration, 1, text, generate)
        return len(self.encode(counted)) + tiles * (self.image_seq_len - 1)

    @cached_property
    def ends(self) -> frozenset[int]:
        """Ids of the tokens that end an answer: `<end_of_utterance>`, and what generation_config.json names."""
        file, ends = self.folder / "generation_config.json", {self.token(END)}
        named = read_json(file).get("eos_token_id") if file.exists() else None
        for token in named if isinstance(named, list) else [] if named is None else [named]:
            if type(token) is not int or not 0 <= token < self.text_config.vocab_size:
                raise ModelError(f"{file} names {token!r} as a token that ends answers, and the model has tokens 0 to "
                                 f"{self.text_config.vocab_size - 1}; get it again.")
            ends.add(token)
        return frozenset(ends)

    def token(self, text: str) -> int:
        """Id of a special token."""
        token = self.tokenizer.token_to_id(text)
        if token is None:
            raise ModelError(f"The tokenizer in {self.folder} has no token {text}; this is not a SmolVLM2 folder.")
        if token >= self.text_config.vocab_size:
            raise self._wrong_tokenizer()
        return int(token)

    def _wrong_tokenizer(self) -> ModelError:
        return ModelError(f"The tokenizer in {self.folder} has more tokens than the model's "
                          f"{self.text_config.vocab_size}; copy or pull it again.")

    @cached_property
    def text(self) -> TextStack:
        """The whole text stack: what answering needs."""
        self.__dict__.pop("body", None)  # this one takes its place
        return self._load_text(None)

    @cached_property
    def body(self) -> TextStack:
        """The text stack without its last layer, norm and head: all that context features need."""
        return self.__dict__.get("text") or self._load_text(self.text_config.num_layers - 1)

    def _load_text(self, layers: int | None) -> TextStack:
        with torch.device("meta"):
            stack = TextStack(self.text_config, layers)
        tied = {"lm_head.weight": "embed_tokens.weight"} if self.text_config.tied else None
        load_into(stack, self.folder, text_name, self.device, self.dtype, tied, self.packed)
        return stack

    @cached_property
    def vision(self) -> Vision:
        with torch.device("meta"):
            vision = Vision(self.vision_config, self.text_config.hidden_size)
        load_into(vision, self.folder, vision_name, self.device, self.dtype, packed=self.packed)
        return vision

    @torch.inference_mode()
    def see(self, tiles: Iterable[np.ndarray]) -> Tensor:
        """Tiles [n, tile, tile, 3] uint8 of frame after frame -> image tokens [all tiles * image_seq_len, h]; equal
        tiles are looked at once."""
        vision = lambda group: self.vision(torch.from_numpy(normalize(group)).to(self.device, self.dtype))
        return look_at(tiles, TILES_AT_ONCE, vision, self._known)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """A while in which `see` knows the tiles that its calls before have looked at: for segments of one video."""
        before, self._known = self._known, Known()
        try:
            yield
        finally:
            self._known = before

    @torch.inference_mode()
    def embed(self, ids: Sequence[int], image_tokens: Tensor | None = None, stack: TextStack | None = None) -> Tensor:
        """Token ids -> embeddings [1, t, h], with the image tokens [n, h] in the places of `<image>`."""
        tokens = torch.tensor(ids, device=self.device)
        embeddings: Tensor = (stack or self.text).embed_tokens(tokens)
        if image_tokens is not None:
            places = tokens == self.token("<image>")
            if int(places.sum()) != len(image_tokens):
                raise ModelError(
                    f"The base in {self.folder} gives {len(image_tokens)} image tokens where its processor "
                    f"configuration promises {int(places.sum())}."
                )
            embeddings[places] = image_tokens
        return embeddings[None]

    @torch.inference_mode()
    def context(self, ids: Sequence[int], image_tokens: Tensor | None) -> Tensor:
        """`embed` for `features`: what a prompt that shows a video begins as, [1, t, h]."""
        return self.embed(ids, image_tokens, self.body)

    @torch.inference_mode()
    def features(self, x: Tensor) -> Iterator[Tensor]:
        """A context [1, t, h] -> the hidden states [1, t, h] entering each decoder layer.

        Only one layer's are held: each takes the place of the one before in x, so use it before asking for the next.
        The last layer is not run. Beyond x and one layer's keys and values, memory does not grow with t.
        """
        stack, tokens = self.body, x.shape[1]
        chunks = x.split(CHUNK, dim=1)
        ropes = [stack.rope(places[None]) for places in torch.arange(tokens, device=x.device).split(chunks[0].shape[1])]
        held = Cache(self.text_config, 1, tokens, self.device, self.dtype, layers=1)
        yield x
        for layer in stack.layers[: self.text_config.num_layers - 1]:
            held.length = 0
            for chunk, rope in zip(chunks, ropes, strict=True):
                yield_to_others()
                chunk.copy_(layer(chunk, rope, cache=held))
                held.length += chunk.shape[1]
            yield x
