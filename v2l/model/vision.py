"""The base's eyes: a SigLIP vision tower and the connector that turns its patches into image tokens (v2l/README.md
section 4).

Ours rather than transformers' so that watching neither waits seconds for that import nor pays for what a tile does not
need: every tile is square and whole, so there are no masks. Module and parameter names are those of the checkpoints.
Tests hold it against transformers.

Shapes: n tiles, p patches a tile, e width of the tower, h hidden size of the text stack.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2l.model.attention import attend
from v2l.model.config import VisionConfig
from v2l.model.packed import Packable, PackedLinear
from v2l.system.threads import yield_to_others


class Embeddings(nn.Module):
    """Tiles -> patches with their positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.side = config.image_size // config.patch_size
        self.patch_size = config.patch_size
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, config.patch_size, config.patch_size)
        # Given weights, it does not initialise its own, which on the meta device would import torch's compiler.
        weight = torch.empty(self.side**2, config.hidden_size)
        self.position_embedding = nn.Embedding.from_pretrained(weight, freeze=False)

    def forward(self, tiles: Tensor) -> Tensor:
        """[n, 3, tile, tile] -> [n, p, e]"""
        patches = self._patches(tiles)
        places = patch_places(tiles.shape[-1] // self.patch_size, self.side)
        x: Tensor = patches + self.position_embedding(places.to(tiles.device))
        # A convolution's patches lie one number beside the other, and sums keep that order: without this, every norm of
        # every layer copies them first, and a tile of 500M takes 1.15 to 1.2 times as long.
        return x.contiguous()

    def _patches(self, tiles: Tensor) -> Tensor:
        """[n, 3, tile, tile] -> [n, p, e]"""
        conv, size = self.patch_embedding, self.patch_size
        if tiles.device.type == "cpu":
            convolved: Tensor = conv(tiles)
            return convolved.flatten(2).transpose(1, 2)
        # cuDNN rounds a float32 convolution's inputs to TF32's 10 bits unless told otherwise, which moves an adapter by
        # 1e-3; a product is exact.
        whole = tiles.shape[-1] // size * size  # what is left at the edges is no patch
        pixels = tiles[..., :whole, :whole].unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 1, 3, 5)
        return F.linear(pixels.flatten(3).flatten(1, 2), conv.weight.flatten(1), conv.bias)


def patch_places(count: int, side: int) -> Tensor:
    """Places [count * count] in a position table of side x side of the patches of a tile that has count x count.

    The float32 arithmetic is the released processor's: some patches land one place beside where they should.
    """
    boundaries = torch.arange(1 / side, 1.0, 1 / side)
    places = (torch.arange(count, dtype=torch.float32) * (1.0 / torch.tensor(count))).clamp(max=1.0 - 1e-6)
    line = torch.bucketize(places, boundaries, right=True)
    return (line[:, None] * side + line[None]).flatten()


class Attention(Packable):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        e, self.head_dim = config.hidden_size, config.hidden_size // config.num_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(e, e) for _ in range(4))
        self.qkv: PackedLinear | None = None

    def pack(self) -> None:
        self.qkv = PackedLinear([self.q_proj, self.k_proj, self.v_proj])
        del self.q_proj, self.k_proj, self.v_proj

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).chunk(3, -1) if self.qkv else (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        q, k, v = (y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for y in qkv)
        return self.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))


class MLP(Packable):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1: nn.Module = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def pack(self) -> None:
        self.fc1 = PackedLinear([self.fc1], "gelu_tanh")

    def forward(self, x: Tensor) -> Tensor:
        inner = self.fc1(x) if isinstance(self.fc1, PackedLinear) else F.gelu(self.fc1(x), approximate="tanh")
        y: Tensor = self.fc2(inner)
        return y


class Layer(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.self_attn = Attention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))


class Tower(nn.Module):
    """SigLIP: tiles [n, 3, tile, tile] -> patches [n, p, e]."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, tiles: Tensor) -> Tensor:
        x = self.embeddings(tiles)
        for layer in self.encoder.layers:
            yield_to_others()
            x = layer(x)
        return self.post_layernorm(x)


class Projection(nn.Module):
    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(size, out, bias=False)


class Connector(nn.Module):
    """Squares of patches side by side in one vector, projected: [n, p, e] -> [n, p / scale_factor^2, h]."""

    def __init__(self, config: VisionConfig, hidden_size: int) -> None:
        super().__init__()
        self.scale = config.scale_factor
        self.modality_projection = Projection(config.hidden_size * self.scale**2, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        n, p, e = x.shape
        s, side = self.scale, int(p**0.5)
        squares = x.view(n, side // s, s, side // s, s, e).transpose(2, 3)
        tokens: Tensor = self.modality_projection.proj(squares.reshape(n, p // s**2, s * s * e))
        return tokens


class Vision(nn.Module):
    """Vision tower and connector: tiles [n, 3, tile, tile] in -1..1 -> image tokens [n, image_seq_len, h]."""

    def __init__(self, config: VisionConfig, hidden_size: int) -> None:
        super().__init__()
        self.vision_model = Tower(config)
        self.connector = Connector(config, hidden_size)

    def forward(self, tiles: Tensor) -> Tensor:
        image: Tensor = self.connector(self.vision_model(tiles))
        return image
