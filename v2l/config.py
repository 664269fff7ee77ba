"""Every default of v2l, in frozen dataclasses; change one with `dataclasses.replace`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

ADAPTER_SUFFIX = ".v2lora"
"""Ending of an adapter's file."""

INTERNALIZE = "Internalize this video for later captioning."
"""The text of the user message while a video is internalized (v2l/README.md section 3)."""

@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are looked at, and how large (v2l/README.md section 2)."""

    frames: int = 12
    """Most frames that are looked at."""
    fps: float = 1.0
    """Frames wanted per second of video."""
    skip: float = 1.0
    """Seconds left out at either end of a video longer than the frames cover."""
    resolution: int = 384
    """Longest edge of a frame in pixels."""
    start: float | None = None
    """Where to begin in seconds; None is the video's beginning."""
    end: float | None = None
    """Where to end in seconds, this moment left out; None is the video's end."""
    stream: int | None = None
    """Which stream of the file; None for the one that is the film."""

    def recorded(self) -> dict[str, Any]:
        """Values as files record them: where it starts and ends stands elsewhere, the stream only where given."""
        left_out = {"start", "end"} | ({"stream"} if self.stream is None else set())
        return {name: value for name, value in asdict(self).items() if name not in left_out}


CHUNK = 4096
"""Context tokens that are computed on together: bounds the memory of what is wider than the hidden states."""

LARGEST_PICTURE = 1 << 26
"""Most pixels of a video's pictures: 8192 x 8192. A file of a few bytes can claim more than the memory holds."""
MOST_FRAMES = 1 << 24
"""Most frames of a video: 38 hours at 120 a second. A file of a few bytes can claim any number."""
MOST_RATE = 1 << 20
"""Most frames wanted per second: no camera makes more."""
MOST_RESOLUTION = 1 << 14
"""Longest edge of a frame that is asked for, pixels: twice that of the largest square picture."""

DECODED_AHEAD = 64 << 20
"""Bytes of frames, and of tiles, made before they are looked at."""

SHORTEST_SEGMENT = 1.0
"""Shortest length to cut a video into, in seconds: less would give a frame or none at the default rate."""
MOST_SEGMENTS = 1 << 16
"""Most segments of a video: more, of a frame each, record more than one file can hold."""
REMNANT = 0.25
"""Share of a segment's length from which what is left at the end of a video is a segment of its own; a shorter
rest would weigh as much in the joined adapter as a whole segment, and joins the one before it."""


@dataclass(frozen=True)
class Scenes:
    """Which changes of the picture part a video into segments."""

    threshold: float = 3.0
    """How many times larger than the steps around it a step between two frames must be: from 2.5 on, no motion was
    taken for a cut in the films it was measured on, and up to 3 no cut was missed (tests/measure/scene_cuts.py)."""
    shortest: float = 10.0
    """Shortest scene in seconds: about what 12 frames cover at the default rate, so that no rank is spent on less."""
    longest: float = 60.0
    """Longest scene in seconds: about as long as the clips that the released hypernetworks were trained on."""


@dataclass(frozen=True)
class Decoding:
    """How an answer is generated (v2l/README.md section 7)."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    """0 takes the likeliest token; above, tokens are drawn."""
    seed: int = 0
    """Seed of the draws, so that the same call gives the same answer."""
    top_p: float = 1.0
    """Tokens are drawn from the likeliest that together have this probability."""


@dataclass(frozen=True)
class Strategy:
    """How an adapter of several segments is asked; the defaults did best in tests/measure/strategies.py."""

    name: str = "auto"
    """join: all segments at once, summed in rank space; route: the segment that most surely shows what a question names
    or, where that is not known, the best by the answers of all, joined; each: every segment by itself, then one answer
    made of theirs by a base that follows instructions, else as timeline; timeline: what every segment says, and when;
    auto: what a question needs, which its words tell, and of one moment join or route."""
    join_up_to: int = 4
    """auto joins no more segments than this where it is not known which show what is asked about: then join and route
    did equally well up to 4, and route better from 6 on."""
    best: int = 2
    """route joins so many of the best by their answers."""
    probe_tokens: int = 16
    """Longest answer by which route judges a segment."""
    segment_scale: float | None = 1.0
    """What A of joined segments is multiplied with, the bias not; None is one over their number."""


SURE = 6.0
"""Score of a segment, in nats, from which on it is taken to show what is looked for, of the embedded model: of what was
there 98 % had more, and of what was not hardly any (tests/measure/moments.py)."""
SHOWN_FROM = 3.0
"""The same from which on the segment that scores highest is asked about a thing, instead of taking it to be nowhere."""
SURE_OF_GENERAL = 2.0
"""The same of a base that follows instructions, e^2 = 7 times as sure as without the video: a choice, not measured."""


STRATEGIES = ("auto", "join", "route", "each", "timeline")


@dataclass(frozen=True)
class HypernetConfig:
    """Sizes of a hypernetwork (v2l/README.md section 5); defaults are the released ones."""

    num_layers: int
    """Decoder layers of the base, each with an adapter of its own."""
    hidden_size: int
    """Width of the base's hidden states."""
    d_in: int
    """Input width of the adapted projection."""
    d_out: int
    """Output width of the adapted projection."""
    rank: int = 16
    latent_size: int = 512
    num_queries: int = 8
    num_blocks: int = 9
    num_heads: int = 16
    num_kv_heads: int = 4
    head_dim: int = 128
    scale: float | None = None
    """What B^T A x is multiplied with: lora_alpha itself. None means 2 * rank**1.5 (v2l/README.md section 6)."""
    target_module: str = "down_proj"
    base: str = ""
    """Name of the base model it was trained for."""

    @property
    def adapter_scale(self) -> float:
        return 2 * self.rank**1.5 if self.scale is None else self.scale


@dataclass(frozen=True)
class Preset:
    """A model known by a short name."""

    name: str
    base: str
    """Hub id of the base; empty for the model that ships with the package."""
    checkpoints: tuple[str, ...]
    """Hub ids that hold the hypernetwork, tried in order."""
    checkpoint_file: str
    resolution: int
    """Longest edge its hypernetwork was trained at, in pixels."""
    about: str
    layers: int
    """Decoder layers of the base, each with a pair of an adapter's."""
    d_in: int
    """Input width of the projection that is adapted."""
    d_out: int
    """Output width of it."""

    @property
    def segment_size(self) -> int:
        """Bytes of one segment in an adapter's file, in float16; its bias, once a file, takes as much."""
        return self.layers * HypernetConfig.rank * (self.d_in + self.d_out) * 2


_RELEASED = ("MananSuri27/Frames2LoRA-SmolVLM-ckpts", "MananSuri27/Video2LoRA-SmolVLM-ckpts")

PRESETS = {
    preset.name: preset
    for preset in (
        Preset("tiny", "", (), "", 64, "shipped with v2l; knows only the small synthetic world it was trained on",
               6, 576, 192),
        Preset(
            "500m",
            "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
            _RELEASED,
            "frames2lora-smolvlm2-500m-best-ce.pt",
            384,
            "SmolVLM2 500M with the released Frames2LoRA hypernetwork",
            32, 2560, 960,
        ),
        Preset(
            "2.2b",
            "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
            _RELEASED,
            "frames2lora-smolvlm2-2.2b-best-ce.pt",
            384,
            "SmolVLM2 2.2B with the released Frames2LoRA hypernetwork",
            24, 8192, 2048,
        ),
    )
}
DEFAULT_MODEL = "tiny"
