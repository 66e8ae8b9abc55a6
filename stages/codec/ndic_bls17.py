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
from stages.codec.factorized import FactorizedModel
from stages.codec.training import FactorizedTraining, TrainingOutput, with_common_noise, with_uniform_noise
from stages.codec.transform_model import CommonInformation
from stages.codec.transforms import FIVE_FIVE, Analysis, Synthesis

__all__ = ["NdicBls17", "NdicBls17Training"]


class NdicBls17(CommonInformation, FactorizedModel):
    """What encoding and decoding need."""

    name: ClassVar[str] = "ndic_bls17"

    def __init__(self, channels: int = 192, repeat_second: bool = False, anchors: int = 0) -> None:
        super().__init__(Analysis(3, channels, FIVE_FIVE), channels, anchors, repeat_second=repeat_second)
        self.common = Analysis(3, channels, FIVE_FIVE)
        self.g_s = Synthesis(2 * channels, channels, FIVE_FIVE, repeat_second=repeat_second)


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
        x_hat = self.codec.g_s(torch.cat([latent, w], 1))
        of_all = {"x": likelihoods, "w": self.common_density(with_uniform_noise(w))}
        if not self.side_branch:
            return TrainingOutput(x_hat, None, of_all)
        side_latent = self.side_g_a(side)
        y_hat = self.side_g_s(torch.cat([side_latent, w], 1))
        return TrainingOutput(x_hat, y_hat, of_all | {"y": self.side_density(with_uniform_noise(side_latent))})
