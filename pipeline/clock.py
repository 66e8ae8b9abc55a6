"""Time, so that tests can bring their own."""

from __future__ import annotations

import threading
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Monotonic time for durations, wall time for stamps."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never step back; the origin means nothing."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""

    def sleep(self, seconds: float, until: threading.Event | None = None) -> None:
        """Return after `seconds`, or as soon as `until` is set."""


def _ahead_ns() -> int:
    """Wall minus monotonic time; of a few readings the one that was interrupted least."""
    readings = []
    for _ in range(5):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        readings.append((after - before, wall - (before + after) // 2))
    return min(readings)[1]


_AHEAD_NS = _ahead_ns()


class SystemClock:
    """The clocks of this machine. The wall clock is the one of the start of this process, counted on.

    So nobody disturbs a run by setting it: stamps ascend, and what lies between them is the time that passed. How far
    the clocks of two nodes are apart is measured by the link anyway, also where one was set between their starts.
    """

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.monotonic_ns() + _AHEAD_NS

    def sleep(self, seconds: float, until: threading.Event | None = None) -> None:
        if seconds <= 0:
            return
        if until is None:
            time.sleep(seconds)
        else:
            until.wait(seconds)
