"""What the papers' models with a factorised prior share: one rate point, one coding table per channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.codec.transforms import Analysis, float32_convolutions

__all__ = ["FactorizedModel"]


class FactorizedModel(nn.Module):
    """A model whose symbols are round(g_a(x)), each channel coded with its own table."""

    name: ClassVar[str]
    needs_side: bool
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

    def prepare(self, side: Tensor) -> Any:
        """What `synthesise` needs of the side view (1, 3, H, W)."""
        raise NotImplementedError

    def synthesise(self, symbols: Tensor, quality: float, prepared: Any) -> Tensor:
        """x_hat (1, 3, H, W) of symbols (C, h, w)."""
        raise NotImplementedError
