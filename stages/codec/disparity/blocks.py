"""What the decoder is made of.

On a CPU fresh memory costs more than arithmetic: large pictures are worked on in stripes that fit a cache, and nothing
is copied together that a product can read where it lies.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "CellConv",
    "DepthConvBlock",
    "Pointwise",
    "cells",
    "enlarged",
    "halved",
    "interpolated",
    "pixels",
    "raised",
    "used_channels",
]

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
        rows = [_by_place(part) for part in parts]
        sums = self.of_rows(rows[0]) if len(parts) == 1 and channels is None else self._of_parts(rows, channels)
        return sums.view(b, h, w, -1).permute(0, 3, 1, 2)

    def of_rows(self, rows: Tensor) -> Tensor:
        """Of places (P, C)."""
        assert self.bias is not None
        return torch.addmm(self.bias, rows, self.weight.flatten(1).T)

    def add_to(self, sums: Tensor, rows: Tensor) -> None:
        """Of places (P, C_i), added to (P, C) in place; without gradients."""
        if sums.dtype != rows.dtype:
            sums += self.of_rows(rows)
            return
        assert self.bias is not None
        sums += self.bias
        sums.addmm_(rows, self.weight.flatten(1).T.to(sums.dtype))  # autocast leaves what is in place alone

    def _of_parts(self, parts: list[Tensor], channels: Tensor | None) -> Tensor:
        weight = self.weight.flatten(1) if channels is None else self.weight.flatten(1)[:, channels]
        assert self.bias is not None
        first, *others = torch.split(weight, [part.shape[1] for part in parts], 1)
        sums = torch.addmm(self.bias, parts[0], first.T)
        for part, columns in zip(parts[1:], others, strict=True):
            sums.addmm_(part.to(sums.dtype), columns.T.to(sums.dtype))
        return sums


class CellConv(nn.Conv2d):
    """PixelUnshuffle(cell), then a convolution with zeros around, at once; its weight is that of the convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int, cell: int) -> None:
        super().__init__(inputs * cell * cell, outputs, kernel)
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, cell * H, cell * W) -> (B, C_out, H, W), channels last."""
        outputs, _, kernel, _ = self.weight.shape
        weight = self.weight.view(outputs, -1, self.cell, self.cell, kernel, kernel).permute(0, 1, 4, 2, 5, 3)
        weight = weight.reshape(outputs, -1, kernel * self.cell, kernel * self.cell)
        x = x.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, self.bias, stride=self.cell, padding=kernel // 2 * self.cell)


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
            b, c, h, w = x.shape
            return x + self.contract.of_rows(self._halves(_by_place(x))).view(b, h, w, c).permute(0, 3, 1, 2)
        for i in range(len(x)):
            self._work_in_place(x[i : i + 1])
        return x

    def _work_in_place(self, x: Tensor) -> None:
        _, c, h, w = x.shape
        at_once = max(8, STRIPE // (c * w))
        above: Tensor | None = None
        for first in range(0, h, at_once):
            last = min(first + at_once, h)
            near = x[:, :, first : last + 1]
            near = near if above is None else torch.cat([above, near], 2)
            near = self.depthwise(self._entered(near))[:, :, 0 if above is None else 1 :]
            above = x[:, :, last - 1 : last].clone()
            self._add(x[:, :, first:last], near[:, :, : last - first])

    def _add(self, x: Tensor, near: Tensor) -> None:
        """To x (1, C, H, W), channels last, in place: both residuals, of which the first begins with `near`."""
        rows = x.permute(0, 2, 3, 1).view(-1, x.shape[1])
        self.leave.add_to(rows, _by_place(near))
        self.contract.add_to(rows, self._halves(rows))

    def _entered(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(self.enter(x), 0.1)

    def _halves(self, rows: Tensor) -> Tensor:
        wide = F.leaky_relu_(self.expand.of_rows(rows), 0.1)
        half = wide.shape[1] // 2
        return wide[:, :half] + wide[:, half:]


def used_channels(latent: Tensor) -> Tensor | None:
    """Those of (B, C, h, w) that are not zero everywhere; None, for all, where asking would cost more than it saves."""
    if torch.is_grad_enabled() or latent.device.type != "cpu":
        return None
    return latent.any(3).any(2).any(0).nonzero()[:, 0]


def _by_place(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B * H * W, C)"""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def raised(up: nn.Sequential, latent: Tensor, used: Tensor | None) -> Tensor:
    """A Pointwise and a PixelShuffle(2) of (B, C, h, w); `used`: its channels that are not zero, None: all."""
    if used is None:
        return torch.as_tensor(up(latent))
    return F.pixel_shuffle(up[0](latent[:, used], channels=used), 2)


def cells(picture: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """(B, 3, H, W) -> (B, 3 * size^2, H / size, W / size), channels last.

    As torch's pixel_unshuffle; this and `pixels` are two to three times as fast on a CPU.
    """
    b, c, h, w = picture.shape
    found = picture.to(dtype).view(b, c, h // size, size, w // size, size).permute(0, 2, 4, 1, 3, 5)
    return found.reshape(b, h // size, w // size, -1).permute(0, 3, 1, 2)


def pixels(at: Tensor, size: int) -> Tensor:
    """The inverse of `cells`, contiguous."""
    b, c, h, w = at.shape
    found = at.permute(0, 2, 3, 1).view(b, h, w, c // size**2, size, size).permute(0, 3, 1, 4, 2, 5)
    return found.reshape(b, -1, h * size, w * size)


def halved(picture: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H / 2, W / 2), the mean of 2 x 2; several times as fast as torch's on a CPU."""
    b, c, h, w = picture.shape
    upper, lower = picture.reshape(b, c, h // 2, 2, w).unbind(3)
    left, right = (upper + lower).view(b, c, h // 2, w // 2, 2).unbind(4)
    return (left + right) / 4


def enlarged(t: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 4 H, 4 W), bilinear, float32."""
    return F.interpolate(t.float().contiguous(), scale_factor=4, mode="bilinear", align_corners=False)


def interpolated(anchors: Tensor, place: Tensor) -> Tensor:
    """(anchors, C) at places (B,) in [0, 1] -> (B, C), linear between the anchors."""
    position = place * (len(anchors) - 1)
    index = position.floor().long().clamp(0, len(anchors) - 2)
    part = (position - index)[:, None]
    return torch.lerp(anchors[index], anchors[index + 1], part)
