"""Repeated troubles in the log: the first at once, then at most one line a second with the count."""

from __future__ import annotations

import threading

from pipeline.stage import Context

__all__ = ["Troubles"]

INTERVAL_NS = 1_000_000_000


class Troubles:
    """One kind of trouble of one stage, whose threads may all say it."""

    def __init__(self, context: Context) -> None:
        self._log, self._clock = context.log, context.clock
        self._said_ns: int | None = None
        self._unsaid = 0
        self._lock = threading.Lock()

    def say(self, sentence: str) -> None:
        """Warn now, or count it into a later line."""
        with self._lock:
            now = self._clock.monotonic_ns()
            if self._said_ns is not None and now - self._said_ns < INTERVAL_NS:
                self._unsaid += 1
                return
            self._log.warning("%s%s", sentence, self._more())
            self._said_ns, self._unsaid = now, 0

    def close(self) -> None:
        """Say how many were not said."""
        if self._unsaid:
            self._log.warning("%d more of the same kind", self._unsaid)
            self._unsaid = 0

    def _more(self) -> str:
        return f" (and {self._unsaid} more since the last line)" if self._unsaid else ""
