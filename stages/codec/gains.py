"""One model for many rates: the latent is divided by a step per channel and quality before it is rounded.

    x ─► g_a ─► / step(quality) ─► round ─► symbols ─► * step(quality) ─► g_s ─► x_hat

The density is that of the latent before the division, so that one serves all qualities:
P(s) = F((s + 1/2) step) - F((s - 1/2) step).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["HIGHEST_QUALITY", "Gains"]

HIGHEST_QUALITY = 63
MOST_ANCHORS = 64


class Gains(nn.Module):
    """Step sizes of every channel, learned at some qualities and interpolated between them."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        if not 2 <= anchors <= MOST_ANCHORS:
            raise ValueError(f"anchors {anchors}, expected 0 (one rate) or 2 to {MOST_ANCHORS}")
        self.anchors = anchors
        self.log_gain = nn.Parameter(torch.zeros(channels))
        self.log_gain_rise = nn.Parameter(torch.zeros(anchors - 1, channels))

    @torch.no_grad()
    def set_steps(self, coarsest: float, finest: float) -> None:
        """Start all channels with these step sizes at the lowest and the highest quality."""
        self.log_gain.fill_(-math.log(coarsest))
        rise = math.log(coarsest / finest) / (self.anchors - 1)
        self.log_gain_rise.fill_(math.log(math.expm1(rise)))

    def forward(self, quality: Tensor) -> Tensor:
        """Step sizes (B, C, 1, 1) at qualities (B,) in [0, 63]; they fall as quality rises, by construction."""
        rise = F.softplus(self.log_gain_rise).cumsum(0)
        gains = torch.cat([self.log_gain[None], self.log_gain[None] + rise])
        position = quality / HIGHEST_QUALITY * (self.anchors - 1)
        index = position.floor().long().clamp(0, self.anchors - 2)
        log_gains = torch.lerp(gains[index], gains[index + 1], (position - index)[:, None])
        return (-log_gains).exp()[:, :, None, None]
