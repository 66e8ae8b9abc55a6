"""How far an evaluation is: pictures done and time left."""

from __future__ import annotations

import time

from pipeline.log import Terminal

__all__ = ["Progress"]

PLAIN_S = 10.0
"""Between lines where the terminal can't change its last one."""


class Progress:
    """Counts pictures; shows a live line, or now and then a line that stays."""

    def __init__(self, terminal: Terminal, total: int) -> None:
        self._terminal, self._total = terminal, total
        self._began = self._said = time.monotonic()
        self._done = 0

    def step(self, what: str) -> None:
        """Another picture is done."""
        self._done += 1
        now = time.monotonic()
        left = (now - self._began) / self._done * (self._total - self._done)
        text = f"{self._done}/{self._total} pictures, {_clock(left)} left ({what})"
        if self._terminal.interactive:
            self._terminal.live(text)
        elif now - self._said >= PLAIN_S or self._done == self._total:
            self._said = now
            self._terminal.line(text)

    def close(self) -> None:
        """Take the live line away."""
        self._terminal.live("")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
