"""bmshj18: the scale hyperprior of Ballé et al., 2018 (arXiv:1802.01436), as NDIC uses it. It uses no side view.

x ─► g_a ─► round ─► symbols, coded given h_s(z) ─► g_s ─► x_hat
      └─► h_a ─► round ─► z                                        transmitted: z and the symbols
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stages.codec.scale_model import ScaleModel
from stages.codec.training import ScaleDensity, ScaleTraining, TrainingOutput, with_uniform_noise
from stages.codec.transforms import FIVE_FIVE, Synthesis, float32_convolutions

__all__ = ["Bmshj18", "Bmshj18Training"]


class Bmshj18(ScaleModel):
    """What encoding and decoding need."""

    name = "bmshj18"
    needs_side = False

    def __init__(self, channels: int = 192) -> None:
        super().__init__(channels)
        self.config = {"channels": channels}
        self.g_s = Synthesis(channels, channels, FIVE_FIVE)

    def prepare(self, side: Tensor) -> None:
        """Nothing: the side view isn't used."""

    def synthesise(self, symbols: Tensor, quality: float, prepared: Any) -> Tensor:
        """x_hat (1, 3, H, W) of symbols (C, h, w)."""
        with float32_convolutions():
            x_hat: Tensor = self.g_s(self.dequantised(symbols, quality))
        return x_hat


class Bmshj18Training(ScaleTraining):
    """The codec with the densities that training needs, and the coding tables come from."""

    def __init__(self, channels: int = 192) -> None:
        super().__init__()
        self.codec: Bmshj18 = Bmshj18(channels)
        self.prior = ScaleDensity(channels)

    def forward(self, x: Tensor, side: Tensor | None = None) -> TrainingOutput:
        """x (B, 3, H, W), H and W multiples of 16; the side view is ignored."""
        latent = self.codec.g_a(x)
        z, noisy = with_uniform_noise(self.codec.h_a(latent)), with_uniform_noise(latent)
        of_latent, of_z = self.prior(noisy, z)
        return TrainingOutput(self.codec.g_s(noisy), None, {"x": of_latent, "x_hyper": of_z})
