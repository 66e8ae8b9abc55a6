"""How many frames of a live stream may be under way, so that none grows old behind those before it. No I/O, no clock.

A frame that waits for the decoder's node grows old; one that waits for the encoder gives way to a fresher one. So no
more are let out than will be done in a quarter of the age that is allowed, at the pace of the last ones. The rest is
for coding, the way, and the frame that is coded already and waits to be let out.
"""

from __future__ import annotations

from collections import deque

__all__ = ["LEAST", "Backlog"]

LEAST = 2
"""One at work and one that waits: fewer would leave the decoder idle."""
REMEMBERED = 8


class Backlog:
    """The frames between the encoder and the end of the decoder's chain."""

    def __init__(self, max_age_ns: int) -> None:
        self._patience_ns = max_age_ns // 4
        self._added_ns: dict[int, int] = {}
        self._steps_ns: deque[int] = deque(maxlen=REMEMBERED)
        self._settled_ns = 0

    @property
    def full(self) -> bool:
        """Whether another frame would have to wait for too long."""
        step_ns = sum(self._steps_ns) // len(self._steps_ns) if self._steps_ns else self._patience_ns
        return len(self._added_ns) >= max(LEAST, self._patience_ns // max(1, step_ns))

    def add(self, frame_id: int, now_ns: int) -> None:
        """A frame sets out."""
        self._added_ns[frame_id] = now_ns

    def settle(self, frame_id: int, now_ns: int) -> None:
        """A frame is through, or was dropped; what it took behind the one before it tells the pace."""
        added_ns = self._added_ns.pop(frame_id, None)
        if added_ns is not None:
            self._steps_ns.append(now_ns - max(added_ns, self._settled_ns))
            self._settled_ns = now_ns

    def forget_pace(self) -> None:
        """The connection was lost: what is under way says nothing about the decoder's pace."""
        self._steps_ns.clear()
