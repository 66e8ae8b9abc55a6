"""How the picture of a camera moves over time, and by how much one camera's motion lags behind another's.

The signal has two kinds of channels, each of bands of rows, so that it does not matter where in a row the cameras see a
thing: how their mean changes (signed), and how much their pixels do (its size). What changes slowly is taken out. The
correlation of a lag is the mean of both kinds'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["STILL", "Clip", "Grey", "Lag", "find_lag"]

Floats = NDArray[np.float64]
Grey = NDArray[np.uint8]

WIDTH_PX = 160
BANDS = 12
SLOW_S = 1.0
"""What changes over more than this is light and scenery."""
LEAST_OVERLAP_S = 2.0
LEAST_SHARE = 0.3
"""Of the shorter clip, that must overlap with the other one."""
CUTS = (0.0, 0.03, 0.06)
"""Shares of the width at the left border of the left view, and the right one's of the right view, that only one camera
sees: things pass the borders at different times."""
APART_S = 0.3
STILL = 0.35
"""Grey levels by which a picture that shows nothing but the sensor's noise changes, after smoothing."""


@dataclass(frozen=True, eq=False)
class Clip:
    """What one camera has seen."""

    times_s: Floats
    """Of the frames, since the first one."""
    greys: Sequence[Grey]
    """(H, W) each, all of one size."""

    @property
    def interval_s(self) -> float:
        """The usual time between two frames."""
        return float(np.median(np.diff(self.times_s)))

    @property
    def motion(self) -> float:
        """Mean change from frame to frame, grey levels."""
        soft = [_soft(grey) for grey in self.greys]
        return float(np.median([np.abs(b - a).mean() for a, b in pairwise(soft)]))


@dataclass(frozen=True, slots=True)
class Lag:
    """The lag with the greatest correlation."""

    seconds: float
    """Add it to the right clip's times to get the left one's."""
    correlation: float
    next_best: float
    """The greatest correlation of a lag that is well apart from it."""


def find_lag(left: Clip, right: Clip) -> Lag | None:
    """The best lag of all that leave enough overlap, or None where none does."""
    softs = [_soft(grey) for grey in left.greys], [_soft(grey) for grey in right.greys]
    found = [_find(left, right, *softs, cut) for cut in CUTS]
    return max((lag for lag in found if lag is not None), key=lambda lag: lag.correlation, default=None)


def _soft(grey: Grey) -> NDArray[np.float32]:
    import cv2

    height = max(BANDS, round(WIDTH_PX * grey.shape[0] / grey.shape[1]))
    small = cv2.resize(grey, (WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    soft: NDArray[np.float32] = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.5)
    return soft


def _find(
    left: Clip,
    right: Clip,
    softs_left: Sequence[NDArray[np.float32]],
    softs_right: Sequence[NDArray[np.float32]],
    cut: float,
) -> Lag | None:
    columns = round(cut * WIDTH_PX)
    step_s = min(left.interval_s, right.interval_s) / 2
    a = _signals(left, [soft[:, columns:] for soft in softs_left], step_s)
    b = _signals(right, [soft[:, : WIDTH_PX - columns] for soft in softs_right], step_s)
    least = max(LEAST_OVERLAP_S / step_s, LEAST_SHARE * min(a.shape[1], b.shape[1]))
    lags = np.arange(-b.shape[1] + 1, a.shape[1])
    lags = np.array([lag for lag in lags if _overlap(a, b, lag) >= least])
    if len(lags) < 3:
        return None
    curve = np.array([np.mean([_correlation(x, y, lag) for x, y in zip(a, b, strict=True)]) for lag in lags])
    best = int(curve.argmax())
    apart = np.abs(lags - lags[best]) * step_s > max(APART_S, 2 * max(left.interval_s, right.interval_s))
    # Both signals begin half an interval after the first frame.
    start_s = (left.times_s[1] - right.times_s[1]) / 2
    seconds = float((lags[best] + _vertex(curve, best)) * step_s + start_s)
    return Lag(seconds, float(curve[best]), float(curve[apart].max()) if apart.any() else 1.0)


def _signals(clip: Clip, softs: Sequence[NDArray[np.float32]], step_s: float) -> Floats:
    """(2, N, BANDS): both kinds at equal steps of time, without what changes slowly."""
    middles = (clip.times_s[1:] + clip.times_s[:-1]) / 2
    changes = [(b - a) / dt for a, b, dt in zip(softs, softs[1:], np.diff(clip.times_s), strict=False)]
    kinds = [[_bands(change) for change in changes], [_bands(np.abs(change)) for change in changes]]
    at = np.arange(middles[0], middles[-1], step_s)
    return np.stack([_quick(np.stack([np.interp(at, middles, x) for x in np.array(k).T], 1), step_s) for k in kinds])


def _bands(change: NDArray[np.float32]) -> Floats:
    return np.array([band.mean() for band in np.array_split(change, BANDS)])


def _quick(signal: Floats, step_s: float) -> Floats:
    """The signal less its moving average over SLOW_S."""
    half = max(1, round(SLOW_S / step_s / 2))
    padded = np.pad(signal, ((half, half), (0, 0)), mode="edge")
    sums = np.cumsum(np.vstack([np.zeros(signal.shape[1]), padded]), axis=0)
    slow: Floats = (sums[2 * half + 1 :] - sums[: -2 * half - 1]) / (2 * half + 1)
    return signal - slow


def _overlap(a: Floats, b: Floats, lag: int) -> int:
    return min(a.shape[1], b.shape[1] + lag) - max(0, lag)


def _correlation(a: Floats, b: Floats, lag: int) -> float:
    """Of two (N, BANDS) signals, the second one `lag` steps later, over their overlap."""
    x, y = a[max(0, lag) : b.shape[0] + lag], b[max(0, -lag) : a.shape[0] - lag]
    x, y = x - x.mean(0), y - y.mean(0)
    size = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / size) if size > 0 else 0.0


def _vertex(curve: Floats, at: int) -> float:
    """Where the parabola through a maximum and its neighbours has its own, in steps from it."""
    if not 0 < at < len(curve) - 1:
        return 0.0
    low, high = curve[at - 1] - curve[at], curve[at + 1] - curve[at]
    return float((low - high) / (2 * (low + high))) if low + high < 0 else 0.0
