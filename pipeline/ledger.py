"""What became of every primary frame: in = out + drops by reason, always.

Each node keeps one. The encoder's changes travel to the decoder in STATS and EOS (`changes`, `merge`), so the node with
the sinks knows every frame that went in, also those that never reached it.

    pending --settle--> recent, in memory --RECENT later--> `Spool`, on disk
       ^                   ^                                   |
       '--- what is noted or merged ---------------------------'

Memory does not grow with the run. Where another node has taken over the rows, by `changes`, only what it has not been
told yet goes to the disk.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.row import DROP_REASONS, OUT, PENDING, Row
from pipeline.spool import ERRORS, FIRST, Spool

__all__ = ["DROP_REASONS", "OUT", "PENDING", "Follower", "Ledger", "Row"]

RECENT = 4096
"""Settled rows in memory. What is told of a frame after it has settled comes seconds later, and costs a look at the
disk where it comes later than that."""
BATCH = 256
"""Rows that go to the disk in one piece."""
MOST_BATCHES = 16
"""At once, when there is room on the disk again."""
FOLLOWED = 16384
"""Changed rows kept for a follower that does not take them; older ones give way."""
EXAMPLES = 5


class Follower:
    """What has changed in a ledger since one last looked; made by `Ledger.follow`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self._changed = ledger, dict[int, Row]()

    def take(self, most: int) -> list[Row]:
        """Copies of at most so many rows that have changed since they were taken, in the order of their changes."""
        with self._ledger._lock:
            numbers = list(itertools.islice(self._changed, most))
            return [self._changed.pop(number).copy() for number in numbers]

    def see(self, row: Row) -> None:
        """This has changed; called by the ledger, under its lock."""
        self._changed[row.number] = row
        if len(self._changed) > FOLLOWED:
            del self._changed[next(iter(self._changed))]


