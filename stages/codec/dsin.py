"""dsin: Ayzik and Avidan, *Deep Image Compression using Decoder Side Information*, ECCV 2020 (arXiv:2001.04753).

x ────► g_a ─► round ─► symbols ─► g_s ─► draft ──────────┬─────────────► SI-Net ─► x_hat      transmitted: the symbols
                                                     patch search           ▲
side ─► g_a ─► round ────────────► g_s ─► side's draft ───┘ │               │
  └───────────────────────────────────────────── 20 x 24 patches, in x's geometry

The paper's single-image codec is Mentzer's (2018: importance map, context model in 3D). Here it is the one of NDIC
without side view, four 5 x 5 convolutions with GDN and a factorised prior: what is compared then is what a decoder
makes of the side view, not the entropy models of two years. Without a side view the draft is the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.codec.density import FactorizedDensity
from stages.codec.factorized import FactorizedModel
from stages.codec.patch_search import aligned_patches
from stages.codec.training import FactorizedTraining, TrainingOutput
from stages.codec.transforms import FIVE_FIVE, Analysis, Synthesis, float32_convolutions

__all__ = ["Dsin", "DsinTraining", "FusionNet"]

DILATIONS = (1, 2, 4, 8, 16, 32, 64, 128, 1)
SLOPE = 0.2
START_NOISE = 1e-3
DRAFT_SHARE = 0.3
"""Of the distortion in training; the paper's 1 - alpha."""


@dataclass(frozen=True, slots=True)
class PreparedSide:
    """The side view, and what the codec itself makes of it."""

    picture: Tensor
    draft: Tensor


class FusionNet(nn.Module):
    """SI-Net: dilated 3x3 convolutions over draft and patches. It starts by (almost) handing the draft through."""

    def __init__(self, width: int) -> None:
        super().__init__()
        if not 6 <= width <= 512:
            raise ValueError(f"a fusion network of {width} channels was asked for, 6 to 512 are possible")
        inputs = [6] + [width] * (len(DILATIONS) - 1)
        self.conv = nn.ModuleList(
            nn.Conv2d(a, width, 3, padding=d, dilation=d) for a, d in zip(inputs, DILATIONS, strict=True)
        )
        self.last = nn.Conv2d(width, 3, 1)
        for layer in [*self.conv, self.last]:
            nn.init.dirac_(layer.weight)
            nn.init.zeros_(layer.bias)
            with torch.no_grad():  # channels that begin and end in zeros would never learn
                layer.weight += START_NOISE * torch.randn_like(layer.weight)

    def forward(self, draft: Tensor, patches: Tensor) -> Tensor:
        """(B, 3, H, W), not clamped, from pictures (B, 3, H, W) in about [0, 1]."""
        x = torch.cat([draft, patches], 1)
        for conv in self.conv:
            x = F.leaky_relu(conv(x), SLOPE)
        x_hat: Tensor = self.last(x)
        return x_hat


class Dsin(FactorizedModel):
    """What encoding and decoding need."""

    name = "dsin"
    needs_side = False

    def __init__(self, channels: int = 192, width: int = 32, anchors: int = 0) -> None:
        super().__init__(Analysis(3, channels, FIVE_FIVE), channels, anchors, width=width)
        self.g_s = Synthesis(channels, channels, FIVE_FIVE)
        self.fusion = FusionNet(width)

    def prepare(self, side: Tensor) -> PreparedSide:
        """The side view (B, 3, H, W) with its own reconstruction, which is where patches are looked for.

        It is that of the default quality: which one the packet has isn't known yet.
        """
        with float32_convolutions():
            return PreparedSide(side, self.g_s(self.rounded(self.g_a(side), self.default_quality)))

    def synthesise(self, symbols: Tensor, quality: float, prepared: PreparedSide | None) -> Tensor:
        """x_hat (1, 3, H, W) of symbols (C, h, w); without a side view it is the draft."""
        with float32_convolutions():
            draft: Tensor = self.g_s(self.dequantised(symbols, quality))
            return draft if prepared is None else self.fused(draft, prepared)

    def fused(self, draft: Tensor, side: PreparedSide) -> Tensor:
        """x_hat (B, 3, H, W) of a draft and a side view."""
        patches = aligned_patches(draft.clamp(0, 1), side.draft.clamp(0, 1), side.picture)
        x_hat: Tensor = self.fusion(draft, patches)
        return x_hat


class DsinTraining(FactorizedTraining):
    """The codec with the density that training needs, and the coding tables come from."""

    def __init__(self, channels: int = 192, width: int = 32, anchors: int = 0) -> None:
        super().__init__()
        self.codec: Dsin = Dsin(channels, width, anchors)
        self.density = FactorizedDensity(channels)

    def forward(self, x: Tensor, side: Tensor, quality: Tensor | None = None) -> TrainingOutput:
        """x and side (B, 3, H, W), H and W multiples of 16."""
        codec = self.codec
        latent, likelihoods = self.noisy(codec.g_a(x), quality)
        draft = codec.g_s(latent)
        with torch.no_grad():
            prepared = codec.prepare(side)
        x_hat = codec.fused(draft, prepared)
        return TrainingOutput(x_hat, None, {"x": likelihoods}, draft, DRAFT_SHARE)
