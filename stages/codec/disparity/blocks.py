"""What the decoder is made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DepthConvBlock", "cells", "interpolated"]


class DepthConvBlock(nn.Module):
    """1x1, activation, depthwise 3x3, 1x1, residual; then 1x1 to 2C, activation, halves added, 1x1, residual.

    (B, C, H, W) -> (B, C, H, W) at 5 C^2 + 9 C multiplications a position. After DCVC-RT (Jia et al., CVPR 2025).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.leave = nn.Conv2d(channels, channels, 1)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.contract = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.leave(self.depthwise(F.leaky_relu(self.enter(x), 0.1)))
        a, b = F.leaky_relu(self.expand(x), 0.1).chunk(2, 1)
        return x + torch.as_tensor(self.contract(a + b))


def cells(picture: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """(B, 3, H, W) -> (B, 3 * size^2, H / size, W / size), channels last."""
    return F.pixel_unshuffle(picture.to(dtype), size).contiguous(memory_format=torch.channels_last)


def interpolated(anchors: Tensor, place: Tensor) -> Tensor:
    """(anchors, C) at places (B,) in [0, 1] -> (B, C), linear between the anchors."""
    position = place * (len(anchors) - 1)
    index = position.floor().long().clamp(0, len(anchors) - 2)
    part = (position - index)[:, None]
    return torch.lerp(anchors[index], anchors[index + 1], part)
