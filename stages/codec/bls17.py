"""bls17: the autoencoder of Ballé, Laparra and Simoncelli, 2017 (arXiv:1611.01704). It uses no side view.

x ─► g_a ─► round ─► symbols ─► g_s ─► x_hat
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from stages.codec.density import FactorizedDensity
from stages.codec.factorized import FactorizedModel
from stages.codec.training import FactorizedTraining, TrainingOutput
from stages.codec.transforms import NINE_FIRST, Analysis, Synthesis, float32_convolutions

__all__ = ["Bls17", "Bls17Training"]


class Bls17(FactorizedModel):
    """What encoding and decoding need."""

    name: ClassVar[str] = "bls17"
    needs_side = False

    def __init__(self, channels: int = 192, anchors: int = 0) -> None:
        super().__init__(Analysis(3, channels, NINE_FIRST), channels, anchors)
        self.g_s = Synthesis(channels, channels, NINE_FIRST)

    def prepare(self, side: Tensor) -> None:
        """Nothing: the side view isn't used."""

    def synthesise(self, symbols: Tensor, quality: float, prepared: Any) -> Tensor:
        """x_hat (1, 3, H, W) of symbols (C, h, w)."""
        with float32_convolutions():
            x_hat: Tensor = self.g_s(self.dequantised(symbols, quality))
        return x_hat


class Bls17Training(FactorizedTraining):
    """The codec with the density that training needs, and the coding tables come from."""

    def __init__(self, channels: int = 192, anchors: int = 0) -> None:
        super().__init__()
        self.codec: Bls17 = Bls17(channels, anchors)
        self.density = FactorizedDensity(channels)

    def forward(self, x: Tensor, side: Tensor | None = None, quality: Tensor | None = None) -> TrainingOutput:
        """x (B, 3, H, W), H and W multiples of 16; the side view is ignored."""
        latent, likelihoods = self.noisy(self.codec.g_a(x), quality)
        return TrainingOutput(self.codec.g_s(latent), None, {"x": likelihoods})
