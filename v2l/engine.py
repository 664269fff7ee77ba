"""The engine wires the rooms together: it can `ingest` a video, `ask` its adapter, or ask the video with `direct`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import v2l
from v2l.adapter import Adapter
from v2l.adapter.file import single
from v2l.adapter.provenance import Provenance
from v2l.config import DECODED_AHEAD, INTERNALIZE, Decoding, Sampling
from v2l.errors import AdapterError, ModelError, UsageError
from v2l.model.answer import Answer
from v2l.model.base import Base, choose_device, choose_dtype
from v2l.model.batch import ask_after, ask_batch
from v2l.model.familiar import Familiar
from v2l.model.folder import read_json
from v2l.model.generate import Reply, ask, bind
from v2l.model.hypernetwork import Hypernetwork, perceiver_dtype
from v2l.model.likelihood import ScoredRow, answer_logprobs
from v2l.model.packed import pack
from v2l.model.prompt import context_prompt, cut_tiles, question_prompt, tile_grid
from v2l.model.text import Cache, LayerAdapter, TextStack
from v2l.model.vision import Vision
from v2l.model.weights import opened
from v2l.store.default import chosen_model, world_of
from v2l.store.resolve import HypernetFiles, ModelFiles, check_fit, find_base, find_hypernetwork
from v2l.system.ahead import ahead
from v2l.system.progress import Progress
from v2l.system.threads import limit_threads, threads
from v2l.video.clip import Clip, open_clip
from v2l.wording import shortened


@dataclass(frozen=True)
class Seen:
    """A video as the base has seen it: image tokens, and what its prompt says of them."""

    image_tokens: Tensor
    """[tiles * image_seq_len, hidden]"""
    timestamps: list[float]
    """What the prompt prints of each frame, seconds: index / fps where the rate is constant, else its real time."""
    times: list[float]
    """Presentation time of each frame in seconds."""
    grid: tuple[int, int]
    """Rows and columns of tiles of every frame."""
    duration: float

    def prompt(self, image_seq_len: int, text: str = INTERNALIZE, generate: bool = False) -> str:
        return context_prompt(
            self.timestamps, [self.grid] * len(self.timestamps), self.duration, image_seq_len, text, generate
        )


class Engine:
    """A base model and its hypernetwork, each loaded when first needed.

    `model` is `tiny`, `500m`, `2.2b`, a folder or a Hub id; None is the command line's default: what V2L_MODEL or
    `v2l models use` says, else `tiny`. `checkpoint` is a hypernetwork file or Hub id, by default the model's own;
    `dtype` one of auto, float32, bfloat16, float16. Errors are V2LError.
    """

    def __init__(
        self,
        model: str | None = None,
        checkpoint: str | None = None,
        *,
        device: str | None = None,
        dtype: str = "auto",
        offline: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._named = chosen_model(model)
        self.model = self._named.name
        self.checkpoint, self.offline, self.progress = checkpoint, offline, progress
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device, float16=True)
        self.threads = limit_threads()
        """Threads that watch videos, whatever torch is set to later: other numbers of threads give other bytes."""

    @cached_property
    def files(self) -> ModelFiles:
        with self._named.told():
            return find_base(self.model, offline=self.offline, progress=self.progress)

    @cached_property
    def hypernetwork_files(self) -> HypernetFiles:
        with self._named.told() if self.checkpoint is None else nullcontext():
            files = find_hypernetwork(self.model, self.checkpoint, offline=self.offline, progress=self.progress)
        base_config = read_json(self.files.folder / "config.json")
        check_fit(base_config, files.config, base=self.files.name, checkpoint=files.name)
        return files

    @cached_property
    def base(self) -> Base:
        return Base(self.files.folder, self.device, self.dtype)

    @cached_property
    def hypernetwork(self) -> Hypernetwork:
        files = self.hypernetwork_files
        with torch.device("meta"):
            hypernetwork = Hypernetwork(files.config)
        # Steps 1 to 3 run in bfloat16 as they were trained, the rest in float32 (v2l/README.md section 5); float16 has
        # no room for step 1. Each is mapped by itself, so that nothing of the first stays in memory as it is stored.
        for first, dtype in ((True, perceiver_dtype(self.dtype)), (False, torch.float32)):
            with opened(files.weights) as stored:
                keys = [key for key in stored.keys() if key.startswith("aggregator.") == first]  # noqa: SIM118
                tensors = {key: stored.get_tensor(key).to(self.device, dtype) for key in keys}
            hypernetwork.load_state_dict(tensors, strict=False, assign=True)
        hypernetwork.requires_grad_(False).eval()
        pack(hypernetwork.aggregator)
        return hypernetwork

    # -- loading: done when first needed, or now with one of these -----------------------------------------------

    def fetch_base(self) -> ModelFiles:
        """Finds the base on this disk and checks that it is whole; one from the Hub that is not there is fetched, which
        may take minutes. ModelError; UsageError for a name that can be none."""
        return self.files

    def fetch_hypernetwork(self) -> HypernetFiles:
        """Finds the hypernetwork too, as `fetch_base` its base, which it must fit; converts a released one, once."""
        return self.hypernetwork_files

    def load_text(self) -> TextStack:
        """Reads the text stack into memory, all that `ask` needs: gigabytes of a large base. ModelError."""
        return self.base.text

    def load(self) -> tuple[TextStack, Vision, Hypernetwork]:
        """Reads all that `ingest`, `ask` and `direct` need into memory. ModelError."""
        return self.load_text(), self.base.vision, self.hypernetwork

    def sampling(self, **changes: Any) -> Sampling:
        """The model's default sampling with the changes that are not None."""
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(Sampling(resolution=self.files.resolution), **given)

    # -- watching ------------------------------------------------------------------------------------------------

    def see(self, clip: Clip, sampling: Sampling) -> Seen:
        """Decodes a clip frame by frame, some frames ahead of the vision tower that looks at their tiles."""
        times: list[float] = []
        timestamps: list[float] = []
        wanted = len(clip.indices)
        tile = self.base.tile

        def cut() -> Iterator[tuple[float, float, np.ndarray]]:
            for frame in clip.frames():
                yield frame.time, frame.timestamp, cut_tiles(frame.image, sampling.resolution, tile)

        def looked_at(frames: Iterator[tuple[float, float, np.ndarray]]) -> Iterator[np.ndarray]:
            for moment, timestamp, tiles in frames:
                yield tiles
                times.append(moment)
                timestamps.append(timestamp)
                if self.progress:
                    self.progress(clip.info.path.name, len(times), wanted)

        with ahead(cut(), DECODED_AHEAD, lambda item: item[2].nbytes) as frames, threads(self.threads):
            image_tokens = self.base.see(looked_at(frames))
        grid = tile_grid(clip.info.width, clip.info.height, sampling.resolution, self.base.tile)
        return Seen(image_tokens, timestamps, times, grid, clip.info.end)

    def is_foreign(self, seen: Seen) -> bool:
        """Whether the model was made for nothing like this video. False where that is not known, which it is of `tiny`
        alone."""
        return self._familiar is not None and self._familiar.is_foreign(seen.image_tokens)

    @cached_property
    def _familiar(self) -> Familiar | None:
        file = world_of(self.files, lambda: self.hypernetwork_files)
        return Familiar(file) if file else None

    @torch.inference_mode()
    def internalize(self, context: Tensor, layer_done: Callable[[int], None] = lambda _: None
                    ) -> tuple[Tensor, Tensor]:
        """A context [1, t, h] from `Base.context`, which is used up -> A [L, r, d_in], B [L, r, d_out] in float32,
        without the bias. `layer_done` is called with the number of each layer, from 0."""
        hypernetwork = self.hypernetwork

        def layers() -> Iterator[tuple[Tensor, Tensor]]:
            for layer, features in enumerate(self.features(context)):
                yield hypernetwork(features, torch.tensor([layer], device=self.device))
                layer_done(layer)

        A, B = zip(*layers(), strict=True)
        return torch.cat(A), torch.cat(B)

    def features(self, context: Tensor) -> Iterator[Tensor]:
        """Context features [1, t, h] as each decoder layer is entered, computed one after the other; an engine that
        measures may watch them come."""
        return self.base.features(context)

    def ingest(
        self, video: str | Path | Clip, sampling: Sampling | None = None, adapter_dtype: str = "auto"
    ) -> Adapter:
        """Watches a video once (a clip must have been opened with this sampling). `adapter_dtype` auto stores float32
        where computing in it, else float16."""
        sampling = sampling or self.sampling()
        clip = video if isinstance(video, Clip) else open_clip(Path(video), sampling)
        seen = self.see(clip, sampling)
        context = self._context(seen)
        times, foreign = seen.times, self.is_foreign(seen)
        del seen  # a long video's image tokens are half a gigabyte, and the context has them now
        return self._adapter(clip, times, foreign, context, sampling, adapter_dtype)

    def ingest_seen(self, clip: Clip, seen: Seen, sampling: Sampling, adapter_dtype: str = "auto") -> Adapter:
        """`ingest` of a clip that `see` has looked at."""
        return self._adapter(clip, seen.times, self.is_foreign(seen), self._context(seen), sampling, adapter_dtype)

    def _context(self, seen: Seen) -> Tensor:
        return self.base.context(self.base.encode(seen.prompt(self.base.image_seq_len)), seen.image_tokens)

    def _adapter(
        self, clip: Clip, times: list[float], foreign: bool, context: Tensor, sampling: Sampling, adapter_dtype: str
    ) -> Adapter:
        """The adapter of a clip from its context, which is used up."""
        files, hypernetwork, tokens = self.files, self.hypernetwork_files, context.shape[1]
        made_with = self.provenance(sampling, adapter_dtype)
        frames, layers = len(times), hypernetwork.config.num_layers

        def layer_done(layer: int) -> None:
            if self.progress:
                self.progress(f"{clip.info.path.name}, layer {layer + 1}/{layers}", frames, frames)

        with threads(self.threads):
            A, B = self.internalize(context, layer_done)
        if not (A.isfinite().all() and B.isfinite().all()):
            raise ModelError(f"The model gave numbers that are not finite for {clip.info.path}; try --dtype float32.")
        target = hypernetwork.config.target_module
        start, end = clip.span(sampling)
        array = lambda t: np.ascontiguousarray(t.float().cpu().numpy())
        return single(
            array(A),
            array(B),
            array(self.hypernetwork.bias_A[target]),
            array(self.hypernetwork.bias_B[target]),
            made_with.dtype,
            base={"id": files.name, "revision": files.revision, "fingerprint": made_with.base},
            hypernetwork={"id": hypernetwork.name, "sha256": made_with.hypernetwork},
            scale=hypernetwork.config.adapter_scale,
            source=clip.info.source,
            start=start,
            end=end,
            timestamps=times,
            sampling=made_with.sampling,
            compute={"dtype": made_with.compute, "device": self.device.type, "tokens": tokens,
                     **({"decoder": clip.track.decoder} if clip.track.decoder else {}),
                     **({"foreign": True} if foreign else {})},
            prompt=made_with.prompt,
            version=v2l.__version__,
        )

    def provenance(self, sampling: Sampling, adapter_dtype: str = "auto") -> Provenance:
        """What `ingest` makes an adapter with. Nothing heavy is loaded."""
        if adapter_dtype == "auto":
            adapter_dtype = "float32" if self.dtype == torch.float32 else "float16"
        return Provenance(self.base.fingerprint, self.hypernetwork_files.sha256, sampling.recorded(), INTERNALIZE,
                          str(self.dtype).removeprefix("torch."), adapter_dtype)

    # -- answering -----------------------------------------------------------------------------------------------

    def bind(self, adapter: Adapter) -> list[LayerAdapter]:
        """Checks that an adapter was made for this base and readies it for `ask`."""
        made_for, mine = adapter.record["base"], self.base.fingerprint
        if made_for["fingerprint"] != mine:
            way_out = "name the right one with --model"
            if made_for["id"] == self.files.name:
                way_out = "ingest its video again, or name the one of that time with --model"
            raise AdapterError(f"{adapter.name} was made for the base {made_for['id']} "
                               f"({made_for['fingerprint'][:19]}), and {self.files.name} ({mine[:19]}) is another; "
                               f"{way_out}.")
        config = self.base.text_config
        fits = (config.num_layers, config.intermediate_size, config.hidden_size)
        if (has := (adapter.num_layers, adapter.A.shape[2], adapter.B.shape[2])) != fits:
            words = "{} layers of {} -> {}"
            raise AdapterError(f"{adapter.name} says that it was made for {self.files.name} and is of "
                               f"{words.format(*has)}, not {words.format(*fits)}; get it again, or ingest the video.")
        return bind(adapter, self.device)

    def check_question(self, question: str) -> None:
        """UsageError for a question that is longer than the base can read; all methods that take one check it so."""
        limit = self.base.text_config.max_positions
        if 4 * len(question) + 100 <= limit:  # no character takes more tokens; the rest of the prompt has a few
            return
        if (count := len(self.base.encode(question_prompt(question)))) > limit:
            raise UsageError(f"The question {shortened(question, 40)!r} is {count:,} tokens long and the base "
                             f"{self.files.name} reads no more than {limit:,}; ask a shorter one.")

    def ask(
        self, adapter: list[LayerAdapter] | Adapter | None, question: str, decoding: Decoding | None = None
    ) -> Reply:
        """A question to an adapter (None: to the bare base). Iterate the reply for text as it comes."""
        self.check_question(question)
        bound = self.bind(adapter) if isinstance(adapter, Adapter) else adapter
        return ask(self.base, bound, question, decoding or Decoding())

    def ask_batch(
        self, rows: Iterable[tuple[list[LayerAdapter] | Adapter | None, str]], decoding: Decoding | None = None
    ) -> Iterator[Answer]:
        """Many questions, each to its own adapter: the answers of `ask`, in order, computed together and several times
        faster. Rows are read as they are needed, so give them as an iterator where there are many adapters. Several
        questions to one adapter share it where they follow each other."""
        return ask_batch(self.base, self._bound(rows), decoding or Decoding())

    def _bound(
        self, rows: Iterable[tuple[list[LayerAdapter] | Adapter | None, str]]
    ) -> Iterator[tuple[list[LayerAdapter] | None, str]]:
        last: Adapter | None = None
        bound: list[LayerAdapter] | None = None
        for adapter, question in rows:
            self.check_question(question)
            if not isinstance(adapter, Adapter):
                yield adapter, question
                continue
            if adapter is not last:
                last, bound = adapter, self.bind(adapter)
            yield bound, question

    def answer_logprobs(self, rows: Iterable[ScoredRow]) -> Iterator[list[float]]:
        """Log-probability of each answer that a row (bound adapter, question, answers) may give, many rows together."""
        return answer_logprobs(self.base, rows)

    def _direct_ids(self, seen: Seen, question: str, generate: bool = True) -> list[int]:
        """Token ids of a question with a video before it. UsageError for a question that cannot stand there."""
        if "<image>" in question:
            raise UsageError("A question with the video in the prompt cannot contain <image>; leave it out.")
        self.check_question(question)
        return self.base.encode(seen.prompt(self.base.image_seq_len, question, generate))

    def direct(
        self, video: str | Path | Seen, question: str, sampling: Sampling | None = None,
        decoding: Decoding | None = None, generate: bool = True,
    ) -> Reply:
        """The baseline: the question with the whole video in the prompt; `generate` ends it with `Assistant:`."""
        started = time.perf_counter()
        if not isinstance(video, Seen):
            sampling = sampling or self.sampling()
            video = self.see(open_clip(Path(video), sampling), sampling)
        ids = self._direct_ids(video, question, generate)
        return Reply(
            self.base,
            self.base.embed(ids, video.image_tokens),
            decoding or Decoding(),
            prompt_tokens=len(ids),
            visual_tokens=len(video.image_tokens),
            started=started,
        )

    def prefix(self, seen: Seen, room: int) -> tuple[Cache, int]:
        """Keys and values of a video's part of the direct prompt, with room for that many more, and its length."""
        base = self.base
        ids = base.encode(seen.prompt(base.image_seq_len, "", generate=True))
        # A special token ends the frames; what follows it is tokenized the same whatever comes before.
        last = len(ids) - ids[::-1].index(base.token("<fake_token_around_image>"))
        cache = Cache(base.text_config, 1, last + room, self.device, self.dtype)
        with torch.inference_mode():
            base.text(base.embed(ids[:last], seen.image_tokens), cache)
        return cache, last

    def direct_cached(
        self, seen: Seen, prefix: tuple[Cache, int], question: str, decoding: Decoding | None = None
    ) -> Reply:
        """`direct` with the video's part of the prompt computed before, by `prefix`."""
        started = time.perf_counter()
        ids = self._direct_ids(seen, question)
        cache, length = prefix
        cache.length = length
        return Reply(
            self.base,
            self.base.embed(ids[length:]),
            decoding or Decoding(),
            cache=cache,
            prompt_tokens=len(ids),
            visual_tokens=len(seen.image_tokens),
            started=started,
        )

    def direct_batch(
        self, seen: Seen, prefix: tuple[Cache, int], questions: Sequence[str], decoding: Decoding | None = None
    ) -> Iterator[Answer]:
        """Many questions to `direct_cached`: its answers, up to rounding, in order, computed together and several times
        faster. `prefix` needs no room for more."""
        base, (cache, length) = self.base, prefix
        prompts = [self._direct_ids(seen, question) for question in questions]
        if prompts:
            head = base.embed(prompts[0][:length], seen.image_tokens)
            yield from ask_after(base, head, cache, [prompt[length:] for prompt in prompts], len(seen.image_tokens),
                                 decoding or Decoding())
