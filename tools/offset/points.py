"""The offset to a fraction of a frame, from single points that both cameras have seen.

A point's row in the right picture is the row that it had in the left one at that time: between two left frames it moves
from row y0 to y1, and where between them it was seen tells the time.

    y_right = y0 + v (t_right + offset - t0) + a + b x + c y0          v = (y1 - y0) / (t1 - t0)

a, b and c take up cameras that are not quite level; they are the same for all frames, v is not. Solved by iteratively
reweighted least squares (Tukey's biweight), over all points of some right frames; then the other way round, because
points don't move evenly between two frames (what comes nearer speeds up), and that error has the other sign there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.offset.motion import Clip, Grey

__all__ = ["Refined", "refine"]

Floats = NDArray[np.float64]

FRAMES = 14
FEATURES = 500
RATIO = 0.75
"""A match counts if the second nearest descriptor is this much further (Lowe 2004)."""
LEAST_POINTS = 150
ROUNDS = 3
TUKEY = 4.685
BIAS = 0.01
"""Of the time between two frames: what remains of that error, at least."""
FLOW: dict[str, Any] = {"winSize": (15, 15), "criteria": (3, 20, 0.01)}


@dataclass(frozen=True, slots=True)
class Refined:
    """What the points say."""

    seconds: float
    """Add it to the right clip's times to get the left one's."""
    error_s: float
    """Two standard errors, the points of one frame taken as a whole, and half of what both ways differ by."""
    points: int
    residual_px: float
    """The usual distance of a point from the row where it should be."""


def refine(left: Clip, right: Clip, seconds: float) -> Refined | None:
    """Improve an offset that is right to about a frame; None where too few points are seen by both."""
    one, other = _refine(left, right, seconds), _refine(right, left, -seconds)
    if one is None or other is None:
        return None
    errors_s = np.hypot(one.error_s, other.error_s) / 2 + abs(one.seconds + other.seconds) / 2
    bias_s = BIAS * max(left.interval_s, right.interval_s)
    return Refined(
        (one.seconds - other.seconds) / 2,
        float(errors_s + bias_s),
        one.points + other.points,
        max(one.residual_px, other.residual_px),
    )


def _refine(left: Clip, right: Clip, seconds: float) -> Refined | None:
    seen = _Seen(left, right)
    found: Refined | None = None
    for _ in range(ROUNDS):
        rows = seen.rows(seconds)
        if len(rows) < LEAST_POINTS:
            return None
        found = _solve(rows)
        if abs(found.seconds - seconds) < 0.01 * left.interval_s:
            break
        seconds = found.seconds
    return found


class _Seen:
    """Features of frames, found once."""

    def __init__(self, left: Clip, right: Clip) -> None:
        import cv2

        self._clips = left, right
        self._sift = cv2.SIFT.create(FEATURES)
        self._matcher = cv2.BFMatcher()
        self._features: dict[tuple[int, int], Any] = {}
        self._rows: dict[tuple[int, int], Floats] = {}

    def rows(self, seconds: float) -> Floats:
        """(N, 6): right frame, x, y0, v, y_right - y0, t0 - t_right of each point."""
        left, right = self._clips
        times = right.times_s + seconds
        inside = np.flatnonzero((times >= left.times_s[0]) & (times < left.times_s[-1]))
        chosen = (
            inside[np.linspace(0, len(inside) - 1, min(FRAMES, len(inside))).astype(int)] if len(inside) else inside
        )
        pairs = [(int(np.searchsorted(left.times_s, times[j], "right")) - 1, int(j)) for j in chosen]
        return np.concatenate([np.zeros((0, 6)), *(self._of(i, j) for i, j in pairs)])

    def _of(self, i: int, j: int) -> Floats:
        if (i, j) not in self._rows:
            self._rows[i, j] = self._match(i, j)
        return self._rows[i, j]

    def _match(self, i: int, j: int) -> Floats:
        """The points of left frame i that are also in the right frame j."""
        import cv2

        left, right = self._clips
        (keys, words), (other_keys, other_words) = self._feature(0, i), self._feature(1, j)
        if words is None or other_words is None or len(other_keys) < 2:
            return np.zeros((0, 6))
        pairs = [m for m, n in self._matcher.knnMatch(words, other_words, k=2) if m.distance < RATIO * n.distance]
        if not pairs:
            return np.zeros((0, 6))
        start = np.array([keys[m.queryIdx].pt for m in pairs], np.float32)
        guess = np.array([other_keys[m.trainIdx].pt for m in pairs], np.float32)
        before, after, other = _same_size(left.greys[i], left.greys[i + 1], right.greys[j])
        moved, tracked, _ = cv2.calcOpticalFlowPyrLK(before, after, start, None, maxLevel=2, **FLOW)
        seen, matched, _ = cv2.calcOpticalFlowPyrLK(
            before, other, start, guess.copy(), maxLevel=0, flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **FLOW
        )
        good = (tracked[:, 0] == 1) & (matched[:, 0] == 1) & (np.abs(seen - guess).max(1) < 2)
        begin, end, there = (np.asarray(points[good], np.float64) for points in (start, moved, seen))
        velocity = (end[:, 1] - begin[:, 1]) / (left.times_s[i + 1] - left.times_s[i])
        apart = np.full(len(begin), left.times_s[i] - right.times_s[j])
        return np.column_stack([np.full(len(begin), j), begin, velocity, there[:, 1] - begin[:, 1], apart])

    def _feature(self, side: int, number: int) -> Any:
        key = (side, number)
        if key not in self._features:
            self._features[key] = self._sift.detectAndCompute(self._clips[side].greys[number], None)
        return self._features[key]


def _solve(rows: Floats) -> Refined:
    frame, x, y, velocity, shift, apart = rows.T
    system = np.column_stack([velocity, np.ones(len(rows)), x / 100, y / 100])
    wanted = shift + velocity * apart
    weights = np.ones(len(rows))
    for _ in range(30):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(system * root[:, None], wanted * root, rcond=None)[0]
        errors = wanted - system @ solution
        scale = 1.4826 * float(np.median(np.abs(errors))) + 1e-6
        weights = np.square(1 - np.square(np.clip(np.abs(errors) / (TUKEY * scale), 0, 1)))
    bread = np.linalg.pinv((system * weights[:, None]).T @ system)
    scores = [(system[frame == j] * (weights * errors)[frame == j, None]).sum(0) for j in np.unique(frame)]
    variance = float((bread @ np.einsum("ni,nj->ij", scores, scores) @ bread)[0, 0])
    error_s = 2 * np.sqrt(max(0.0, variance))
    return Refined(float(solution[0]), float(error_s), int((weights > 0).sum()), scale)


def _same_size(*greys: Grey) -> list[Grey]:
    """The pictures with borders added, as OpenCV tracks points only between pictures of one size."""
    height, width = (max(grey.shape[axis] for grey in greys) for axis in (0, 1))
    return [np.pad(grey, ((0, height - grey.shape[0]), (0, width - grey.shape[1])), mode="edge") for grey in greys]
