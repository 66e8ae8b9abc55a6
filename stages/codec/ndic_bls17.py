"""ndic_bls17: *Neural Distributed Image Compression Using Common Information*, arXiv:2106.11723.

x ────► g_a ─► round ─► symbols ─► concat ─► g_s ─► x_hat       transmitted: the symbols
                                      ▲
side ─► common ─────────────────► w ──┤                         w: what both views have in common
                                      ▼
side ─► side_g_a ───────────────► concat ─► side_g_s ─► y_hat   in training only
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from stages.codec.density import FactorizedDensity
from stages.codec.errors import CodecError
from stages.codec.factorized import FactorizedModel
from stages.codec.training import FactorizedTraining, TrainingOutput, with_common_noise, with_uniform_noise
from stages.codec.transforms import FIVE_FIVE, Analysis, Synthesis, float32_convolutions

__all__ = ["NdicBls17", "NdicBls17Training"]


class NdicBls17(FactorizedModel):
    """What encoding and decoding need."""

    name: ClassVar[str] = "ndic_bls17"
    needs_side = True

    def __init__(self, channels: int = 192, repeat_second: bool = False, anchors: int = 0) -> None:
        super().__init__(Analysis(3, channels, FIVE_FIVE), channels, anchors, repeat_second=repeat_second)
        self.common = Analysis(3, channels, FIVE_FIVE)
        self.g_s = Synthesis(2 * channels, channels, FIVE_FIVE, repeat_second=repeat_second)

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


class NdicBls17Training(FactorizedTraining):
    """The codec with the side view's own reconstruction and the densities that the training loss needs."""

    def __init__(self, channels: int = 192, repeat_second: bool = False, anchors: int = 0) -> None:
        super().__init__()
        self.codec: NdicBls17 = NdicBls17(channels, repeat_second, anchors)
        self.side_g_a = Analysis(3, channels, FIVE_FIVE)
        self.side_g_s = Synthesis(2 * channels, channels, FIVE_FIVE, repeat_second=repeat_second)
        self.density = FactorizedDensity(channels)
        self.side_density = FactorizedDensity(channels)
        self.common_density = FactorizedDensity(channels)

    def forward(self, x: Tensor, side: Tensor, quality: Tensor | None = None) -> TrainingOutput:
        """x and side (B, 3, H, W), H and W multiples of 16."""
        latent, likelihoods = self.noisy(self.codec.g_a(x), quality)
        w = with_common_noise(self.codec.common(side))
        if not self.side_branch:
            of_w = self.common_density(with_uniform_noise(w))
            return TrainingOutput(self.codec.g_s(torch.cat([latent, w], 1)), None, {"x": likelihoods, "w": of_w})
        side_latent = self.side_g_a(side)
        return TrainingOutput(
            self.codec.g_s(torch.cat([latent, w], 1)),
            self.side_g_s(torch.cat([side_latent, w], 1)),
            {
                "x": likelihoods,
                "y": self.side_density(with_uniform_noise(side_latent)),
                "w": self.common_density(with_uniform_noise(w)),
            },
        )
