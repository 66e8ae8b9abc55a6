"""How close two pictures are: PSNR and MS-SSIM over 8-bit RGB."""

from __future__ import annotations

import math

import numpy as np

from pipeline.types import Pixels

__all__ = ["PSNR_CAP_DB", "ms_ssim", "psnr_db"]

PSNR_CAP_DB = 100.0
"""What identical pictures get, so that means and plots stay finite. One wrong level in one sample of a 4K picture is
122 dB and capped too; everything lossy lies far below."""

SCALES = 5
WINDOWS = (11, 7)
"""Gaussian windows of MS-SSIM, px; the smaller one for pictures that 5 scales of the usual one do not fit into."""


def psnr_db(a: Pixels, b: Pixels) -> float:
    """Return the peak signal-to-noise ratio in dB of two (H, W, 3) uint8 pictures, over all samples of all channels."""
    _check(a, b)
    difference = a.astype(np.int16) - b
    squared = float(np.square(difference, dtype=np.int32).sum(dtype=np.int64))
    if squared == 0.0:
        return PSNR_CAP_DB
    return min(PSNR_CAP_DB, 10.0 * math.log10(255.0**2 * a.size / squared))


def ms_ssim(a: Pixels, b: Pixels) -> float | None:
    """Return MS-SSIM (Wang, Simoncelli and Bovik, 2003) of two (H, W, 3) uint8 pictures, 0 to 1.

    The window is 11 px, or 7 px where the smaller side is at most 160 px. None for at most 96 px, which 5 scales do not
    fit into.
    """
    _check(a, b)
    window = next((w for w in WINDOWS if min(a.shape[:2]) > (w - 1) * 2 ** (SCALES - 1)), None)
    if window is None:
        return None
    import torch
    from pytorch_msssim import ms_ssim as measure

    from stages.tensors import to_tensor

    with torch.inference_mode():
        return float(measure(to_tensor(a), to_tensor(b), data_range=1.0, win_size=window))


def _check(a: Pixels, b: Pixels) -> None:
    if a.shape != b.shape:
        raise ValueError(f"pictures of one size expected, found {a.shape} and {b.shape}")
