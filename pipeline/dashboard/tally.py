"""Rows of a ledger added up: over time, in all, and the last of them one by one; its memory does not grow."""

from __future__ import annotations

import itertools
import operator
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.dashboard import figures
from pipeline.dashboard.history import Axis, History
from pipeline.ledger import PENDING, Row

__all__ = ["Seen", "Tally"]

S = 1_000_000_000
ROWS_KEPT = 1024
"""Frames that may still change; what the other node tells of older ones is not taken in any more."""
INTERVALS_KEPT = 500
"""The last intervals between frames, whose median stands for that of all."""
COMPARED_KEPT = 100
"""The last frames decoded both ways, of which the side view's worth is a mean."""
FARTHEST_NS = 2**63
"""A stamp that another node claims may be any number."""


@dataclass(slots=True)
class Seen:
    """A row that was counted."""

    row: Row
    at_ns: int
    """Its place on the time axis."""
    amounts: tuple[float, ...]
    """What it has added to the sums."""
    timed: bool = False
    """Whether its capture time counts in the duration."""


class Tally:
    """Sums of a stream; a row that is taken again replaces what it had added."""

    def __init__(self, levels: Sequence[tuple[int, int]], header_bytes: int | None) -> None:
        """`header_bytes`: as for `figures.amounts`."""
        self._header_bytes = header_bytes
        self.axis = Axis()
        self.history = History(levels, figures.FIELDS)
        self.sums = [0.0] * figures.FIELDS
        self.both_ways: dict[int, tuple[float, float]] = {}
        """PSNR with and without the side view, by the number of the row."""
        self.highest = -1
        """The number of the newest row."""
        self.coded_ns = 0
        """The place of the newest frame whose bytes are known."""
        self._seen: dict[int, Seen] = {}
        self._changed: dict[int, None] = {}
        self._intervals: deque[int] = deque(maxlen=INTERVALS_KEPT)
        self._span_ns: tuple[int, int] | None = None

    def take(self, row: Row) -> None:
        """Count a row, or what is different now of one that was counted."""
        before = self._seen.get(row.number)
        if before is None and row.number <= self.highest:
            return
        pts_ns = max(-FARTHEST_NS, min(FARTHEST_NS, row.pts_ns))
        at_ns = before.at_ns if before else self._place(row, pts_ns)
        amounts = figures.amounts(row, self._header_bytes)
        if before is None or amounts != before.amounts:
            self._add(at_ns, amounts, before)
        seen = self._seen[row.number] = Seen(row, at_ns, amounts, before is not None and before.timed)
        self.highest = max(self.highest, row.number)
        self._changed[row.number] = None
        _limit(self._seen, ROWS_KEPT)
        _limit(self._changed, ROWS_KEPT)  # nobody may ask
        self._note(seen, pts_ns)

    def last(self, count: int) -> list[Seen]:
        """The newest rows, oldest first."""
        return list(self._seen.values())[-count:]

    def last_ns(self, span_ns: int) -> list[Seen]:
        """The rows of the newest time, oldest first; frames are never far out of order."""
        newest_ns = self.axis.newest_ns
        near = itertools.takewhile(lambda seen: seen.at_ns > newest_ns - 2 * span_ns, reversed(self._seen.values()))
        return [seen for seen in near if seen.at_ns > newest_ns - span_ns][::-1]

    def changed(self, most: int) -> list[Seen]:
        """The newest of the rows that were taken since the last call."""
        changed, self._changed = list(self._changed)[-most:], {}
        return [self._seen[number] for number in changed if number in self._seen]

    def levels(self) -> list[dict[str, Any]]:
        """The history, for a page."""
        return [
            {
                "width_s": level.width_ns / S,
                "count": level.count,
                "rows": [figures.bucket(place, sums) for place, sums in level.rows()],
            }
            for level in self.history.levels
        ]

    def changed_levels(self) -> list[list[list[float | None]]]:
        """The buckets of each level that have changed since the last call."""
        return [[figures.bucket(place, sums) for place, sums in level.news()] for level in self.history.levels]

    def seconds(self) -> float | None:
        """How much time was captured, as the report has it; None for fewer than two frames."""
        if self._span_ns is None or not self._intervals:
            return None
        return (self._span_ns[1] - self._span_ns[0] + statistics.median(self._intervals)) / S

    def _add(self, at_ns: int, amounts: tuple[float, ...], before: Seen | None) -> None:
        more = amounts if before is None else tuple(map(operator.sub, amounts, before.amounts))
        self.history.add(at_ns, more)
        self.sums = list(map(operator.add, self.sums, more))

    def _place(self, row: Row, pts_ns: int) -> int:
        return self.axis.newest_ns if row.status == "unreadable" else self.axis.at(pts_ns)

    def _note(self, seen: Seen, pts_ns: int) -> None:
        row, coded = seen.row, seen.amounts[figures.WIRE] > 0
        if (both := figures.both_ways(row)) is not None:
            self.both_ways[row.number] = both
            _limit(self.both_ways, COMPARED_KEPT)
        if coded:
            self.coded_ns = max(self.coded_ns, seen.at_ns)
        # Frames on their way have no bytes yet, so their time must not count either.
        if not seen.timed and row.status != "unreadable" and (row.status != PENDING or coded):
            seen.timed = True
            self._time(pts_ns)

    def _time(self, pts_ns: int) -> None:
        first_ns, last_ns = self._span_ns or (pts_ns, pts_ns)
        if pts_ns > last_ns:
            self._intervals.append(pts_ns - last_ns)
        self._span_ns = min(first_ns, pts_ns), max(last_ns, pts_ns)


def _limit(kept: dict[int, Any], most: int) -> None:
    while len(kept) > most:
        del kept[next(iter(kept))]
