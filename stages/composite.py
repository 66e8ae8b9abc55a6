"""What the dashboard shows of an item: its pictures in one JPEG, small enough to be made while the node works."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.dashboard import Composite, Tile
from pipeline.types import Decoded, Item, Pixels, StereoPair, frame_id_of, picture_of
from stages.picture import encode_jpeg

__all__ = ["ERROR_FULL_SCALE", "compose"]

WIDEST_PX, HIGHEST_PX = 960, 1080
QUALITY = 85
ERROR_FULL_SCALE = 40
"""Levels (of 255) at which the error is at its brightest; that of `write_panels`, so that both can be compared."""

Named = tuple[str, str, Pixels]


def compose(item: Item) -> Composite:
    """All pictures of an item, of one size, below each other. Raises ValueError where it has none."""
    pictures = list(_pictures(item))
    if not pictures:
        raise ValueError(f"a {type(item).__name__} has no picture to show")
    height, width = pictures[0][2].shape[:2]
    tiles = tuple(Tile(name, title, 0, i * height, width, height) for i, (name, title, _) in enumerate(pictures))
    jpeg = encode_jpeg(np.concatenate([pixels for _, _, pixels in pictures]), QUALITY)
    return Composite(jpeg, tiles, frame_id_of(item))


def _pictures(item: Item) -> Iterator[Named]:
    shown = picture_of(item)
    if shown is None:
        return
    side = item.side if isinstance(item, Decoded | StereoPair) else None
    name, title = ("original", "Original") if not isinstance(item, Decoded) else ("decoded", "Decoded")
    alone = ", no side view" if isinstance(item, Decoded) and side is None else ""
    yield name, f"{title}, {shown.view} view{alone}", _small(shown.pixels)
    if side is not None:
        yield "side", f"Side view, {side.view}", _fitted(_small(side.pixels), _small(shown.pixels))
    if isinstance(item, Decoded):
        yield from _compared(item)


def _compared(item: Decoded) -> Iterator[Named]:
    without, original = item.without_side, item.reference
    if original is not None:
        yield "original", "Original", _small(original.pixels)
        yield "error", "Error", _error(item.frame.pixels, original.pixels)
    if without is not None:
        yield "without", "Decoded without the side view", _small(without.pixels)
    if without is not None and original is not None:
        yield "error_without", "Error without the side view", _error(without.pixels, original.pixels)


def _error(decoded: Pixels, original: Pixels) -> Pixels:
    """The mean absolute error of the channels, dark to bright."""
    import cv2

    mean = cv2.transform(_small(cv2.absdiff(decoded, original)), np.full((1, 3), 1 / 3, np.float32))
    levels = cv2.convertScaleAbs(mean, alpha=255 / ERROR_FULL_SCALE)
    coloured: Pixels = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return coloured


def _small(pixels: Pixels) -> NDArray[np.uint8]:
    import cv2

    height, width = pixels.shape[:2]
    scale = min(WIDEST_PX / width, HIGHEST_PX / height)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return small


def _fitted(pixels: Pixels, to: Pixels) -> Pixels:
    """Two cameras of one rig may have different sizes."""
    import cv2

    if pixels.shape == to.shape:
        return pixels
    fitted: Pixels = cv2.resize(pixels, (to.shape[1], to.shape[0]), interpolation=cv2.INTER_AREA)
    return fitted
