"""The least a run can cost: its arithmetic and its bytes, counted from the shapes of a model.

Counted is the method as v2l/README.md sections 3 to 7 describe it, with two floating-point operations (FLOP) for each
multiplication in a product of matrices; norms, activations and softmax are left out. Divided by what the machine does a
second (`machine`), that is the floor no measurement of the same arithmetic goes below. An implementation that arranges
the hypernetwork's attention more cleverly than the method is written may do with less than is counted here.

Nothing heavy is imported, so that floors can be drawn without a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from v2l.config import HypernetConfig
from v2l.model.config import TextConfig, VisionConfig


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of a base and its hypernetwork, as far as they cost anything."""

    text: TextConfig
    vision: VisionConfig
    hypernetwork: HypernetConfig
    tile: int
    """Edge of a tile, pixels."""
    image_seq_len: int
    """Tokens of the text stack that a tile becomes."""
    itemsize: int
    """Bytes of a number of the compute dtype."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelSizes:
        """The inverse of `dataclasses.asdict`."""
        return cls(**values | {"text": TextConfig(**values["text"]), "vision": VisionConfig(**values["vision"]),
                               "hypernetwork": HypernetConfig(**values["hypernetwork"])})

    # -- parameters ----------------------------------------------------------------------------------------------

    @property
    def layer_parameters(self) -> int:
        """Parameters in the matrices of one decoder layer."""
        c = self.text
        return c.hidden_size * (c.head_dim * (2 * c.num_heads + 2 * c.num_kv_heads) + 3 * c.intermediate_size)

    @property
    def text_bytes(self) -> int:
        """What answering must read for each token: every decoder layer and the output matrix (0.72 GB for 500M)."""
        return self.itemsize * (self.text.num_layers * self.layer_parameters + self._table)

    @property
    def _vision_parameters(self) -> int:
        c = self.vision
        layer = 4 * c.hidden_size**2 + 2 * c.hidden_size * c.intermediate_size
        embeddings = (3 * c.patch_size**2 + self._patches) * c.hidden_size
        return c.num_layers * layer + embeddings + self._connector

    @property
    def _patches(self) -> int:
        """Patches of a tile."""
        return (self.tile // self.vision.patch_size) ** 2

    @property
    def _table(self) -> int:
        """Parameters of the embedding matrix, and of the output matrix."""
        return self.text.vocab_size * self.text.hidden_size

    @property
    def _connector(self) -> int:
        return self.vision.hidden_size * self.vision.scale_factor**2 * self.text.hidden_size

    @property
    def _hypernetwork_bytes(self) -> int:
        c = self.hypernetwork
        z = c.latent_size
        perceiver = 3 * 4 * c.hidden_size**2 + 4 * c.hidden_size * (z - c.hidden_size)
        perceiver += (c.num_blocks + 1) * (_attention_parameters(c) + 12 * z * z) + (c.num_queries + c.rank) * z
        rest = 8 * z * z + c.num_layers * (c.d_in + c.d_out) * (z + c.rank)
        return self.itemsize * perceiver + 4 * rest  # the rest is always float32

    @property
    def watching_bytes(self) -> int:
        """Weights that watching a video needs: all but the last decoder layer and the output matrix."""
        body = self._table + (self.text.num_layers - 1) * self.layer_parameters
        return self.itemsize * (body + self._vision_parameters) + self._hypernetwork_bytes

    @property
    def direct_bytes(self) -> int:
        """Weights that answering with a video in the prompt needs."""
        table = 0 if self.text.tied else self.itemsize * self._table
        return self.text_bytes + table + self.itemsize * self._vision_parameters

    @property
    def token_bytes(self) -> int:
        """Keys and values of one token."""
        return 2 * self.itemsize * self.text.num_layers * self.text.num_kv_heads * self.text.head_dim

    # -- arithmetic, in FLOP -------------------------------------------------------------------------------------

    def seeing(self, tiles: int) -> float:
        """The vision tower and its connector."""
        c, patches = self.vision, self._patches
        layer = patches * (4 * c.hidden_size**2 + 2 * c.hidden_size * c.intermediate_size)
        layer += 2 * patches**2 * c.hidden_size
        embedding = patches * 3 * c.patch_size**2 * c.hidden_size
        return 2.0 * tiles * (c.num_layers * layer + embedding + self.image_seq_len * self._connector)

    def decoder(self, tokens: int, layers: int) -> float:
        """The matrices of that many decoder layers."""
        return 2.0 * tokens * layers * self.layer_parameters

    def attention(self, tokens: int, layers: int) -> float:
        """Causal attention among the tokens: each sees itself and what came before."""
        return 2.0 * layers * self.text.num_heads * self.text.head_dim * tokens * (tokens + 1)

    def generate(self, tokens: int) -> float:
        """The hypernetwork for all layers, on that many context tokens each, keys and values of every block projected
        from all of them (0.87 TFLOP for 500M and 969 tokens)."""
        c = self.hypernetwork
        z, q, r = c.latent_size, c.num_queries, c.rank
        projection = tokens * (2 * c.hidden_size * 4 * c.hidden_size + 4 * c.hidden_size * z)
        blocks = c.num_blocks * _block(c, q, tokens) + _block(c, r, q)
        head = r * (8 * z * z + z * (c.d_in + c.d_out))
        return 2.0 * c.num_layers * (projection + blocks + head)

    def watching(self, tiles: int, tokens: int) -> dict[str, float]:
        """What internalizing costs, by part: the last decoder layer is not run (v2l/README.md section 4)."""
        return {
            "vision": self.seeing(tiles),
            "decoder": self.decoder(tokens, self.text.num_layers - 1),
            "attention": self.attention(tokens, self.text.num_layers - 1),
            "hypernetwork": self.generate(tokens),
        }

    def direct(self, tiles: int, tokens: int) -> dict[str, float]:
        """What the first token costs with the video in the prompt."""
        return {
            "vision": self.seeing(tiles),
            "decoder": self.decoder(tokens, self.text.num_layers) + 2.0 * self._table,
            "attention": self.attention(tokens, self.text.num_layers),
        }


def _attention_parameters(c: HypernetConfig) -> int:
    return c.latent_size * c.head_dim * (2 * c.num_heads + 2 * c.num_kv_heads)


def _block(c: HypernetConfig, queries: int, tokens: int) -> int:
    """Multiplications of one perceiver block: `queries` latents look at `tokens` others and at themselves."""
    z, seen = c.latent_size, tokens + queries
    projections = queries * 2 * z * c.num_heads * c.head_dim + seen * 2 * z * c.num_kv_heads * c.head_dim
    return projections + 2 * queries * seen * c.num_heads * c.head_dim + queries * 12 * z * z
