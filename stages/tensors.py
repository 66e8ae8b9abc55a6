"""Pixels to the tensors of the codec library and back.

Codecs that match the views look for the side view's part of the scene further left, as for a left primary view. With a
right primary view everything is mirrored on its way into the codec and back, on both nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.types import Pixels, View

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["to_pixels", "to_tensor"]


def to_tensor(pixels: Pixels, device: torch.device | str = "cpu", *, primary: View = "left") -> Tensor:
    """Return (H, W, 3) uint8 as (1, 3, H, W) float32 in [0, 1] on `device`, mirrored if `primary` is the right view."""
    import torch

    # torch warns of arrays that it could write to although numpy says it must not; only those are copied.
    writable = np.require(pixels, requirements=["C", "W"])
    planes = torch.from_numpy(writable).to(device).permute(2, 0, 1).unsqueeze(0)
    if primary == "right":
        planes = planes.flip(3)
    return planes.to(torch.float32, memory_format=torch.contiguous_format).div_(255.0)


def to_pixels(x_hat: Tensor, *, primary: View = "left") -> Pixels:
    """Return (1, 3, H, W) float as (H, W, 3) uint8, clamped to [0, 1] and rounded; mirrored back where it was."""
    import torch

    levels = x_hat[0].clamp(0.0, 1.0).mul(255.0).round_().to(torch.uint8)
    if primary == "right":
        levels = levels.flip(2)
    pixels: Pixels = levels.permute(1, 2, 0).contiguous().cpu().numpy()
    return pixels
