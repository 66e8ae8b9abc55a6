"""What the papers' models with a factorised prior share: one rate point, one coding table per channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.codec.transforms import Analysis, float32_convolutions

__all__ = ["FactorizedModel", "TrainingOutput", "bits_of", "with_uniform_noise"]


@dataclass(frozen=True, slots=True)
class TrainingOutput:
    """What the training loss is made of: lambda * 255^2 * (D(x) + alpha D(y)) + bpp_x + alpha bpp_y + beta bpp_w."""

    x_hat: Tensor
    """(B, 3, H, W), not clamped"""
    y_hat: Tensor | None
    """The side view's reconstruction, where the model has one; (B, 3, H, W), not clamped"""
    likelihoods: dict[str, Tensor]
    """Of the noisy latents, (B, C, h, w) each: `x`, which is transmitted, and `y` and `w` where the model has them."""


class FactorizedModel(nn.Module):
    """A model whose symbols are round(g_a(x)), each channel coded with its own table."""

    multiple = 16
    latent_stride = 16
    quality_range = (0.0, 0.0)
    default_quality = 0.0
    training_only: tuple[str, ...] = ()
    config: Mapping[str, bool | int | float | str]

    def __init__(self, g_a: Analysis, channels: int) -> None:
        super().__init__()
        self.g_a = g_a
        self.latent_channels = channels

    def analyse(self, x: Tensor, quality: float) -> Tensor:
        """Symbols (C, h, w) int32 of x (1, 3, H, W)."""
        with float32_convolutions():
            symbols: Tensor = torch.round(self.g_a(x))[0].to(torch.int32)
        return symbols

    def table_index(self, quality: float, h: int, w: int) -> NDArray[np.int64]:
        """(C,): the channel."""
        return np.arange(self.latent_channels, dtype=np.int64)


def with_uniform_noise(latent: Tensor) -> Tensor:
    """The latent as training sees it: noise in [-1/2, 1/2] stands for rounding."""
    return latent + torch.rand_like(latent) - 0.5


def bits_of(likelihoods: Tensor) -> Tensor:
    """The information content, in bits, of everything whose likelihoods are given; a scalar."""
    return -likelihoods.log2().sum()
