"""The factorised density of the unscaled latent, which serves every step size."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Prior"]

WIDTHS = (1, 3, 3, 3, 1)


class Prior(nn.Module):
    """A monotone network per channel, as in Balle et al. 2018, appendix 6.1, hidden widths 3, 3, 3.

    It gives the density of the latent *before* division by the step, so one density serves all qualities:
    P(s) = F((s + 1/2) step) - F((s - 1/2) step).
    """

    def __init__(self, channels: int, scale: float = 6.0) -> None:
        super().__init__()
        spread = scale ** (1 / (len(WIDTHS) - 1))
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.factors = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(WIDTHS):
            start = math.log(math.expm1(1 / spread / fan_out))
            self.matrices.append(nn.Parameter(torch.full((channels, fan_out, fan_in), start)))
            self.biases.append(nn.Parameter(torch.empty(channels, fan_out, 1).uniform_(-0.5, 0.5)))
        for width in WIDTHS[1:-1]:
            self.factors.append(nn.Parameter(torch.zeros(channels, width, 1)))

    def cumulative_logits(self, latent: Tensor) -> Tensor:
        """(C, 1, N) unscaled latent -> (C, 1, N) logits of its cumulative distribution."""
        v = latent
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            v = torch.bmm(F.softplus(matrix), v) + bias
            if i < len(self.factors):
                v = v + torch.tanh(self.factors[i]) * torch.tanh(v)
        return v

    def interval(self, centre: Tensor, step: Tensor) -> Tensor:
        """Mass of the interval `centre` +- `step` / 2, both (C, 1, N), at least 1e-9."""
        low, high = self.cumulative_logits(centre - step / 2), self.cumulative_logits(centre + step / 2)
        sign = -torch.sign(low + high).detach()
        return (torch.sigmoid(sign * high) - torch.sigmoid(sign * low)).abs().clamp_min(1e-9)

    def bits(self, latent: Tensor, step: Tensor) -> Tensor:
        """Bits of each sample: latent (B, C, h, w), step (B, C, 1, 1), both unscaled -> (B,)."""
        b, c, h, w = latent.shape

        def by_channel(t: Tensor) -> Tensor:
            return t.permute(1, 0, 2, 3).reshape(c, 1, -1)

        mass = self.interval(by_channel(latent), by_channel(step.expand_as(latent)))
        return -mass.log2().reshape(c, b, h * w).sum((0, 2))
