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


class SystemClock:
    """The clocks of this machine."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()

    def sleep(self, seconds: float, until: threading.Event | None = None) -> None:
        if seconds <= 0:
            return
        if until is None:
            time.sleep(seconds)
        else:
            until.wait(seconds)
