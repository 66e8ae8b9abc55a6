"""What the training sides of the papers' models share: what the loss is made of, and how a codec comes out of them.

A training model holds its codec (`codec`) with what only training needs: densities, the side view's own synthesis.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stages.codec.density import FactorizedDensity
from stages.codec.entropy import CodingTables
from stages.codec.factorized import FactorizedModel
from stages.codec.gains import HIGHEST_QUALITY
from stages.codec.hyperprior import HyperSynthesis, gaussian_likelihood, gaussian_tables
from stages.codec.scale_model import ScaleModel

__all__ = [
    "FactorizedTraining",
    "ScaleDensity",
    "ScaleTraining",
    "TrainingOutput",
    "bits_of",
    "with_common_noise",
    "with_uniform_noise",
]

COMMON_NOISE_VARIANCE = 0.001


@dataclass(frozen=True, slots=True)
class TrainingOutput:
    """What the training loss is made of: lambda * 255^2 * (D(x) + alpha D(y)) + bpp_x + alpha bpp_y + beta bpp_w."""

    x_hat: Tensor
    """(B, 3, H, W), not clamped"""
    y_hat: Tensor | None
    """The side view's reconstruction, where the model has one; (B, 3, H, W), not clamped"""
    likelihoods: dict[str, Tensor]
    """Of the noisy latents, (B, C, h, w) each: `x`, which is transmitted, and `y` and `w` where the model has them.
    Those of hyper latents are `x_hyper` and `y_hyper`."""
    draft: Tensor | None = None
    """The picture before the side view was used, where the loss looks at it too; (B, 3, H, W), not clamped"""
    draft_share: float = 0.0
    """The draft's share of D(x); x_hat has the rest."""


class FactorizedTraining(nn.Module):
    """A codec with a factorised prior, and the density that its coding tables come from."""

    codec: FactorizedModel
    density: FactorizedDensity
    side_branch = True
    """Whether the side view's own reconstruction is made, which the loss needs unless alpha is 0."""

    def noisy(self, latent: Tensor, quality: Tensor | None) -> tuple[Tensor, Tensor]:
        """A latent (B, C, h, w) as training sees it at qualities (B,), and its likelihoods.

        Noise as wide as the step stands for rounding, so that distortion sees the step sizes as the rate does.
        `quality` matters where there are gains.
        """
        gains = self.codec.gains
        if gains is None:
            latent = with_uniform_noise(latent)
            return latent, self.density(latent)
        if quality is None:
            raise ValueError("a model with gains is trained at given qualities")
        step = gains(quality)
        latent = latent + (torch.rand_like(latent) - 0.5) * step
        return latent, self.density(latent, step)

    @torch.no_grad()
    def transmitted(self, x: Tensor, quality: float = 0.0) -> tuple[Tensor, Tensor]:
        """Symbols (C, h, w) of a picture (1, 3, H, W), and their bits by the density, a scalar."""
        symbols = self.codec.analyse(x, quality)
        latent = self.codec.dequantised(symbols, quality)
        return symbols, bits_of(self.density(latent, self.codec.step(quality, latent)))

    @torch.no_grad()
    def exported(self) -> tuple[FactorizedModel, CodingTables]:
        """The codec and its coding tables, as a weights file stores them: quality by quality, channel by channel."""
        gains = self.codec.gains
        if gains is None:
            return self.codec, self.density.tables()
        qualities = torch.arange(HIGHEST_QUALITY + 1.0, device=gains.log_gain.device)
        return self.codec, self.density.tables(gains(qualities)[:, :, 0, 0])


class ScaleDensity(nn.Module):
    """The likelihoods of a latent and of the z that tells its spreads."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.h_s = HyperSynthesis(channels)
        self.density = FactorizedDensity(channels)

    def forward(self, latent: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Likelihoods of latent (B, C, h, w) and z (B, C, ceil(h / 4), ceil(w / 4)), both quantised or noisy."""
        sigma = self.h_s(z)[..., : latent.shape[2], : latent.shape[3]]
        return gaussian_likelihood(latent, sigma), self.density(z)


class ScaleTraining(nn.Module):
    """A codec with a scale hyperprior, and the float densities that its tables and integers come from."""

    codec: ScaleModel
    prior: ScaleDensity
    side_branch = True
    """As in `FactorizedTraining`."""

    @torch.no_grad()
    def transmitted(self, x: Tensor, quality: float = 0.0) -> tuple[Tensor, Tensor]:
        """Symbols (C, h, w) of a picture (1, 3, H, W), and the bits of latent and z by the densities, a scalar."""
        z, symbols = self.codec.analyse_both(x, quality)
        likelihoods = self.prior(symbols[None].float(), z[None].float())
        return symbols, bits_of(likelihoods[0]) + bits_of(likelihoods[1])

    def exported(self) -> tuple[ScaleModel, CodingTables]:
        """A copy of the codec with its h_s in integers, and its coding tables: those of z, then one for each scale.

        ValueError where integers of 16 bits can't hold the weights.
        """
        codec, of_z = copy.deepcopy(self.codec), self.prior.density.tables()
        codec.h_s.quantise(self.prior.h_s, of_z)
        return codec, CodingTables.joined([of_z, gaussian_tables()])


def with_uniform_noise(latent: Tensor) -> Tensor:
    """The latent as training sees it: noise in [-1/2, 1/2] stands for rounding."""
    return latent + torch.rand_like(latent) - 0.5


def with_common_noise(w: Tensor) -> Tensor:
    """The common information as training sees it."""
    deviation: float = COMMON_NOISE_VARIANCE**0.5
    return w + torch.randn_like(w) * deviation


def bits_of(likelihoods: Tensor) -> Tensor:
    """The information content, in bits, of everything whose likelihoods are given; a scalar."""
    return -likelihoods.log2().sum()
