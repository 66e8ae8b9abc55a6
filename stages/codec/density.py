"""The factorised density: one learned distribution per channel. For training, and for making coding tables.

Ballé et al., 2018 (arXiv:1802.01436), appendix 6.1, with hidden widths (3, 3, 3): the cumulative is a small monotone
network, c(x) = sigmoid(f4(f3(f2(f1(x))))), f_k(x) = g_k(softplus(M_k) x + b_k), g_k(x) = x + tanh(a_k) * tanh(x).
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from stages.codec.entropy import CodingTables

__all__ = ["LEAST_LIKELIHOOD", "FactorizedDensity"]

WIDTHS = (1, 3, 3, 3, 1)
LEAST_LIKELIHOOD = 1e-9
TAIL = 2.0**-18
"""Probability that a coding table may leave to the escape at either end."""
REACHES = (64, 512, 4096)
"""How far from zero a coding table may reach; the next one is tried when too much probability lies beyond."""


class FactorizedDensity(nn.Module):
    """Likelihoods of quantised latents, (B, C, h, w)."""

    def __init__(self, channels: int, initial_scale: float = 10.0) -> None:
        super().__init__()
        scale = initial_scale ** (1 / (len(WIDTHS) - 1))
        pairs = list(itertools.pairwise(WIDTHS))
        self.matrix = nn.ParameterList(
            torch.full((channels, b, a), math.log(math.expm1(1 / scale / b))) for a, b in pairs
        )
        self.bias = nn.ParameterList(torch.rand(channels, b, 1) - 0.5 for _, b in pairs)
        self.factor = nn.ParameterList(torch.zeros(channels, b, 1) for _, b in pairs[:-1])

    def forward(self, latent: Tensor, step: Tensor | None = None) -> Tensor:
        """P(latent - step / 2 < s < latent + step / 2) for each element, at least 1e-9; step (B, C, 1, 1) or 1."""
        b, c, h, w = latent.shape

        def by_channel(t: Tensor) -> Tensor:
            return t.transpose(0, 1).reshape(c, 1, b * h * w)

        width = 1.0 if step is None else by_channel(step.expand_as(latent))
        return self.interval(by_channel(latent), width).clamp_min(LEAST_LIKELIHOOD).reshape(c, b, h, w).transpose(0, 1)

    def interval(self, values: Tensor, width: float | Tensor = 1.0) -> Tensor:
        """Probabilities of the intervals of that width around values (C, 1, n), exact in both tails."""
        lower, upper = self.logits(values - width / 2), self.logits(values + width / 2)
        # Both logits on the side where the sigmoid is small, or their difference would be lost in rounding.
        sign = torch.where(lower + upper > 0, -1.0, 1.0).to(lower.dtype).detach()
        return (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()

    def logits(self, values: Tensor) -> Tensor:
        """Logits of the cumulative at values (C, 1, n)."""
        for i, (matrix, bias) in enumerate(zip(self.matrix, self.bias, strict=True)):
            values = F.softplus(matrix) @ values + bias
            if i < len(self.factor):
                values = values + torch.tanh(self.factor[i]) * torch.tanh(values)
        return values

    @torch.no_grad()
    def tables(self, steps: Tensor | None = None) -> CodingTables:
        """Coding tables over the finite supports that hold the densities.

        One for each channel; with step sizes (Q, C) one for each quality and channel, quality by quality.
        """
        from stages.codec.entropy import CodingTables  # where models are only trained, its coder may be missing

        exact = FactorizedDensity(self.matrix[0].shape[0]).double()
        exact.load_state_dict(self.state_dict())
        pmfs: list[NDArray[np.float64]] = []
        for step in torch.ones(1, len(exact.matrix[0])) if steps is None else steps:
            pmfs.extend(_pmfs(exact, step.cpu().double()[:, None, None]))
        return CodingTables.build(pmfs, [-(len(pmf) // 2) for pmf in pmfs], TAIL)


def _pmfs(density: FactorizedDensity, step: Tensor) -> NDArray[np.float64]:
    """(C, 2 n + 1) probabilities of the symbols -n to n, for steps (C, 1, 1); float64."""
    for reach in REACHES:
        logits = density.logits(torch.tensor([-reach - 0.5, reach + 0.5], dtype=torch.float64) * step)[:, 0]
        outside = torch.maximum(torch.sigmoid(logits[:, 0]), torch.sigmoid(-logits[:, 1]))
        if float(outside.max()) < TAIL:
            break
    symbols = torch.arange(-reach, reach + 1, dtype=torch.float64) * step
    pmfs: NDArray[np.float64] = density.interval(symbols, step)[:, 0].numpy()
    return pmfs
