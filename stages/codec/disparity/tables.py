"""The probabilities that the `disparity` codec codes with: one table per whole quality and channel."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from stages.codec.disparity.model import Disparity

__all__ = ["probabilities"]

REACH = 1024
"""Symbols from -REACH to REACH are looked at; the tables keep what has probability."""


@torch.no_grad()
def probabilities(model: Disparity) -> tuple[list[NDArray[np.float64]], list[int]]:
    """A pmf for every quality and channel, quality outermost, and the smallest symbol of each."""
    exact = copy.deepcopy(model.prior).double()
    symbols = torch.arange(-REACH, REACH + 1, dtype=torch.float64)
    pmfs: list[NDArray[np.float64]] = []
    for quality in range(int(model.quality_range[1]) + 1):
        step = model.step(torch.tensor([float(quality)]))[0, :, :, 0].double()[:, :, None]
        centre = (symbols * step).expand(-1, 1, -1)
        pmfs.extend(exact.interval(centre, step.expand_as(centre))[:, 0].numpy())
    return pmfs, [-REACH] * len(pmfs)
