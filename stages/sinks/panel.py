"""One picture that shows what happened to a frame: original, side view, decoded without and with it, and the error.

A library of the sink `write_panels`. Pictures are laid out at whole-number scale, so nothing is resampled; wide ones
stand below each other, where the eye finds the same place in each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.types import Decoded, Frame, Pixels
from stages.similarity import psnr_db

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Cell", "cells_of", "draw", "error_map"]

ERROR_FULL_SCALE = 40
"""Levels (of 255) at which the error map is at its brightest; the same in all panels, so they can be compared."""

WIDE = 2.0
"""Width by height from which pictures are stacked in one column."""

LEAST_WIDTH_PX, MOST_WIDTH_PX = 600, 1920
"""Narrower pictures are enlarged by a whole number, wider ones shrunk by one."""

MOST_HEIGHT_PX = 1920
"""Higher pictures are not enlarged to, or left at: a column of pixels would fill the memory and Matplotlib's limits."""

DPI = 100
MARGIN_PX, GAP_PX, TITLE_PX, HEAD_PX = 20, 14, 30, 56
SCALE_BAR_PX = (100, 12)
INK, QUIET, PAPER = "#14171a", "#59636e", "#ffffff"


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A picture with its title."""

    title: str
    detail: str
    pixels: Pixels
    scale_bar: bool = False
    """Whether the colours are errors, and the scale has to be shown."""


def cells_of(item: Decoded) -> list[Cell]:
    """What there is to show of a decoded frame, in reading order."""
    return list(_cells(item))


def draw(heading: str, detail: str, cells: Sequence[Cell], columns: int | None = None) -> Pixels:
    """Lay the cells out below a heading, in so many columns (default: one if they are wide, else two); (H, W, 3)
    uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pictures = [_fitted(cell.pixels) for cell in cells]
    height, width = pictures[0].shape[:2]
    columns = columns or (1 if width / height >= WIDE else 2)
    rows = math.ceil(len(cells) / columns)
    total_width = 2 * MARGIN_PX + columns * width + (columns - 1) * GAP_PX
    total_height = 2 * MARGIN_PX + HEAD_PX + rows * (TITLE_PX + height) + (rows - 1) * GAP_PX
    figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    _text(figure, MARGIN_PX, MARGIN_PX + 24, heading, size_px=24, weight="bold")
    _text(figure, total_width - MARGIN_PX, MARGIN_PX + 24, detail, size_px=17, colour=QUIET, align="right")
    for index, (cell, picture) in enumerate(zip(cells, pictures, strict=True)):
        row, column = divmod(index, columns)
        left = MARGIN_PX + column * (width + GAP_PX)
        top = MARGIN_PX + HEAD_PX + row * (TITLE_PX + height + GAP_PX)
        _cell(figure, cell, picture, left, top)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])


def error_map(decoded: Pixels, original: Pixels) -> Pixels:
    """Colour the mean absolute error of the channels, 0 to ERROR_FULL_SCALE levels, dark to bright."""
    mean = np.abs(decoded.astype(np.int16) - original).mean(axis=2)
    levels = np.clip(mean * (255.0 / ERROR_FULL_SCALE), 0, 255).astype(np.uint8)
    coloured: Pixels = _colours()[levels]
    return coloured


def _cells(item: Decoded) -> Iterator[Cell]:
    original, with_side, without = item.reference, item.frame, item.without_side
    view = item.frame.view
    if original is not None:
        raw_kb = original.pixels.nbytes / 1000
        yield Cell(f"Original, {view} view", f"{raw_kb:,.0f} kB uncompressed", original.pixels)
    if item.side is not None:
        yield Cell(f"Side view, {item.side.view}", "not used by the encoder", item.side.pixels)
    if without is not None:
        yield Cell("Decoded without the side view", _measured(without, original), without.pixels)
    title = "Decoded with the side view" if item.side is not None else "Decoded, no side view"
    yield Cell(title, _measured(with_side, original), with_side.pixels)
    if original is not None:
        if without is not None:
            yield _error("Error without the side view", without, original)
        yield _error("Error with the side view" if item.side is not None else "Error", with_side, original)


def _measured(frame: Frame, original: Frame | None) -> str:
    return "PSNR unknown here" if original is None else f"PSNR {psnr_db(frame.pixels, original.pixels):.2f} dB"


def _error(title: str, frame: Frame, original: Frame) -> Cell:
    mean = float(np.abs(frame.pixels.astype(np.int16) - original.pixels).mean())
    return Cell(title, f"mean {mean:.1f} of 255", error_map(frame.pixels, original.pixels), scale_bar=True)


def _cell(figure: Figure, cell: Cell, picture: Pixels, left: int, top: int) -> None:
    width = picture.shape[1]
    baseline = top + TITLE_PX - 9
    _text(figure, left, baseline, cell.title, size_px=17, weight="bold")
    right = left + width
    if cell.scale_bar:
        right = _scale_bar(figure, right, baseline)
    _text(figure, right, baseline, cell.detail, size_px=17, colour=QUIET, align="right")
    _picture(figure, picture, left, top + TITLE_PX)


def _scale_bar(figure: Figure, right: int, baseline: int) -> int:
    """Draw the scale of the errors, ending at `right`; return where the text before it has to end."""
    width, height = SCALE_BAR_PX
    left = right - 38 - width
    ramp = _colours()[np.linspace(0, 255, width).astype(np.uint8)]
    _picture(figure, np.repeat(ramp[None], height, axis=0), left, baseline - height)
    _text(figure, left - 6, baseline, "0", size_px=15, colour=QUIET, align="right")
    _text(figure, right, baseline, f"{ERROR_FULL_SCALE}+", size_px=15, colour=QUIET, align="right")
    return left - 34


def _picture(figure: Figure, pixels: Pixels, left: int, top: int) -> None:
    bottom = round(figure.get_figheight() * DPI) - top - pixels.shape[0]
    figure.figimage(pixels, left, bottom, origin="upper")


def _text(
    figure: Figure,
    x: int,
    y: int,
    text: str,
    *,
    size_px: int,
    weight: str = "normal",
    colour: str = INK,
    align: str = "left",
) -> None:
    """Put text with its baseline at y pixels from the top."""
    total_width, total_height = figure.get_figwidth() * DPI, figure.get_figheight() * DPI
    figure.text(
        x / total_width,
        1 - y / total_height,
        text,
        fontsize=size_px * 72 / DPI,
        fontweight=weight,
        color=colour,
        ha=align,
        va="baseline",
        parse_math=False,
    )


def _fitted(pixels: Pixels) -> Pixels:
    """Enlarge or shrink a picture by a whole number until titles fit above it and it fits on a screen."""
    import cv2

    height, width = pixels.shape[:2]
    factor = min(math.ceil(LEAST_WIDTH_PX / width), MOST_HEIGHT_PX // height)
    if factor > 1:
        return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    factor = math.ceil(max(width / MOST_WIDTH_PX, height / MOST_HEIGHT_PX))
    if factor == 1:
        return pixels
    smaller = (max(1, width // factor), max(1, height // factor))
    shrunk: Pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    return shrunk


def _colours() -> Pixels:
    """256 colours from dark to bright, even to the eye; (256, 3) uint8."""
    from matplotlib import colormaps

    table: Pixels = (colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return table
