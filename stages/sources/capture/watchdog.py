"""When a camera counts as lost and when it is tried again: a state machine without threads, devices or clocks.

    opened -> WAITING --heard--> LIVE --lost--> DOWN --(due)--> opened -> ...

The caller brings the monotonic time. A camera that is down is tried again after a tenth of its outage so far: an outage
lasts at most a tenth longer than it must, and a camera that stays away is left in peace.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["FIRST_FRAME_NS", "RETRY_MAX_NS", "RETRY_MIN_NS", "Watchdog"]

SECOND_NS = 1_000_000_000
RETRY_MIN_NS = SECOND_NS // 5
RETRY_MAX_NS = 10 * SECOND_NS
FIRST_FRAME_NS = 10 * SECOND_NS
"""How long the first frame may take after opening: a stream is joined between two keyframes."""
TELL_NS = 60 * SECOND_NS
"""An outage that goes on is told again so often."""


class Watchdog:
    """One camera, opened or not."""

    def __init__(self, silence_ns: int) -> None:
        """`silence_ns`: without a frame for so long the camera is lost."""
        self._silence_ns = silence_ns
        self.state: Literal["waiting", "live", "down"] = "waiting"
        self.reopened = 0
        """Outages that have ended."""
        self._past_ns = 0
        self._heard_ns = 0
        self._down_since_ns: int | None = None
        self._retry_ns = self._tell_ns = 0

    def opened(self, now_ns: int) -> None:
        """The device is open; nothing has come yet."""
        self.state, self._heard_ns = "waiting", now_ns

    def heard(self, now_ns: int) -> int:
        """A frame came; returns how long the outage was that it ends, 0 if there was none."""
        outage_ns = 0
        if self._down_since_ns is not None:
            outage_ns = now_ns - self._down_since_ns
            self._past_ns += outage_ns
            self.reopened += 1
            self._down_since_ns = None
        self.state, self._heard_ns = "live", now_ns
        return outage_ns

    def lost(self, now_ns: int) -> bool:
        """The device failed, fell silent or could not be opened; returns whether to tell: first, then now and then."""
        if self._down_since_ns is None:
            self._down_since_ns = self._heard_ns if self.state == "live" else now_ns
            self._tell_ns = now_ns
        tell = now_ns >= self._tell_ns
        if tell:
            self._tell_ns = now_ns + TELL_NS
        self.state = "down"
        so_far_ns = now_ns - self._down_since_ns
        self._retry_ns = now_ns + min(max(so_far_ns // 10, RETRY_MIN_NS), RETRY_MAX_NS)
        return tell

    def retry_in_ns(self, now_ns: int) -> int:
        """How long to wait before the device is opened again."""
        return max(0, self._retry_ns - now_ns)

    def is_silent(self, now_ns: int) -> bool:
        """Whether an open device has kept silent for too long."""
        patience_ns = self._silence_ns if self.state == "live" else max(self._silence_ns, FIRST_FRAME_NS)
        return self.state != "down" and now_ns - self._heard_ns > patience_ns

    def down_ns(self, now_ns: int) -> int:
        """All outages together, the present one included."""
        return self._past_ns + (0 if self._down_since_ns is None else now_ns - self._down_since_ns)
