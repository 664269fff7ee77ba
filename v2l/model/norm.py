"""Root mean square norms, as the text stack and the hypernetwork have them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rms_norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    """x / rms(x), with the statistics in float32."""
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


class RMSNorm(nn.Module):
    """x / rms(x) * weight."""

    def __init__(self, size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * rms_norm(x, self.eps)

    def of(self, x: Tensor) -> Tensor:
        """`forward` of x [n, size] in float32, rounded to the weight's dtype once, at the end: half the operations."""
        size = x.shape[-1]
        if x.device.type == "cuda":  # torch's kernel for Macs rounded before it multiplied by the weight (#187779)
            if self.weight.dtype == x.dtype:
                return F.rms_norm(x, (size,), self.weight, self.eps)
            rounded = torch.empty_like(x, dtype=self.weight.dtype)
            return torch.mul(F.rms_norm(x, (size,), eps=self.eps), self.weight, out=rounded)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        rms = torch.hypot(length, length.new_full((), (size * self.eps) ** 0.5)).mul_(size**-0.5)
        return torch.mul(x, self.weight).div_(rms).to(self.weight.dtype)
