"""The scale hyperprior of Ballé et al., 2018 (arXiv:1802.01436): the latent's spread is itself transmitted, as z.

latent ─► h_a(|latent|) ─► round ─► z ─► h_s ─► sigma        each symbol of the latent: Gaussian, mean 0, that sigma

Encoder and decoder must agree on every table index, so outside training `stages.codec.integer_hyper` takes the place of
h_s: it computes on integers and gives, instead of sigma, the index of one of SCALES.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.codec.density import LEAST_LIKELIHOOD
from stages.codec.entropy import CodingTables

__all__ = [
    "HYPER_STRIDE",
    "LEAST_SIGMA",
    "SCALES",
    "HyperAnalysis",
    "HyperSynthesis",
    "gaussian_likelihood",
    "gaussian_tables",
]

LEAST_SIGMA = 0.11
MOST_SIGMA = 256.0
SCALES: tuple[float, ...] = tuple(
    math.exp(v) for v in np.linspace(math.log(LEAST_SIGMA), math.log(MOST_SIGMA), 64).tolist()
)
"""The spreads that there are coding tables for, the same factor apart."""
HYPER_STRIDE = 4
"""Latent positions per position of z."""
_TAIL = LEAST_LIKELIHOOD
_REACH = 8
"""Spreads that a pmf reaches to either side, before its tails are cut."""


class HyperAnalysis(nn.Module):
    """Latent (B, C, h, w) -> z, not rounded, (B, C, ceil(h / 4), ceil(w / 4))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.ModuleList(
            [
                nn.Conv2d(channels, channels, 3, 1, 1),
                nn.Conv2d(channels, channels, 5, 2, 2),
                nn.Conv2d(channels, channels, 5, 2, 2, bias=False),
            ]
        )

    def forward(self, latent: Tensor) -> Tensor:
        """z of a latent that isn't rounded."""
        z: Tensor = self.conv[2](F.relu(self.conv[1](self.conv[0](latent.abs()))))
        return z


class HyperSynthesis(nn.Module):
    """z (B, C, h, w) -> sigma (B, C, 4 h, 4 w), at least 0.11; in float, for training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.deconv = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels, channels, 5, 2, 2, output_padding=1),
                nn.ConvTranspose2d(channels, channels, 5, 2, 2, output_padding=1),
                nn.ConvTranspose2d(channels, channels, 3, 1, 1),
            ]
        )

    def forward(self, z: Tensor) -> Tensor:
        """Spreads of the latent's symbols."""
        bounded: Tensor = _AtLeast.apply(self.activations(z)[-1], LEAST_SIGMA)  # type: ignore[no-untyped-call]
        return bounded

    def activations(self, z: Tensor) -> list[Tensor]:
        """What each layer puts out; the last is sigma before it is bounded."""
        first = F.relu(self.deconv[0](z))
        second = F.relu(self.deconv[1](first))
        return [first, second, self.deconv[2](second)]


class _AtLeast(torch.autograd.Function):
    """max(x, bound), whose gradient also reaches what is below the bound and should rise; it would stay there else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradient * ((x >= ctx.bound) | (gradient < 0)), None


def gaussian_likelihood(latent: Tensor, sigma: Tensor) -> Tensor:
    """P(latent - 1/2 < s < latent + 1/2) of Gaussians around 0 for each element, at least 1e-9."""
    distance = latent.abs()  # the side where the cumulative is small
    upper, lower = ((edge - distance) / sigma for edge in (0.5, -0.5))
    likelihood: Tensor = torch.special.ndtr(upper) - torch.special.ndtr(lower)
    return likelihood.clamp_min(LEAST_LIKELIHOOD)


def gaussian_tables() -> CodingTables:
    """One coding table for each of SCALES."""
    pmfs: list[NDArray[np.float64]] = []
    reaches = [math.ceil(_REACH * scale) for scale in SCALES]
    for scale, reach in zip(SCALES, reaches, strict=True):
        symbols = torch.arange(-reach, reach + 1, dtype=torch.float64)
        edges = ((edge - symbols.abs()) / scale for edge in (0.5, -0.5))
        upper, lower = (torch.special.ndtr(edge) for edge in edges)
        pmfs.append((upper - lower).numpy())
    return CodingTables.build(pmfs, [-reach for reach in reaches], _TAIL)