class Ledger:
    """Thread-safe table of `Row` by frame_id.

    A camera's counter begins anew when its encoder does: a frame_id that has settled and comes with another pts is
    another frame, and gets a row of its own.
    """

    def __init__(self, recent: int = RECENT) -> None:
        """`recent`: settled rows that are kept in memory."""
        self._recent = recent
        self._rows: dict[int, Row] = {}
        """The newest row of each frame_id, of those in memory."""
        self._settled: dict[int, Row] = {}
        """The rows in memory that have settled, by their number, in the order in which they did."""
        self._changed: dict[int, Row] = {}
        """The rows in memory that `changes` has not told, by their number."""
        self._told = False
        """Somebody asks for changes, and has the rows of which there are none."""
        self._spool: Spool | None = None
        self._spool_at = recent + BATCH
        self._spool_failed = False
        self._folder: Path | None = None
        self._log = logging.getLogger("sidecast")
        self._next_number = 0
        self._lock = threading.Lock()
        self._watchers: list[Callable[[int, str], None]] = []
        self._merge_watchers: list[Callable[[int], None]] = []
        self._followers: list[Follower] = []
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[int]] = {}

    def spool_to(self, folder: Path, log: logging.Logger) -> None:
        """Where old rows go, if that folder can be written, and who is warned if they can't go anywhere."""
        self._folder, self._log = folder, log

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
        with self._lock:
            pending = [row.frame_id for row in self._rows.values() if row.status == PENDING]
        for frame_id in pending:
            self.drop(frame_id, reason)

    def rows(self) -> list[Row]:
        """A copy of all rows, in order of arrival; for ledgers that are known to be small."""
        return sorted(self.by_frame_id(), key=lambda row: row.number)

    def by_frame_id(self) -> Iterator[Row]:
        """Copies of all rows, by frame_id, those of one frame_id in order of arrival; a few at a time in memory."""
        with self._lock:
            pending = [row for row in self._rows.values() if row.status == PENDING]
            here = [row.copy() for row in itertools.chain(pending, self._settled.values())]
        return heapq.merge(self._spooled(), sorted(here, key=_place), key=_place)

    def row(self, frame_id: int) -> Row | None:
        """A copy of one row, or None if the frame was never seen."""
        with self._lock:
            row = self._find(frame_id)
            return row.copy() if row else None

    def counts(self) -> Counter[str]:
        """How many frames stand at each status."""
        with self._lock:
            return +self._counts

    def examples(self, status: str) -> list[int]:
        """The first few frames that were dropped for that reason."""
        with self._lock:
            return list(self._examples.get(status, ()))

    def status(self, frame_id: int) -> str | None:
        """The status of a frame, or None if it was never seen."""
        with self._lock:
            row = self._find(frame_id)
            return row.status if row else None

    def changes(self, most: int | None = None) -> list[dict[str, Any]]:
        """At most so many rows that changed since they were told, as JSON-ready mappings for `merge` elsewhere.

        From the first call on, rows that were told are forgotten when they are old.
        """
        with self._lock:
            self._told = True
            rows: list[Row] = []
            if self._spool:
                rows = self._spool.oldest(len(self._spool) if most is None else most)
                self._spool.remove(rows)
                if not self._spool:
                    self._spool = None  # which gives back the disk that a long outage has taken
            numbers = list(itertools.islice(self._changed, None if most is None else most - len(rows)))
            rows += [self._changed.pop(number) for number in numbers]
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
        row = self._find(frame_id)
        if row is None or (pts_ns is not None and _is_another(row, pts_ns)):
            row = self._rows[frame_id] = Row(frame_id, pts_ns or 0, number=self._next_number)
            self._next_number += 1
            self._counts[PENDING] += 1
        elif frame_id not in self._rows:
            self._take_back(row)
        self._changed[row.number] = row
        for follower in self._followers:
            follower.see(row)
        return row

    def _find(self, frame_id: int) -> Row | None:
        """The newest row of a frame; one from the disk is a copy."""
        return self._rows.get(frame_id) or (self._spool.newest(frame_id) if self._spool else None)

    def _settle(self, frame_id: int, status: str, pts_ns: int | None = None) -> None:
        with self._lock:
            row = self._row(frame_id, pts_ns)
            if row.status != PENDING:
                return
            row.status = status
            self._counts[PENDING] -= 1
            self._counts[status] += 1
            if status != OUT and len(examples := self._examples.setdefault(status, [])) < EXAMPLES:
                examples.append(frame_id)
            self._settled[row.number] = row
            if len(self._settled) >= self._spool_at:
                self._put_away()
        for watcher in self._watchers:
            watcher(frame_id, status)

    def _take_back(self, row: Row) -> None:
        """Something is told of a row on the disk."""
        if self._spool:
            self._spool.remove([row])
        self._rows[row.frame_id] = self._settled[row.number] = row
        if len(self._settled) >= self._spool_at:
            self._put_away()

    def _put_away(self) -> None:
        """Keep no more settled rows in memory than the recent ones."""
        for _ in range(MOST_BATCHES):
            if len(self._settled) < self._recent + BATCH:
                break
            rows = list(itertools.islice(self._settled.values(), BATCH))
            if not self._put([row for row in rows if row.number in self._changed or not self._told]):
                self._spool_at = len(self._settled) + BATCH
                return
            for row in rows:
                del self._settled[row.number]
                self._changed.pop(row.number, None)
                if self._rows.get(row.frame_id) is row:
                    del self._rows[row.frame_id]
        self._spool_at = max(len(self._settled) + 1, self._recent + BATCH)

    def _put(self, rows: Sequence[Row]) -> bool:
        """Write rows to the disk; False where that failed, which is said once."""
        if not rows:
            return True
        try:
            if self._spool is None:
                self._spool = Spool(self._folder)
            self._spool.put(rows)
        except ERRORS as error:
            if not self._spool_failed:
                self._log.warning("old frames cannot be put away on the disk and stay in memory: %s", error)
            self._spool_failed = True
            return False
        return True

    def _spooled(self) -> Iterator[Row]:
        frame_id, number = FIRST, -1
        while True:
            with self._lock:
                rows = self._spool.after(frame_id, number, self._recent or BATCH) if self._spool else []
            if not rows:
                return
            yield from rows
            frame_id, number = rows[-1].frame_id, rows[-1].number


def _place(row: Row) -> tuple[int, int]:
    return row.frame_id, row.number


def _is_another(row: Row, pts_ns: int) -> bool:
    """Whether a frame of that pts is another one than this, which has settled; a pts of 0 may only be unknown."""
    return row.status != PENDING and row.pts_ns != pts_ns and 0 not in (row.pts_ns, pts_ns)
