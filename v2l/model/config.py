"""The sizes of a base as its config.json says them. Nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from v2l.errors import ModelError


@dataclass(frozen=True)
class TextConfig:
    """What the decoder needs from `text_config` of a base's config.json."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    max_positions: int
    tied: bool
    """The output matrix is the embedding matrix."""

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> TextConfig:
        """`config` is the whole config.json; defaults are those of transformers' LlamaConfig."""
        text = config["text_config"]
        rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
        unusual = [name for name in ("attention_bias", "mlp_bias") if text.get(name)]
        unusual += [f"rope type {kind}" for kind in {rope.get("rope_type", rope.get("type", "default"))} - {"default"}]
        unusual += [f"activation {act}" for act in {text.get("hidden_act", "silu")} - {"silu"}]
        if unusual:
            raise ModelError(f"This base's text model has {' and '.join(unusual)[:300]}, which v2l does not support.")
        heads = text.get("num_attention_heads", 32)
        hidden = text.get("hidden_size", 4096)
        return cls(
            hidden_size=hidden,
            intermediate_size=text.get("intermediate_size", 11008),
            num_layers=text.get("num_hidden_layers", 32),
            num_heads=heads,
            num_kv_heads=text.get("num_key_value_heads") or heads,
            head_dim=text.get("head_dim") or hidden // heads,
            vocab_size=text.get("vocab_size", 32000),
            rms_norm_eps=text.get("rms_norm_eps", 1e-6),
            rope_theta=rope.get("rope_theta") or text.get("rope_theta") or 10000.0,
            max_positions=text.get("max_position_embeddings", 2048),
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        )


@dataclass(frozen=True)
class VisionConfig:
    """What the tower needs from `vision_config` of a base's config.json."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    image_size: int
    """Edge in pixels of the picture that the position table was made for."""
    patch_size: int
    layer_norm_eps: float
    scale_factor: int
    """Edge in patches of the square that becomes one image token."""

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> VisionConfig:
        """`config` is the whole config.json; defaults are those of transformers' SmolVLMVisionConfig."""
        vision = config["vision_config"]
        activation, channels = vision.get("hidden_act", "gelu_pytorch_tanh"), vision.get("num_channels", 3)
        if activation != "gelu_pytorch_tanh" or channels != 3:
            raise ModelError(
                f"This base's vision tower has activation {str(activation)[:80]} and {str(channels)[:80]} channels, "
                "where v2l supports gelu_pytorch_tanh and 3."
            )
        return cls(
            hidden_size=vision.get("hidden_size", 1152),
            intermediate_size=vision.get("intermediate_size", 3072),
            num_layers=vision.get("num_hidden_layers", 12),
            num_heads=vision.get("num_attention_heads", 16),
            image_size=vision.get("image_size", 224),
            patch_size=vision.get("patch_size", 32),
            layer_norm_eps=vision.get("layer_norm_eps", 1e-6),
            scale_factor=config.get("scale_factor", 2),
        )

    @property
    def image_seq_len(self) -> int:
        """Image tokens of a tile of `image_size`."""
        return (self.image_size // self.patch_size // self.scale_factor) ** 2
