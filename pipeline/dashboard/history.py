"""What a stream has cost over time, in a memory that never grows: rings of buckets, each coarser than the last."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["LIVE_LEVELS", "Axis", "History", "Level", "levels_for"]

S = 1_000_000_000

LIVE_LEVELS = ((1 * S, 300), (10 * S, 360), (300 * S, 288))
"""Width of a bucket in ns and how many there are: 5 minutes, an hour, a day."""

RECORDED_BUCKETS = 300
RESTART_NS = 10 * S
JUMP_NS = 86_400 * S


class Axis:
    """Capture times as one line that only goes forward, from 0 at the first frame.

    A source that begins anew, as a recording does whose encoder was restarted, goes on where the line was. Frames that
    are only out of order stay where they belong. A stamp more than a day ahead is taken for a new beginning too.
    """

    def __init__(self) -> None:
        self.newest_ns = 0
        self.origin_ns = 0
        """The capture time that stands at 0 now."""
        self._step_ns = S // 10
        self._begun = False

    def at(self, pts_ns: int) -> int:
        """The place of a capture time on the line, ns."""
        if not self._begun:
            self._begun, self.origin_ns = True, pts_ns
        at_ns = pts_ns - self.origin_ns
        if not self.newest_ns - RESTART_NS <= at_ns <= self.newest_ns + JUMP_NS:
            at_ns = self.newest_ns + self._step_ns
            self.origin_ns = pts_ns - at_ns
        if at_ns > self.newest_ns:
            self._step_ns, self.newest_ns = min(at_ns - self.newest_ns, S), at_ns
        return max(0, at_ns)


class Level:
    """A ring of buckets of one width; a bucket holds the sums of what fell into it."""

    def __init__(self, width_ns: int, count: int, fields: int) -> None:
        self.width_ns, self.count, self._fields = width_ns, count, fields
        self._places = [-1] * count
        self._sums: list[list[float]] = [[] for _ in range(count)]
        self._newest = -1
        self._changed: dict[int, None] = {}

    def add(self, at_ns: int, amounts: Sequence[float]) -> None:
        """Add to the bucket of that place; what is older than the ring is forgotten already."""
        place = at_ns // self.width_ns
        if place <= self._newest - self.count:
            return
        self._newest = max(self._newest, place)
        slot = place % self.count
        if self._places[slot] != place:
            self._places[slot], self._sums[slot] = place, [0.0] * self._fields
        sums = self._sums[slot]
        for i, amount in enumerate(amounts):
            if amount:
                sums[i] += amount
        self._changed[place] = None

    def rows(self) -> list[tuple[int, list[float]]]:
        """Every bucket with its place (its start in widths), oldest first; places without any are left out."""
        return self._at(range(max(0, self._newest - self.count + 1), self._newest + 1))

    def news(self) -> list[tuple[int, list[float]]]:
        """The buckets that have changed since the last call."""
        changed, self._changed = self._changed, {}
        return self._at(sorted(changed))

    def _at(self, places: Sequence[int]) -> list[tuple[int, list[float]]]:
        return [(p, self._sums[p % self.count]) for p in places if self._places[p % self.count] == p]


class History:
    """The same amounts in every level."""

    def __init__(self, levels: Sequence[tuple[int, int]], fields: int) -> None:
        self.levels = [Level(width_ns, count, fields) for width_ns, count in levels]

    def add(self, at_ns: int, amounts: Sequence[float]) -> None:
        """Add to the bucket of that place, in every level."""
        for level in self.levels:
            level.add(at_ns, amounts)


def levels_for(duration_ns: int) -> tuple[tuple[int, int]]:
    """One level that a recording of that duration fits into, in buckets of a round width."""
    for width_s in (0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400):
        if duration_ns < width_s * S * RECORDED_BUCKETS:
            return ((round(width_s * S), RECORDED_BUCKETS),)
    return ((duration_ns // (RECORDED_BUCKETS - 1) + 1, RECORDED_BUCKETS),)
