"""What a sweep plans and measures: a cell is so many frames at such a resolution, watched into an adapter
and put into the prompt. Light values that go through JSON, so that a sweep can be stopped and taken up again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from v2l.bench.speed.amortization import pays_after
from v2l.bench.speed.floors import ModelSizes


@dataclass(frozen=True)
class AdapterTimes:
    """A video watched in a process of its own and one question asked; times in seconds, everything loaded and warm."""

    frames: int
    """Frames really sampled."""
    watch_s: float
    """From the video file to the adapter."""
    read_s: float
    """Decoding the frames and cutting them into tiles, alone."""
    see_s: float | None
    """Reading and the vision tower, within `watch_s`; None where the engine does not do that as a step of its own."""
    decoder_s: float | None
    """The decoder layers within `watch_s`; None as for `see_s`."""
    bind_s: float
    """From the adapter to what the text stack applies."""
    ttft_s: float
    """From the question to the first token of the answer."""
    token_s: float
    """Each token after."""
    prompt_tokens: int
    peak: int | None
    """Bytes of memory that watching took at most; None where the system does not tell."""
    peak_device: int | None
    """Bytes of a GPU's memory that watching took at most; None without one."""
    file_size: int
    repeats: int


@dataclass(frozen=True)
class PromptTimes:
    """The question that `AdapterTimes` are about, asked with the video in the prompt; times in seconds."""

    frames: int
    ttft_s: float
    """From the question and the video file to the first token."""
    token_s: float
    setup_s: float
    """Seconds once, where the video's part of the prompt is kept: seeing it and computing its keys and values."""
    cached_ttft_s: float
    """From the question to the first token then."""
    prompt_tokens: int
    visual_tokens: int
    peak: int | None
    peak_device: int | None
    repeats: int


@dataclass(frozen=True)
class Missing:
    """Why one half of a cell has no figures."""

    status: Literal["not run", "stopped", "did not fit", "failed"]
    reason: str
    about_s: float
    """What it was estimated to take."""


@dataclass(frozen=True)
class CellPlan:
    """A cell before it is measured; tokens are counted with the model's own tokenizer."""

    frames: int
    resolution: int
    tiles: int
    """Tiles of all frames."""
    context_tokens: int
    """Tokens of the prompt a video is watched with."""
    direct_tokens: int
    """Tokens of the prompt that holds the video and the question."""


@dataclass(frozen=True)
class SpeedCell:
    """One measured cell."""

    plan: CellPlan
    watch: AdapterTimes | Missing
    direct: PromptTimes | Missing

    @property
    def both(self) -> tuple[AdapterTimes, PromptTimes] | None:
        if isinstance(self.watch, AdapterTimes) and isinstance(self.direct, PromptTimes):
            return self.watch, self.direct
        return None

    @property
    def ttft_ratio(self) -> float | None:
        """How many times sooner the adapter's first token comes."""
        return self.both and self.both[1].ttft_s / self.both[0].ttft_s

    @property
    def cached_ratio(self) -> float | None:
        """How many times sooner it comes than with a prompt whose video part was kept."""
        return self.both and self.both[1].cached_ttft_s / self.both[0].ttft_s

    @property
    def pays(self) -> dict[str, int | None] | None:
        """The question with which watching has cost less, against the video in the prompt and against keeping it."""
        if self.both is None:
            return None
        adapter, direct = self.both
        mine = (adapter.watch_s + adapter.bind_s, adapter.ttft_s)
        return {"direct": pays_after(*mine, 0.0, direct.ttft_s),
                "cached": pays_after(*mine, direct.setup_s, direct.cached_ttft_s)}

    @property
    def parts(self) -> dict[str, float] | None:
        """Seconds of watching, by part; what is neither seeing nor the decoder counts to the hypernetwork."""
        watch = self.watch
        if isinstance(watch, Missing) or watch.see_s is None or watch.decoder_s is None:
            return None
        return {"vision": watch.see_s, "decoder": watch.decoder_s,
                "hypernetwork": watch.watch_s - watch.see_s - watch.decoder_s}

    def to_json(self) -> dict[str, Any]:
        return {"kind": "cell", **asdict(self.plan), "watch": _half(self.watch), "direct": _half(self.direct)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SpeedCell:
        """The inverse of `to_json`; what was derived is left out. Raises KeyError or TypeError for other documents."""
        plan = CellPlan(**{f.name: values[f.name] for f in fields(CellPlan)})
        return cls(plan, _read_half(values["watch"], AdapterTimes), _read_half(values["direct"], PromptTimes))


def _half(half: AdapterTimes | PromptTimes | Missing) -> dict[str, Any]:
    return asdict(half) if isinstance(half, Missing) else {"status": "measured", **asdict(half)}


def _read_half(values: dict[str, Any], kind: Any) -> Any:
    if values["status"] != "measured":
        return Missing(**values)
    return kind(**{name: value for name, value in values.items() if name != "status"})


@dataclass(frozen=True)
class Floors:
    """The least the halves of a cell can cost on a machine (see `floors`); seconds and bytes."""

    flop: dict[str, float]
    """FLOP of watching, by part."""
    watch_s: float
    direct_s: float
    answer_s: float
    """Seconds of a first token from the adapter and of each after: the text stack's weights are read once."""
    parts: dict[str, float]
    """Seconds of `watch_s`, by part as in `SpeedCell.parts`."""
    watch_bytes: int
    """Bytes of the weights alone."""
    direct_bytes: int
    """Bytes of the weights, and the keys and values of the prompt."""

    @classmethod
    def of(cls, shapes: ModelSizes, plan: CellPlan, rate: float, bandwidth: float) -> Floors:
        """`rate` in FLOP/s, `bandwidth` in bytes/s."""
        flop = shapes.watching(plan.tiles, plan.context_tokens)
        return cls(
            flop,
            sum(flop.values()) / rate,
            sum(shapes.direct(plan.tiles, plan.direct_tokens).values()) / rate,
            shapes.text_bytes / bandwidth,
            {"vision": flop["vision"] / rate, "decoder": (flop["decoder"] + flop["attention"]) / rate,
             "hypernetwork": flop["hypernetwork"] / rate},
            shapes.watching_bytes,
            shapes.direct_bytes + plan.direct_tokens * shapes.token_bytes,
        )


@dataclass(frozen=True)
class Cold:
    """`v2l ask` as a process of its own, on a warm disk cache: seconds to the first byte on stdout, and to its end."""

    first_s: float
    total_s: float
    peak: int | None
    repeats: int


@dataclass(frozen=True)
class Throughput:
    """A question to several adapters, one after the other and as one batch; seconds for all answers."""

    adapters: int
    new_tokens: int
    one_by_one_s: float
    batched_s: float
