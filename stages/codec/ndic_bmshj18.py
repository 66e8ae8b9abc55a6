"""ndic_bmshj18: *Neural Distributed Image Compression Using Common Information*, arXiv:2106.11723, with a hyperprior.

x ────► g_a ─► round ─► symbols, coded given h_s(z) ─► concat ─► g_s ─► x_hat
         └─► h_a ─► round ─► z                            ▲            transmitted: z and the symbols
side ─► common ─────────────────────────────────────► w ──┤            w: what both views have in common
                                                          ▼
side ─► side_g_a ───────────────────────────────────► concat ─► side_g_s ─► y_hat   in training only
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.codec.density import FactorizedDensity
from stages.codec.hyperprior import HyperAnalysis
from stages.codec.scale_model import ScaleModel
from stages.codec.training import (
    ScaleDensity,
    ScaleTraining,
    TrainingOutput,
    with_common_noise,
    with_uniform_noise,
)
from stages.codec.transform_model import CommonInformation
from stages.codec.transforms import FIVE_FIVE, Analysis, Synthesis

__all__ = ["NdicBmshj18", "NdicBmshj18Training"]


class NdicBmshj18(CommonInformation, ScaleModel):
    """What encoding and decoding need."""

    name = "ndic_bmshj18"

    def __init__(self, channels: int = 192, repeat_second: bool = False) -> None:
        super().__init__(channels)
        self.config = {"channels": channels, "repeat_second": repeat_second}
        self.common = Analysis(3, channels, FIVE_FIVE)
        self.g_s = Synthesis(2 * channels, channels, FIVE_FIVE, repeat_second=repeat_second)


class NdicBmshj18Training(ScaleTraining):
    """The codec with the side view's own reconstruction and the densities that the training loss needs."""

    def __init__(self, channels: int = 192, repeat_second: bool = False) -> None:
        super().__init__()
        self.codec: NdicBmshj18 = NdicBmshj18(channels, repeat_second)
        self.side_g_a = Analysis(3, channels, FIVE_FIVE)
        self.side_h_a = HyperAnalysis(channels)
        self.side_g_s = Synthesis(2 * channels, channels, FIVE_FIVE, repeat_second=repeat_second)
        self.prior = ScaleDensity(channels)
        self.side_prior = ScaleDensity(channels)
        self.common_density = FactorizedDensity(channels)

    def forward(self, x: Tensor, side: Tensor) -> TrainingOutput:
        """x and side (B, 3, H, W), H and W multiples of 16."""
        exact = self.codec.g_a(x)
        latent, w = with_uniform_noise(exact), with_common_noise(self.codec.common(side))
        x_hat = self.codec.g_s(torch.cat([latent, w], 1))
        of_x, of_z = self.prior(latent, with_uniform_noise(self.codec.h_a(exact)))
        likelihoods = {"x": of_x, "x_hyper": of_z, "w": self.common_density(with_uniform_noise(w))}
        if not self.side_branch:
            return TrainingOutput(x_hat, None, likelihoods)
        side_latent = self.side_g_a(side)
        of_y, of_z_y = self.side_prior(with_uniform_noise(side_latent), with_uniform_noise(self.side_h_a(side_latent)))
        y_hat = self.side_g_s(torch.cat([side_latent, w], 1))
        return TrainingOutput(x_hat, y_hat, likelihoods | {"y": of_y, "y_hyper": of_z_y})
