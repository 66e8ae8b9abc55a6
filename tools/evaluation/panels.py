"""A picture beside its side view and what every codec makes of it at about the same rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pipeline.types import Pixels
from stages.sinks.panel import Cell, draw
from tools.evaluation.measure import Measured
from tools.evaluation.samples import Loaded, Side

__all__ = ["alike", "draw_panel"]

WIDE_PX = 600
"""Wider pictures stand below each other, narrower ones three in a row."""


def alike(measured: Iterable[Measured]) -> list[Measured]:
    """One decoded picture of each codec, at about the rate that the first codec has in its middle."""
    curves: dict[str, list[Measured]] = {}
    for one in measured:
        curves.setdefault(one.row.codec, []).append(one)
    first = sorted(next(iter(curves.values())), key=lambda one: one.row.bpp)
    target = first[(len(first) - 1) // 2].row.bpp
    return [min(points, key=lambda one: abs(math.log(one.row.bpp / target))) for points in curves.values()]


def draw_panel(heading: str, loaded: Loaded, shown: Sequence[Measured]) -> Pixels:
    """(H, W, 3) uint8: the original, the side view that belongs to it, and the decoded pictures with their figures."""
    cells = [Cell("original", "", loaded.primary)]
    side = loaded.sides.get(Side())
    if side is not None:
        cells.append(Cell("side view", "known to the decoder only", side))
    cells += [Cell(one.row.codec, _figures(one), one.decoded) for one in shown]
    height, width = loaded.primary.shape[:2]
    return draw(heading, f"{width} x {height}", cells, columns=1 if width > WIDE_PX else 3)


def _figures(one: Measured) -> str:
    similarity = "" if one.row.ms_ssim is None else f", MS-SSIM {one.row.ms_ssim:.3f}"
    return f"{one.row.bpp:.3f} bpp, {one.row.psnr_db:.2f} dB{similarity}"
