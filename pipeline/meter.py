"""What passes through a node, written into its ledger and its metrics in one place.

What enters ends as `out` or as a drop, for every node by itself: a frame that another node's ledger brings along and
that never came here is in this node's report, not in its counters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from pipeline.journeys import Journeys
from pipeline.ledger import OUT
from pipeline.stage import Context
from pipeline.types import Item, Packet, frame_id_of, role_of, stamped_of

__all__ = ["Meter"]

NEVER_ENTERED = ("unreadable", "latest", "corrupt")
"""Drops of frames that the head of the chain counts but cannot hand on."""

MS, S = 1e6, 1e9


class Meter:
    """Counts of one node; every method may be called from any thread."""

    def __init__(self, context: Context, *, relay: bool) -> None:
        """`relay`: the frames come from another node, whose source has entered them."""
        self._ledger, self._metrics, self._clock = context.ledger, context.metrics, context.clock
        self._relay = relay
        self.journeys = Journeys(context, relay=relay)
        """Where the time of each frame goes."""
        self._lock = threading.Lock()
        self._inside: dict[int, int] = {}
        """When each frame that is on its way came in, by the monotonic clock, ns."""
        self.watcher: Callable[[Item], None] | None = None
        """Called with everything that comes in and goes out, from the threads that do that."""
        self.frames_out = 0
        """Primary frames that are through."""
        self.payload_bytes = 0
        """Coded bytes of those, where they came coded."""
        self.first_out_ns: int | None = None
        """When the first one was through, by the monotonic clock."""
        self.pts_ns: tuple[int, int] | None = None
        """The first and the last capture time that came out."""
        self._newest_pts_ns: int | None = None
        context.ledger.watch(self._settled)

    def entered(self, item: Item) -> None:
        """The head of the chain has yielded this."""
        if self.watcher:
            self.watcher(item)
        if role_of(item) != "primary":
            return
        frame_id = frame_id_of(item)
        if not self._relay:
            self._ledger.frame_in(frame_id, stamped_of(item).pts_ns)
        with self._lock:
            if frame_id in self._inside:
                return
            self._inside[frame_id] = self._clock.monotonic_ns()
        self._metrics.frames_in.inc()
        self._metrics.last_frame_seconds.set(self._clock.wall_ns() / S)
        self._captured(stamped_of(item).pts_ns)

    def worked(self, label: str, item: Item, spent_ns: int) -> None:
        """A stage has spent so much time of its own on this item."""
        self._metrics.stage_seconds.labels(label).observe(spent_ns / S)
        if role_of(item) == "primary":
            self._ledger.note(frame_id_of(item), **{f"{label}_ms": spent_ns / MS})

    def left(self, item: Item) -> None:
        """The last stage has yielded this: a primary frame is through."""
        if self.watcher:
            self.watcher(item)
        if role_of(item) != "primary":
            return
        frame_id, now_ns = frame_id_of(item), self._clock.monotonic_ns()
        latency = self.journeys.ended(item)
        self._metrics.end_to_end_seconds.observe(max(0.0, latency / S))
        stamped = stamped_of(item)
        with self._lock:
            self.frames_out += 1
            self.payload_bytes += len(stamped.payload) if isinstance(stamped, Packet) else 0
            self.first_out_ns = now_ns if self.first_out_ns is None else self.first_out_ns
            self.pts_ns = (self.pts_ns[0] if self.pts_ns else stamped.pts_ns, stamped.pts_ns)
            entered_ns = self._inside.get(frame_id, now_ns)
        self._ledger.note(frame_id, latency_ms=latency / MS, entered_s=entered_ns / S, settled_s=now_ns / S)
        self._ledger.frame_out(frame_id)

    def dropped_latest(self, item: Item) -> None:
        """A channel has given this up for something fresher."""
        if role_of(item) == "primary":
            self._ledger.drop(frame_id_of(item), "latest", stamped_of(item).pts_ns)

    def _captured(self, pts_ns: int) -> None:
        """Count capture time as it goes on; called from the thread of the chain's head only."""
        before_ns = self._newest_pts_ns
        if before_ns is None or pts_ns > before_ns:
            self._newest_pts_ns = pts_ns
            self._metrics.captured_seconds.inc(0.0 if before_ns is None else (pts_ns - before_ns) / S)

    def _settled(self, frame_id: int, status: str) -> None:
        with self._lock:
            entered_ns = self._inside.pop(frame_id, None)
        if entered_ns is None:
            if self._relay != (status == "corrupt") or status not in NEVER_ENTERED:
                return
            self._metrics.frames_in.inc()
        if status == OUT:
            self._metrics.frames_out.inc()
        else:
            self._metrics.drops.labels(status).inc()
