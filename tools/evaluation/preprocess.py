"""What is done to a picture before it is coded; the same to both views."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from pipeline.types import Pixels

__all__ = ["PREPROCESSES", "Preprocess", "prepared"]

Preprocess = Literal["paper", "native", "full"]
PREPROCESSES: tuple[Preprocess, ...] = get_args(Preprocess)

PAPER_CROP, PAPER_SIZE = (370, 740), (128, 256)
"""(height, width): the papers cut this out of the middle of a KITTI picture and shrink it to that."""
NATIVE_CROP = (352, 1216)


def prepared(pixels: Pixels, how: Preprocess, *, crop: bool = True, mirrored: bool = False) -> Pixels:
    """(H, W, 3) uint8 of the picture as it is coded.

    `paper`: the middle 370 x 740, shrunk to 128 x 256 with OpenCV's INTER_AREA, which averages what a pixel covers (the
    papers' anti-aliased bilinear filter is wider, so its pictures are softer: HEVC scores some 0.9 dB more on them).
    Of smaller pictures the largest middle part of that shape; without `crop` (Cityscapes) the whole picture.
    `native`: the middle 352 x 1216, or what there is of it. `full`: as it is.
    """
    if mirrored:
        pixels = pixels[:, ::-1]
    if how == "paper":
        return _shrunk(_middle(pixels, _paper_part(pixels.shape[0], pixels.shape[1])) if crop else pixels)
    if how == "native":
        return np.ascontiguousarray(_middle(pixels, NATIVE_CROP))
    return np.ascontiguousarray(pixels)


def _paper_part(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, height / PAPER_CROP[0], width / PAPER_CROP[1])
    return round(PAPER_CROP[0] * scale), round(PAPER_CROP[1] * scale)


def _middle(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    height, width = (min(limit, n) for limit, n in zip(size, pixels.shape, strict=False))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def _shrunk(pixels: Pixels) -> Pixels:
    import cv2

    height, width = PAPER_SIZE
    small: Pixels = cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=cv2.INTER_AREA)
    return small
