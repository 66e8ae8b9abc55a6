"""The frames that are on their way through one node, and what each has spent on every cause so far."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.latency import CAUSES, Cause, Holdups, by_cause_ms
from pipeline.stage import Context
from pipeline.types import Item, Packet, frame_id_of, role_of, stamped_of

__all__ = ["Journeys", "lag_ns"]

S = 1e9
MAX_UNEXPLAINED = 1000
"""Frames that are through and still wait for the encoder's part of their latency; an older one gives way."""


@dataclass(slots=True)
class _Journey:
    at_ns: int
    """When the frame has last moved, by the monotonic clock."""
    lag_ns: int
    """Its age when it came in; 0 where that is charged to a cause already."""
    spent_ns: Counter[Cause] = field(default_factory=Counter)
    sent: _Sent | None = None
    """Where it came from another node."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """How a frame was handed over between the nodes."""

    at_ns: int
    """When, by this node's monotonic clock."""
    age_ns: int
    """Since it was taken."""
    holdups: Holdups
    """Of the stage that received it: while that is held up, the other node waits for credit."""


class Journeys:
    """Times of primary frames; every method may be called from any thread."""

    def __init__(self, context: Context, *, relay: bool) -> None:
        """`relay`: the frames come from another node, which tells its part of their latency in the ledger."""
        self._ledger, self._metrics, self._clock = context.ledger, context.metrics, context.clock
        self._relay = relay
        self._lock = threading.Lock()
        self._journeys: dict[int, _Journey] = {}
        self._unexplained: dict[int, _Journey] = {}
        context.ledger.watch(lambda frame_id, _status: self._forget(frame_id))
        context.ledger.watch_merged(self._explain)

    def entered(self, item: Item, holdups: Holdups) -> None:
        """The head of the chain has yielded this."""
        if role_of(item) != "primary":
            return
        frame_id, now_ns = frame_id_of(item), self._clock.monotonic_ns()
        lag = lag_ns(item, self._clock.wall_ns())
        if self._relay:
            row = self._ledger.row(frame_id)
            arrived_s = row.values.get("arrived_s") if row else None
            waited_ns = 0 if arrived_s is None else now_ns - round(arrived_s * S)
            spent_ns = holdups.split(now_ns - waited_ns, now_ns)
            journey = _Journey(now_ns, lag - waited_ns, spent_ns, _sent(item, lag, now_ns, holdups))
        else:
            journey = _Journey(now_ns, 0, Counter({holdups.cause: lag}))
        with self._lock:
            self._journeys[frame_id] = journey

    def waited(self, item: Item, holdups: Holdups) -> None:
        """This has waited for a stage, which begins with it now or hands it on in its turn."""
        self._move(item, holdups, waited=True)

    def yielded(self, item: Item, holdups: Holdups) -> None:
        """A stage is done with this."""
        self._move(item, holdups, waited=False)

    def parted(self, item: Item) -> None:
        """This goes to another node now."""
        journey = self._end(item)
        if journey is not None:
            self._ledger.note(frame_id_of(item), **_seconds("sender", journey))

    def ended(self, item: Item) -> int:
        """The last stage has yielded this: its latency, ns."""
        journey, now_ns = self._end(item), self._clock.wall_ns()
        if journey is None:
            return lag_ns(item, now_ns)
        arrival = {"arrival_s": journey.lag_ns / S} if self._relay else {}
        self._ledger.note(frame_id_of(item), **_seconds("spent", journey), **arrival)
        with self._lock:
            self._unexplained[frame_id_of(item)] = journey
            while len(self._unexplained) > MAX_UNEXPLAINED:
                del self._unexplained[next(iter(self._unexplained))]
        self._explain(frame_id_of(item))
        return journey.lag_ns + journey.spent_ns.total()

    def _move(self, item: Item, holdups: Holdups, *, waited: bool) -> None:
        if role_of(item) != "primary":
            return
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            journey = self._journeys.get(frame_id_of(item))
        if journey is None:
            return
        if waited:
            journey.spent_ns.update(holdups.split(journey.at_ns, now_ns))
        else:
            journey.spent_ns[holdups.cause] += now_ns - journey.at_ns
        journey.at_ns = now_ns

    def _end(self, item: Item) -> _Journey | None:
        if role_of(item) != "primary":
            return None
        with self._lock:
            return self._journeys.pop(frame_id_of(item), None)

    def _forget(self, frame_id: int) -> None:
        with self._lock:
            self._journeys.pop(frame_id, None)

    def _explain(self, frame_id: int) -> None:
        """Count the causes of a frame that is through as soon as all of them are known."""
        row = self._ledger.row(frame_id)
        if row is None or by_cause_ms(row.values) is None:
            return
        with self._lock:
            journey = self._unexplained.pop(frame_id, None)
        if journey is None:
            return
        held = _held_up(journey.sent, row.values) if journey.sent else {}
        self._ledger.note(frame_id, **held)
        for cause, ms in (by_cause_ms({**row.values, **held}) or {}).items():
            # The offset between two machines' clocks is an estimate: what is less than it can look negative.
            self._metrics.latency_seconds.labels(cause).observe(max(0.0, ms / 1000))


def _sent(item: Item, lag: int, now_ns: int, holdups: Holdups) -> _Sent | None:
    packet = stamped_of(item)
    if not isinstance(packet, Packet) or not packet.sent_ns:
        return None
    age_ns = packet.sent_ns - packet.taken_ns
    return _Sent(now_ns - (lag - age_ns), age_ns, holdups)


def _held_up(sent: _Sent, values: Mapping[str, float]) -> dict[str, float]:
    """What kept this node from giving credit while the frame waited for it at the other one."""
    left_ns = round(sum(values.get(f"sender_{cause}_s", 0.0) for cause in CAUSES) * S)
    waited_ns = max(0, sent.age_ns - left_ns)
    split = sent.holdups.split(sent.at_ns - waited_ns, sent.at_ns)
    return {f"held_{cause}_s": ns / S for cause, ns in split.items() if cause != sent.holdups.cause}


def lag_ns(item: Item, now_ns: int) -> int:
    """Time since the source handed the frame over, by this machine's wall clock `now_ns`."""
    stamped = stamped_of(item)
    offset_ns = stamped.clock_offset_ns if isinstance(stamped, Packet) else 0
    return now_ns - stamped.taken_ns - offset_ns


def _seconds(prefix: str, journey: _Journey) -> dict[str, float]:
    return {f"{prefix}_{cause}_s": spent_ns / S for cause, spent_ns in journey.spent_ns.items()}
