"""Capture times by this machine's clock, from arrivals and from a stream's own clock. No threads, no devices."""

from __future__ import annotations

from collections import deque

__all__ = ["JUMP_NS", "WINDOW_NS", "Stamps"]

SECOND_NS = 1_000_000_000
WINDOW_NS = 30 * SECOND_NS
"""The anchor is the least delay of this time: short enough to follow a clock that drifts by 100 ppm within 3 ms."""
JUMP_NS = SECOND_NS
"""A stream whose times run back by more than this, or that is late by more than this for as long, is anchored anew."""


class Stamps:
    """When the frames of one camera were taken, by the clock of their arrivals; `restart` it when it was reopened.

    A frame can't arrive before it was taken, so the least of arrival minus pts is the closest to the truth: there the
    stream's clock is anchored. The shortest way through the network remains part of the stamp.
    """

    def __init__(self) -> None:
        self._least: deque[tuple[int, int]] = deque()
        self._first: tuple[int, int] | None = None
        self._last_ns: int | None = None
        self._last_pts_ns: int | None = None
        self._late_since_ns: int | None = None
        self.late_ns = 0
        """How much later than the least the last frame came: jitter."""
        self.jumped = False
        """The last frame did not fit to the anchor, and the stream was anchored anew."""

    def restart(self) -> None:
        """The camera was reopened: its clock may begin anywhere."""
        self._least.clear()
        self._first = self._last_pts_ns = self._late_since_ns = None

    def stamp(self, arrived_ns: int, pts_ns: int | None) -> int:
        """The time of capture. `pts_ns`: by the stream's own clock, None where it has none: the arrival counts.

        Ascends strictly.
        """
        taken_ns = arrived_ns if pts_ns is None else pts_ns + self._anchor(arrived_ns, pts_ns)
        if self._last_ns is not None:
            taken_ns = max(taken_ns, self._last_ns + 1)
        self._last_ns = taken_ns
        return taken_ns

    @property
    def drift_ns(self) -> int:
        """How much the stream's clock has lost on this machine's, from the first window to the last one."""
        if self._first is None or not self._least:
            return 0
        return self._least[0][1] - self._first[1]

    def _anchor(self, arrived_ns: int, pts_ns: int) -> int:
        """The least delay, this frame's included: what brings pts to this machine's clock."""
        delay_ns = arrived_ns - pts_ns
        self.jumped = self._has_jumped(arrived_ns, pts_ns)
        if self.jumped:
            self.restart()
        self._last_pts_ns = pts_ns
        while self._least and self._least[-1][1] >= delay_ns:
            self._least.pop()
        self._least.append((arrived_ns, delay_ns))
        while self._least[0][0] < arrived_ns - WINDOW_NS:
            self._least.popleft()
        self._settle_first(arrived_ns)
        self.late_ns = delay_ns - self._least[0][1]
        return self._least[0][1]

    def _has_jumped(self, arrived_ns: int, pts_ns: int) -> bool:
        """Whether the stream began anew. The last frames before a silence may only come at its end: they are late."""
        if not self._least or arrived_ns - pts_ns - self._least[0][1] <= JUMP_NS:
            self._late_since_ns = None
            return False
        if self._last_pts_ns is not None and pts_ns < self._last_pts_ns - JUMP_NS:
            return True
        if self._late_since_ns is None:
            self._late_since_ns = arrived_ns
        return arrived_ns - self._late_since_ns > JUMP_NS

    def _settle_first(self, arrived_ns: int) -> None:
        """The least of the first window is what drift is measured against."""
        least_ns = self._least[0][1]
        if self._first is None:
            self._first = (arrived_ns, least_ns)
        elif arrived_ns - self._first[0] <= WINDOW_NS:
            self._first = (self._first[0], min(self._first[1], least_ns))
