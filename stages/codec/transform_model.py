"""What the papers' models have in common: convolutions down to a latent at 1/16 and back up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stages.codec.errors import CodecError
from stages.codec.model import ConfigValue
from stages.codec.transforms import Analysis, Synthesis, float32_convolutions

__all__ = ["CommonInformation", "TransformModel"]


class TransformModel(nn.Module):
    """The part of `stages.codec.model.Network` that they share; one rate point, unless said otherwise."""

    name: ClassVar[str]
    needs_side: bool
    multiple = 16
    latent_stride = 16
    quality_range: tuple[float, float] = (0.0, 0.0)
    default_quality = 0.0
    training_only: tuple[str, ...] = ()
    config: Mapping[str, ConfigValue]

    def dequantised(self, symbols: Tensor, quality: float) -> Tensor:
        """The latent (1, C, h, w) float32 that symbols (C, h, w) stand for."""
        return symbols[None].float()

    def prepare(self, side: Tensor) -> Any:
        """What `synthesise` needs of the side view (1, 3, H, W)."""
        raise NotImplementedError

    def synthesise(self, symbols: Tensor, quality: float, prepared: Any) -> Tensor:
        """x_hat (1, 3, H, W) of symbols (C, h, w)."""
        raise NotImplementedError


class CommonInformation(TransformModel):
    """The decoder of NDIC: what both views have in common, w, joins the latent.

    symbols ──────────────► concat ─► g_s ─► x_hat
                               ▲
    side ─► common ─────► w ───┘
    """

    needs_side = True
    common: Analysis
    g_s: Synthesis

    def prepare(self, side: Tensor) -> Tensor:
        """w (1, C, h, w) of the side view (1, 3, H, W)."""
        with float32_convolutions():
            w: Tensor = self.common(side)
        return w

    def synthesise(self, symbols: Tensor, quality: float, prepared: Tensor | None) -> Tensor:
        """x_hat (1, 3, H, W) of symbols (C, h, w) and w."""
        if prepared is None:
            raise CodecError(f"{self.name} can't decode without a side view")
        with float32_convolutions():
            x_hat: Tensor = self.g_s(torch.cat([self.dequantised(symbols, quality), prepared], 1))
        return x_hat
