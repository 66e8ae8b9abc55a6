"""RGB to the planes that a video encoder takes and back: BT.601, full range, rounded once in each direction.

Measured on KITTI at 128 x 256 with HEVC 4:4:4: limited range lies on the same rate-distortion curve, planar RGB costs
half as many bits again at equal PSNR, YCgCo saves 2 %.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Pixels

__all__ = ["Chroma", "from_planes", "from_ycbcr", "to_planes", "to_ycbcr"]

Chroma = Literal["yuv444p", "yuv420p"]

TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
TO_RGB = np.linalg.inv(TO_YCBCR)
MIDDLE = np.array([0.0, 128.0, 128.0])


def to_ycbcr(pixels: Pixels) -> Pixels:
    """(H, W, 3) uint8 Y, Cb, Cr of RGB."""
    return _levels(pixels.astype(np.float64) @ TO_YCBCR.T + MIDDLE)


def from_ycbcr(ycbcr: Pixels) -> Pixels:
    """(H, W, 3) uint8 RGB of Y, Cb, Cr."""
    return _levels((ycbcr.astype(np.float64) - MIDDLE) @ TO_RGB.T)


def to_planes(pixels: Pixels, chroma: Chroma) -> NDArray[np.uint8]:
    """Planes in PyAV's layout, of (H, W, 3) uint8: (3, H, W) for 4:4:4; (H * 3 / 2, W) for 4:2:0, where each chroma
    sample is the mean of 2 x 2. Odd sizes become even by repeating the last row and column."""
    even = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
    ycbcr = even.astype(np.float64) @ TO_YCBCR.T + MIDDLE
    if chroma == "yuv444p":
        return np.ascontiguousarray(_levels(ycbcr).transpose(2, 0, 1))
    height, width = even.shape[:2]
    halves = ycbcr[..., 1:].reshape(height // 2, 2, width // 2, 2, 2).mean(axis=(1, 3))
    planes = (ycbcr[..., 0], halves[..., 0], halves[..., 1])
    stacked: NDArray[np.uint8] = np.concatenate([_levels(plane).ravel() for plane in planes])
    return stacked.reshape(height * 3 // 2, width)


def from_planes(planes: NDArray[np.uint8], chroma: Chroma, height: int, width: int) -> Pixels:
    """(height, width, 3) uint8 RGB of planes as `to_planes` makes them; chroma is enlarged bilinearly."""
    ycbcr = planes.transpose(1, 2, 0).astype(np.float64) if chroma == "yuv444p" else _enlarged(planes)
    pixels: Pixels = np.ascontiguousarray(_levels((ycbcr - MIDDLE) @ TO_RGB.T)[:height, :width])
    return pixels


def _enlarged(planes: NDArray[np.uint8]) -> NDArray[np.float64]:
    import cv2

    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    luma, rest = planes[:height], planes[height:].reshape(2, height // 2, width // 2).astype(np.float32)
    chroma = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in rest]
    ycbcr: NDArray[np.float64] = np.stack([luma, *chroma], axis=2).astype(np.float64)
    return ycbcr


def _levels(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
