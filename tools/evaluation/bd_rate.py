"""Bjontegaard's delta rate: how many bits a codec needs beside another one at equal quality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.evaluation.table import Curve

__all__ = ["Delta", "delta_of", "rate_change_percent"]

Floats = NDArray[np.float64]
Points = tuple[Sequence[float], Sequence[float]]
"""Rates, and a quality in dB."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A codec against the anchor; percent of the anchor's bits, negative is better. None: no common quality."""

    codec: str
    data: str
    anchor: str
    points: int
    psnr_percent: float | None
    ms_ssim_percent: float | None


def delta_of(curve: Curve, anchor: Curve) -> Delta:
    """Compare by PSNR and by MS-SSIM in dB."""
    psnr = rate_change_percent((curve.bpp, curve.psnr_db), (anchor.bpp, anchor.psnr_db))
    similarity, reference = curve.ms_ssim_db, anchor.ms_ssim_db
    known = similarity is not None and reference is not None
    ms_ssim = rate_change_percent((curve.bpp, similarity or ()), (anchor.bpp, reference or ())) if known else None
    return Delta(curve.codec, curve.data, anchor.codec, len(curve.points), psnr, ms_ssim)


def rate_change_percent(test: Points, anchor: Points) -> float | None:
    """The mean change of rate over the qualities that both have, curves interpolated by PCHIP in log rate.

    A single point is compared with the anchor's rate at its quality, interpolated linearly in log rate. None where
    there is no common quality, or the anchor is no curve.
    """
    rates, qualities = _rising(*test)
    anchor_rates, anchor_qualities = _rising(*anchor)
    if not len(rates) or len(anchor_rates) < 2:
        return None
    if min(qualities[-1], anchor_qualities[-1]) < max(qualities[0], anchor_qualities[0]):
        return None
    if len(rates) == 1:
        return _at_one_point(float(rates[0]), float(qualities[0]), anchor_rates, anchor_qualities)
    from bjontegaard import bd_rate

    percent = bd_rate(
        anchor_rates, anchor_qualities, rates, qualities, method="pchip", require_matching_points=False, min_overlap=0
    )
    return float(percent) if math.isfinite(percent) else None


def _at_one_point(rate: float, quality: float, anchor_rates: Floats, anchor_qualities: Floats) -> float:
    expected = float(np.interp(quality, anchor_qualities, np.log(anchor_rates)))
    return (rate / math.exp(expected) - 1) * 100


def _rising(rates: Sequence[float], qualities: Sequence[float]) -> tuple[Floats, Floats]:
    """The points by ascending rate, without those that give no more quality for more bits."""
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(zip(rates, qualities, strict=True)):
        if not kept or quality > kept[-1][1]:
            kept.append((rate, quality))
    return np.array([rate for rate, _ in kept]), np.array([quality for _, quality in kept])
