"""How pictures of any size come to the size at which a network works, and back.

Most networks take any multiple of 16: pictures are padded, and what comes out is cropped. A network of one fixed size
works on tiles of it (padding to a multiple of the size, in both directions) or on the picture resized to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from stages.codec.model import Network

__all__ = ["FITS", "Fit", "Padded", "Resized", "fit_of", "fixed_fit"]

FITS = ("tiles", "resize")
"""What a network of a fixed size can do with other pictures."""


class Fit(Protocol):
    """A way from pictures of any size to those that a network takes."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which the network works for a picture of that size."""

    def apply(self, x: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, 3, *size(H, W))."""

    def undo(self, x_hat: Tensor, height: int, width: int) -> Tensor:
        """The way back."""


@dataclass(frozen=True, slots=True)
class Padded:
    """Repeat the last row and column up to a multiple; crop afterwards."""

    height: int
    width: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The next multiples."""
        return -(-height // self.height) * self.height, -(-width // self.width) * self.width

    def apply(self, x: Tensor) -> Tensor:
        """Padded at the right and at the bottom."""
        height, width = self.size(*x.shape[2:])
        bottom, right = height - x.shape[2], width - x.shape[3]
        return F.pad(x, (0, right, 0, bottom), mode="replicate") if right or bottom else x

    def undo(self, x_hat: Tensor, height: int, width: int) -> Tensor:
        """Cropped."""
        return x_hat[..., :height, :width]


@dataclass(frozen=True, slots=True)
class Resized:
    """Resize to one size (bilinear, anti-aliased, as in the papers), and back."""

    height: int
    width: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Always the same."""
        return self.height, self.width

    def apply(self, x: Tensor) -> Tensor:
        """Resized, unless it has the size already."""
        return self._resized(x, self.height, self.width)

    def undo(self, x_hat: Tensor, height: int, width: int) -> Tensor:
        """Resized to what it was."""
        return self._resized(x_hat, height, width)

    def _resized(self, x: Tensor, height: int, width: int) -> Tensor:
        if x.shape[2:] == (height, width):
            return x
        return F.interpolate(x, (height, width), mode="bilinear", antialias=True, align_corners=False)


def fit_of(model: Network) -> Fit:
    """The network's own, else padding to its multiple."""
    fit: Fit | None = getattr(model, "fit", None)
    return fit or Padded(model.multiple, model.multiple)


def fixed_fit(kind: str, height: int, width: int) -> Fit:
    """For a network of that size: `tiles` or `resize`; ValueError for anything else."""
    if kind not in FITS:
        raise ValueError(f"fit {kind!r}, expected one of {', '.join(FITS)}")
    return Padded(height, width) if kind == "tiles" else Resized(height, width)
