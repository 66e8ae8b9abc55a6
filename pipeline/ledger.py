"""What became of every primary frame: in = out + drops by reason, always.

Each node keeps one. The encoder's changes travel to the decoder in STATS and EOS (`changes`, `merge`), so the node with
the sinks knows every frame that went in, also those that never reached it.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["OUT", "PENDING", "Follower", "Ledger", "Row"]

PENDING = "pending"
OUT = "out"

DROP_REASONS = ("unreadable", "latest", "stale", "corrupt", "unpaired", "aborted")
"""unreadable: the source could not read it. latest: replaced by a fresher frame before `encode`. stale: live, not
acknowledged and too old at a reconnect. corrupt: the payload was damaged. unpaired: the model needs the side view.
aborted: the run ended before the frame was through."""


@dataclass(slots=True)
class Row:
    """One primary frame."""

    frame_id: int
    pts_ns: int
    status: str = PENDING
    """`pending`, `out`, or the reason for which it was dropped."""
    values: dict[str, float] = field(default_factory=dict)
    """Measurements by name: payload_bytes, wire_bytes, bpp, psnr_db, ms_ssim, psnr_without_side_db, side_offset_ms,
    unpaired (1.0), latency_ms, STAGE_ms for every stage, and what `pipeline.latency` makes the causes of latency of."""
    number: int = 0
    """Its place in the order of arrival, from 0."""

    def copy(self) -> Row:
        """One that stays as it is."""
        return Row(self.frame_id, self.pts_ns, self.status, dict(self.values), self.number)


class Follower:
    """What has changed in a ledger since one last looked; made by `Ledger.follow`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._changed = ledger, dict[int, Row]()

    def take(self, most: int) -> list[Row]:
        """Copies of at most so many rows that have changed since they were taken, in the order of their changes."""
        with self._ledger._lock:
            numbers = list(itertools.islice(self._changed, most))
            return [self._changed.pop(number).copy() for number in numbers]


class Ledger:
    """Thread-safe table of `Row` by frame_id, in the order in which the frames came in.

    A camera's counter begins anew when its encoder does: a frame_id that has settled and comes with another pts is
    another frame, and gets a row of its own.
    """

    def __init__(self) -> None:
        self._all: list[Row] = []
        self._rows: dict[int, Row] = {}
        """The newest row of each frame_id."""
        self._changed: dict[int, None] = {}
        self._lock = threading.Lock()
        self._watchers: list[Callable[[int, str], None]] = []
        self._merge_watchers: list[Callable[[int], None]] = []
        self._followers: list[Follower] = []
        self._counts: Counter[str] = Counter()

    def watch(self, watcher: Callable[[int, str], None]) -> None:
        """Call `watcher(frame_id, status)` when a frame settles, from the thread that settles it."""
        self._watchers.append(watcher)

    def follow(self) -> Follower:
        """Someone who asks now and then for what has changed, so that nobody has to copy all rows."""
        with self._lock:
            self._followers.append(follower := Follower(self))
            return follower

    def watch_merged(self, watcher: Callable[[int], None]) -> None:
        """Call `watcher(frame_id)` when another node has told something about a frame, from the thread that merges."""
        self._merge_watchers.append(watcher)

    def frame_in(self, frame_id: int, pts_ns: int) -> None:
        """A primary frame entered this node. A frame that is known already stays as it is."""
        with self._lock:
            self._row(frame_id, pts_ns)

    def note(self, frame_id: int, **values: float) -> None:
        """Add measurements to a frame; the last value of a name stands."""
        with self._lock:
            self._row(frame_id).values.update(values)

    def frame_out(self, frame_id: int) -> None:
        """The frame left the last stage of the last node."""
        self._settle(frame_id, OUT)

    def drop(self, frame_id: int, reason: str, pts_ns: int | None = None) -> None:
        """The frame ends here, for `reason`."""
        if reason not in DROP_REASONS:
            raise ValueError(f"unknown drop reason {reason!r}, expected one of {', '.join(DROP_REASONS)}")
        self._settle(frame_id, reason, pts_ns)

    def drop_pending(self, reason: str = "aborted") -> None:
        """End everything that is still on its way: the run is over."""
        for row in self.rows():
            if row.status == PENDING:
                self.drop(row.frame_id, reason)

    def rows(self) -> list[Row]:
        """A copy of all rows, in order of arrival."""
        with self._lock:
            return [row.copy() for row in self._all]

    def row(self, frame_id: int) -> Row | None:
        """A copy of one row, or None if the frame was never seen."""
        with self._lock:
            row = self._rows.get(frame_id)
            return row.copy() if row else None

    def counts(self) -> Counter[str]:
        """How many frames stand at each status."""
        with self._lock:
            return +self._counts

    def status(self, frame_id: int) -> str | None:
        """The status of a frame, or None if it was never seen."""
        with self._lock:
            row = self._rows.get(frame_id)
            return row.status if row else None

    def changes(self) -> list[dict[str, Any]]:
        """The rows that changed since the last call, as JSON-ready mappings for `merge` on the other side."""
        with self._lock:
            rows = [self._rows[i] for i in self._changed]
            self._changed.clear()
            return [
                {"frame_id": r.frame_id, "pts_ns": r.pts_ns, "status": r.status, "values": dict(r.values)} for r in rows
            ]

    def merge(self, changes: Iterable[dict[str, Any]]) -> None:
        """Take over another node's rows. A frame that has settled here stays settled; values are added."""
        for change in changes:
            frame_id, status = int(change["frame_id"]), str(change["status"])
            with self._lock:
                row = self._row(frame_id, int(change["pts_ns"]))
                row.values = {**{str(k): float(v) for k, v in change["values"].items()}, **row.values}
            if status in DROP_REASONS:
                self.drop(frame_id, status)
            for watcher in self._merge_watchers:
                watcher(frame_id)

    def _row(self, frame_id: int, pts_ns: int | None = None) -> Row:
        row = self._rows.get(frame_id)
        if row is None or (pts_ns is not None and _is_another(row, pts_ns)):
            row = self._rows[frame_id] = Row(frame_id, pts_ns or 0, number=len(self._all))
            self._all.append(row)
            self._counts[PENDING] += 1
        self._changed[frame_id] = None
        for follower in self._followers:
            follower._changed[row.number] = row
        return row

    def _settle(self, frame_id: int, status: str, pts_ns: int | None = None) -> None:
        with self._lock:
            row = self._row(frame_id, pts_ns)
            if row.status != PENDING:
                return
            row.status = status
            self._counts[PENDING] -= 1
            self._counts[status] += 1
        for watcher in self._watchers:
            watcher(frame_id, status)


def _is_another(row: Row, pts_ns: int) -> bool:
    """Whether a frame of that pts is another one than this, which has settled; a pts of 0 may only be unknown."""
    return row.status != PENDING and row.pts_ns != pts_ns and 0 not in (row.pts_ns, pts_ns)
