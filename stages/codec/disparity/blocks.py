"""What the decoder is made of.

On a CPU fresh memory costs more than arithmetic: large pictures are worked on in stripes that fit a cache, and nothing
is copied together that a product can read where it lies.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DepthConvBlock", "Pointwise", "cells", "enlarged", "interpolated", "raised", "used_channels"]

STRIPE = 1 << 19
"""Numbers that are worked on together, on a CPU."""


class Pointwise(nn.Conv2d):
    """A 1x1 convolution as a product; torch's own is twice as slow with one thread on a CPU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, *parts: Tensor, channels: Tensor | None = None) -> Tensor:
        """Of parts (B, C_i, H, W), as if they were concatenated.

        `channels`: those that the parts hold, where the others are zero.
        """
        b, _, h, w = parts[0].shape
        weight = self.weight.flatten(1) if channels is None else self.weight.flatten(1)[:, channels]
        assert self.bias is not None
        first, *others = torch.split(weight, [part.shape[1] for part in parts], 1)
        sums = torch.addmm(self.bias, _by_place(parts[0]), first.T)
        for part, columns in zip(parts[1:], others, strict=True):
            sums.addmm_(_by_place(part).to(sums.dtype), columns.T.to(sums.dtype))
        return sums.view(b, h, w, -1).permute(0, 3, 1, 2)


class DepthConvBlock(nn.Module):
    """1x1, activation, depthwise 3x3, 1x1, residual; then 1x1 to 2C, activation, halves added, 1x1, residual.

    (B, C, H, W) -> (B, C, H, W) at 5 C^2 + 9 C multiplications a position. After DCVC-RT (Jia et al., CVPR 2025).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = Pointwise(channels, channels)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.leave = Pointwise(channels, channels)
        self.expand = Pointwise(channels, 2 * channels)
        self.contract = Pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Without gradients, on a CPU, the result is in `x` itself."""
        if torch.is_grad_enabled() or x.device.type != "cpu":
            x = x + self.leave(self.depthwise(self._entered(x)))
            return x + self._widened(x)
        _, c, h, w = x.shape
        at_once = max(8, STRIPE // (c * w))
        above: Tensor | None = None
        for first in range(0, h, at_once):
            last = min(first + at_once, h)
            near = x[:, :, first : last + 1]
            near = near if above is None else torch.cat([above, near], 2)
            near = self.depthwise(self._entered(near))[:, :, 0 if above is None else 1 :]
            above = x[:, :, last - 1 : last].clone()
            rows = x[:, :, first:last]
            rows += self.leave(near[:, :, : last - first])
            rows += self._widened(rows)
        return x

    def _entered(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(self.enter(x), 0.1)

    def _widened(self, x: Tensor) -> Tensor:
        a, b = F.leaky_relu_(self.expand(x), 0.1).chunk(2, 1)
        return torch.as_tensor(self.contract(a + b))


def used_channels(latent: Tensor) -> Tensor | None:
    """Those of (B, C, h, w) that are not zero everywhere; None, for all, where asking would cost more than it saves."""
    if torch.is_grad_enabled() or latent.device.type != "cpu":
        return None
    return latent.any(3).any(2).any(0).nonzero()[:, 0]


def _by_place(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B * H * W, C)"""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def raised(up: nn.Sequential, latent: Tensor) -> Tensor:
    """A Pointwise and a PixelShuffle(2) of (B, C, h, w), which may have channels that are zero everywhere."""
    used = used_channels(latent)
    if used is None:
        return torch.as_tensor(up(latent))
    return F.pixel_shuffle(up[0](latent[:, used], channels=used), 2)


def cells(picture: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """(B, 3, H, W) -> (B, 3 * size^2, H / size, W / size), channels last."""
    return F.pixel_unshuffle(picture.to(dtype), size).contiguous(memory_format=torch.channels_last)


def enlarged(t: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 4 H, 4 W), bilinear, float32."""
    return F.interpolate(t.float().contiguous(), scale_factor=4, mode="bilinear", align_corners=False)


def interpolated(anchors: Tensor, place: Tensor) -> Tensor:
    """(anchors, C) at places (B,) in [0, 1] -> (B, C), linear between the anchors."""
    position = place * (len(anchors) - 1)
    index = position.floor().long().clamp(0, len(anchors) - 2)
    part = (position - index)[:, None]
    return torch.lerp(anchors[index], anchors[index + 1], part)
