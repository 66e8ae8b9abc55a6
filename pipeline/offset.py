"""How far the decoder's wall clock is ahead of the encoder's."""

from __future__ import annotations

from collections import deque

__all__ = ["ClockOffset"]

WINDOW_NS = 30_000_000_000


class ClockOffset:
    """Estimate from four stamps as in NTP (RFC 5905, section 8), by the sample of least round trip in 30 s."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int, int]] = deque()

    def add(self, sent_ns: int, received_ns: int, answered_ns: int, returned_ns: int, now_ns: int) -> None:
        """One exchange: sent and returned by this clock, received and answered by the other's; now_ns is monotonic."""
        offset = ((received_ns - sent_ns) + (answered_ns - returned_ns)) // 2
        round_trip = (returned_ns - sent_ns) - (answered_ns - received_ns)
        self._samples.append((now_ns, round_trip, offset))
        while self._samples[0][0] < now_ns - WINDOW_NS:
            self._samples.popleft()

    @property
    def known(self) -> bool:
        """Whether there was an exchange yet."""
        return bool(self._samples)

    @property
    def ns(self) -> int:
        """The other wall clock minus this one; 0 as long as nothing is known."""
        return min(self._samples, key=lambda sample: sample[1])[2] if self._samples else 0
