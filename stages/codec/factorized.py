"""What the papers' models with a factorised prior share: one coding table per channel.

As published they have one rate point. With `anchors` they have gains (`stages.codec.gains`), one table per channel and
quality, and one model covers a range of rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.codec.gains import HIGHEST_QUALITY, Gains
from stages.codec.model import ConfigValue
from stages.codec.transform_model import TransformModel
from stages.codec.transforms import Analysis, float32_convolutions

__all__ = ["FactorizedModel"]

DEFAULT_QUALITY = 24.0


class FactorizedModel(TransformModel):
    """A model whose symbols are round(g_a(x) / step), each channel coded with its own table; step 1 without gains."""

    def __init__(self, g_a: Analysis, channels: int, anchors: int, **others: ConfigValue) -> None:
        """`anchors`: qualities that have gains of their own; 0: one rate. `others` complete `config`."""
        super().__init__()
        self.g_a = g_a
        self.latent_channels = channels
        self.gains = Gains(channels, anchors) if anchors else None
        self.quality_range = (0.0, float(HIGHEST_QUALITY if anchors else 0))
        self.default_quality = DEFAULT_QUALITY if anchors else 0.0
        config = {"channels": channels, **others}
        self.config: Mapping[str, ConfigValue] = config | ({"anchors": anchors} if anchors else {})

    def analyse(self, x: Tensor, quality: float) -> Tensor:
        """Symbols (C, h, w) int32 of x (1, 3, H, W)."""
        with float32_convolutions():
            latent: Tensor = self.g_a(x)
        step = self.step(quality, latent)
        return torch.round(latent if step is None else latent / step)[0].to(torch.int32)

    def dequantised(self, symbols: Tensor, quality: float) -> Tensor:
        """The latent (1, C, h, w) float32 that symbols (C, h, w) stand for."""
        latent = super().dequantised(symbols, quality)
        step = self.step(quality, latent)
        return latent if step is None else latent * step

    def rounded(self, latent: Tensor, quality: float) -> Tensor:
        """A latent (B, C, h, w) as a decoder would have it."""
        step = self.step(quality, latent)
        return latent.round() if step is None else (latent / step).round() * step

    def step(self, quality: float, like: Tensor) -> Tensor | None:
        """(1, C, 1, 1) step sizes on the device of `like`; None where all are 1."""
        if self.gains is None:
            return None
        steps: Tensor = self.gains(torch.tensor([quality], device=like.device))
        return steps

    def table_index(self, quality: float, h: int, w: int) -> NDArray[np.int64]:
        """(C,): the channel's table, of the nearest whole quality."""
        first = math.floor(quality + 0.5) * self.latent_channels
        return np.arange(first, first + self.latent_channels, dtype=np.int64)
