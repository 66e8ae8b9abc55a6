"""What the papers' models with a scale hyperprior share: one rate point, z and the latent transmitted."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.codec.hyperprior import HYPER_STRIDE, SCALES, HyperAnalysis
from stages.codec.integer_hyper import IntegerHyperSynthesis
from stages.codec.transform_model import TransformModel
from stages.codec.transforms import FIVE_FIVE, Analysis, float32_convolutions

__all__ = ["ScaleModel"]


class ScaleModel(TransformModel):
    """A model whose latent is coded given the spreads that z tells.

    x ─► g_a ─┬─► round ─► symbols
              └─► h_a ─► round ─► z ─► h_s (integers) ─► coding table of each symbol
    """

    hyper_stride = HYPER_STRIDE

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g_a = Analysis(3, channels, FIVE_FIVE)
        self.h_a = HyperAnalysis(channels)
        self.h_s = IntegerHyperSynthesis(channels)
        self.latent_channels = self.hyper_channels = channels

    def analyse_both(self, x: Tensor, quality: float) -> tuple[Tensor, Tensor]:
        """Symbols int32 of x (1, 3, H, W): z (C, ceil(h / 4), ceil(w / 4)) and the latent (C, h, w)."""
        with float32_convolutions():
            latent = self.g_a(x)
            z: Tensor = self.h_a(latent)
        return z.round()[0].to(torch.int32), latent.round()[0].to(torch.int32)

    def hyper_index(self, quality: float) -> NDArray[np.int64]:
        """(C,): the channel."""
        return np.arange(self.hyper_channels, dtype=np.int64)

    def latent_index(self, hyper: Tensor, quality: float, h: int, w: int) -> NDArray[np.int64]:
        """(C * h * w,): behind the tables of z come those of the scales, ascending."""
        index: Tensor = self.h_s(hyper)[:, :h, :w]
        return self.hyper_channels + index.reshape(-1).cpu().numpy()

    def highest_index(self, quality: float) -> int:
        """The table of the widest spread."""
        return self.hyper_channels + len(SCALES) - 1
